//! A partition with one execution context that moves from core to core, and sends messages on to others when told to.
#![no_std]
#![no_main]

use tantalum_agent::Agent;
use tantalum_partition::{Boot, entry};

entry!(main);

fn main(boot: Boot) -> ! {
    Agent::new("forward", &boot).serve()
}
