//! Faults of partitions: taken at their own EL1 as the architecture would (Arm ARM, D1.3 "exceptions", ESR_ELx), or the
//! end of the partition when it cannot.

use tantalum_core::{machine::fake::POISON, spmc::Exit};

use crate::support::*;

const IL: u64 = 1 << 25;
const DATA_ABORT: u64 = 0x24 << 26 | IL;
const INSTRUCTION_ABORT: u64 = 0x20 << 26 | IL;
/// Translation fault, level 3.
const TRANSLATION: u64 = 0x07;
/// Access flag fault, level 3.
const ACCESS_FLAG: u64 = 0x0b;
/// Permission fault, level 3.
const PERMISSION: u64 = 0x0f;
const WRITE: u64 = 1 << 6;
const WALK: u64 = 1 << 7;
const VBAR: u64 = 0x0e30_0800;
const PC: u64 = 0x0e30_2000;
const EL1H: u64 = 0x5;

fn fault(esr: u64, far: u64, ipa: u64) -> Exit {
    Exit::Synchronous {
        esr,
        far,
        hpfar: ipa >> 12 << 4,
    }
}

/// a runs at PC, has vectors at VBAR, works for b, which works for the normal world.
fn running(system: &mut System<'_>) {
    system.ask(0, B);
    system.forward(0, B, A);
    system.ctx(0).pc = PC;
    system.el1(0).vbar = VBAR;
}

/// What a finds after `exit` at its EL1.
#[track_caller]
fn taken(pstate: u64, sctlr: u64, exit: Exit) -> Taken {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    system.ctx(0).pstate = pstate;
    system.el1(0).sctlr = sctlr;
    system.machine.take_console();
    system.exit(0, exit);
    assert_eq!((system.owner(0), system.regs(0)), (runs(A, 0), request(B, A)));
    let el1 = system.el1(0).clone();
    assert_ne!(el1.ttbr0, POISON);
    Taken {
        vector: system.ctx(0).pc - VBAR,
        pstate: system.ctx(0).pstate,
        esr: el1.esr,
        far: el1.far,
        elr: el1.elr,
        spsr: el1.spsr,
        console: system.machine.take_console(),
    }
}

#[derive(Debug)]
struct Taken {
    vector: u64,
    pstate: u64,
    esr: u64,
    far: u64,
    elr: u64,
    spsr: u64,
    console: String,
}

/// Another PE was splitting the block that the page is in (Arm ARM, D8.17.1): it is there again, and nothing has happened.
#[test]
fn of_a_page_that_is_mapped_by_now_is_over() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    system.machine.take_console();
    let page = Builder::memory(0).base().as_u64() + 0x1000;
    let over = fault(DATA_ABORT | TRANSLATION | WRITE, 0xdead_b123, page);
    for _ in 0..1000 {
        system.exit(0, over);
        assert_eq!((system.owner(0), system.ctx(0).pc), (runs(A, 0), PC));
    }
    assert_eq!(system.machine.take_console(), "");
    // What never ends must be something else.
    for _ in 0..10_000 {
        if system.ctx(0).pc != PC {
            return;
        }
        system.exit(0, over);
    }
    panic!("no end of it");
}

#[test]
fn is_taken_as_a_synchronous_external_abort() {
    let taken = taken(
        0x3c0 | EL1H,
        0x30d0_0800,
        fault(DATA_ABORT | TRANSLATION | WRITE, 0xdead_b123, 0x4000_0123),
    );
    // Same level, IL, WnR, synchronous external abort.
    assert_eq!(taken.esr, 0x25 << 26 | IL | WRITE | 0x10);
    assert_eq!(
        (taken.vector, taken.far, taken.elr, taken.spsr),
        (0x200, 0xdead_b123, PC, 0x3c0 | EL1H)
    );
    assert!(
        taken
            .console
            .contains("write to secure 0x40000123 (virtual 0xdeadb123)"),
        "{taken:?}"
    );
    assert!(taken.console.contains("memory of the normal world"), "{taken:?}");
}

