//! Partitions at S-EL0: entry, calls by SVC, faults, FFA_MEM_PERM_GET and SET (FF-A 1.2 memory management, "FFA_MEM_PERM_GET").

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    machine::fake::FakeMachine,
    manifest::{
        partition::Access,
        spmc::{MemoryKind, MemoryRange},
    },
    s_el0::Environment,
    spmc::{Exit, Spmc},
};
use tantalum_stage2::{Access as Data, Execute, Ipa, IpaSize, Ownership, TableAddr, TableMemory};

use crate::support::*;

const GET: u64 = 0x8400_0088;
const SET: u64 = 0x8400_0089;
const WIDE: u64 = 1 << 30;
const RXTX_MAP: u64 = 0xc400_0066;
const RXTX_UNMAP: u64 = 0x8400_0067;
const FFA_ERROR: u64 = 0x8400_0060;

const CODE: u64 = 0b011;
const DATA: u64 = 0b101;
const CONSTANTS: u64 = 0b111;

/// u's memory, and its regions: one in it that is data, others elsewhere.
const MEMORY: u64 = 0x0e30_0000;
const INSIDE: u64 = MEMORY + 0xc000;
const OWN_DATA: u64 = 0x0e80_0000;
const READ_ONLY: u64 = 0x0e81_0000;
const SHARED: u64 = 0x4000_8000;

const IL: u64 = 1 << 25;
const PC: u64 = MEMORY + 0x1234;

/// u is at S-EL0, b at S-EL1.
fn system() -> (Spmc, FakeMachine) {
    let read_write = Access::READ | Access::WRITE;
    Builder::new(2)
        .partition_with("u", |u| {
            u.s_el0()
                .region("inside", World::Secure, INSIDE, 2, read_write)
                .region("data", World::Secure, OWN_DATA, 2, read_write)
                .region("constants", World::Secure, READ_ONLY, 2, Access::READ)
                .region("normal", World::NonSecure, SHARED, 2, read_write)
        })
        .partition("b")
        .build()
}

/// u initialises on PE 0.
fn initialising(spmc: &Spmc, machine: FakeMachine) -> System<'_> {
    let mut system = System::new(spmc, machine);
    system.online(0);
    assert_eq!(system.owner(0), runs(A, 0));
    system
}

/// The running partition at S-EL0 makes a call that is answered with x0-x7, and goes on.
#[track_caller]
fn answers(system: &mut System<'_>, call: &[u64], expected: [u64; 8]) {
    let before = system.owner(0);
    system.svc(0, call);
    assert_eq!((system.owner(0), system.regs(0)), (before, expected), "{call:x?}");
}

/// What stage 2 of u lets it do with a page.
fn page(system: &System<'_>, address: u64) -> Option<(Data, Execute)> {
    let tables = system.spmc.partitions()[0].tables.lock();
    let found = [&tables.secure, &tables.non_secure].map(|tables| tables.translate(&system.machine, Ipa(address)));
    let [secure, non_secure] = found;
    let attributes = secure.or(non_secure)?.attributes;
    (attributes.ownership() != Ownership::None).then(|| (attributes.access(), attributes.execute()))
}

const AS_CODE: Option<(Data, Execute)> = Some((Data::ReadOnly, Execute::Always));
const AS_DATA: Option<(Data, Execute)> = Some((Data::ReadWrite, Execute::Never));
const AS_CONSTANTS: Option<(Data, Execute)> = Some((Data::ReadOnly, Execute::Never));

#[test]
fn contexts_enter_at_el0_with_the_spmcs_el1() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    let ctx = system.ctx(0);
    assert_eq!((ctx.pc, ctx.pstate), (MEMORY, 0x3c0));
    assert!(ctx.x.iter().all(|x| *x == 0));
    let vectors = system.machine.vectors[0].0;
    let el1 = system.el1(0).clone();
    // MMU and caches on, not writable-means-never-executable; EL0 masks no interrupts and traps nothing of EL0's own.
    assert_eq!(el1.sctlr & 0x1005, 0x1005);
    assert_eq!(el1.sctlr & (1 << 9 | 1 << 19), 0);
    assert_eq!((el1.vbar, el1.sp_el0, el1.mair), (vectors, 0, 0xff));
    assert_ne!(el1.ttbr0, 0);
    // 39 bits by TTBR0, nothing by TTBR1.
    assert_eq!((el1.tcr & 0x3f, el1.tcr >> 23 & 1), (25, 1));
    // The counters, and the physical timer, which traps to EL2.
    assert_eq!(el1.cntkctl, 1 << 9 | 0b11);
}

