//! The machine layer of Tantalum: everything that touches the hardware, and nothing that decides.
//!
//! The crate owns all assembly and all `unsafe` code of the SPMC. It enters at S-EL2 from TF-A ([`entry`]), sets up its
//! own translation ([`stage1`]), the system registers of each PE ([`control`]), and then turns the loop of
//! [`run`]: ask the policy (`tantalum_core::spmc::Spmc::handle`) what to do, enter a partition's context ([`enter`])
//! or leave for the normal world, and report what came of it. What the policy needs on the way, the methods of
//! [`tantalum_core::machine::Machine`], is implemented for [`pe::Core`] in [`machine`].
//!
//! A board is a binary crate with a linker script (its memory), an implementation of [`Platform`] (its constants) and
//! a use of [`platform!`].
#![no_std]

extern crate alloc;

pub mod boot;
pub mod console;
pub mod control;
pub mod copy;
pub mod distributor;
pub mod el1;
pub mod el3;
pub mod enter;
pub mod entry;
pub mod features;
pub mod foreign;
pub mod gic;
pub mod heap;
pub mod layout;
pub mod machine;
pub mod mem;
pub mod pages;
pub mod panic;
pub mod pe;
pub mod run;
#[cfg(feature = "selftest")]
pub mod selftest;
pub mod simd;
pub mod stage1;
pub mod sysreg;
pub mod vectors;
pub mod virtual_gic;

use tantalum_core::addr::PhysAddr;
pub use tantalum_core::{addr::PageRange, manifest::system::Reserved};

/// Constants of a board.
pub trait Platform {
    /// What the board is called in messages.
    const NAME: &'static str;
    /// Physical address of the PL011 UART that the SPMC prints to. Its page holds nothing else.
    const UART: usize;
    /// The GICv3, where the SPMC manifest does not say: the distributor, and the redistributors.
    const GIC: [PageRange; 2];
    /// Devices that no partition may be given.
    const RESERVED: &'static [Reserved];
}

/// The pages of a device at the physical address `base`, for constants of a board.
///
/// # Panics
/// Does not compile when these are not whole pages.
#[must_use]
pub const fn device(base: u64, bytes: u64) -> PageRange {
    match PageRange::from_bytes(PhysAddr::new(base), bytes) {
        Ok(range) => range,
        Err(_) => panic!("not whole pages"),
    }
}

/// The same for a device that no partition may be given, and whose it is.
#[must_use]
pub const fn reserved(base: u64, bytes: u64, owner: &'static str) -> Reserved {
    Reserved {
        range: device(base, bytes),
        owner,
    }
}

/// Makes a binary crate the SPMC of a board: gives the entry code ([`entry`]) the functions that it calls.
#[macro_export]
macro_rules! platform {
    ($platform:ty) => {
        /// First Rust code on the boot PE: MMU off.
        #[unsafe(no_mangle)]
        extern "C" fn tantalum_early() {
            $crate::boot::early::<$platform>();
        }

        /// The boot PE, with the MMU on.
        #[unsafe(no_mangle)]
        extern "C" fn tantalum_primary(manifest: u64, entered_at: u64) -> ! {
            $crate::boot::primary::<$platform>(manifest, entered_at)
        }
    };
}
