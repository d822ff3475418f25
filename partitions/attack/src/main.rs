//! A partition that does what it must not when told to, up to failing in all the ways there are.
//!
//! A manifest whose `description` says so makes it fail at once, or never come to an end of its start.
#![no_std]
#![no_main]

use tantalum_agent::Agent;
use tantalum_partition::{Boot, entry, probe};

entry!(main);

fn main(boot: Boot) -> ! {
    let agent = Agent::new("attack", &boot).with_secondaries(&boot).dangerous();
    match agent.description() {
        Some("fails to initialise") => panic!("this partition is meant to fail while it initialises"),
        Some("never starts") => probe::spin_forever(),
        _ => {}
    }
    agent.serve()
}
