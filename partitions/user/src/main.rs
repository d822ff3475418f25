//! A partition at S-EL0 that returns every message, and does what the tests tell it to, up to failing in all the ways there are.
//!
//! What it may do with its memory it can say only while it initialises: then it tests that, too.
#![no_std]
#![no_main]

mod permissions;

use tantalum_agent::Agent;
use tantalum_partition::{Boot, entry};

entry!(main, level = el0);

fn main(boot: Boot) -> ! {
    permissions::test();
    Agent::new("user", &boot).dangerous().serve()
}
