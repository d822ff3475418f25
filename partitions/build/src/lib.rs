//! Links a partition, or the normal-world driver, as a position-independent image.
//!
//! The `main` of a partition's `build.rs` is one line:
//!
//! ```no_run
//! tantalum_partition_build::link();
//! ```
//!
//! The result is an ELF whose loadable part starts at address 0 with the entry point; `objcopy -O binary` makes the flat image. The entry code
//! relocates the image to wherever it was loaded, so one image serves any load address that is a multiple of 4 KiB.

use std::{env, path::Path};

/// Where the linker script is, next to this crate's manifest.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/image.ld");

/// Tells cargo how to link the binaries of the calling package. Does nothing when they are built for the host, where they can only be checked.
pub fn link() {
    println!("cargo::rerun-if-changed={SCRIPT}");
    assert!(Path::new(SCRIPT).exists(), "linker script {SCRIPT} is missing");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    // `notext`: with the static relocation model constants that hold addresses are in read-only sections, and the entry code patches them there.
    // `norelro`: no loader makes memory read-only after that, so nothing has to lie where one could.
    for argument in [
        "-pie",
        "--no-dynamic-linker",
        "-znotext",
        "-znorelro",
        "-zmax-page-size=4096",
        "-znorelro",
        "--no-eh-frame-hdr",
    ] {
        println!("cargo::rustc-link-arg-bins={argument}");
    }
    println!("cargo::rustc-link-arg-bins=-T{SCRIPT}");
}