#[test]
fn stage_1_says_the_world_and_hides_the_spmc() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    let root = system.el1(0).ttbr0;
    let vectors = system.el1(0).vbar;
    let machine = &system.machine;
    let walk = |address: u64| {
        let mut table = root;
        for level in 1..4 {
            let shift = 39 - 9 * level;
            let index = usize::try_from(address >> shift & 511).expect("small");
            let found = machine.read_descriptor(TableAddr(table), index);
            if found & 1 == 0 {
                return None;
            }
            if level == 3 || found & 2 == 0 {
                let mask = (1_u64 << shift) - 1;
                return Some((found, found & 0xffff_ffff_f000 & !mask | address & mask));
            }
            table = found & 0xffff_ffff_f000;
        }
        None
    };
    let (ns, el0, pxn, uxn) = (1 << 5, 1 << 6, 1 << 53, 1 << 54);
    for (address, non_secure) in [
        (MEMORY, false),
        (0x0eff_f000, false),
        (0x0904_0000, false),
        (0x4000_0000, true),
        (0x40ff_f000, true),
    ] {
        let (found, output) = walk(address).expect("it is mapped");
        assert_eq!(output, address, "to itself");
        assert_eq!(
            found & (ns | 0b11 << 6 | pxn | uxn),
            if non_secure { ns } else { 0 } | el0 | pxn
        );
    }
    // The SPMC's, nobody's.
    for address in [
        0x0e10_0000,
        0x0e1f_f000,
        0,
        0x0904_1000,
        0x0f00_0000,
        0x4100_0000,
        0x3fff_f000,
    ] {
        assert_eq!(walk(address), None, "{address:#x}");
    }
    // EL1 reads and executes the vectors, EL0 does neither.
    let (found, output) = walk(vectors).expect("it is mapped");
    assert_eq!(
        (output, found & (ns | 0b11 << 6 | pxn | uxn)),
        (vectors, 0b10 << 6 | uxn)
    );
}

#[test]
fn stage_1_reaches_48_bits_where_memory_does() {
    const HIGH: u64 = 0x80_0000_0000;
    let mut machine = FakeMachine::new(1);
    let range = |base, pages| PageRange::new(PhysAddr::new(base), pages).expect("a range");
    let own = range(0x0e10_0000, 0x100);
    let declared = [
        (MemoryKind::Memory, 0x0e10_0000, 0xf00),
        (MemoryKind::NsMemory, HIGH, 0x4_0001),
    ]
    .map(|(kind, base, pages)| MemoryRange {
        kind,
        range: range(base, pages),
    });
    let before = machine.tables.live();
    assert!(Environment::new(&mut machine, 5, IpaSize::Bits48, &own, &declared).is_err());
    assert_eq!(machine.tables.live(), before, "nothing is taken");
    let environment = Environment::new(&mut machine, usize::MAX, IpaSize::Bits48, &own, &declared).expect("tables");
    assert_eq!(environment.page_count(), machine.tables.live());
    assert_eq!(environment.el1.tcr & 0x3f, 16);
    let entry = |table: u64, level: u32, address: u64| {
        let index = usize::try_from(address >> (48 - 9 * (level + 1)) & 511).expect("small");
        machine.tables.read_descriptor(TableAddr(table), index)
    };
    // Level 0, a block of 1 GiB at level 1, and a page behind it.
    let level_1 = entry(environment.el1.ttbr0, 0, HIGH) & 0xffff_ffff_f000;
    let block = entry(level_1, 1, HIGH);
    assert_eq!(
        (block & 0b11, block & 0xffff_ffff_f000, block >> 5 & 1),
        (0b01, HIGH, 1)
    );
    assert_eq!(entry(level_1, 1, HIGH + 0x4000_0000) & 0b11, 0b11);
}

