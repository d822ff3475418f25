//! Every interleaving of calls, interrupts and core moves, in small machines.
//!
//! After each step the policy's own invariants hold, and
//! * an interrupt that was raised and not taken is pending somewhere: at the interrupt controller or in a context of its owner;
//! * an interrupt that is active was taken, or is pending in a context: it is going to be deactivated;
//! * it comes to a PE that is on;
//! * a context that runs has been told of what is pending for it, or is going to be interrupted;
//! * the normal world gets FFA_NORMAL_WORLD_RESUME when, and only when, a secure interrupt had interrupted it.
//!
//! From each state on, whatever the order, work comes to an end in which all interrupts were taken, all contexts wait, no timer
//! is armed, and all PEs are in the normal world; and all PEs come back there whatever of their work partitions leave undone
//! ([`explore`]).
//!
//! Each machine has what interacts, and little besides: many are small enough for all their states. The others are visited
//! breadth first, some thousand states in `cargo test`; `make model` lets each take its time.

mod explore;
mod world;

use tantalum_core::{
    interrupt::Signal,
    machine::fake::PartitionBuilder,
    manifest::partition::{NsInterruptsAction, OtherSInterruptsAction, PowerManagement, SriPolicy, Trigger},
};

use crate::{
    explore::explore,
    world::{Device, Happens, Setup},
};

const EDGE: Device = Device {
    id: 40,
    owner: 0,
    trigger: Trigger::Edge,
    pe: 0,
};
const LEVEL: Device = Device {
    id: 41,
    owner: 1,
    trigger: Trigger::Level,
    pe: 0,
};

fn same(partition: PartitionBuilder) -> PartitionBuilder {
    partition
}

fn managed_exit(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.ns_interrupts = NsInterruptsAction::ManagedExit;
    partition.managed_exit = Signal::Fiq;
    partition
}

fn restarts(partition: PartitionBuilder) -> PartitionBuilder {
    partition.restart()
}

fn wants_power_messages(partition: PartitionBuilder) -> PartitionBuilder {
    partition.power(PowerManagement::CPU_OFF)
}

fn queues(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.other_s_interrupts = OtherSInterruptsAction::Queued;
    partition.queued().migratable()
}

fn virtual_gic(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.virtual_gic = true;
    partition
}

fn scheduled(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.sri_policy = SriPolicy::all();
    partition
}

const CALLS: Happens = Happens::REQUESTS
    .union(Happens::CHAINS)
    .union(Happens::RUNS)
    .union(Happens::YIELDS)
    .union(Happens::NORMAL_WORLD);

/// The smallest one: all that a partition can do alone.
const ONE: Setup = Setup {
    name: "1 PE, 1 partition, 1 edge",
    pes: 1,
    partitions: &[same],
    devices: &[EDGE],
    happens: CALLS.union(Happens::CARELESS),
};

#[test]
fn one_of_each() {
    explore(&ONE);
}

#[test]
fn one_level() {
    explore(&Setup {
        name: "1 PE, 1 partition, 1 level",
        devices: &[Device { owner: 0, ..LEVEL }],
        ..ONE
    });
}

#[test]
fn one_pe() {
    explore(&Setup {
        name: "1 PE, 2 partitions, an edge and a level",
        partitions: &[same, same],
        devices: &[EDGE, LEVEL],
        ..ONE
    });
}

/// Two of each.
const TWO: Setup = Setup {
    name: "2 PEs, 2 pinned partitions, an edge and a level",
    pes: 2,
    partitions: &[same, same],
    devices: &[EDGE, Device { pe: 1, ..LEVEL }],
    happens: CALLS.union(Happens::CARELESS),
};

#[test]
fn two_pes_one_migratable_partition() {
    explore(&Setup {
        name: "2 PEs, 1 migratable partition, an edge that moves",
        pes: 2,
        partitions: &[PartitionBuilder::migratable],
        happens: ONE.happens.union(Happens::ROUTES),
        ..ONE
    });
}

#[test]
fn two_pes_one_pinned_partition() {
    explore(&Setup {
        name: "2 PEs, 1 pinned partition, a level that moves, IPIs",
        pes: 2,
        happens: ONE.happens.union(Happens::ROUTES).union(Happens::IPIS),
        devices: &[Device { owner: 0, ..LEVEL }],
        ..ONE
    });
}

#[test]
fn two_pinned_partitions() {
    explore(&TWO);
}

#[test]
fn migratable_and_pinned_partition_with_interrupts_that_move() {
    explore(&Setup {
        name: "2 PEs, a migratable and a pinned partition, interrupts move",
        partitions: &[PartitionBuilder::migratable, same],
        happens: TWO.happens.union(Happens::ROUTES),
        ..TWO
    });
}

#[test]
fn two_migratable_partitions() {
    explore(&Setup {
        name: "2 PEs, 2 migratable partitions",
        partitions: &[PartitionBuilder::migratable, PartitionBuilder::migratable],
        ..TWO
    });
}

#[test]
fn managed_exit_and_queued_interrupts() {
    explore(&Setup {
        name: "2 PEs, managed exit, and one that queues all interrupts",
        partitions: &[managed_exit, queues],
        ..TWO
    });
}

