//! driver
#![no_std]
#![no_main]
use tantalum_partition::{Boot, entry, ffa::SMC, normal_world::psci, println};
entry!(main);
fn main(boot: Boot) -> ! {
    println!("hello {:?} {:?}", boot, SMC.version(tantalum_partition::ffa::VERSION));
    psci::system_off()
}
