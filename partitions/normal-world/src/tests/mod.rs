//! The suite. Each test is named by the interface and the behaviour that it is about.

mod attacks;
mod cores;
mod direct_req;
mod direct_req2;
mod direct_resp;
mod discovery;
mod failures;
mod features;
mod identity;
mod interrupts;
mod isolation;
mod refused;
mod registers;
mod scheduling;
mod simd;
mod system_registers;
pub mod version;

use crate::{
    report::{Outcome, Score},
    world::World,
};

/// One test.
#[derive(Debug)]
pub struct Test {
    name: &'static str,
    run: fn(&World) -> Outcome,
}

/// Lists the tests of a module.
macro_rules! tests {
    ($group:literal: $($name:ident),* $(,)?) => {
        /// The tests of this module.
        pub const TESTS: &[$crate::tests::Test] = &[
            $($crate::tests::Test::new(concat!($group, "::", stringify!($name)), $name)),*
        ];
    };
}
use tests;

impl Test {
    /// A test that `run` performs.
    pub const fn new(name: &'static str, run: fn(&World) -> Outcome) -> Self {
        Self { name, run }
    }
}

/// All groups, in the order in which they run: what leaves partitions dead comes last.
const GROUPS: &[&[Test]] = &[
    version::TESTS,
    features::TESTS,
    identity::TESTS,
    discovery::TESTS,
    direct_req::TESTS,
    direct_req2::TESTS,
    direct_resp::TESTS,
    refused::TESTS,
    scheduling::TESTS,
    interrupts::TESTS,
    registers::TESTS,
    simd::TESTS,
    isolation::TESTS,
    attacks::TESTS,
    system_registers::TESTS,
    cores::TESTS,
    failures::TESTS,
];

/// Runs all tests.
pub fn run(world: &World, score: &mut Score) {
    for test in GROUPS.iter().copied().flatten() {
        score.record(test.name, (test.run)(world));
    }
}