#[test]
fn stage_2_has_the_environment_read_only_and_as_nobodys() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    let (root, vectors) = (system.el1(0).ttbr0, system.el1(0).vbar);
    for (address, execute) in [(root, Execute::Never), (vectors, Execute::Always)] {
        let tables = spmc.partitions()[0].tables.lock();
        let found = tables.secure.translate(&system.machine, Ipa(address)).expect("mapped");
        let attributes = found.attributes;
        assert_eq!(
            (attributes.access(), attributes.execute(), attributes.ownership()),
            (Data::ReadOnly, execute, Ownership::None)
        );
        drop(tables);
        let others = spmc.partitions()[1].tables.lock();
        assert_eq!(others.secure.translate(&system.machine, Ipa(address)), None);
    }
    // No call takes them for the partition's.
    for address in [root, vectors] {
        answers(&mut system, &[GET | WIDE, address], error(INVALID_PARAMETERS));
        answers(&mut system, &[SET | WIDE, address, 1, DATA], error(INVALID_PARAMETERS));
        answers(&mut system, &[RXTX_MAP, address, address + 0x1000, 1], error(DENIED));
    }
}

#[test]
fn calls_by_svc_are_answered_at_el0() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(1, A);
    assert_eq!(system.owner(1), runs(A, 0));
    system.svc(1, &[ID_GET]);
    assert_eq!((system.owner(1), system.regs(1)), (runs(A, 0), success(A)));
    system.svc(1, &request(A, B));
    assert_eq!((system.owner(1), system.regs(1)), (runs(B, 1), request(A, B)));
    system.respond(1, B, A);
    system.svc(1, &response(A, 0));
    assert_eq!((system.owner(1), system.regs(1)), (NWD, response(A, 0)));
    // And on another PE.
    system.ask(0, A);
    system.svc(0, &response(A, 0));
    assert_eq!(system.owner(0), NWD);
}

#[test]
fn interrupt_of_the_normal_world_preempts_at_el0_and_in_the_vectors() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.svc(0, &[ID_GET]);
    for at_el0 in [false, true] {
        if at_el0 {
            system.back_to_el0(0);
        }
        let (pc, pstate) = (system.ctx(0).pc, system.ctx(0).pstate);
        system.exit(0, NS_INTERRUPT);
        assert_eq!((system.owner(0), system.regs(0)[0]), (NWD, INTERRUPT));
        system.nwd(1 - usize::from(at_el0), &[RUN, target(A, 0)]);
        let pe = 1 - usize::from(at_el0);
        assert_eq!(system.owner(pe), runs(A, 0));
        assert_eq!((system.ctx(pe).pc, system.ctx(pe).pstate), (pc, pstate));
        if !at_el0 {
            system.exit(pe, NS_INTERRUPT);
            system.nwd(0, &[RUN, target(A, 0)]);
        }
    }
}

#[test]
fn wait_for_interrupt_goes_on_at_once() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.back_to_el0(0);
    let pc = system.ctx(0).pc;
    system.exit(0, synchronous(0x01 << 26 | IL));
    assert_eq!((system.owner(0), system.ctx(0).pc), (runs(A, 0), pc + 4));
}

#[test]
fn hypervisor_calls_with_a_number_are_calls_at_s_el1() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.load(0, &[ID_GET]);
    for number in [0, 1, 0xffff] {
        system.load(0, &[ID_GET]);
        system.exit(0, synchronous(0x16 << 26 | IL | number));
        assert_eq!(
            (system.owner(0), system.regs(0)),
            (runs(B, 0), success(B)),
            "HVC #{number}"
        );
    }
}

