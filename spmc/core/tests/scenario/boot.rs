//! How contexts start (FF-A 1.2, chapter 5), and the report of the boot.

use crate::support::*;

#[test]
fn context_starts_with_nothing_but_its_number() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.boot(0);
    system.online(1);
    for (partition, index) in [(A, 0), (B, 1), (C, 2)] {
        assert_eq!(system.owner(1), runs(partition, 1));
        let ctx = system.ctx(1);
        assert_eq!(ctx.pc, Builder::memory(index).base().as_u64());
        assert_eq!((ctx.pstate, ctx.vmpidr), (0x3c5, 1 << 31 | 1));
        let mut expected = [0; 31];
        expected[4] = 1;
        assert_eq!(ctx.x, expected);
        let el1 = system.el1(1).clone();
        assert_eq!((el1.sctlr, el1.vbar, el1.ttbr0), (0x30d0_0800, 0, 0));
        system.smc(1, &[MSG_WAIT]);
    }
    assert_eq!(system.owner(1), NWD);
}

#[test]
fn boot_information_is_for_the_first_context_only() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |mut a| {
            a.boot_info = Some((2, 0x0e30_1000));
            a
        })
        .build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert_eq!(system.regs(0), [0, 0, 0x0e30_1000, 0, 0, 0, 0, 0]);
    system.smc(0, &[MSG_WAIT]);
    system.online(1);
    assert_eq!(system.regs(1), [0, 0, 0, 0, 1, 0, 0, 0]);
}

#[test]
fn migratable_partition_starts_once() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("m", PartitionBuilder::migratable)
        .partition("a")
        .build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert_eq!((system.owner(0), system.ctx(0).vmpidr), (runs(A, 0), 1 << 31));
    system.smc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    system.online(1);
    assert_eq!(system.owner(1), runs(B, 1));
    system.smc(1, &[MSG_WAIT]);
    // It is there on the other PE all the same.
    system.ask(1, A);
    assert_eq!(system.owner(1), runs(A, 0));
}

#[test]
fn without_partitions_there_is_a_normal_world() {
    let (spmc, machine) = Builder::new(1).build();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
    );
    system.nwd_fails(0, &request(0, A), INVALID_PARAMETERS);
    system.nwd_fails(0, &[PARTITION_INFO_GET_REGS], INVALID_PARAMETERS);
}

#[test]
fn report_names_every_partition_once() {
    let (spmc, machine) = Builder::new(2)
        .partition("a")
        .partition_with("m", PartitionBuilder::migratable)
        .build();
    let mut system = System::new(&spmc, machine);
    system.boot(0);
    let console = system.machine.take_console();
    assert!(console.contains("2 of 2 partitions ready"), "{console}");
    assert!(
        console.contains("0x8001  a") && console.contains("2 contexts pinned"),
        "{console}"
    );
    assert!(
        console.contains("0x8002  m") && console.contains("1 context  migratable"),
        "{console}"
    );
    system.boot(1);
    assert_eq!(system.machine.take_console(), "");
}

#[test]
fn pe_that_the_manifest_does_not_name_is_unknown() {
    let (spmc, _machine) = three();
    assert!(
        spmc.pe(0x8000_0001).is_some(),
        "bits that are not affinity do not matter"
    );
    assert!(spmc.pe(2).is_none() && spmc.pe(0x100).is_none() && spmc.pe(1 << 32).is_none());
}
