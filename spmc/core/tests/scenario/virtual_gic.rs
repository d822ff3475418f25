//! The virtual CPU interface of partitions that ask for one: list registers, as GICv3 has them, with a partition that
//! acknowledges and ends interrupts as the hardware lets it.

use tantalum_core::{
    interrupt::virtual_gic::{ACTIVE, GROUP1, HARDWARE, PENDING},
    machine::fake::FakeMachine,
    manifest::partition::Trigger,
    spmc::{Exit, Spmc},
};

use crate::{distributor, support::*};

const IPI: u32 = 9;
const ID: u64 = 0xffff_ffff;

/// a with a virtual CPU interface and eight device interrupts, 40 to 47.
fn one(pes: usize) -> (Spmc, FakeMachine) {
    Builder::new(pes)
        .partition_with("a", |mut a| {
            a.virtual_gic = true;
            (40..48).fold(a, |a, id| a.device_interrupt(id, Trigger::Level))
        })
        .partition("b")
        .build()
}

/// What the partition that has the PE would read from `ICC_IAR1_EL1`: the lowest of those that are pending.
pub(crate) fn acknowledge(system: &mut System<'_>, pe: usize) -> Option<u32> {
    let list = &mut system.ctx(pe).virtual_gic.list;
    let entry = list
        .iter_mut()
        .filter(|entry| **entry & PENDING != 0)
        .min_by_key(|entry| **entry & ID)?;
    *entry = *entry & !PENDING | ACTIVE;
    u32::try_from(*entry & ID).ok()
}

/// It writes `ICC_EOIR1_EL1`.
pub(crate) fn end(system: &mut System<'_>, pe: usize, id: u32) {
    let list = &mut system.ctx(pe).virtual_gic.list;
    let entry = list
        .iter_mut()
        .find(|entry| **entry & ACTIVE != 0 && **entry & ID == u64::from(id))
        .expect("it was acknowledged");
    *entry &= !ACTIVE;
    if *entry & HARDWARE != 0 {
        assert_eq!(*entry >> 32 & 0x1fff, u64::from(id));
        system.machine.interrupts.get_mut(&id).expect("a device").active = false;
    }
}

fn enable(system: &mut System<'_>, pe: usize, id: u32) {
    distributor::set_up(system, pe);
    distributor::enable(system, pe, id);
}

/// A call that does nothing.
fn exit(system: &mut System<'_>, pe: usize) {
    system.smc(pe, &[ID_GET]);
}

/// It writes `ICC_SGI1R_EL1`.
fn send(system: &mut System<'_>, pe: usize, id: u32, targets: u64) {
    system.ctx(pe).x[5] = u64::from(id) << 24 | targets;
    access_on(system, pe, [0, 12, 11, 5, 5], false);
}

fn access(system: &mut System<'_>, op: [u64; 5], read: bool) {
    access_on(system, 0, op, read);
}

fn access_on(system: &mut System<'_>, pe: usize, op: [u64; 5], read: bool) {
    let [op1, crn, crm, op2, rt] = op;
    let iss = 3 << 20 | op2 << 17 | op1 << 14 | crn << 10 | rt << 5 | crm << 1 | u64::from(read);
    system.exit(pe, synchronous(0x18 << 26 | 1 << 25 | iss));
}

#[test]
fn interrupt_of_another_context_is_taken_once() {
    let (spmc, machine) = one(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    system.ask(1, A);
    enable(&mut system, 0, IPI);
    send(&mut system, 1, IPI, 0b1);
    system.exit(0, Exit::Irq);
    assert!(!system.ctx(0).signals.irq);
    assert_eq!(
        system.ctx(0).virtual_gic.list[0] & (PENDING | ACTIVE | GROUP1 | HARDWARE),
        PENDING | GROUP1
    );
    assert_eq!(acknowledge(&mut system, 0), Some(IPI));
    // It comes again while it is handled.
    send(&mut system, 1, IPI, 0b1);
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(IPI));
    exit(&mut system, 0);
    assert_eq!(acknowledge(&mut system, 0), None);
    end(&mut system, 0, IPI);
    exit(&mut system, 0);
    assert_eq!((system.ctx(0).signals.list, acknowledge(&mut system, 0)), (false, None));
}

#[test]
fn others_have_no_list_registers() {
    let (spmc, machine) = one(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    assert!(!system.ctx(0).signals.gic);
    system.hvc(0, &[0xff03, 3, 1, 0]);
    access(&mut system, [3, 14, 2, 2, 5], false);
    system.ctx(0).x[5] = 1;
    access(&mut system, [3, 14, 2, 1, 5], false);
    assert_eq!((system.ctx(0).signals.irq, system.ctx(0).signals.list), (true, false));
}

#[test]
fn device_is_deactivated_by_the_hardware() {
    let (spmc, machine) = one(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    enable(&mut system, 0, 42);
    system.machine.interrupts.get_mut(&42).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(42));
    assert!(system.machine.interrupts[&42].active);
    exit(&mut system, 0);
    system.machine.interrupts.get_mut(&42).expect("a device").high = false;
    end(&mut system, 0, 42);
    exit(&mut system, 0);
    assert!(!system.ctx(0).signals.list);
}

#[test]
fn context_that_starts_again_leaves_nothing_active() {
    let (spmc, machine) = one(2);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    enable(&mut system, 0, 42);
    system.machine.interrupts.get_mut(&42).expect("a device").high = true;
    system.exit(0, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 0), Some(42));
    system.respond(0, A, 0);
    system.turn_off(0);
    assert!(!system.machine.interrupts[&42].active);
    system.boot(0);
    assert!(!system.machine.interrupts[&42].active);
}

