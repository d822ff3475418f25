//! The distributor and the redistributors of partitions with a virtual interrupt controller, register by register, as a
//! driver of a GICv3 (IHI 0069) uses them.

use tantalum_core::{
    interrupt::virtual_gic::{ACTIVE, GROUP1, PENDING},
    machine::fake::FakeMachine,
    manifest::partition::{NsInterruptsAction, Trigger},
    spmc::{Exit, Spmc},
};

use crate::{
    support::*,
    virtual_gic::{acknowledge, end},
};

const GICD: u64 = 0x0800_0000;
const GICR: u64 = 0x080a_0000;
/// A redistributor, and its second frame.
const STRIDE: u64 = 0x2_0000;
const SGI: u64 = 0x1_0000;

const CTLR: u64 = 0x0;
const WAKER: u64 = 0x14;
const IGROUPR: u64 = 0x80;
const ISENABLER: u64 = 0x100;
const ICENABLER: u64 = 0x180;
const ISPENDR: u64 = 0x200;
const ICPENDR: u64 = 0x280;
const ISACTIVER: u64 = 0x300;
const ICACTIVER: u64 = 0x380;
const IPRIORITYR: u64 = 0x400;
const ICFGR: u64 = 0xc00;
const IGRPMODR: u64 = 0xd00;
const IROUTER: u64 = 0x6000;

/// What a load finds in its register before.
const STALE: u64 = 0x5a5a_5a5a_5a5a_5a5a;
const IL: u64 = 1 << 25;
const VALID: u64 = 1 << 24;
const SIGNED: u64 = 1 << 21;
const WIDE: u64 = 1 << 15;
const WRITE: u64 = 1 << 6;

/// The exception of an access by x7.
fn fault(address: u64, bytes: u64, more: u64) -> Exit {
    Exit::Synchronous {
        esr: 0x24 << 26 | IL | VALID | u64::from(bytes.ilog2()) << 22 | 7 << 16 | more | 0x07,
        far: 0xffff_0000_0000_0000 | address,
        hpfar: address >> 12 << 4,
    }
}

fn access(system: &mut System<'_>, pe: usize, exit: Exit, value: u64) -> u64 {
    system.ctx(pe).x[7] = value;
    let pc = system.ctx(pe).pc;
    system.exit(pe, exit);
    assert_eq!(system.ctx(pe).pc, pc + 4, "{exit:x?}");
    system.ctx(pe).x[7]
}

fn read(system: &mut System<'_>, pe: usize, address: u64, bytes: u64) -> u64 {
    let wide = if bytes == 8 { WIDE } else { 0 };
    access(system, pe, fault(address, bytes, wide), STALE)
}

fn write(system: &mut System<'_>, pe: usize, address: u64, bytes: u64, value: u64) {
    assert_eq!(access(system, pe, fault(address, bytes, WRITE), value), value);
}

fn read32(system: &mut System<'_>, address: u64) -> u64 {
    read(system, 0, address, 4)
}

fn write32(system: &mut System<'_>, address: u64, value: u64) {
    write(system, 0, address, 4, value);
}

/// The redistributor of a context.
const fn redistributor(context: usize) -> u64 {
    GICR + STRIDE * context as u64
}

/// The word of an interrupt in a bitmap, on the context that has `pe`.
fn place(pe: usize, id: u32) -> (u64, u64) {
    let (base, id) = (if id < 32 { redistributor(pe) + SGI } else { GICD }, u64::from(id));
    (base + id / 32 * 4, 1 << (id % 32))
}

/// Both groups 1 are on, and all interrupts that the context has are of one.
pub(crate) fn set_up(system: &mut System<'_>, pe: usize) {
    write(system, pe, GICD + CTLR, 4, 0b10);
    for id in (0..64).step_by(32) {
        write(system, pe, place(pe, id).0 + IGROUPR, 4, 0xffff_ffff);
    }
}

/// It enables an interrupt.
pub(crate) fn enable(system: &mut System<'_>, pe: usize, id: u32) {
    let (address, bit) = place(pe, id);
    write(system, pe, address + ISENABLER, 4, bit);
}

/// a with a distributor and the device interrupts 40 (level), 41 (edge), b without.
fn one(pes: usize) -> (Spmc, FakeMachine) {
    Builder::new(pes)
        .partition_with("a", |mut a| {
            a.virtual_gic = true;
            a.notifications = true;
            a.ns_interrupts = NsInterruptsAction::ManagedExit;
            a.device_interrupt(40, Trigger::Level)
                .device_interrupt(41, Trigger::Edge)
        })
        .partition("b")
        .build()
}

