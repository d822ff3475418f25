//! The normal world, in the place of a boot loader: finds out what partitions there are, does with them what they are for, and powers off.
//!
//! | partitions | what happens |
//! | --- | --- |
//! | bench1, and others like it | measures: `bench <name> <instructions>` |
//! | echo, forward, attack and user | a guided tour |
//! | one that is unknown here | each is sent a message, and its answer shown |
//! | any other | the tests that can run with those |
//!
//! Where the scenario says which version of FF-A the normal world is to speak, it runs the tests of that instead.
//!
//! The last line is the verdict, `tantalum: N passed, N failed`, for scripts to read.
#![no_std]
#![no_main]

mod bench;
mod buffers;
mod clock;
mod cores;
mod demo;
mod report;
mod talk;
mod tests;
mod versions;
mod visit;
mod world;

use tantalum_agent::{ATTACK, BENCH, ECHO, FORWARD, USER};
use tantalum_partition::{
    Boot, entry,
    ffa::Uuid,
    normal_world::{gic, psci},
    println,
};

use crate::{report::Score, world::World};

entry!(main);

/// The partitions of the tour.
const DEMONSTRATION: [Uuid; 4] = [ECHO, FORWARD, ATTACK, USER];

fn main(boot: Boot) -> ! {
    gic::init();
    if !boot.is_first {
        cores::work(boot.context);
    }
    println!("\ntantalum: normal world, at EL2");
    let mut score = Score::default();
    if let Some(minor) = versions::asked() {
        versions::run(minor, &mut score);
        println!("{score}");
        psci::system_off()
    }
    // Before anything else: the first other call fixes the version.
    let version = tests::version::observe();
    let cores = cores::start();
    let world = World::discover(cores, version);
    world.print();
    if world.find(BENCH[0]).is_some() {
        bench::run(&world, &mut score);
    } else if DEMONSTRATION.iter().all(|uuid| world.find(*uuid).is_some())
        && world.partitions().len() == DEMONSTRATION.len()
    {
        demo::run(&world, &mut score);
    } else if world.strangers().next().is_some() {
        visit::run(&world, &mut score);
    } else {
        tests::run(&world, &mut score);
    }
    println!("{score}");
    psci::system_off()
}
