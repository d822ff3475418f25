//! The smallest partition that answers messages, for counting instructions: some five of its own a message, and no MMU.
#![no_std]
#![no_main]

use tantalum_agent::serve_fast;
use tantalum_partition::{Boot, entry};

entry!(main, mmu = off);

fn main(boot: Boot) -> ! {
    serve_fast("bench", &boot)
}