/// The same, with a at work on each PE.
fn at_work(spmc: &Spmc, machine: FakeMachine, pes: usize) -> System<'_> {
    let mut system = System::booted(spmc, machine);
    for pe in 0..pes {
        system.ask(pe, A);
    }
    system
}

#[test]
fn says_what_it_is() {
    let (spmc, machine) = one(3);
    let mut system = at_work(&spmc, machine, 1);
    assert_eq!(read32(&mut system, GICD + CTLR), 0x30, "affinity routing, no group");
    let kind = read32(&mut system, GICD + 0x4);
    assert_eq!(kind & 0x1f, 1, "interrupts up to 63");
    assert_eq!(kind >> 10 & 1, 1, "two security states");
    assert_eq!(kind >> 8 & 1, 0, "no extended ones");
    assert_eq!(read32(&mut system, GICD + 0x8), u64::from(b'T') << 24);
    for frame in [GICD, GICR, GICR + 2 * STRIDE] {
        assert_eq!(read32(&mut system, frame + 0xffe8) >> 4 & 0xf, 3, "GICv3");
    }
    for context in 0..3 {
        let kind = read(&mut system, 0, redistributor(context) + 0x8, 8);
        let last = u64::from(context == 2) << 4;
        assert_eq!(kind, (context as u64) << 32 | (context as u64) << 8 | last);
        assert_eq!(read32(&mut system, redistributor(context) + 0xc), kind >> 32);
        assert_eq!(read32(&mut system, redistributor(context) + 0x8), kind & 0xffff_ffff);
        assert_eq!(read32(&mut system, redistributor(context) + CTLR), 0);
    }
}

#[test]
fn has_its_own_interrupts_only() {
    let (spmc, machine) = one(2);
    let mut system = at_work(&spmc, machine, 1);
    for register in [IGROUPR, ISENABLER, IGRPMODR] {
        for word in 0..32 {
            write32(&mut system, GICD + register + 4 * word, 0xffff_ffff);
            let there = if word == 1 { 0b11 << 8 } else { 0 };
            assert_eq!(
                read32(&mut system, GICD + register + 4 * word),
                there,
                "{register:#x} {word}"
            );
        }
        write32(&mut system, GICR + SGI + register, 0xffff_ffff);
        // SGIs, managed exit, notifications, timer.
        assert_eq!(read32(&mut system, GICR + SGI + register), 0x4003_ffff);
        assert_eq!(read32(&mut system, GICR + STRIDE + SGI + register), 0, "the other's");
    }
    write32(&mut system, GICR + SGI + ICENABLER, 0xffff);
    write32(&mut system, GICD + ICENABLER + 4, 1 << 8);
    assert_eq!(read32(&mut system, GICR + SGI + ISENABLER), 0x4003_0000);
    assert_eq!(read32(&mut system, GICD + ICENABLER + 4), 1 << 9);
    for word in 0..256 {
        write32(&mut system, GICD + IPRIORITYR + 4 * word, 0xffff_ffff);
        let there = if word == 10 { 0xf8f8 } else { 0 };
        assert_eq!(read32(&mut system, GICD + IPRIORITYR + 4 * word), there);
    }
    assert_eq!(
        read32(&mut system, GICD + ICFGR + 8),
        0b10 << 18,
        "40 has a level, 41 is an edge"
    );
    write32(&mut system, GICD + ICFGR + 8, 0);
    assert_eq!(read32(&mut system, GICD + ICFGR + 8), 0b10 << 18, "the manifest's");
    assert_eq!(read32(&mut system, GICR + SGI + ICFGR), 0xaaaa_aaaa);
    assert_eq!(
        read32(&mut system, GICR + SGI + ICFGR + 4),
        0b1010,
        "the timer has a level"
    );
}

#[test]
fn device_is_enabled_by_its_partition() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    assert!(!system.machine.interrupts.get(&40).is_some_and(|irq| irq.enabled));
    enable(&mut system, 0, 40);
    assert!(system.machine.interrupts[&40].enabled);
    system.machine.interrupts.get_mut(&40).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(40));
    assert_eq!(read32(&mut system, GICD + ISACTIVER + 4), 1 << 8);
    system.machine.interrupts.get_mut(&40).expect("a device").high = false;
    end(&mut system, 0, 40);
    assert_eq!(read32(&mut system, GICD + ISACTIVER + 4), 0);
    write32(&mut system, GICD + ICENABLER + 4, 1 << 8);
    assert!(!system.machine.interrupts[&40].enabled);
}