/// u works for b, which works for the normal world, and faults at PC. Returns what people read.
#[track_caller]
fn stopped(fault: impl FnOnce(&mut System<'_>)) -> String {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.forward(0, B, A);
    system.back_to_el0(0);
    system.ctx(0).pc = PC;
    system.machine.take_console();
    fault(&mut system);
    assert_eq!((system.owner(0), system.regs(0)), (runs(B, 0), error(ABORTED)));
    let console = system.machine.take_console();
    assert!(console.contains("partition \"u\" (0x8001) is stopped"), "{console}");
    assert!(
        console.contains("S-EL0 at pc 0x000e301234 (load address + 0x1234)"),
        "{console}"
    );
    assert!(
        console.contains("it runs at S-EL0, where nothing handles exceptions"),
        "{console}"
    );
    // It alone.
    system.respond(0, B, 0);
    system.nwd_fails(1, &request(0, A), ABORTED);
    system.ask(1, B);
    console
}

#[test]
fn exceptions_that_el1_takes_stop_the_partition() {
    for (esr, what) in [
        // HVC, SMC, MSR and others that are undefined at EL0; a breakpoint; an unaligned stack pointer.
        (IL, "an instruction that is not a partition's (exception class 0x00)"),
        (
            0x3c << 26 | IL,
            "an instruction that is not a partition's (exception class 0x3c)",
        ),
        (0x26 << 26 | IL, "an unaligned program counter or stack pointer"),
        // msr daif; mrs x3, cntv_ctl_el0.
        (
            0x18 << 26 | IL | 3 << 20 | 1 << 17 | 3 << 14 | 4 << 10 | 2 << 1,
            "write of system register S3_3_C4_C2_1",
        ),
        (
            0x18 << 26 | IL | 3 << 20 | 1 << 17 | 3 << 14 | 14 << 10 | 3 << 5 | 3 << 1 | 1,
            "read of system register S3_3_C14_C3_1",
        ),
    ] {
        let console = stopped(|system| {
            system.el0_exception(0, esr, 0);
        });
        assert!(console.contains(what), "{console}");
    }
    for (esr, far, what) in [
        (
            0x24 << 26 | 0x05,
            0,
            "read of secure 0x0 (virtual 0x0): nothing that the SPMC manifest declares",
        ),
        (
            0x24 << 26 | 0x46,
            0x0e10_0008,
            "write to secure 0xe100008 (virtual 0xe100008): memory of the SPMC",
        ),
        (
            0x20 << 26 | 0x04,
            1 << 40,
            "instruction fetch from secure 0x10000000000",
        ),
    ] {
        let console = stopped(|system| {
            system.el0_exception(0, IL | esr, far);
        });
        assert!(console.contains(what), "{console}");
    }
}

#[test]
fn exceptions_that_el2_takes_stop_the_partition() {
    let at = |esr, far: u64, hpfar| Exit::Synchronous {
        esr: IL | esr,
        far,
        hpfar,
    };
    for (exit, what) in [
        (
            at(0x24 << 26 | 0x07, 0x0e40_0000, 0xe4000),
            "\"memory\" of partition \"b\"",
        ),
        (
            at(0x24 << 26 | 0x4f, PC, 0),
            "write to 0xe301234, its own \"memory\": that page does not permit it",
        ),
        (
            at(0x20 << 26 | 0x0f, OWN_DATA, 0),
            "instruction fetch from 0xe800000, its own \"data\"",
        ),
        // mrs x1, pmcr_el0; an SVE instruction.
        (
            at(0x18 << 26 | 3 << 20 | 3 << 14 | 9 << 10 | 1 << 5 | 12 << 1 | 1, 0, 0),
            "read of system register",
        ),
        (at(0x19 << 26, 0, 0), "exception class 0x19"),
    ] {
        let console = stopped(|system| {
            system.exit(0, exit);
        });
        assert!(console.contains(what), "{console}");
    }
}

#[test]
fn abort_and_failed_initialisation_are_reported_where_they_were_called() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    system.ctx(0).pc = PC;
    system.svc(0, &[FFA_ERROR, 0, u64::from((-3_i32).cast_unsigned())]);
    let console = system.machine.take_console();
    assert!(console.contains("S-EL0 at pc 0x000e301238"), "{console}");
    assert_eq!(system.owner(0), runs(B, 0));

    let (spmc, machine) = self::system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.back_to_el0(0);
    system.ctx(0).pc = PC;
    system.svc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    assert!(system.machine.take_console().contains("S-EL0 at pc 0x000e301238"));
}

