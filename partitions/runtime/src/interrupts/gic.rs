//! Interrupts of a partition that has a virtual interrupt controller: the driver `arm-gic`, as it would drive that of a board.

use core::{
    ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use arm_gic::{
    IntId, InterruptGroup, UniqueMmioPointer,
    gicv3::{GicCpuInterface, GicV3, Group, SecureIntGroup, SgiTarget, SgiTargetGroup},
};
use spin::Mutex;

use super::{IPI, Kind, MANAGED_EXIT, NOTIFICATION, TIMER};
use crate::{
    context::{self, MAX_CONTEXTS},
    ffa::{FuncId, SMC, registers},
};

/// Where QEMU's board has its distributor and its redistributors, and the SPM those of a partition.
const DISTRIBUTOR: usize = 0x0800_0000;
const REDISTRIBUTORS: usize = 0x080a_0000;
/// `GICR_TYPER`, and its bit that says that there are no more redistributors.
const TYPE: usize = 0x8;
const LAST: u64 = 1 << 4;
const STRIDE: usize = 0x2_0000;

/// The EL1 physical timer, where all boards have it.
const TIMER_PPI: u32 = 30;
/// Features whose property is an interrupt.
const NOTIFICATION_PENDING: u64 = 1;
const MANAGED_EXIT_INTERRUPT: u64 = 3;

/// No interrupt.
const NONE: u32 = u32::MAX;

/// A priority for everything.
const PRIORITY: u8 = 0x80;

static GIC: Mutex<Option<GicV3<'static>>> = Mutex::new(None);
/// How many contexts there are: redistributors.
static CONTEXTS: AtomicU32 = AtomicU32::new(0);
/// Interrupts that a context has taken as ones of Group 0, by their number modulo 64.
static GROUP0: [AtomicU64; MAX_CONTEXTS] = [const { AtomicU64::new(0) }; MAX_CONTEXTS];

/// The number at the interrupt controller of an interrupt that is the SPM's own.
fn feature(id: u64) -> u32 {
    let result = SMC.call(&registers(&[FuncId::Features as u64, id]));
    if result[0] == FuncId::Success32 as u64 {
        (result[2] & 0xffff_ffff) as u32
    } else {
        NONE
    }
}

/// The number at the interrupt controller of an interrupt as [`super`] has it.
fn raw(id: u32) -> u32 {
    match id {
        TIMER => TIMER_PPI,
        MANAGED_EXIT => feature(MANAGED_EXIT_INTERRUPT),
        NOTIFICATION => feature(NOTIFICATION_PENDING),
        _ => id,
    }
}

/// The reverse of [`raw`].
pub(super) fn name(raw_id: u32) -> u32 {
    match raw_id {
        16..32 => [TIMER, MANAGED_EXIT, NOTIFICATION]
            .into_iter()
            .find(|id| raw(*id) == raw_id)
            .unwrap_or(raw_id),
        _ => raw_id,
    }
}

fn intid(id: u32) -> IntId {
    match raw(id) {
        id @ 0..16 => IntId::sgi(id),
        id @ 16..32 => IntId::ppi(id - 16),
        id => IntId::spi(id.saturating_sub(32).min(987)),
    }
}

/// The driver, when it was set up; this context's interface as well.
pub(super) fn set_up() {
    // A context that starts finds its interface reset, even if it is not its first time.
    if GicCpuInterface::get_priority_mask() != 0 {
        return;
    }
    let index = context::index();
    let mut driver = GIC.lock();
    match driver.as_mut() {
        Some(driver) => driver.init_cpu(index),
        None => *driver = first(index),
    }
    GicCpuInterface::enable_group1(true);
    GicCpuInterface::enable_group0(true);
    GicCpuInterface::set_priority_mask(0xff);
}

/// Sets up the distributor and all redistributors.
fn first(index: usize) -> Option<GicV3<'static>> {
    let is_last = |redistributor: usize| {
        let address = REDISTRIBUTORS + redistributor * STRIDE + TYPE;
        // SAFETY: the type of a redistributor that is there, since the one before was not the last.
        unsafe { with_exposed_provenance::<u64>(address).read_volatile() & LAST != 0 }
    };
    let contexts = 1
        + (0..MAX_CONTEXTS - 1)
            .take_while(|redistributor| !is_last(*redistributor))
            .count();
    let distributor = NonNull::new(with_exposed_provenance_mut(DISTRIBUTOR))?;
    let redistributors = NonNull::new(with_exposed_provenance_mut(REDISTRIBUTORS))?;
    // SAFETY: the registers are mapped as a device, and nothing else here accesses them.
    let mut driver = unsafe { GicV3::new(UniqueMmioPointer::new(distributor), redistributors, contexts) }.ok()?;
    driver.setup(index);
    driver.distributor().enable_group0(true);
    driver.distributor().enable_group1_secure(true);
    CONTEXTS.store(u32::try_from(contexts).unwrap_or(1), Ordering::Relaxed);
    Some(driver)
}

/// Enables an interrupt of this context, or disables it. `false`: there is no such interrupt, or it stays as it was.
pub(super) fn enable(id: u32, on: bool, kind: Kind) -> bool {
    if raw(id) == NONE {
        return false;
    }
    let (cpu, intid) = (Some(context::index()), intid(id));
    let group = match kind {
        Kind::Irq => Group::Secure(SecureIntGroup::Group1S),
        Kind::Fiq => Group::Secure(SecureIntGroup::Group0),
    };
    let mut driver = GIC.lock();
    driver.as_mut().is_some_and(|driver| {
        driver.set_group(intid, cpu, group).is_ok()
            && driver.set_interrupt_priority(intid, cpu, PRIORITY).is_ok()
            && driver.enable_interrupt(intid, cpu, on).is_ok()
    })
}

/// Takes an interrupt: one of Group 1, an IRQ, or else of Group 0.
pub(super) fn take() -> Option<u32> {
    let special = |id: &IntId| id.raw_value() < 1020 || id.raw_value() >= 4096;
    if let Some(id) = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group1).filter(special) {
        return Some(name(id.raw_value()));
    }
    let id = GicCpuInterface::get_and_acknowledge_interrupt(InterruptGroup::Group0).filter(special)?;
    GROUP0[context::index()].fetch_or(1 << (id.raw_value() % 64), Ordering::Relaxed);
    Some(name(id.raw_value()))
}

/// Ends an interrupt that was taken.
pub(super) fn end(id: u32) {
    let bit = 1 << (raw(id) % 64);
    let zero = GROUP0[context::index()].fetch_and(!bit, Ordering::Relaxed) & bit != 0;
    let group = if zero {
        InterruptGroup::Group0
    } else {
        InterruptGroup::Group1
    };
    GicCpuInterface::end_interrupt(intid(id), group);
}

/// Has an interrupt come to another context.
pub(super) fn route(id: u32, context: usize) -> bool {
    let mut driver = GIC.lock();
    driver.as_mut().is_some_and(|driver| {
        driver
            .distributor()
            .set_routing(intid(id), Some(context as u64))
            .is_ok()
    })
}

/// Interrupts another context. `false`: there is no such context, or it is this one.
pub(super) fn send(context: usize) -> bool {
    if context == context::index() || context >= CONTEXTS.load(Ordering::Relaxed) as usize {
        return false;
    }
    let target = SgiTarget::List {
        affinity3: 0,
        affinity2: 0,
        affinity1: 0,
        target_list: 1 << context,
    };
    GicCpuInterface::send_sgi(IntId::sgi(IPI), target, SgiTargetGroup::CurrentGroup1).is_ok()
}