#[test]
fn nothing_comes_while_its_group_is_off() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    for (id, group, modifier, enable) in [(3, 0, 0, 0b1), (4, 1, 0, 0b10), (5, 0, 1, 0b100), (6, 1, 1, 0b10)] {
        let bit = 1_u64 << id;
        write32(&mut system, GICR + SGI + IGROUPR, bit * group);
        write32(&mut system, GICR + SGI + IGRPMODR, bit * modifier);
        write32(&mut system, GICR + SGI + ISENABLER, bit);
        write32(&mut system, GICD + CTLR, if enable == 1 { 0b110 } else { 0b1 });
        write32(&mut system, GICR + SGI + ISPENDR, bit);
        assert_eq!(read32(&mut system, GICR + SGI + ISPENDR), bit);
        assert_eq!(acknowledge(&mut system, 0), None, "{id}");
        write32(&mut system, GICD + CTLR, enable);
        assert_eq!(read32(&mut system, GICD + CTLR), 0x30 | enable);
        let entry = system.ctx(0).virtual_gic.list[0];
        assert_eq!(entry & GROUP1 != 0, enable != 1, "an IRQ or a FIQ");
        assert_eq!(acknowledge(&mut system, 0), Some(id));
        end(&mut system, 0, id);
        write32(&mut system, GICR + SGI + ICENABLER, bit);
    }
}

#[test]
fn most_urgent_come_first() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    // The higher the number, the more urgent: five bits count.
    for id in 0..16 {
        write(&mut system, 0, GICR + SGI + IPRIORITYR + id, 1, 0xff - 8 * id);
        assert_eq!(read(&mut system, 0, GICR + SGI + IPRIORITYR + id, 1), 0xf8 - 8 * id);
    }
    assert_eq!(read32(&mut system, GICR + SGI + IPRIORITYR + 4), 0xc0c8_d0d8);
    write32(&mut system, GICR + SGI + ISENABLER, 0xffff);
    write32(&mut system, GICR + SGI + ISPENDR, 0xffff);
    let mut taken = Vec::new();
    while let Some(id) = acknowledge(&mut system, 0) {
        let all = system.ctx(0).virtual_gic.list.map(|entry| entry >> 48 & 0xff);
        assert!(all.contains(&(0xf8 - 8 * u64::from(id))), "{id}: {all:x?}");
        taken.push(id);
        end(&mut system, 0, id);
        system.smc(0, &[ID_GET]);
    }
    // The fake takes the lowest number of the four in list registers.
    taken.chunks(4).for_each(|chunk| assert!(chunk.len() == 4));
    assert!(taken[..4].iter().all(|id| *id >= 9), "{taken:?}");
    taken.sort_unstable();
    assert_eq!(taken, (0..16).collect::<Vec<_>>());
}

#[test]
fn pending_is_set_and_cleared() {
    let (spmc, machine) = one(2);
    let mut system = at_work(&spmc, machine, 2);
    set_up(&mut system, 0);
    write32(&mut system, GICR + SGI + ISENABLER, 0xffff);
    // One's own, another's, a device's.
    write32(&mut system, GICR + SGI + ISPENDR, 1 << 2);
    write32(&mut system, GICR + STRIDE + SGI + ISPENDR, 1 << 2);
    write32(&mut system, GICD + ISPENDR + 4, 1 << 9);
    assert_eq!(read32(&mut system, GICR + SGI + ICPENDR), 1 << 2);
    assert_eq!(read(&mut system, 1, GICR + STRIDE + SGI + ICPENDR, 4), 1 << 2);
    assert_eq!(read32(&mut system, GICD + ISPENDR + 4), 1 << 9);
    write32(&mut system, GICR + SGI + ICPENDR, 0xffff_ffff);
    write32(&mut system, GICR + STRIDE + SGI + ICPENDR, 0xffff_ffff);
    write32(&mut system, GICD + ICPENDR + 4, 0xffff_ffff);
    for address in [GICR + SGI, GICR + STRIDE + SGI, GICD + 4] {
        assert_eq!(read32(&mut system, address + ISPENDR), 0);
    }
    assert_eq!(acknowledge(&mut system, 0), None);
}

