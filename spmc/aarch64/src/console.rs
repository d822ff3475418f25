//! The console: a PL011 that firmware has set up.
#![expect(unsafe_code, reason = "the UART is a device at an address")]

use core::{
    fmt::{self, Write},
    ptr::{self, NonNull},
    sync::atomic::Ordering,
};

use arm_pl011_uart::Uart;
use safe_mmio::UniqueMmioPointer;
use spin::Mutex;

use crate::entry::EARLY_UART;

/// Turns to wait for room in the UART's queue, and for another PE that is printing, before going on regardless: a
/// console that does not drain must not stop the machine.
const PATIENCE: u32 = 1 << 20;

static LOCK: Mutex<()> = Mutex::new(());

struct Port(Uart<'static>);

impl Port {
    /// The UART; nothing before [`initialise`].
    fn new() -> Option<Self> {
        let address = usize::try_from(EARLY_UART.load(Ordering::Relaxed)).ok()?;
        let registers = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
        // SAFETY: the platform gives the UART's address, and the page is mapped as device memory for it alone (or the
        // MMU is off). Callers hold LOCK, so that there is one at a time; where they could not get it (a PE died
        // printing), the UART's registers still allow it: text may mix, that is all.
        Some(Self(Uart::new(unsafe { UniqueMmioPointer::new(registers) })))
    }

    fn put(&mut self, byte: u8) {
        let mut patience = PATIENCE;
        while self.0.is_tx_fifo_full() && patience != 0 {
            patience -= 1;
        }
        self.0.write_word(byte);
    }
}

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                self.put(b'\r');
            }
            self.put(byte);
        }
        Ok(())
    }
}

/// Sets the UART's address.
pub fn initialise(uart: usize) {
    EARLY_UART.store(uart as u64, Ordering::Relaxed);
}

/// Prints with the MMU off, where locks don't work; there is one PE then.
pub fn print_early(text: fmt::Arguments<'_>) {
    if let Some(mut port) = Port::new() {
        let _ = port.write_fmt(text);
    }
}

/// Prints. What is printed in one call stays together.
pub fn print(text: fmt::Arguments<'_>) {
    let mut patience = PATIENCE;
    let _guard = loop {
        if let Some(guard) = LOCK.try_lock() {
            break Some(guard);
        }
        patience -= 1;
        if patience == 0 {
            break None;
        }
        core::hint::spin_loop();
    };
    print_early(text);
}

/// Prints a line that starts with the SPMC's name.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::console::print(format_args!("tantalum: {}\n", format_args!($($argument)*)))
    };
}