#[test]
fn memory_is_code_at_first_and_regions_as_their_manifest_has_them() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    for (address, expected, permissions) in [
        (MEMORY, AS_CODE, CODE),
        (MEMORY + 0xf000, AS_CODE, CODE),
        (INSIDE, AS_DATA, DATA),
        (INSIDE + 0x1000, AS_DATA, DATA),
        (OWN_DATA, AS_DATA, DATA),
        (READ_ONLY, AS_CONSTANTS, CONSTANTS),
        (SHARED, AS_DATA, DATA),
    ] {
        assert_eq!(page(&system, address), expected, "{address:#x}");
        for call in [GET, GET | WIDE] {
            answers(&mut system, &[call, address], success(permissions));
        }
    }
}

#[test]
fn permissions_change_for_all_pages_of_a_range_and_no_other() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    for (permissions, expected) in [
        (DATA, AS_DATA),
        (CONSTANTS, AS_CONSTANTS),
        (CODE, AS_CODE),
        (DATA, AS_DATA),
    ] {
        for call in [SET, SET | WIDE] {
            let invalidated = system.machine.invalidated.len();
            answers(&mut system, &[call, MEMORY + 0x2000, 3, permissions], success(0));
            if call == SET {
                assert_eq!(system.machine.invalidated[invalidated..], [1], "TLBs of its VMID");
            }
            for number in 0..12 {
                let expected = if (2..5).contains(&number) { expected } else { AS_CODE };
                assert_eq!(page(&system, MEMORY + number * 0x1000), expected);
            }
        }
        answers(&mut system, &[GET, MEMORY + 0x4000], success(permissions));
    }
    // All of its own memory, a region in it included; a region elsewhere.
    answers(&mut system, &[SET, MEMORY, 16, CODE], success(0));
    assert_eq!(page(&system, INSIDE), AS_CODE);
    answers(&mut system, &[SET, OWN_DATA, 2, CODE], success(0));
    answers(&mut system, &[SET, OWN_DATA, 1, DATA], success(0));
    answers(&mut system, &[SET, READ_ONLY + 0x1000, 1, CODE], success(0));
    answers(&mut system, &[SET, SHARED, 2, CONSTANTS], success(0));
    answers(&mut system, &[SET, SHARED, 2, DATA], success(0));
}

#[test]
fn upper_halves_do_not_count_in_32_bit_calls() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    let high = 0x1234_5678 << 32;
    answers(&mut system, &[SET, high | MEMORY, high | 1, high | DATA], success(0));
    answers(&mut system, &[GET, high | MEMORY], success(DATA));
    // The address of the 64-bit calls is one of 64 bits, their other arguments are not.
    answers(&mut system, &[SET | WIDE, MEMORY, high | 1, high | CODE], success(0));
    answers(&mut system, &[GET | WIDE, high | MEMORY], error(INVALID_PARAMETERS));
    answers(
        &mut system,
        &[SET | WIDE, high | MEMORY, 1, DATA],
        error(INVALID_PARAMETERS),
    );
}

#[test]
fn addresses_that_are_not_its_own_are_invalid() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    for call in [SET, SET | WIDE] {
        for (base, pages) in [
            (MEMORY + 1, 1),
            (MEMORY + 8, 1),
            (MEMORY, 0),
            (MEMORY, 17),
            (MEMORY + 0xf000, 2),
            (MEMORY - 0x1000, 2),
            (MEMORY, u64::from(u32::MAX)),
            (0, 1),
            (0x0e40_0000, 1),
            (0x0e10_0000, 1),
            (0x4000_0000, 1),
            (SHARED + 0x1000, 2),
            (0xffff_f000, 1),
        ] {
            answers(&mut system, &[call, base, pages, CONSTANTS], error(INVALID_PARAMETERS));
        }
    }
    for base in [1 << 39, 1 << 48, u64::MAX - 0xfff] {
        answers(
            &mut system,
            &[SET | WIDE, base, 1, CONSTANTS],
            error(INVALID_PARAMETERS),
        );
        answers(&mut system, &[GET | WIDE, base], error(INVALID_PARAMETERS));
    }
    for base in [MEMORY + 8, MEMORY + 0x1_0000, 0, 0x0e40_0000, 0x0e10_0000, 0x4000_0000] {
        answers(&mut system, &[GET, base], error(INVALID_PARAMETERS));
    }
    assert!(system.machine.invalidated.is_empty(), "nothing has changed");
    assert_eq!(page(&system, MEMORY + 0xf000), AS_CODE);
}