#[test]
fn level_comes_again_after_pending_was_cleared() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    enable(&mut system, 0, 40);
    system.machine.interrupts.get_mut(&40).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    write32(&mut system, GICD + ICPENDR + 4, 1 << 8);
    assert!(!system.machine.interrupts[&40].active);
    assert_eq!(acknowledge(&mut system, 0), None);
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(40));
    // One that is being handled is not deactivated by that.
    write32(&mut system, GICD + ICPENDR + 4, 1 << 8);
    assert!(system.machine.interrupts[&40].active);
}

#[test]
fn active_is_cleared_by_a_driver_that_starts_over() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    for id in [40, 3] {
        enable(&mut system, 0, id);
    }
    system.machine.interrupts.get_mut(&40).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    write32(&mut system, GICR + SGI + ISPENDR, 1 << 3);
    assert_eq!(acknowledge(&mut system, 0), Some(3));
    assert_eq!(acknowledge(&mut system, 0), Some(40));
    write32(&mut system, GICR + SGI + ICACTIVER, 0xffff_ffff);
    assert!(system.ctx(0).virtual_gic.list.iter().any(|entry| entry & ACTIVE != 0));
    write32(&mut system, GICD + ICACTIVER + 4, 0xffff_ffff);
    assert!(!system.ctx(0).virtual_gic.list.iter().any(|entry| entry & ACTIVE != 0));
    assert!(!system.ctx(0).signals.list && !system.machine.interrupts[&40].active);
}

#[test]
fn device_is_routed_to_a_context() {
    let (spmc, machine) = one(3);
    let mut system = at_work(&spmc, machine, 3);
    let route = GICD + IROUTER + 8 * 40;
    assert_eq!(read(&mut system, 0, route, 8), 0);
    write(&mut system, 0, route, 8, 2);
    assert_eq!(system.machine.interrupts[&40].pe, 2);
    assert_eq!(read(&mut system, 0, route, 8), 2);
    assert_eq!((read32(&mut system, route), read32(&mut system, route + 4)), (2, 0));
    // Nobody there: as it was.
    for nobody in [3, 1 << 8, 1 << 32, 0xff_ffff] {
        write(&mut system, 0, route, 8, nobody);
        assert_eq!(read(&mut system, 0, route, 8), 2, "{nobody:#x}");
    }
    write32(&mut system, route + 4, 7);
    write32(&mut system, route, 1);
    assert_eq!(
        (system.machine.interrupts[&40].pe, read(&mut system, 0, route, 8)),
        (1, 1)
    );
    // It becomes pending there.
    set_up(&mut system, 0);
    enable(&mut system, 0, 40);
    write32(&mut system, GICD + ISPENDR + 4, 1 << 8);
    assert_eq!(acknowledge(&mut system, 0), None);
    system.exit(1, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 1), Some(40));
    // Not one that it does not have.
    write(&mut system, 0, GICD + IROUTER + 8 * 50, 8, 1);
    assert_eq!(read(&mut system, 0, GICD + IROUTER + 8 * 50, 8), 0);
}

#[test]
fn first_core_sets_up_the_others() {
    let (spmc, machine) = one(2);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    write32(&mut system, GICR + STRIDE + SGI + IGROUPR, 0xffff_ffff);
    write32(&mut system, GICR + STRIDE + SGI + ISENABLER, 1 << 7);
    system.ctx(0).x[5] = 7 << 24 | 0b10;
    system.exit(
        0,
        synchronous(0x18 << 26 | IL | 3 << 20 | 5 << 17 | 12 << 10 | 5 << 5 | 11 << 1),
    );
    system.ask(1, A);
    assert_eq!(acknowledge(&mut system, 1), Some(7));
    // A context that starts again finds what was set up.
    end(&mut system, 1, 7);
    system.respond(1, A, 0);
    system.turn_off(1);
    system.boot(1);
    system.ask(1, A);
    assert_eq!(read(&mut system, 1, GICR + STRIDE + SGI + ISENABLER, 4), 1 << 7);
}

#[test]
fn redistributors_sleep_and_wake() {
    let (spmc, machine) = one(2);
    let mut system = at_work(&spmc, machine, 1);
    assert_eq!(read32(&mut system, GICR + WAKER), 0);
    write32(&mut system, GICR + WAKER, 0b10);
    assert_eq!(read32(&mut system, GICR + WAKER), 0b110);
    assert_eq!(read32(&mut system, GICR + STRIDE + WAKER), 0);
    write32(&mut system, GICR + WAKER, 0);
    assert_eq!(read32(&mut system, GICR + WAKER), 0);
}

