//! Links the image with the board's memory layout.

use std::env;

fn main() {
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let machine = format!("{here}/../../spmc/aarch64");
    println!("cargo:rustc-link-arg-bins=-L{machine}");
    println!("cargo:rustc-link-arg-bins=-T{here}/image.ld");
    println!("cargo:rustc-link-arg-bins=-zmax-page-size=4096");
    println!("cargo:rustc-link-arg-bins=--no-eh-frame-hdr");
    println!("cargo:rerun-if-changed={here}/image.ld");
    println!("cargo:rerun-if-changed={machine}/sections.ld");
    println!("cargo:rerun-if-changed={here}/build.rs");
}
