//! Tantalum on Arm's FVP Base RevC (`FVP_Base_RevC-2xAEMvA`), booted by TF-A.
//!
//! Memory is laid out by `image.ld`. The addresses are those of TF-A's platform `fvp`. See `spmc/docs/fvp.md`.
#![no_std]
#![no_main]

use tantalum_aarch64::{PageRange, Platform, Reserved, device, reserved};

/// The board.
#[derive(Debug)]
struct Fvp;

impl Platform for Fvp {
    const NAME: &'static str = "FVP Base RevC";
    /// UART0, which TF-A boots on, and so has set up. BL31 goes on on UART1.
    const UART: usize = 0x1c09_0000;
    const GIC: [PageRange; 2] = [device(0x2f00_0000, 0x1_0000), device(0x2f10_0000, 0x20_0000)];
    const RESERVED: &'static [Reserved] = &[
        reserved(0x0400_0000, 0x8_0000, "the secure monitor (trusted SRAM)"),
        reserved(0x1c0a_0000, 0x1000, "the secure monitor (UART1)"),
        reserved(0x1c10_0000, 0x1_0000, "the secure monitor (power)"),
        reserved(0x2f00_0000, 0x30_0000, "the interrupt controller"),
    ];
}

tantalum_aarch64::platform!(Fvp);