#[test]
fn numbers_are_those_that_drivers_expect() {
    const FEATURES: u64 = 0x8400_0064;
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    for (feature, id) in [(1, 17), (3, 16)] {
        system.smc(0, &[FEATURES, feature]);
        assert_eq!((system.regs(0)[0], system.regs(0)[2]), (SUCCESS, id));
    }
    // Whoever makes the calls has the numbers of the calls.
    system.respond(0, A, 0);
    system.ask(0, B);
    system.hvc(0, &[0xff03, 3, 1, 0]);
    assert_eq!(system.regs(0)[0], 0);
    system.respond(0, B, 0);
    system.ask(0, A);
    for call in [0xff03, 0xff04, 0xff08, 0xff09, 0xff0a] {
        system.hvc(0, &[call, 9, 1, 0]);
        assert_eq!(system.regs(0)[0], u64::MAX, "{call:#x}");
    }
    // The timer.
    set_up(&mut system, 0);
    enable(&mut system, 0, 30);
    for (op2, value) in [(2, 0), (1, 1)] {
        system.ctx(0).x[5] = value;
        system.exit(
            0,
            synchronous(0x18 << 26 | IL | 3 << 20 | op2 << 17 | 3 << 14 | 14 << 10 | 5 << 5 | 2 << 1),
        );
    }
    assert_eq!(system.ctx(0).virtual_gic.list[0] & (PENDING | 0xffff), PENDING | 30);
    // Its level is still there.
    write32(&mut system, GICR + SGI + ICPENDR, 0xffff_ffff);
    assert_eq!(acknowledge(&mut system, 0), Some(30));
    write32(&mut system, GICR + SGI + ICACTIVER, 1 << 30);
    assert_eq!(acknowledge(&mut system, 0), Some(30));
}

#[test]
fn context_that_waits_is_run_for_its_interrupt() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    enable(&mut system, 0, 41);
    system.respond(0, A, 0);
    system.machine.interrupts.get_mut(&41).expect("a device").latched = true;
    system.nwd(0, &[INTERRUPT]);
    assert_eq!((system.owner(0), system.regs(0)[2]), (runs(A, 0), 41));
    assert_eq!(acknowledge(&mut system, 0), Some(41));
}

#[test]
fn accesses_that_no_register_has() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    let enabled = GICD + ISENABLER + 4;
    for (address, bytes) in [
        (enabled + 1, 1),
        (enabled, 2),
        (enabled + 2, 4),
        (enabled, 8),
        (enabled, 1),
    ] {
        write(&mut system, 0, address, bytes, u64::MAX);
        assert_eq!(read(&mut system, 0, address, bytes), 0);
    }
    let priorities = GICD + IPRIORITYR + 40;
    write(&mut system, 0, priorities, 2, 0x1111);
    write(&mut system, 0, priorities - 1, 4, 0x1111_1111);
    assert_eq!(read32(&mut system, priorities), 0xa0a0);
    write(&mut system, 0, GICD + CTLR, 1, 0b111);
    write(&mut system, 0, GICD + CTLR, 8, 0b111);
    assert_eq!(
        (read32(&mut system, GICD + CTLR), read(&mut system, 0, GICD + CTLR, 1)),
        (0x30, 0)
    );
    write(&mut system, 0, GICD + IROUTER + 8 * 40 + 2, 4, 0);
    // Reserved, ITARGETSR, NSACR, SGIR, LPIs' registers, the ends of the frames.
    for offset in [0x10, 0x20, 0x40, 0x800, 0xe00, 0xf00, 0x5ffc, 0xfffc] {
        write32(&mut system, GICD + offset, 0xffff_ffff);
        assert_eq!(read32(&mut system, GICD + offset), 0, "{offset:#x}");
    }
    for offset in [0x10, 0x40, 0x70, 0xfffc, 0x1_0000, 0x1_6140, 0x1_1200, 0x1_fffc] {
        write32(&mut system, GICR + offset, 0xffff_ffff);
        assert_eq!(read32(&mut system, GICR + offset), 0, "{offset:#x}");
    }
}