#[test]
fn vector_and_class_depend_on_where_it_came_from() {
    for (pstate, vector, class) in [(0x5, 0x200, 0x25), (0x4, 0x000, 0x25), (0x0, 0x400, 0x24)] {
        let taken = taken(pstate, 0, fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000));
        assert_eq!((taken.vector, taken.esr >> 26, taken.spsr), (vector, class, pstate));
        assert_eq!(taken.pstate & 0x3df, 0x3c5, "EL1h with D, A, I, F masked");
    }
    for (pstate, class) in [(0x5, 0x21), (0x4, 0x21), (0x0, 0x20)] {
        let taken = taken(pstate, 0, fault(INSTRUCTION_ABORT | TRANSLATION, 0x1000, 0x1000));
        assert_eq!(taken.esr, class << 26 | IL | 0x10);
        assert!(taken.console.contains("instruction fetch from"), "{taken:?}");
    }
}

#[test]
fn syndrome_keeps_what_the_handler_needs() {
    // A fault on the partition's own table walk, at stage 1 level 2.
    let walk = taken(EL1H, 0, fault(DATA_ABORT | WALK | 0x06, 0x1000, 0x5000_0000));
    assert_eq!(walk.esr, 0x25 << 26 | IL | 0x16);
    // FAR not valid; a 16-bit instruction cannot be, but IL is passed on.
    let no_far = taken(
        EL1H,
        0,
        fault((DATA_ABORT | TRANSLATION | 1 << 10) & !IL, 0x1000, 0x5000_0000),
    );
    assert_eq!(no_far.esr, 0x25 << 26 | 1 << 10 | 0x10);
    // Alignment, for device memory.
    let alignment = taken(EL1H, 0, fault(DATA_ABORT | 0x21, 0x1001, 0));
    assert_eq!(alignment.esr, 0x25 << 26 | IL | 0x21);
    // The syndrome of the instruction (ISV, SAS, SRT, ...) is EL2's alone.
    let isv = taken(
        EL1H,
        0,
        fault(DATA_ABORT | TRANSLATION | 0xff << 16, 0x1000, 0x5000_0000),
    );
    assert_eq!(isv.esr, 0x25 << 26 | IL | 0x10);
}

#[test]
fn pstate_is_that_of_an_exception_entry() {
    let (nzcv, dit, pan, uao, ssbs, btype, il, ss, tco) = (
        0xf << 28,
        1 << 24,
        1 << 22,
        1 << 23,
        1 << 12,
        3 << 10,
        1 << 20,
        1 << 21,
        1 << 25,
    );
    let everything = nzcv | dit | pan | uao | ssbs | btype | il | ss | tco | EL1H;
    let (span, dssbs) = (1 << 23, 1 << 44);
    let exit = fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000);
    let masked = 0x3c0 | EL1H;
    // Flags and DIT stay, PAN stays (SPAN = 1) or is set (SPAN = 0), SSBS is SCTLR.DSSBS, all else is 0.
    assert_eq!(taken(everything, span, exit).pstate, nzcv | dit | pan | masked);
    assert_eq!(taken(EL1H, span, exit).pstate, masked);
    assert_eq!(taken(EL1H, 0, exit).pstate, pan | masked);
    assert_eq!(taken(EL1H, span | dssbs, exit).pstate, ssbs | masked);
    assert_eq!(taken(everything, span, exit).spsr, everything);
}

#[test]
fn undefined_instruction_has_the_class_unknown() {
    // SVE, system registers, and what else EL2 traps.
    for class in [0x00, 0x07, 0x19, 0x1d, 0x3c] {
        let taken = taken(
            0,
            0,
            Exit::Synchronous {
                esr: class << 26 | IL | 0x1234,
                far: 0x999,
                hpfar: 0,
            },
        );
        assert_eq!((taken.esr, taken.vector, taken.elr), (IL, 0x400, PC));
        assert_eq!(taken.far, 0, "FAR is not touched");
    }
}

