//! System registers and instructions that partitions have no business with.

use tantalum_agent::{ATTACK, Command, DONE};
use tantalum_partition::{
    arch,
    normal_world::gic,
    println,
    probe::{
        EC_UNKNOWN, Fault,
        sysreg::{self, Rule, Target},
    },
};

use super::{registers::kept, tests};
use crate::{
    report::{Outcome, check, expect_eq},
    talk::{ask, expect_alive},
    world::World,
};

tests! { "system_registers":
    of_el2_and_el3_are_undefined,
    instructions_of_el2_and_el3_are_undefined,
    of_the_gic_do_no_harm,
    commands_to_the_gic_do_no_harm,
    timers_do_no_harm,
    performance_monitors_do_no_harm,
    debug_and_trace_do_no_harm,
    unswitched_features_do_no_harm,
    maintenance_instructions_do_no_harm,
    identification_shows_what_a_partition_may_use,
}

/// Fields of identification registers that must say "not there", for nobody switches what they stand for between partitions.
const HIDDEN: [(&str, &[u32]); 6] = [
    // EL3, RAS, SVE, SEL2, MPAM, AMU.
    ("ID_AA64PFR0_EL1", &[12, 28, 32, 36, 40, 44]),
    // MTE, SME.
    ("ID_AA64PFR1_EL1", &[8, 24]),
    // TraceVer, PMUVer, PMSVer, TraceFilt, TraceBuffer, BRBE.
    ("ID_AA64DFR0_EL1", &[4, 8, 32, 40, 44, 52]),
    ("ID_AA64ZFR0_EL1", &[0, 4, 16, 20, 24, 32, 40, 44, 52, 56]),
    ("ID_AA64SMFR0_EL1", &[32, 40, 44, 52, 56, 60]),
    // LO, VH.
    ("ID_AA64MMFR1_EL1", &[8, 16]),
];

/// Exceptions that an access may take besides being undefined: traps that the partition has itself for SIMD, SVE and SME.
const OWN_TRAPS: [u64; 3] = [0x07, 0x19, 0x1d];

fn identification_shows_what_a_partition_may_use(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    let mut wrong = 0;
    for (index, target) in sysreg::all().enumerate() {
        let Some((_, fields)) = HIDDEN.iter().find(|(name, _)| *name == target.name) else {
            continue;
        };
        let answer = ask(attack, Command::SystemRegister.words(&[index as u64]))?;
        expect_eq!(
            answer[..2],
            [DONE, 0],
            "reading {} (0 means that it went through)",
            target.name
        );
        for field in *fields {
            let value = answer[2] >> field & 0xf;
            if value != 0 {
                println!(
                    "    {}: the field at bit {field} is {value:#x}, which a partition must not see",
                    target.name
                );
                wrong += 1;
            }
        }
    }
    expect_eq!(wrong, 0, "how many features a partition sees that it may not use");
    try_group(world, sysreg::GROUPS.len() - 1)
}

/// One half of an access: whether it faulted as the rule says.
fn is_right(rule: Rule, faulted: u64, esr: u64) -> bool {
    let class = Fault {
        esr,
        far: 0,
        elr: 0,
        at: 0,
    }
    .class();
    match (rule, faulted) {
        (Rule::Harmless, 0) => true,
        (Rule::Harmless, _) => class == EC_UNKNOWN || OWN_TRAPS.contains(&class),
        (Rule::Undefined, 0) => false,
        (Rule::Undefined, _) => class == EC_UNKNOWN,
    }
}

/// Tries all targets of a group, and checks that the normal world's registers are as they were and its interrupts still work.
fn try_group(world: &World, group: usize) -> Outcome {
    let attack = world.need(ATTACK)?;
    let (mask, running) = (gic::priority_mask(), gic::running_priority());
    let first: usize = sysreg::GROUPS[..group].iter().map(|(_, targets)| targets.len()).sum();
    let (_, targets) = sysreg::GROUPS[group];
    let mut wrong = 0;
    kept(group as u64 + 0x77, || {
        for (offset, target) in targets.iter().enumerate() {
            let answer = ask(attack, Command::SystemRegister.words(&[(first + offset) as u64]))?;
            expect_eq!(answer[0], DONE, "the first word of the answer for {}", target.name);
            wrong += u32::from(!check(target, &answer));
        }
        Ok(())
    })?;
    expect_eq!(
        wrong,
        0,
        "how many of {} targets were neither undefined nor harmless",
        targets.len()
    );
    expect_eq!(gic::priority_mask(), mask, "ICC_PMR_EL1 of the normal world");
    expect_eq!(gic::running_priority(), running, "ICC_RPR_EL1 of the normal world");
    gic::enable(4);
    gic::send(4, arch::mpidr());
    let taken = crate::cores::Deadline::after(1000).wait_until(|| gic::take() == Some(4));
    gic::disable(4);
    check!(taken, "the normal world still to get its interrupts");
    expect_alive(attack)
}

/// Prints what is wrong with the answer for a target; `true` if nothing is.
fn check(target: &Target, answer: &[u64; 14]) -> bool {
    let is_instruction = target.name.contains("write") || answer[1] == 0 && answer[2] == 0 && target.name.contains(' ');
    let read = is_instruction || is_right(target.rule, answer[1], answer[2]);
    let write = is_right(target.rule, answer[3], answer[4]);
    if !read {
        println!("    {}: reading it {}", target.name, Access(answer[1], answer[2]));
    }
    if !write {
        println!("    {}: writing it {}", target.name, Access(answer[3], answer[4]));
    }
    read && write
}

/// What became of an access.
struct Access(u64, u64);

impl core::fmt::Display for Access {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0 == 0 {
            write!(f, "went through ({:#x})", self.1)
        } else {
            write!(f, "took an exception with ESR_EL1 {:#x}", self.1)
        }
    }
}

fn of_el2_and_el3_are_undefined(world: &World) -> Outcome {
    try_group(world, 0)
}

fn instructions_of_el2_and_el3_are_undefined(world: &World) -> Outcome {
    try_group(world, 1)
}

fn of_the_gic_do_no_harm(world: &World) -> Outcome {
    try_group(world, 2)
}

fn commands_to_the_gic_do_no_harm(world: &World) -> Outcome {
    try_group(world, 3)
}

fn timers_do_no_harm(world: &World) -> Outcome {
    try_group(world, 4)
}

fn performance_monitors_do_no_harm(world: &World) -> Outcome {
    try_group(world, 5)
}

fn debug_and_trace_do_no_harm(world: &World) -> Outcome {
    try_group(world, 6)
}

fn unswitched_features_do_no_harm(world: &World) -> Outcome {
    try_group(world, 7)
}

fn maintenance_instructions_do_no_harm(world: &World) -> Outcome {
    try_group(world, 8)
}
