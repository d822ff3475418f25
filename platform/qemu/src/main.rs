//! Tantalum on the QEMU virt machine (`-machine virt,secure=on,virtualization=on,gic-version=3`), booted by TF-A.
//!
//! Memory is laid out by `image.ld`.
#![no_std]
#![no_main]

use tantalum_aarch64::{PageRange, Platform, Reserved, device, reserved};

/// The board.
#[derive(Debug)]
struct Qemu;

impl Platform for Qemu {
    const NAME: &'static str = "QEMU virt";
    /// UART0, which TF-A and the normal world print to as well.
    const UART: usize = 0x0900_0000;
    const GIC: [PageRange; 2] = [device(0x0800_0000, 0x1_0000), device(0x080a_0000, 0xf6_0000)];
    const RESERVED: &'static [Reserved] = &[
        reserved(0x0800_0000, 0x1_0000, "the interrupt controller"),
        reserved(0x080a_0000, 0xf6_0000, "the interrupt controller"),
        reserved(0x090b_0000, 0x1000, "the secure monitor (power)"),
    ];
}

tantalum_aarch64::platform!(Qemu);
