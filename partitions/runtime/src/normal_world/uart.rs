//! The UART, a PL011 that the firmware has set up. Polled.

#![expect(unsafe_code, reason = "device registers")]

use core::sync::atomic::{AtomicBool, Ordering};

use super::board::board;

/// Offset of the flag register; the data register comes first.
const FLAGS: usize = 0x18;
const RECEIVE_EMPTY: u32 = 1 << 4;
const TRANSMIT_FULL: u32 = 1 << 5;

/// Writes bytes, not mixed with those of another core.
pub fn write(bytes: &[u8]) {
    static BUSY: AtomicBool = AtomicBool::new(false);

    while BUSY.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    for &byte in bytes {
        if byte == b'\n' {
            write_byte(b'\r');
        }
        write_byte(byte);
    }
    BUSY.store(false, Ordering::Release);
}

/// The next byte that was received, if there is one.
#[must_use]
pub fn read() -> Option<u8> {
    let data = board().uart as *const u32;
    let flags = (board().uart + FLAGS) as *const u32;
    // SAFETY: as for `write_byte`.
    unsafe {
        if flags.read_volatile() & RECEIVE_EMPTY != 0 {
            return None;
        }
        Some((data.read_volatile() & 0xff) as u8)
    }
}

fn write_byte(byte: u8) {
    let data = board().uart as *mut u32;
    let flags = (board().uart + FLAGS) as *const u32;
    // SAFETY: on the board that the program runs on the non-secure UART is at this address, mapped as a device; its registers hold no memory of
    // Rust's.
    unsafe {
        while flags.read_volatile() & TRANSMIT_FULL != 0 {
            core::hint::spin_loop();
        }
        data.write_volatile(u32::from(byte));
    }
}
