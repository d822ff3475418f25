//! A partition with one execution context that moves from core to core, and sends messages on to others when told to.
//!
//! Where its manifest describes it as legacy, it waits and responds by hypervisor calls.
#![no_std]
#![no_main]

use tantalum_agent::Agent;
use tantalum_partition::{Boot, entry};

entry!(main);

fn main(boot: Boot) -> ! {
    let agent = Agent::new("forward", &boot);
    match agent.description() {
        Some("legacy") => agent.by_hvc().serve(),
        _ => agent.serve(),
    }
}