#[test]
fn permissions_that_there_are_not_are_invalid() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    // No access, the reserved encoding, written and executed, reserved bits.
    for permissions in [0b000, 0b100, 0b010, 0b110, 0b001, 0b1101, 1 << 31 | DATA] {
        answers(&mut system, &[SET, MEMORY, 1, permissions], error(INVALID_PARAMETERS));
    }
    // The count of pages of a later version.
    answers(&mut system, &[GET, MEMORY, 1], error(INVALID_PARAMETERS));
    assert_eq!(page(&system, MEMORY), AS_CODE);
}

#[test]
fn what_the_manifest_does_not_grant_is_denied() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    answers(&mut system, &[SET, SHARED, 1, CODE], error(DENIED));
    answers(&mut system, &[SET, READ_ONLY, 2, DATA], error(DENIED));
    answers(&mut system, &[SET, READ_ONLY + 0x1000, 1, DATA], error(DENIED));
    assert_eq!(page(&system, SHARED), AS_DATA);
    assert_eq!(page(&system, READ_ONLY), AS_CONSTANTS);
}

#[test]
fn buffers_are_data_and_stay_so() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    // Code is not written by messages.
    let map = [RXTX_MAP, MEMORY + 0x2000, MEMORY + 0x3000, 1];
    answers(&mut system, &map, error(DENIED));
    answers(&mut system, &[SET, MEMORY + 0x2000, 1, DATA], success(0));
    answers(&mut system, &map, error(DENIED));
    // It need not write its RX itself.
    answers(&mut system, &[SET, MEMORY + 0x3000, 1, CONSTANTS], success(0));
    answers(&mut system, &map, success(0));
    for permissions in [CODE, CONSTANTS, DATA] {
        answers(&mut system, &[SET, MEMORY + 0x1000, 2, permissions], error(DENIED));
    }
    assert_eq!(page(&system, MEMORY + 0x1000), AS_CODE, "nothing was done by halves");
    answers(&mut system, &[GET, MEMORY + 0x2000], success(DATA));
    answers(&mut system, &[RXTX_UNMAP, 0], success(0));
    answers(&mut system, &[SET, MEMORY + 0x1000, 3, CODE], success(0));
}

#[test]
fn no_tables_is_no_memory_and_changes_nothing() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("u", |u| {
            u.s_el0()
                .region("data", World::Secure, OWN_DATA, 0x400, Access::READ | Access::WRITE)
        })
        .build();
    let mut system = initialising(&spmc, machine);
    system.machine.tables.set_budget(Some(0));
    answers(&mut system, &[SET, OWN_DATA + 0x1000, 1, CODE], error(NO_MEMORY));
    assert_eq!(page(&system, OWN_DATA + 0x1000), AS_DATA);
    answers(&mut system, &[SET, OWN_DATA, 0x200, CODE], success(0));
    system.machine.tables.set_budget(None);
    answers(&mut system, &[SET, OWN_DATA + 0x20_1000, 1, CODE], success(0));
    assert_eq!(page(&system, OWN_DATA + 0x20_1000), AS_CODE);
    assert_eq!(page(&system, OWN_DATA + 0x20_2000), AS_DATA);
}

