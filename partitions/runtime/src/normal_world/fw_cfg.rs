//! Files that QEMU passes to what runs on its virt machine (`-fw_cfg name=...,file=...`), by QEMU's "firmware configuration" device.

#![expect(unsafe_code, reason = "device registers")]

use super::board::board;

/// Offset of the register that selects; that for data comes first.
const SELECTOR: usize = 8;

/// What can be selected: a signature, and the list of files.
const SIGNATURE: u16 = 0;
const DIRECTORY: u16 = 0x19;

/// Bytes of the name of a file in the list.
const NAME: usize = 56;

/// The device, by its address.
#[derive(Clone, Copy, Debug)]
struct Device(usize);

impl Device {
    fn select(self, item: u16) {
        // SAFETY: on this board the device is at this address, mapped as such; its registers hold no memory of Rust's.
        unsafe { ((self.0 + SELECTOR) as *mut u16).write_volatile(item.to_be()) };
    }

    fn next<const N: usize>(self) -> [u8; N] {
        // SAFETY: as for `select`; a read takes the next byte of what is selected, zero when there is no more.
        core::array::from_fn(|_| unsafe { (self.0 as *const u8).read_volatile() })
    }
}

/// Reads the file `name` into `buffer`; returns as much of it as fits, or `None` if there is no such file, or no such device.
pub fn read<'a>(name: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    let device = Device(board().fw_cfg?);
    device.select(SIGNATURE);
    if device.next() != *b"QEMU" {
        return None;
    }
    device.select(DIRECTORY);
    for _ in 0..u32::from_be_bytes(device.next()) {
        let size = u32::from_be_bytes(device.next()) as usize;
        let [high, low, _, _] = device.next();
        let entry: [u8; NAME] = device.next();
        let length = entry.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        if &entry[..length] == name.as_bytes() {
            let taken = size.min(buffer.len());
            device.select(u16::from_be_bytes([high, low]));
            buffer[..taken].fill_with(|| u8::from_be_bytes(device.next()));
            return Some(&buffer[..taken]);
        }
    }
    None
}
