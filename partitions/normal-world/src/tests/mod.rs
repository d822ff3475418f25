//! The suite. Each test is named by the interface and the behaviour that it is about.

mod attacks;
mod cores;
mod devices;
mod direct_req;
mod direct_req2;
mod direct_resp;
mod discovery;
mod failures;
mod features;
mod framework;
mod identity;
mod indirect;
mod interrupts;
mod isolation;
mod legacy;
mod limits;
pub mod memory;
mod notification;
mod notification_refused;
mod partition_info_get;
mod refused;
mod registers;
mod restart;
mod rxtx_map;
mod s_el0;
mod scheduling;
mod simd;
mod soak;
mod system_registers;
mod timer;
mod vault;
pub mod version;
mod virtual_gic;
mod vm_buffers;

use tantalum_agent::{CLOCK, VAULT, attack_uuid};
use tantalum_partition::{
    ffa::{Outcome as Answer, SMC},
    normal_world::gic,
};

use crate::{
    report::{Outcome, Score, Verdict},
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

/// The groups for partitions that live, in the order in which they run: what leaves one hanging comes last.
const GROUPS: &[&[Test]] = &[
    version::TESTS,
    features::TESTS,
    identity::TESTS,
    discovery::TESTS,
    direct_req::TESTS,
    direct_req2::TESTS,
    direct_resp::TESTS,
    refused::TESTS,
    rxtx_map::TESTS,
    partition_info_get::TESTS,
    notification::TESTS,
    notification_refused::TESTS,
    indirect::TESTS,
    vm_buffers::TESTS,
    memory::TESTS,
    framework::TESTS,
    scheduling::TESTS,
    interrupts::TESTS,
    timer::TESTS,
    registers::TESTS,
    simd::TESTS,
    legacy::TESTS,
    isolation::TESTS,
    attacks::TESTS,
    system_registers::TESTS,
    cores::TESTS,
    s_el0::TESTS,
    failures::LAST,
];

/// The groups for partitions that die.
const FATAL_GROUPS: &[&[Test]] = &[failures::TESTS, cores::PINNED];

/// The groups for partitions with a service of their own, which do not return what they get.
const SERVICE_GROUPS: &[&[Test]] = &[vault::TESTS];

/// The groups for partitions that are started afresh.
const RESTART_GROUPS: &[&[Test]] = &[restart::TESTS];

/// The groups for partitions that keep the normal world's interrupts away for too long.
const LIMIT_GROUPS: &[&[Test]] = &[limits::TESTS];

/// The groups for partitions with devices that interrupt.
const DEVICE_GROUPS: &[&[Test]] = &[timer::TESTS, devices::TESTS, virtual_gic::TESTS, soak::TESTS];

/// Runs the tests that the partitions are there for.
pub fn run(world: &World, score: &mut Score) {
    let groups = if world.find(attack_uuid(1)).is_some() {
        FATAL_GROUPS
    } else if world.find(attack_uuid(8)).is_some() {
        RESTART_GROUPS
    } else if world.find(limits::DEAF).is_some() {
        LIMIT_GROUPS
    } else if world.find(VAULT).is_some() {
        SERVICE_GROUPS
    } else if world.find(CLOCK).is_some() {
        DEVICE_GROUPS
    } else {
        GROUPS
    };
    for test in groups.iter().copied().flatten() {
        let outcome = (test.run)(world);
        if matches!(outcome, Err(Verdict::Failed)) {
            recover(world);
        }
        score.record(test.name, outcome);
    }
}

/// A test that fails may leave a partition in the middle of something: gives each the time to finish, so that the next tests tell of themselves.
fn recover(world: &World) {
    for partition in world.partitions().iter().flatten() {
        let mut answer = SMC.run(partition.id, 0);
        for _ in 0..100 {
            let Ok(Answer::Interrupted { partition, context } | Answer::Yielded { partition, context }) = answer else {
                break;
            };
            while gic::take().is_some() {}
            answer = SMC.run(partition, context);
        }
    }
}