#[test]
fn permissions_are_for_the_initialisation_of_partitions_at_s_el0() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let calls = [[GET, MEMORY, 0, 0], [SET, MEMORY, 1, DATA]];
    let both = || {
        calls
            .into_iter()
            .flat_map(|call| [call, [call[0] | WIDE, call[1], call[2], call[3]]])
    };
    for call in both() {
        system.nwd_fails(0, &call, NOT_SUPPORTED);
        system.nwd(0, &[FEATURES, call[0]]);
        assert_eq!(system.regs(0), error(NOT_SUPPORTED));
    }
    system.ask(0, A);
    for call in both() {
        answers(&mut system, &call, error(DENIED));
        answers(&mut system, &[FEATURES, call[0]], success(0));
    }
    system.svc(0, &request(A, B));
    for call in both() {
        system.smc_fails(0, &call, DENIED);
        system.smc(0, &[FEATURES, call[0]]);
        assert_eq!(system.regs(0), error(NOT_SUPPORTED));
    }
    assert_eq!(page(&system, MEMORY), AS_CODE);
}

#[test]
fn version_1_0_does_not_have_permissions() {
    let (spmc, machine) = Builder::new(1).partition_with("u", |u| u.s_el0().version(1, 0)).build();
    let mut system = initialising(&spmc, machine);
    answers(&mut system, &[GET, MEMORY], error(NOT_SUPPORTED));
    answers(&mut system, &[SET, MEMORY, 1, DATA], error(NOT_SUPPORTED));
}

#[test]
fn secondary_entry_is_not_supported() {
    let (spmc, machine) = system();
    let mut system = initialising(&spmc, machine);
    answers(&mut system, &[SECONDARY_EP_REGISTER, MEMORY], error(NOT_SUPPORTED));
    answers(&mut system, &[FEATURES, SECONDARY_EP_REGISTER], error(NOT_SUPPORTED));
}

#[test]
fn partition_that_starts_afresh_has_its_first_permissions() {
    let (spmc, mut machine) = Builder::new(1)
        .partition_with("u", |u| {
            u.s_el0()
                .restart()
                .region("inside", World::Secure, INSIDE, 2, Access::READ | Access::WRITE)
                .region("code", World::Secure, MEMORY, 1, Access::READ | Access::EXECUTE)
                .region("data", World::Secure, OWN_DATA, 1, Access::READ | Access::WRITE)
        })
        .partition("b")
        .build();
    let at = |address: u64| PhysAddr::new(address);
    machine
        .memory
        .write(World::Secure, Builder::saved(0).base(), b"image")
        .expect("memory");
    machine
        .memory
        .add(World::Secure, PageRange::new(at(OWN_DATA), 1).expect("a page"));
    let mut system = initialising(&spmc, machine);
    answers(&mut system, &[SET, MEMORY + 0x1000, 4, DATA], success(0));
    answers(&mut system, &[SET, INSIDE, 2, CODE], success(0));
    answers(&mut system, &[SET, OWN_DATA, 1, CODE], success(0));
    system.svc(0, &[MSG_WAIT]);
    system.smc(0, &[MSG_WAIT]);
    for address in [MEMORY, MEMORY + 0x2000, MEMORY + 0x9000, INSIDE, OWN_DATA] {
        system
            .machine
            .memory
            .write(World::Secure, at(address), b"stale")
            .expect("memory");
    }
    system.ask(0, A);
    system.el0_exception(0, IL, 0);
    assert_eq!(system.owner(0), runs(A, 0), "it starts");
    assert_eq!((system.ctx(0).pc, system.ctx(0).pstate), (MEMORY, 0x3c0));
    assert_eq!(system.el1(0).tpidr_el1, 0);
    for (address, expected, contents) in [
        (MEMORY, AS_CODE, b"image"),
        (MEMORY + 0x2000, AS_CODE, &[0; 5]),
        (MEMORY + 0x9000, AS_CODE, &[0; 5]),
        (INSIDE, AS_DATA, &[0; 5]),
        (OWN_DATA, AS_DATA, &[0; 5]),
    ] {
        assert_eq!(page(&system, address), expected, "{address:#x}");
        let mut bytes = [0; 5];
        system
            .machine
            .memory
            .read(World::Secure, at(address), &mut bytes)
            .expect("memory");
        assert_eq!(&bytes, contents, "{address:#x}");
    }
    // It initialises: it may say again what is data.
    answers(&mut system, &[SET, MEMORY + 0x1000, 4, DATA], success(0));
    system.svc(0, &[MSG_WAIT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    system.ask(0, A);
}
