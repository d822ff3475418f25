//! What the author of a secure partition needs: an entry point, a client for FF-A, a log and a panic handler.
//!
//! # How to write a partition
//!
//! A crate with a binary, this in `main.rs`:
//!
//! ```ignore
//! //! A partition that adds two numbers.
//! #![no_std]
//! #![no_main]
//!
//! use tantalum_partition::{Boot, entry, ffa, println};
//!
//! entry!(main);
//!
//! fn main(boot: Boot) -> ! {
//!     if boot.is_first {
//!         // With one execution context a core: the others start in `main` too.
//!         boot.register_secondaries().expect("the manifest gives this partition several contexts");
//!         println!("adder: ready");
//!     }
//!     ffa::serve(|request| match request.payload() {
//!         [a, b, ..] => request.respond(&[a.wrapping_add(*b)]),
//!         _ => request.echo(),
//!     })
//! }
//! ```
//!
//! a `build.rs` whose `main` calls `tantalum_partition_build::link()`, with `tantalum-partition-build` as a build-dependency,
//! and a partition manifest with `entrypoint-offset = <0x4000>`, which is where the packaging tool puts the image. `gp-register-num` and a `boot-info`
//! node in it make [`Boot::information`] work. The image runs at any load address.
//!
//! When `main` is called, the version of FF-A in the manifest (or 1.2, without a manifest) is agreed on, and the context has a stack of its own, vectors, and the MMU on (see [`mmu`]). A panic prints its message and ends the partition
//! by `FFA_ABORT`, or by `FFA_ERROR` during initialisation, that is before the first message is waited for.
//!
//! A partition at S-EL0 (`exception-level = <1>`, `execution-ctx-count = <1>`) has `entry!(main, level = el0);` and calls the SPM by supervisor call;
//! the rest is the same. The entry code makes data of its data and constants of its constants with `FFA_MEM_PERM_SET`; what else `main` wants to write
//! to, outside the image, is [`ffa::Client::mem_perm_set`]'s, before the first message is waited for. There are no vectors: any fault ends it.
//!
//! The same library carries the normal-world test driver, at EL2 in the place of a BL33; [`normal_world`] is for it alone. [`probe`] is for programs
//! that test what they must not do.
#![no_std]

pub mod arch;
mod boot;
#[doc(hidden)]
pub mod console;
pub mod context;
mod entry;
pub mod ffa;
pub mod interrupts;
pub mod measure;
pub mod mmu;
pub mod normal_world;
mod panic;
pub mod probe;
pub mod timer;
mod vectors;

pub use boot::{Boot, Information};
pub use entry::{_start, image_range, secondary_entry};