#[test]
fn partitions_that_end() {
    explore(&Setup {
        name: "2 PEs, 2 migratable partitions that end",
        partitions: &[PartitionBuilder::migratable, PartitionBuilder::migratable],
        happens: TWO.happens.union(Happens::ABORTS),
        ..TWO
    });
}

#[test]
fn partition_that_the_normal_world_schedules() {
    explore(&Setup {
        name: "2 PEs, one that the normal world schedules",
        partitions: &[scheduled, PartitionBuilder::migratable],
        ..TWO
    });
}

#[test]
fn partition_that_exits_in_its_own_way() {
    explore(&Setup {
        name: "2 PEs, managed exit",
        pes: 2,
        partitions: &[managed_exit],
        ..ONE
    });
}

#[test]
fn chain_of_three() {
    explore(&Setup {
        name: "1 PE, 3 partitions, of which one exits in its own way and one queues",
        partitions: &[managed_exit, same, queues],
        happens: CALLS,
        devices: &[EDGE],
        ..ONE
    });
}

#[test]
fn timers() {
    explore(&Setup {
        name: "1 PE, 2 partitions with timers",
        partitions: &[same, same],
        devices: &[],
        happens: CALLS.union(Happens::TIMERS).union(Happens::CARELESS),
        ..ONE
    });
}

#[test]
fn timer_of_a_migratable_partition() {
    explore(&Setup {
        name: "2 PEs, which go off and come up, a migratable partition with a timer, an edge",
        pes: 2,
        partitions: &[PartitionBuilder::migratable],
        happens: CALLS.union(Happens::TIMERS).union(Happens::POWER),
        ..ONE
    });
}

#[test]
fn timers_and_ipis_of_a_pinned_partition() {
    explore(&Setup {
        name: "2 PEs, which go off and come up, a pinned partition with timers and IPIs",
        pes: 2,
        partitions: &[same],
        devices: &[],
        happens: CALLS.union(Happens::TIMERS).union(Happens::POWER).union(Happens::IPIS),
    });
}

#[test]
fn timers_of_two_migratable_partitions() {
    explore(&Setup {
        name: "2 PEs, 2 migratable partitions with timers",
        pes: 2,
        partitions: &[PartitionBuilder::migratable, PartitionBuilder::migratable],
        devices: &[],
        happens: CALLS.union(Happens::TIMERS),
    });
}

#[test]
fn pes_that_go_off() {
    explore(&Setup {
        name: "2 PEs, which go off and come up, one partition that wants to know, one that moves",
        partitions: &[wants_power_messages, PartitionBuilder::migratable],
        happens: Happens::REQUESTS
            .union(Happens::CHAINS)
            .union(Happens::NORMAL_WORLD)
            .union(Happens::POWER),
        ..TWO
    });
}

#[test]
fn partition_that_starts_afresh() {
    explore(&Setup {
        name: "2 PEs, a pinned partition that ends and starts afresh",
        pes: 2,
        partitions: &[restarts],
        happens: CALLS.union(Happens::ABORTS).union(Happens::POWER),
        ..ONE
    });
}

#[test]
fn partitions_that_start_afresh() {
    explore(&Setup {
        name: "2 PEs, 2 partitions that end, one starts afresh",
        partitions: &[|partition| partition.restart().migratable(), same],
        happens: CALLS.union(Happens::ABORTS),
        ..TWO
    });
}

#[test]
fn partition_that_the_normal_world_schedules_alone() {
    explore(&Setup {
        name: "2 PEs, a pinned partition that the normal world schedules, IPIs and timers",
        pes: 2,
        partitions: &[scheduled],
        happens: CALLS.union(Happens::IPIS).union(Happens::TIMERS),
        ..ONE
    });
}

#[test]
fn partitions_that_hang() {
    explore(&Setup {
        name: "1 PE, 2 partitions with limits of time, one exits in its own way, one queues",
        partitions: &[managed_exit, queues],
        happens: CALLS.union(Happens::LIMITS),
        ..ONE
    });
}

#[test]
fn partition_that_hangs() {
    explore(&Setup {
        name: "2 PEs, which go off and come up, a partition with limits of time that wants power messages",
        pes: 2,
        partitions: &[wants_power_messages],
        happens: CALLS.union(Happens::LIMITS).union(Happens::POWER),
        ..ONE
    });
}

#[test]
fn virtual_interrupt_controller() {
    explore(&Setup {
        name: "1 PE, a partition with a virtual interrupt controller and one without, an edge and a level",
        partitions: &[virtual_gic, same],
        devices: &[EDGE, Device { owner: 0, ..LEVEL }],
        ..ONE
    });
}

#[test]
fn virtual_interrupt_controller_that_moves() {
    explore(&Setup {
        name: "2 PEs, 2 migratable partitions, one with a virtual interrupt controller, an edge and a level",
        partitions: &[
            |partition| virtual_gic(partition).migratable(),
            PartitionBuilder::migratable,
        ],
        ..TWO
    });
}

#[test]
fn virtual_interrupt_controllers_of_a_pinned_partition() {
    explore(&Setup {
        name: "2 PEs, a pinned partition with virtual interrupt controllers, a level that moves, IPIs and timers",
        pes: 2,
        partitions: &[virtual_gic],
        devices: &[Device { owner: 0, ..LEVEL }],
        happens: CALLS.union(Happens::ROUTES).union(Happens::IPIS).union(Happens::TIMERS),
    });
}
