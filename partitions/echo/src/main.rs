//! A partition that returns every message to its sender, on every core. It also carries out the commands of the tests.
#![no_std]
#![no_main]

use tantalum_agent::Agent;
use tantalum_partition::{Boot, entry};

entry!(main);

fn main(boot: Boot) -> ! {
    Agent::new("echo", &boot).with_secondaries(&boot).serve()
}
