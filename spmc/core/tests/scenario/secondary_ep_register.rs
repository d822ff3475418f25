//! FFA_SECONDARY_EP_REGISTER (FF-A 1.2, section 18.2.1).

use tantalum_core::machine::fake::Builder as Fake;

use crate::support::*;

const SECONDARY_EP_REGISTER_32: u64 = 0x8400_0087;

fn base(index: usize) -> u64 {
    Fake::memory(index).base().as_u64()
}

#[test]
fn is_where_other_pes_start() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert_eq!(system.ctx(0).pc, base(0));
    system.smc(0, &[SECONDARY_EP_REGISTER, base(0) + 0x100]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(0)));
    // The last one counts.
    system.smc(0, &[SECONDARY_EP_REGISTER_32, (base(0) + 0x200) | (0xdead << 32)]);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), success(0)));
    while system.owner(0) != NWD {
        system.smc(0, &[MSG_WAIT]);
    }
    system.online(1);
    assert_eq!((system.owner(1), system.ctx(1).pc), (runs(A, 1), base(0) + 0x200));
    // b has registered none.
    system.smc(1, &[MSG_WAIT]);
    assert_eq!((system.owner(1), system.ctx(1).pc), (runs(B, 1), base(1)));
}

#[test]
fn outside_the_partition_is_refused() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    for entry in [
        0,
        1 << 40,
        base(0) - 4,
        base(0) + 0x1_0000,
        base(1),
        base(0) + 1,
        base(0) + 2,
        base(0) | 1 << 63,
    ] {
        system.smc_fails(0, &[SECONDARY_EP_REGISTER, entry], INVALID_PARAMETERS);
    }
}

#[test]
fn after_initialisation_is_denied() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.boot(0);
    system.ask(0, A);
    system.smc_fails(0, &[SECONDARY_EP_REGISTER, base(0)], DENIED);
    system.online(1);
    system.smc_fails(1, &[SECONDARY_EP_REGISTER, base(0)], DENIED);
}

#[test]
fn of_a_migratable_partition_is_not_supported() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", PartitionBuilder::migratable)
        .build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc_fails(0, &[SECONDARY_EP_REGISTER, base(0)], NOT_SUPPORTED);
}

#[test]
fn is_not_there_before_ffa_1_1() {
    let (spmc, machine) = Builder::new(2).partition_with("a", |a| a.version(1, 0)).build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc_fails(0, &[SECONDARY_EP_REGISTER, base(0)], NOT_SUPPORTED);
}

#[test]
fn by_the_normal_world_is_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.nwd_fails(0, &[SECONDARY_EP_REGISTER, base(0)], NOT_SUPPORTED);
}
