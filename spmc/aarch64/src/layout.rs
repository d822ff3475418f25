//! Where the SPMC lies: the linker script's symbols, and the addresses that it gives itself in its own stage 1.
#![expect(unsafe_code, reason = "declares the linker's symbols")]

use core::ops::Range;

/// Bytes of a page.
pub const PAGE: usize = 0x1000;

/// Stacks of the secondary PEs, each in 64 KiB of its own: unmapped below, the stack from 32 KiB on.
pub const STACKS: usize = 0x40_0000_0000;
/// Distance from one PE's stack to the next.
pub const STACK_STRIDE: usize = 0x1_0000;
/// Where the stack starts in its 64 KiB. Bit 15 of a valid stack pointer is set, as it is on the boot PE.
pub const STACK_OFFSET: usize = 0x8000;
/// Bytes of a secondary PE's stack.
pub const STACK_BYTES: usize = 0x4000;
/// Number of PEs whose stacks fit below the windows.
pub const MAX_PES: usize = 64;

/// Windows to foreign memory, one translation table (2 MiB) for all PEs: [`crate::foreign`].
pub const FOREIGN: usize = STACKS + 0x2000_0000;
const _: () = assert!(STACKS + MAX_PES * STACK_STRIDE <= FOREIGN);

unsafe extern "C" {
    safe static __window_start: u8;
    safe static __window_end: u8;
    safe static __text_start: u8;
    safe static __text_end: u8;
    safe static __bss_start: u8;
    safe static __image_end: u8;
    safe static __bss_end: u8;
    safe static __free_start: u8;
    safe static __free_end: u8;
    safe static __boot_tables_start: u8;
    safe static __boot_tables_end: u8;
    safe static __boot_stack_start: u8;
}

/// A physical address as one of the SPMC's own, which has its memory at the same addresses.
#[inline]
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "both have 64 bits on the only architecture there is"
)]
pub const fn address(physical: u64) -> usize {
    physical as usize
}

/// All memory of the SPMC.
#[inline]
#[must_use]
pub fn window() -> Range<usize> {
    (&raw const __window_start).addr()..(&raw const __window_end).addr()
}

/// Code.
#[must_use]
pub fn text() -> Range<usize> {
    (&raw const __text_start).addr()..(&raw const __text_end).addr()
}

/// Constants.
#[must_use]
pub fn read_only() -> Range<usize> {
    (&raw const __text_end).addr()..(&raw const __bss_start).addr()
}

/// Variables.
#[must_use]
pub fn data() -> Range<usize> {
    (&raw const __bss_start).addr()..(&raw const __bss_end).addr()
}

/// Memory that the image leaves free.
#[inline]
#[must_use]
pub fn free() -> Range<usize> {
    (&raw const __free_start).addr()..(&raw const __free_end).addr()
}

/// Tables that exist before there is a page pool.
#[must_use]
pub fn boot_tables() -> Range<usize> {
    (&raw const __boot_tables_start).addr()..(&raw const __boot_tables_end).addr()
}

/// Stack of the boot PE.
#[must_use]
pub fn boot_stack() -> Range<usize> {
    (&raw const __boot_stack_start).addr()..(&raw const __window_end).addr()
}

/// Bytes of the image as it is loaded.
#[must_use]
pub fn image_bytes() -> usize {
    (&raw const __image_end).addr() - (&raw const __window_start).addr()
}
