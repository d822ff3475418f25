//! Files that QEMU passes to what runs on its virt machine (`-fw_cfg name=...,file=...`), by QEMU's "firmware configuration" device.

#![expect(unsafe_code, reason = "device registers")]

/// Registers of the device on the virt machine.
const BASE: usize = 0x0902_0000;
const DATA: usize = BASE;
const SELECTOR: usize = BASE + 8;

/// What can be selected: a signature, and the list of files.
const SIGNATURE: u16 = 0;
const DIRECTORY: u16 = 0x19;

/// Bytes of the name of a file in the list.
const NAME: usize = 56;

fn select(item: u16) {
    // SAFETY: the driver runs on QEMU's virt machine only, where the device is at this address, mapped as such; its registers hold no memory of Rust's.
    unsafe { (SELECTOR as *mut u16).write_volatile(item.to_be()) };
}

fn next<const N: usize>() -> [u8; N] {
    // SAFETY: as for `select`; a read takes the next byte of what is selected, zero when there is no more.
    core::array::from_fn(|_| unsafe { (DATA as *const u8).read_volatile() })
}

/// Reads the file `name` into `buffer`; returns as much of it as fits, or `None` if there is no such file.
pub fn read<'a>(name: &str, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
    select(SIGNATURE);
    if next() != *b"QEMU" {
        return None;
    }
    select(DIRECTORY);
    for _ in 0..u32::from_be_bytes(next()) {
        let size = u32::from_be_bytes(next()) as usize;
        let [high, low, _, _] = next();
        let entry: [u8; NAME] = next();
        let length = entry.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        if &entry[..length] == name.as_bytes() {
            let taken = size.min(buffer.len());
            select(u16::from_be_bytes([high, low]));
            buffer[..taken].fill_with(|| u8::from_be_bytes(next()));
            return Some(&buffer[..taken]);
        }
    }
    None
}