#[test]
fn loads_extend_as_they_say() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    let priority = GICD + IPRIORITYR + 40;
    for (more, expected) in [
        (0, 0xa0),
        (WIDE, 0xa0),
        (SIGNED, 0xffff_ffa0),
        (SIGNED | WIDE, 0xffff_ffff_ffff_ffa0),
    ] {
        assert_eq!(access(&mut system, 0, fault(priority, 1, more), STALE), expected);
    }
    write32(&mut system, GICR + SGI + IPRIORITYR, 0xf800_0000);
    let word = fault(GICR + SGI + IPRIORITYR, 4, SIGNED | WIDE);
    assert_eq!(access(&mut system, 0, word, STALE), 0xffff_ffff_f800_0000);
    // xzr.
    let Exit::Synchronous { esr, far, hpfar } = fault(priority, 1, WRITE) else {
        unreachable!()
    };
    let esr = esr | 31 << 16;
    system.exit(0, Exit::Synchronous { esr, far, hpfar });
    assert_eq!(read(&mut system, 0, priority, 1), 0);
}

#[test]
fn other_instructions_take_an_abort() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    system.el1(0).vbar = 0x0e30_0800;
    let Exit::Synchronous { esr, far, hpfar } = fault(GICD, 4, 0) else {
        unreachable!()
    };
    for (esr, hpfar) in [
        // No syndrome, a walk of its own tables, an instruction fetch; all but the first by the same address in vain.
        (esr & !VALID, hpfar),
        (esr & !(0x3f << 26) | 0x20 << 26, hpfar),
        (esr | 1 << 7, hpfar),
        (esr | 1 << 10, hpfar),
        // The other address space.
        (esr, hpfar | 1 << 63),
    ] {
        system.ctx(0).pc = 0x0e30_1000;
        system.el1(0).elr = 0;
        system.exit(0, Exit::Synchronous { esr, far, hpfar });
        assert_eq!(system.ctx(0).pc, 0x0e30_0a00, "{esr:#x}");
    }
    let console = system.machine.console.clone();
    assert!(
        console.contains("its interrupt controller, by other than a plain load or store"),
        "{console}"
    );
}

#[test]
fn beyond_its_frames_there_is_nothing() {
    let (spmc, machine) = one(2);
    let mut system = at_work(&spmc, machine, 1);
    system.el1(0).vbar = 0x0e30_0800;
    for address in [GICD - 4, GICD + 0x1_0000, GICR - 4, GICR + 2 * STRIDE] {
        system.ctx(0).pc = 0x0e30_1000;
        system.el1(0).elr = 0;
        system.exit(0, fault(address, 4, 0));
        assert_eq!(system.ctx(0).pc, 0x0e30_0a00, "{address:#x}");
    }
    // Nor for whoever has not asked for it.
    system.respond(0, A, 0);
    system.ask(0, B);
    system.el1(0).vbar = 0x0e40_0800;
    system.ctx(0).pc = 0x0e40_1000;
    system.exit(0, fault(GICD, 4, 0));
    assert_eq!(system.ctx(0).pc, 0x0e40_0a00);
    assert!(
        system
            .machine
            .console
            .contains("nothing that the SPMC manifest declares")
    );
}

#[test]
fn extended_interrupts_are_in_their_registers() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |mut a| {
            a.virtual_gic = true;
            [(4096 + 35, Trigger::Level), (1060, Trigger::Level)]
                .into_iter()
                .fold(a, |a, (id, trigger)| a.device_interrupt(id, trigger))
        })
        .build();
    let mut system = at_work(&spmc, machine, 1);
    let kind = read32(&mut system, GICD + 0x4);
    assert_eq!((kind & 0x1f, kind >> 8 & 1, kind >> 27), (0, 1, 1));
    write32(&mut system, GICD + 0x1204, 0xffff_ffff);
    write32(&mut system, GICR + SGI + 0x104, 0xffff_ffff);
    assert_eq!(read32(&mut system, GICD + 0x1404), 1 << 3);
    assert_eq!(read32(&mut system, GICR + SGI + 0x184), 1 << 4);
    assert!(system.machine.interrupts[&4131].enabled && system.machine.interrupts[&1060].enabled);
    write(&mut system, 0, GICD + 0x2000 + 35, 1, 0x40);
    assert_eq!(read32(&mut system, GICD + 0x2020), 0x4000_0000);
    assert_eq!(read32(&mut system, GICD + 0x3008), 0);
    write(&mut system, 0, GICR + SGI + IPRIORITYR + 36, 1, 0x48);
    assert_eq!(read(&mut system, 0, GICR + SGI + IPRIORITYR + 36, 1), 0x48);
    assert_eq!(read(&mut system, 0, GICD + 0x8000 + 8 * 35, 8), 0);
}