#[test]
fn explains_whose_the_address_is() {
    for (ipa, non_secure, expected) in [
        (0x0e30_0000, false, "its own \"memory\" (rwx)"),
        (0x0e30_0000, true, "its own \"memory\" is there, but secure"),
        (0x0e10_0000, false, "memory of the SPMC"),
        (0x0e40_0000, false, "\"memory\" of partition \"b\""),
        (0x0e80_0000, false, "secure memory that no partition owns"),
        (0x4000_0000, true, "memory of the normal world, not shared with it"),
        (0x0904_0000, false, "a device that its manifest has no region for"),
        (0x1_0000_0000, false, "nothing that the SPMC manifest declares"),
    ] {
        let hpfar = ipa >> 12 << 4 | if non_secure { 1 << 63 } else { 0 };
        let taken = taken(
            EL1H,
            0,
            Exit::Synchronous {
                esr: DATA_ABORT | ACCESS_FLAG,
                far: 0,
                hpfar,
            },
        );
        assert!(taken.console.contains(expected), "{taken:?}");
        assert!(
            taken.console.contains(if non_secure {
                "read of non-secure"
            } else {
                "read of secure"
            }),
            "{taken:?}"
        );
    }
    // HPFAR_EL2 is not valid for a permission fault.
    let taken = taken(EL1H, 0, fault(DATA_ABORT | PERMISSION | WRITE, 0x1234, 0xdead_0000));
    assert!(
        taken
            .console
            .contains("write to virtual address 0x1234: its region does not permit it"),
        "{taken:?}"
    );
    assert!(!taken.console.contains("dead"));
}

#[test]
fn reports_do_not_flood_the_console() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    system.machine.take_console();
    for n in 0..1000 {
        system.exit(0, fault(DATA_ABORT | TRANSLATION, n << 12, n << 12));
        // The handler skips the instruction.
        let elr = system.el1(0).elr;
        system.el1(0).elr = elr + 4;
        system.ctx(0).pc = PC + 4 * n;
    }
    let console = system.machine.take_console();
    assert_eq!(console.lines().count(), 8, "{console}");
    assert!(console.ends_with("(no more of these will be shown)\n"), "{console}");
    // Not even by another context; how it ends is told nevertheless.
    system.ask(1, A);
    system.el1(1).vbar = VBAR;
    system.exit(1, fault(DATA_ABORT | TRANSLATION, 0, 0));
    assert_eq!(system.machine.take_console(), "");
    system.smc(1, &[ABORT]);
    assert_eq!(system.machine.take_console().matches("is stopped").count(), 1);
    system.exit(0, fault(DATA_ABORT | TRANSLATION, 0, 0));
    assert_eq!(system.machine.take_console(), "");
}

/// The partition is stopped by `exit`: b gets ABORTED, and the console says `why`.
#[track_caller]
fn is_stopped(system: &mut System<'_>, exit: Exit, why: &str) {
    system.machine.take_console();
    system.exit(0, exit);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
    let console = system.machine.take_console();
    for expected in ["partition \"a\" (0x8001) is stopped", "context 0 on PE 0", why] {
        assert!(console.contains(expected), "{expected:?} in {console}");
    }
    system.respond(0, B, 0);
    system.nwd_fails(0, &request(0, A), ABORTED);
    system.nwd_fails(1, &request(0, A), ABORTED);
    system.ask(1, C);
}

#[test]
fn without_vectors_stops_the_partition() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    system.el1(0).vbar = 0;
    is_stopped(
        &mut system,
        fault(DATA_ABORT | TRANSLATION | WRITE, 0x0e10_0040, 0x0e10_0040),
        "no exception vectors",
    );
}

#[test]
fn with_vectors_at_zero_and_the_mmu_on_is_taken() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    system.el1(0).vbar = 0;
    system.el1(0).sctlr |= 1;
    system.exit(0, fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000));
    assert_eq!((system.owner(0), system.ctx(0).pc), (runs(A, 0), 0x200));
}

#[test]
fn in_its_own_vector_stops_the_partition() {
    for offset in [0, 4, 0x7c] {
        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        running(&mut system);
        system.exit(0, fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000));
        assert_eq!(system.ctx(0).pc, VBAR + 0x200);
        system.ctx(0).pc += offset;
        is_stopped(
            &mut system,
            fault(INSTRUCTION_ABORT | TRANSLATION, 0x1000, 0x1000),
            "faulted again while entering",
        );
    }
}

#[test]
fn where_its_vector_was_before_is_taken() {
    // It has moved its vectors, and something else is now where they were.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    system.exit(0, fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000));
    system.el1(0).vbar = VBAR + 0x8000;
    system.ctx(0).pc = VBAR + 0x210;
    system.exit(0, fault(DATA_ABORT | TRANSLATION, 0x2000, 0x2000));
    assert_eq!((system.owner(0), system.ctx(0).pc), (runs(A, 0), VBAR + 0x8200));
}

