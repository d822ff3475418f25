//! Instructions of partitions that EL2 traps, and calls outside FF-A.

use crate::support::*;

const IL: u64 = 1 << 25;

/// The syndrome of an access to a system register.
fn access(op0: u64, op1: u64, crn: u64, crm: u64, op2: u64, rt: u64, read: bool) -> u64 {
    0x18 << 26 | IL | op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | rt << 5 | crm << 1 | u64::from(read)
}

#[test]
fn waiting_is_skipped() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let pc = system.ctx(0).pc;
    for kind in 0..4 {
        system.exit(0, synchronous(0x01 << 26 | IL | kind));
    }
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(0, A)));
    assert_eq!(system.ctx(0).pc, pc + 16);
}

#[test]
fn auxiliary_control_register_reads_as_zero_and_ignores_writes() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.load(0, &[9, 9, 9, 9]);
    let pc = system.ctx(0).pc;
    system.exit(0, synchronous(access(3, 0, 1, 0, 1, 2, true)));
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [9, 9, 0, 9, 0, 0, 0, 0])
    );
    system.exit(0, synchronous(access(3, 0, 1, 0, 1, 3, false)));
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (runs(A, 0), [9, 9, 0, 9, 0, 0, 0, 0])
    );
    // xzr
    system.exit(0, synchronous(access(3, 0, 1, 0, 1, 31, true)));
    assert_eq!((system.owner(0), system.ctx(0).pc), (runs(A, 0), pc + 12));
}

#[test]
fn cache_maintenance_by_set_and_way_does_nothing() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let pc = system.ctx(0).pc;
    for crm in [6, 10, 14] {
        system.exit(0, synchronous(access(1, 0, 7, crm, 2, 0, false)));
    }
    assert_eq!(
        (system.owner(0), system.regs(0), system.ctx(0).pc),
        (runs(A, 0), request(0, A), pc + 12)
    );
}

#[test]
fn other_registers_are_undefined() {
    // PMCR_EL0, ICC_IAR1_EL1, MDSCR_EL1, CNTPS_CTL_EL1, a write to an ID register, one of the implementation's own
    for esr in [
        access(3, 3, 9, 12, 0, 0, true),
        access(3, 0, 12, 12, 0, 0, true),
        access(2, 0, 0, 2, 2, 0, false),
        access(3, 7, 14, 2, 1, 0, true),
        access(3, 0, 0, 4, 0, 0, false),
        access(3, 0, 15, 0, 0, 0, true),
    ] {
        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        system.ask(0, A);
        system.el1(0).vbar = 0x0e30_0800;
        let pc = system.ctx(0).pc;
        system.machine.take_console();
        system.exit(0, synchronous(esr));
        assert_eq!(
            (system.owner(0), system.regs(0), system.ctx(0).pc),
            (runs(A, 0), request(0, A), 0x0e30_0a00)
        );
        assert_eq!((system.el1(0).esr, system.el1(0).elr), (IL, pc));
        let console = system.machine.take_console();
        assert!(console.contains("of system register S"), "{console}");
    }
}

#[test]
fn unknown_calls_outside_ffa_are_answered_with_minus_one() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    // PSCI_VERSION, CPU_OFF, a SiP call, trusted OS calls, those beside FF-A's
    for id in [
        0x8000_0002,
        0x8400_0000,
        0x8400_0002,
        0xc200_0001,
        0x3200_0000,
        0xbf00_ff01,
        0x8400_005f,
        0x8400_00f0,
        0,
    ] {
        system.smc(0, &[id, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(
            (system.owner(0), system.regs(0)),
            (runs(A, 0), [u64::MAX, 1, 2, 3, 4, 5, 6, 7])
        );
        system.hvc(0, &[id]);
        assert_eq!(system.regs(0)[0], u64::MAX);
    }
    assert!(system.machine.pe(0).el3_calls.is_empty());
}

#[test]
fn calling_convention_has_a_version() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for (call, x0) in [
        ([0x8000_0000, 0], 0x1_0002),
        ([0x8000_0001, 0x8000_0000], 0),
        ([0x8000_0001, 0x8000_0001], 0),
        ([0x8000_0001, 0x8000_8000], u64::MAX),
        ([0x8000_0001, 0x8400_0000], u64::MAX),
    ] {
        system.smc(0, &call);
        assert_eq!(
            (system.owner(0), system.regs(0)),
            (runs(A, 0), [x0, call[1], 0, 0, 0, 0, 0, 0])
        );
    }
}