#[test]
fn nothing_that_is_written_breaks_anything() {
    let (spmc, machine) = one(2);
    let mut system = at_work(&spmc, machine, 2);
    let small = |value| usize::try_from(value).expect("small");
    let (mut handling, mut taken) = ([Vec::new(), Vec::new()], 0);
    let mut seed = 7_u64;
    let mut random = |limit: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    for _ in 0..20_000 {
        let base = [GICD, GICD, GICR, GICR + SGI, GICR + STRIDE, GICR + STRIDE + SGI][small(random(6))];
        let offset = [random(0x1_0000), random(0x400) * 4, 0x80 + random(0xc0) * 4][small(random(3))];
        let pe = small(random(2));
        let more = [0, SIGNED, WIDE, SIGNED | WIDE, WRITE, WRITE, WRITE | WIDE, WRITE][small(random(8))];
        let value = random(1 << 31) | random(1 << 31) << 31;
        let value = value & [0xff_ffff_ffff, 0b111, 0xffff_ffff][small(random(3))];
        // Nothing that looks like another's.
        let value = value & !(0xff << 24);
        let bytes = [1, 2, 4, 4, 4, 4, 4, 8][small(random(8))];
        access(&mut system, pe, fault(base + offset, bytes, more), value);
        if random(20) == 0 {
            write32(&mut system, GICD + CTLR, random(8));
        }
        match random(10) {
            0..3 => {
                if let Some(id) = acknowledge(&mut system, pe) {
                    handling[pe].push(id);
                }
            }
            3 | 4 => {
                // What a driver that starts over has made inactive cannot be ended.
                if let Some(id) = handling[pe].pop().filter(|id| is_active(&mut system, pe, *id)) {
                    end(&mut system, pe, id);
                    taken += 1;
                }
            }
            5 if system.machine.pending(pe).is_some() => drop(system.exit(pe, Exit::Irq)),
            6 => system.machine.interrupts.entry(40).or_default().high ^= true,
            7 => system.machine.interrupts.entry(41).or_default().latched = true,
            8 => {
                system.exit(pe, NS_INTERRUPT);
                if system.owner(pe) == Owner::NormalWorld {
                    system.nwd(pe, &[RUN, A << 16 | pe as u64]);
                }
                system.ctx(pe).mask_ns_interrupts = false;
            }
            _ => {}
        }
    }
    assert!(taken > 500, "{taken}");
    // A driver that starts over leaves no device behind whose interrupt nobody can have.
    for pe in 0..2 {
        for id in [0, 32] {
            write(&mut system, pe, place(pe, id).0 + ICACTIVER, 4, 0xffff_ffff);
            write(&mut system, pe, place(pe, id).0 + ICPENDR, 4, 0xffff_ffff);
        }
    }
    for id in [40, 41] {
        assert!(
            !system.machine.interrupts.get(&id).is_some_and(|irq| irq.active),
            "{id}"
        );
    }
}

/// Whether an interrupt is active in a list register.
fn is_active(system: &mut System<'_>, pe: usize, id: u32) -> bool {
    listed(system, pe, ACTIVE).contains(&(u64::from(id), ACTIVE))
}

/// The interrupts in the list registers of the context that has a PE, with what of `mask` they have.
fn listed(system: &mut System<'_>, pe: usize, mask: u64) -> Vec<(u64, u64)> {
    let list = system.ctx(pe).virtual_gic.list;
    list.into_iter()
        .filter(|entry| *entry != 0)
        .map(|entry| (entry & 0xffff_ffff, entry & mask))
        .collect()
}

#[test]
fn managed_exit_is_told_by_a_list_register() {
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    // Whoever has not enabled it is preempted.
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), Owner::NormalWorld);
    system.nwd(0, &[RUN, A << 16]);
    set_up(&mut system, 0);
    write32(&mut system, GICD + CTLR, 0b11);
    write32(&mut system, GICR + SGI + IGROUPR, !(1 << 16));
    enable(&mut system, 0, 16);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), runs(A, 0));
    assert_eq!(listed(&mut system, 0, PENDING | GROUP1), [(16, PENDING)], "a FIQ");
    let ctx = system.ctx(0);
    assert!(ctx.mask_ns_interrupts && !ctx.signals.irq && !ctx.signals.fiq && ctx.signals.list);
    assert_eq!(acknowledge(&mut system, 0), Some(16));
    end(&mut system, 0, 16);
    system.respond(0, A, 0);
    // One that is not taken does not come for the next request.
    system.ask(0, A);
    assert_eq!(listed(&mut system, 0, PENDING), []);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(listed(&mut system, 0, PENDING), [(16, PENDING)]);
    system.respond(0, A, 0);
    system.ask(0, A);
    assert_eq!(listed(&mut system, 0, PENDING), []);
}