#[test]
fn nothing_is_lost_when_there_are_more_than_list_registers() {
    let (spmc, machine) = one(1);
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for id in 40..48 {
        enable(&mut system, 0, id);
    }
    // Random arrivals, acknowledgements and ends, in any nesting; then all that has come has been taken.
    let mut seed = 1_u64;
    let mut random = |limit: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((seed >> 33) % limit).expect("small")
    };
    let (mut raised, mut taken) = ([0; 8], [0; 8]);
    let mut handling = Vec::new();
    for step in 0..5000 {
        let closing = step >= 4900;
        match random(4) {
            0 if !closing => {
                let place = random(8);
                let irq = system.machine.interrupts.get_mut(&(40 + place)).expect("a device");
                if !irq.latched {
                    irq.latched = true;
                    raised[place as usize] += 1;
                }
            }
            1 => {
                if let Some(id) = acknowledge(&mut system, 0) {
                    taken[(id - 40) as usize] += 1;
                    handling.push(id);
                }
            }
            2 => {
                if let Some(id) = handling.pop() {
                    end(&mut system, 0, id);
                }
            }
            _ if system.machine.pending(0).is_some() => {
                system.exit(0, Exit::Irq);
            }
            _ => exit(&mut system, 0),
        }
    }
    while let Some(id) = handling.pop() {
        end(&mut system, 0, id);
    }
    for _ in 0..100 {
        system.exit(0, Exit::Irq);
        if let Some(id) = acknowledge(&mut system, 0) {
            taken[(id - 40) as usize] += 1;
            end(&mut system, 0, id);
        }
    }
    assert_eq!(raised, taken);
    assert!(taken.iter().all(|count| *count > 10), "{taken:?}");
}

#[test]
fn registers_that_trap() {
    let (spmc, machine) = one(3);
    let mut system = System::booted(&spmc, machine);
    for pe in [0, 2] {
        system.ask(pe, A);
        enable(&mut system, pe, 7);
    }
    // ICC_SRE_EL1, ID_AA64PFR0_EL1.
    access(&mut system, [0, 12, 12, 5, 4], true);
    access(&mut system, [0, 12, 12, 5, 31], false);
    access(&mut system, [0, 0, 4, 0, 6], true);
    let x = system.ctx(0).x;
    assert_eq!((x[4], x[6] >> 24 & 0xf), (7, 1));
    // ICC_SGI1R_EL1: to contexts 0 and 2, then to all others.
    system.ctx(0).x[5] = 7 << 24 | 0b101;
    access(&mut system, [0, 12, 11, 5, 5], false);
    assert_eq!(acknowledge(&mut system, 0), Some(7));
    end(&mut system, 0, 7);
    system.exit(2, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 2), Some(7));
    end(&mut system, 2, 7);
    system.ctx(0).x[5] = 7 << 24 | 1 << 40;
    access(&mut system, [0, 12, 11, 5, 5], false);
    assert_eq!(acknowledge(&mut system, 0), None);
    system.exit(2, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 2), Some(7));
    // To a cluster that is not there.
    system.ctx(0).x[5] = 7 << 24 | 1 << 16 | 1;
    access(&mut system, [0, 12, 11, 5, 5], false);
    assert_eq!(acknowledge(&mut system, 0), None);
}

#[test]
fn device_of_a_context_that_goes_off_with_its_pe_is_not_left_active() {
    const DEVICE: u32 = 40;
    let (spmc, machine) = one(2);
    let mut system = System::booted(&spmc, machine);
    for pe in 0..2 {
        system.ask(pe, A);
        enable(&mut system, pe, DEVICE);
        system.respond(pe, A, 0);
    }
    system.ask(1, A);
    let device = system.machine.interrupts.get_mut(&DEVICE).expect("a device");
    (device.pe, device.high) = (1, true);
    system.exit(1, Exit::Irq);
    assert_eq!(acknowledge(&mut system, 1), Some(DEVICE));
    system.exit(1, NS_INTERRUPT);
    system.turn_off(1);
    // It is still high, and comes to another PE.
    system.nwd(0, &[INTERRUPT]);
    assert_eq!(
        (system.owner(0), acknowledge(&mut system, 0)),
        (runs(A, 0), Some(DEVICE))
    );
    // And is that one's, whoever comes up meanwhile.
    system.boot(1);
    assert!(system.machine.interrupts[&DEVICE].active);
    end(&mut system, 0, DEVICE);
    exit(&mut system, 0);
}