#[test]
fn unknown_calls_of_ffa_are_not_supported() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    for id in [
        0x8400_006e,
        0x8400_0091,
        0x8400_00ef,
        0xc400_0063,
        0xc400_0069,
        0xc400_008f,
    ] {
        system.nwd_fails(0, &[id], NOT_SUPPORTED);
    }
    // For the normal world, everything else is: EL3 takes any answer for an FF-A call's.
    for id in [0, 0x8000_0000, 0x8400_0002, u64::MAX] {
        system.nwd_fails(0, &[id], NOT_SUPPORTED);
    }
    system.ask(0, A);
    for id in [
        0x8400_006e,
        0x8400_0091,
        0x8400_00ef,
        0xc400_0063,
        0xc400_0069,
        0xc400_008f,
    ] {
        system.smc_fails(0, &[id], NOT_SUPPORTED);
    }
}

#[test]
fn call_on_the_white_list_goes_to_el3_in_the_partitions_name() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |a| a.smc(0xc200_0001))
        .partition("b")
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    let answer = core::array::from_fn(|n| 0x100 + n as u64);
    system.machine.pe(0).el3_answers.push_back(answer);
    let call: [u64; 18] = core::array::from_fn(|n| if n == 0 { 0xc200_0001 } else { n as u64 });
    system.smc(0, &call);
    assert_eq!((system.owner(0), system.all(0)), (runs(A, 0), answer));
    let mut passed = call;
    passed[7] = A;
    assert_eq!(system.machine.pe(0).el3_calls, [passed]);
    // It is on no other's, nor others on its.
    system.smc(0, &[0xc200_0002]);
    assert_eq!(system.regs(0)[0], u64::MAX);
    system.forward(0, A, B);
    system.smc(0, &[0xc200_0001]);
    assert_eq!(system.regs(0)[0], u64::MAX);
    assert_eq!(system.machine.pe(0).el3_calls.len(), 1);
}

#[test]
fn permissive_white_list_does_not_let_ffa_through() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |mut a| {
            a.smc_whitelist_permissive = true;
            a
        })
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.smc(0, &[0xc200_0002]);
    assert_eq!(system.machine.pe(0).el3_calls.len(), 1);
    for id in (0x8400_0060..0x8400_00f0)
        .chain(0xc400_0060..0xc400_00f0)
        .filter(|id| ![ABORT, 0xc400_0090].contains(id))
    {
        for hint in [0, 1 << 16] {
            if system.owner(0) == NWD {
                system.nwd(0, &[RUN, target(A, 0)]);
            }
            system.smc(0, &[id | hint]);
        }
    }
    assert_eq!(system.machine.pe(0).el3_calls.len(), 1);
}

#[test]
fn nothing_of_another_is_in_any_result() {
    // System checks after each step that no register bears another's mark; here every call is made with every register
    // marked.
    for n in 0x60..0xf0 {
        for id in [0x8400_0000 | n, 0xc400_0000 | n] {
            let (spmc, machine) = three();
            let mut system = System::booted(&spmc, machine);
            let marked = |owner| {
                let mut registers: [u64; 18] = core::array::from_fn(|n| tantalum_core::machine::fake::taint(owner, n));
                registers[0] = id;
                registers
            };
            system.nwd(0, &marked(0));
            while system.owner(0) != NWD {
                system.smc(0, &[MSG_WAIT]);
            }
            system.ask(0, A);
            system.smc(0, &marked(1));
            if system.owner(0) == runs(A, 0) {
                system.forward(0, A, B);
                system.smc(0, &marked(2));
            }
        }
    }
}