#[test]
fn notification_is_told_by_a_list_register() {
    const BIND: u64 = 0x8400_007f;
    const SET: u64 = 0x8400_0081;
    let (spmc, machine) = one(1);
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    enable(&mut system, 0, 17);
    system.smc(0, &[BIND, B << 16 | A, 0, 0b1, 0]);
    assert_eq!(system.regs(0)[0], SUCCESS);
    system.respond(0, A, 0);
    system.ask(0, B);
    system.smc(0, &[SET, B << 16 | A, 0, 0b1, 0]);
    assert_eq!(system.regs(0)[0], SUCCESS);
    system.respond(0, B, 0);
    system.ask(0, A);
    assert_eq!(listed(&mut system, 0, PENDING | GROUP1), [(17, PENDING | GROUP1)]);
    assert_eq!(acknowledge(&mut system, 0), Some(17));
    end(&mut system, 0, 17);
    system.smc(0, &[ID_GET]);
    assert!(!system.ctx(0).signals.list);
}

#[test]
fn context_moves_with_what_is_in_its_list_registers() {
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |mut a| {
            a.virtual_gic = true;
            a.device_interrupt(40, Trigger::Level)
                .device_interrupt(41, Trigger::Edge)
                .migratable()
        })
        .build();
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    for id in [40, 41, 2] {
        enable(&mut system, 0, id);
    }
    system.machine.interrupts.get_mut(&40).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(40));
    // While it handles that, others come, and it is preempted and run elsewhere.
    write32(&mut system, GICR + SGI + ISPENDR, 1 << 2);
    system.machine.interrupts.get_mut(&41).expect("a device").latched = true;
    system.exit(0, Exit::Irq);
    system.exit(0, NS_INTERRUPT);
    assert_eq!(system.owner(0), Owner::NormalWorld);
    system.nwd(1, &[RUN, A << 16]);
    assert_eq!(system.owner(1), runs(A, 0));
    let mut there = listed(&mut system, 1, PENDING | ACTIVE);
    there.sort_unstable();
    assert_eq!(there, [(2, PENDING), (40, ACTIVE), (41, PENDING)]);
    assert_eq!(read(&mut system, 1, GICD + ISACTIVER + 4, 4), 1 << 8);
    system.machine.interrupts.get_mut(&40).expect("a device").high = false;
    end(&mut system, 1, 40);
    for id in [2, 41] {
        assert_eq!(acknowledge(&mut system, 1), Some(id));
        end(&mut system, 1, id);
    }
    system.smc(1, &[ID_GET]);
    assert!(!system.ctx(1).signals.list);
    assert!(!system.machine.interrupts[&40].active && !system.machine.interrupts[&41].active);
}

#[test]
fn partition_that_starts_afresh_finds_everything_reset() {
    let (spmc, machine) = Builder::new(1)
        .partition_with("a", |mut a| {
            a.virtual_gic = true;
            a.restart = true;
            a.device_interrupt(40, Trigger::Level)
        })
        .partition("b")
        .build();
    let mut system = at_work(&spmc, machine, 1);
    set_up(&mut system, 0);
    enable(&mut system, 0, 40);
    write(&mut system, 0, GICD + IPRIORITYR + 40, 1, 0);
    system.machine.interrupts.get_mut(&40).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(40));
    system.smc(0, &[0x8400_0090]);
    assert!(!system.machine.interrupts[&40].enabled, "FFA_ABORT");
    system.machine.interrupts.get_mut(&40).expect("a device").high = false;
    // It starts at once.
    assert!(system.policy(0).is_starting());
    while system.policy(0).is_starting() {
        assert_eq!(read32(&mut system, GICD + CTLR), 0x30);
        assert_eq!(read32(&mut system, GICD + ISENABLER + 4), 0);
        assert_eq!(read(&mut system, 0, GICD + IPRIORITYR + 40, 1), 0xa0);
        assert_eq!(read32(&mut system, GICD + ISACTIVER + 4), 0);
        assert!(!system.machine.interrupts[&40].enabled && !system.machine.interrupts[&40].active);
        system.smc(0, &[MSG_WAIT]);
    }
}