#[test]
fn without_end_stops_the_partition() {
    // The handler returns to the instruction that faults.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    for _ in 0..64 {
        system.ctx(0).pc = PC;
        system.exit(0, fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000));
        assert_eq!(system.owner(0), runs(A, 0));
    }
    system.ctx(0).pc = PC;
    is_stopped(
        &mut system,
        fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000),
        "same fault at the same instruction",
    );
}

#[test]
fn in_its_handler_without_end_stops_the_partition() {
    // The handler pushes to a stack that is not there, and gets further down each time it is entered.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    let mut stack = 0x4000_0000;
    for _ in 0..65 {
        system.exit(0, fault(DATA_ABORT | TRANSLATION | WRITE, stack, stack));
        assert_eq!(system.owner(0), runs(A, 0));
        stack -= 0x100;
        system.el1(0).sp_el1 = stack;
        system.ctx(0).pc = PC + 0x400;
    }
    is_stopped(
        &mut system,
        fault(DATA_ABORT | TRANSLATION | WRITE, stack, stack),
        "without end",
    );
}

#[test]
fn at_many_addresses_is_survived() {
    // A probe of one instruction, whose handler skips it.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    for n in 0..1000 {
        system.ctx(0).pc = PC;
        system.exit(0, fault(DATA_ABORT | TRANSLATION, n << 12, n << 12));
        assert_eq!(system.owner(0), runs(A, 0));
        system.el1(0).elr = PC + 4;
    }
    system.respond(0, A, B);
}

#[test]
fn that_the_handler_gets_out_of_is_survived_any_number_of_times() {
    // One address or one undefined instruction is tried again and again, and skipped.
    for exit in [
        fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000),
        synchronous(0x07 << 26 | IL),
    ] {
        let (spmc, machine) = three();
        let mut system = System::booted(&spmc, machine);
        running(&mut system);
        for _ in 0..1000 {
            system.ctx(0).pc = PC;
            system.exit(0, exit);
            assert_eq!(system.owner(0), runs(A, 0));
            system.el1(0).elr = PC + 4;
        }
        system.respond(0, A, B);
    }
    // One instruction goes through many pages, each of which the handler gets before it returns to the instruction.
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    for n in 0..1000 {
        system.ctx(0).pc = PC;
        system.exit(0, fault(DATA_ABORT | TRANSLATION, n << 12, n << 12));
        assert_eq!(system.owner(0), runs(A, 0));
        assert_eq!(system.el1(0).elr, PC);
    }
    system.respond(0, A, B);
}

#[test]
fn serror_stops_the_partition() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    running(&mut system);
    is_stopped(
        &mut system,
        Exit::SError { esr: 0xbe00_0011 },
        "SError, esr_el2 0xbe000011",
    );
}

#[test]
fn while_initialising_stops_the_partition_and_boot_goes_on() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.exit(0, fault(DATA_ABORT | TRANSLATION, 0x1000, 0x1000));
    assert_eq!(system.owner(0), runs(B, 0));
    system.exit(0, Exit::SError { esr: 0 });
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(
        (system.owner(0), system.regs(0)),
        (NWD, [MSG_WAIT, 0, 0, 0, 0, 0, 0, 0])
    );
    assert!(system.machine.take_console().contains("1 of 3 partitions ready"));
}

#[test]
fn of_a_callee_of_the_initialisation() {
    let (spmc, machine) = three();
    let mut system = System::new(&spmc, machine);
    system.online(0);
    system.smc(0, &[MSG_WAIT]);
    system.forward(0, B, A);
    system.exit(0, Exit::SError { esr: 0 });
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
    system.smc(0, &[MSG_WAIT]);
    assert_eq!(system.owner(0), runs(C, 0));
}

#[test]
fn on_the_inner_end_of_a_chain_of_stopped_callers() {
    let (spmc, machine) = three();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.forward(0, A, B);
    system.forward(0, B, C);
    for partition in [A, B] {
        system.ask(1, partition);
        system.smc(1, &[ABORT]);
    }
    system.exit(0, Exit::SError { esr: 0 });
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
}
