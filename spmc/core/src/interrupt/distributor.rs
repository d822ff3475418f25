//! The interrupt controller's registers in memory, for partitions that have a virtual CPU interface ([`virtual_gic`]): the
//! distributor and the redistributors of a GICv3, as the secure world sees them, emulated access by access.
//!
//! They lie where the board has its own, with one redistributor a context, in the order of their numbers, which are their
//! affinities. Only the partition's own interrupts are there: its devices', the software generated ones, and the SPMC's, with
//! the numbers that [`Partition::interrupt_id`] has for them. All else reads as zero and ignores writes, as do accesses of a
//! size that a register does not have. What a partition's manifest says of an interrupt, its trigger and its priority among
//! partitions, stays.
//!
//! [`virtual_gic`]: crate::interrupt::virtual_gic

use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;

use spin::mutex::TicketMutexGuard;

use crate::{
    abi::low,
    addr::World,
    id::{PeIndex, VcpuIndex},
    interrupt::{Line, SOFTWARE_LINES, physical::device},
    machine::{InterruptChange, Machine},
    manifest::partition::Trigger,
    partition::{Multiplicity, Partition},
    spmc::{Pe, Spmc},
    syndrome::{Abort, MemoryAccess},
    trap::{read_register, skip_instruction, write_register},
    vcpu::Slot,
};

/// Where the frames are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Address of the distributor.
    pub distributor: u64,
    /// Address of the first redistributor.
    pub redistributors: u64,
}

/// Bytes of the distributor's frame.
const DISTRIBUTOR_BYTES: u64 = 0x1_0000;
/// Bytes of the two frames of a redistributor.
const REDISTRIBUTOR_BYTES: u64 = 0x2_0000;
/// The second of them: software generated and private interrupts.
const PRIVATE: u32 = 0x1_0000;

/// `GICD_CTLR`: the groups that are enabled: 0, non-secure 1, secure 1. Both groups 1 are one here.
const GROUP0: u32 = 1 << 0;
const GROUP1: u32 = 0b110;
/// `GICD_CTLR`: affinity routing in both worlds.
const AFFINITY: u32 = 0b11 << 4;
/// `GICD_TYPER`: two security states; numbers of 16 bits; targets above 15 in a list; no interrupt goes to any of several.
const TYPE: u32 = 1 << 10 | 15 << 19 | 1 << 25 | 1 << 26;
/// `GICD_TYPER.ESPI`, and where the number of extended shared interrupts is.
const EXTENDED: u32 = 1 << 8;
const EXTENDED_RANGE: u32 = 27;
/// `GICD_IIDR`, `GICR_IIDR`: product "T", of nobody in particular.
const IMPLEMENTER: u32 = (b'T' as u32) << 24;
/// `GICD_PIDR2`, `GICR_PIDR2`: GICv3.
const PERIPHERAL: u64 = 0x3b;
/// `GICR_TYPER`: the last redistributor; where the number of extended private interrupts is, and all of them.
const LAST: u64 = 1 << 4;
const EXTENDED_PRIVATE: u64 = 2 << 27;
/// `GICR_WAKER`: asleep, as asked for and as it is.
const SLEEP: u32 = 1 << 1;
const ASLEEP: u32 = 0b11 << 1;
/// `GICR_TYPER`: where the affinity and the number are.
const AFFINITY_SHIFT: u32 = 32;
const NUMBER_SHIFT: u32 = 8;

/// `GICD_CTLR`; `GICR_WAKER`.
const CONTROL: u32 = 0x0;
const WAKER: u32 = 0x14;
/// `GICD_PIDR2` and, below, its doubleword.
const IDENTIFICATION: u32 = 0xffe8;

/// The affinity fields of a routing register.
const AFFINITY_MASK: u64 = 0xff_00ff_ffff;
/// Bits of priority that there are.
const PRIORITY_MASK: u8 = 0xf8;
/// The priority of an interrupt that has been given none.
const PRIORITY: u8 = 0xa0;

/// First INTIDs: shared, extended private, extended shared.
const FIRST_SHARED: u32 = 32;
const FIRST_EXTENDED_PRIVATE: u32 = 1056;
const FIRST_EXTENDED: u32 = 4096;
/// By how much the extended private interrupts follow the private ones sooner in registers than in numbers.
const GAP: u32 = 1024;

/// What of interrupts a register says, or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Group,
    Enable,
    Disable,
    Pend,
    Withdraw,
    Activate,
    Deactivate,
    Priority,
    Nothing,
    Trigger,
    Modifier,
    Route,
}

/// Registers that have something of each interrupt: the offset of the first, bits an interrupt, what it is. The extended
/// shared interrupts' are from [`EXTENDED_BLOCKS`] on.
const BLOCKS: [(u16, u8, Kind); 24] = [
    (0x80, 1, Kind::Group),
    (0x100, 1, Kind::Enable),
    (0x180, 1, Kind::Disable),
    (0x200, 1, Kind::Pend),
    (0x280, 1, Kind::Withdraw),
    (0x300, 1, Kind::Activate),
    (0x380, 1, Kind::Deactivate),
    (0x400, 8, Kind::Priority),
    (0x800, 8, Kind::Nothing),
    (0xc00, 2, Kind::Trigger),
    (0xd00, 1, Kind::Modifier),
    (0xd80, 1, Kind::Nothing),
    (0x1000, 1, Kind::Group),
    (0x1200, 1, Kind::Enable),
    (0x1400, 1, Kind::Disable),
    (0x1600, 1, Kind::Pend),
    (0x1800, 1, Kind::Withdraw),
    (0x1a00, 1, Kind::Activate),
    (0x1c00, 1, Kind::Deactivate),
    (0x2000, 8, Kind::Priority),
    (0x3000, 2, Kind::Trigger),
    (0x3400, 1, Kind::Modifier),
    (0x6000, 64, Kind::Route),
    (0x8000, 64, Kind::Route),
];
/// First block of extended shared interrupts, but for the routes of the others.
const EXTENDED_BLOCKS: u16 = 0x1000;
const ROUTES: u16 = 0x6000;
/// Interrupts of a block.
const BLOCK: u32 = 1024;

/// What of some interrupts is said for a context, or for all.
#[derive(Clone, Debug)]
pub(crate) struct Bank {
    enabled: u64,
    groups: u64,
    modifiers: u64,
    asleep: bool,
    priorities: [u8; 64],
}

impl Bank {
    const RESET: Self = Self {
        enabled: 0,
        groups: 0,
        modifiers: 0,
        asleep: false,
        priorities: [PRIORITY; 64],
    };

    fn priority(&mut self, line: Line) -> Option<&mut u8> {
        self.priorities.get_mut(line.number())
    }

    /// The bits of its lines that a kind of registers has.
    fn bits(&mut self, kind: Kind) -> Option<&mut u64> {
        match kind {
            Kind::Group => Some(&mut self.groups),
            Kind::Modifier => Some(&mut self.modifiers),
            Kind::Enable | Kind::Disable => Some(&mut self.enabled),
            _ => None,
        }
    }
}

/// What a partition has written to its distributor and redistributors.
#[derive(Debug)]
pub struct Distributor {
    control: u32,
    /// Shared interrupts, then those of each context.
    banks: Vec<Bank>,
}

impl Distributor {
    /// One for so many contexts. Allocates.
    pub(crate) fn new(contexts: usize) -> Self {
        Self {
            control: 0,
            banks: alloc::vec![Bank::RESET; contexts.saturating_add(1)],
        }
    }

    /// As it is at the partition's start.
    pub(crate) fn reset(&mut self) {
        self.control = 0;
        self.banks.fill(Bank::RESET);
    }

    /// The bank of a context, or the shared one.
    fn bank(&mut self, context: Option<usize>) -> Option<&mut Bank> {
        self.banks
            .get_mut(context.map_or(0, |context| context.saturating_add(1)))
    }

    /// Whether a line of a context is enabled, whatever of its group.
    pub(crate) fn is_enabled(&self, context: usize, line: Line) -> bool {
        self.both(context).any(|bank| bank.enabled & line.bit() != 0)
    }

    /// The shared bank, and that of a context.
    fn both(&self, context: usize) -> impl Iterator<Item = &Bank> {
        self.banks
            .first()
            .into_iter()
            .chain(self.banks.get(context.saturating_add(1)))
    }

    /// The lines of a context that may be delivered, and those that are of Group 0.
    fn lines(&self, context: usize) -> (u64, u64) {
        let (mut enabled, mut group1) = (0, 0);
        for bank in self.both(context) {
            enabled |= bank.enabled;
            group1 |= bank.groups | bank.modifiers;
        }
        let gate = |group, lines| if self.control & group != 0 { lines } else { 0 };
        (enabled & (gate(GROUP0, !group1) | gate(GROUP1, group1)), !group1)
    }

    /// The most urgent of some lines of a context, and its priority.
    pub(crate) fn most_urgent(&self, context: usize, mut lines: u64, partition: &Partition) -> Option<(Line, u8)> {
        let mut most: Option<(Line, u8)> = None;
        while let Some(line) = Line::lowest(lines) {
            lines &= !line.bit();
            let own = Some(context).filter(|_| is_private(partition.interrupt_id(line)));
            let bank = self.banks.get(own.map_or(0, |context| context.saturating_add(1)));
            let priority = bank.and_then(|bank| bank.priorities.get(line.number())).copied()?;
            if most.is_none_or(|(_, least)| priority < least) {
                most = Some((line, priority));
            }
        }
        most
    }
}

const fn is_private(id: u32) -> bool {
    id < FIRST_SHARED || FIRST_EXTENDED_PRIVATE <= id && id < FIRST_EXTENDED
}

/// Registers that an access is to: those of a context's redistributor, or the distributor's.
#[derive(Clone, Copy, Debug)]
struct Window {
    context: Option<usize>,
    offset: u32,
    bytes: u32,
}

impl Window {
    /// Whether the access is of one or two whole words.
    fn is_words(self) -> bool {
        self.bytes >= 4 && self.offset & self.bytes.wrapping_sub(1) == 0
    }

    /// The block that it is in.
    fn block(self) -> Option<(u16, u32, Kind)> {
        let private = if self.context.is_some() { PRIVATE } else { 0 };
        let offset = self.offset.checked_sub(private)?;
        let (at, bits, kind) = BLOCKS.iter().rev().find(|(at, ..)| u32::from(*at) <= offset)?;
        let fits = match *bits {
            8 => self.bytes == 1 || self.bytes == 4 && self.is_words(),
            64 => self.is_words(),
            _ => self.bytes == 4 && self.is_words(),
        };
        fits.then_some((*at, u32::from(*bits), *kind))
    }

    /// The place of an interrupt among those of a block.
    fn index(self, block: u16, id: u32) -> Option<u32> {
        let extended = block >= EXTENDED_BLOCKS && block != ROUTES;
        let index = match (self.context, is_private(id)) {
            (Some(_), true) if !extended && block != ROUTES => Some(if id < FIRST_SHARED { id } else { id - GAP }),
            (None, false) if extended => id.checked_sub(FIRST_EXTENDED),
            (None, false) => Some(id),
            _ => None,
        };
        index.filter(|index| *index < BLOCK)
    }

    /// Tells each line of `partition` that has something in here, with the place of its bits.
    fn each(self, partition: &Partition, tell: &mut dyn FnMut(Kind, Line, u32, u64)) {
        let Some((block, bits, kind)) = self.block() else {
            return;
        };
        let private = if self.context.is_some() { PRIVATE } else { 0 };
        let offset = self.offset.saturating_sub(private).saturating_sub(u32::from(block));
        let first = offset.saturating_mul(8);
        let mask = u64::MAX >> 64_u32.saturating_sub(bits.min(self.bytes.saturating_mul(8)));
        let lines = SOFTWARE_LINES.saturating_add(partition.devices.len());
        for line in (0..lines).filter_map(Line::new) {
            let index = self.index(block, partition.interrupt_id(line));
            let place = index.and_then(|index| index.saturating_mul(bits).checked_sub(first));
            if let Some(place) = place.filter(|place| *place < self.bytes.saturating_mul(8)) {
                tell(kind, line, place, mask);
            }
        }
    }
}

impl Partition {
    /// What it has written to its virtual interrupt controller, if it has one, to itself.
    #[inline(never)]
    pub(crate) fn distributor(&self) -> Option<TicketMutexGuard<'_, Distributor>> {
        Some(self.gic.as_ref()?.lock())
    }

    /// Has the lines of all contexts enabled as the distributor says.
    pub(crate) fn follow_distributor(&self) {
        let Some(gic) = self.distributor() else { return };
        for (context, slot) in self.slots.iter().enumerate() {
            let (enabled, fiq) = gic.lines(context);
            slot.interrupts.enable_all(enabled, fiq);
        }
    }

    /// Whether the interrupt of a device is to come to a context, as far as the distributor says.
    pub(crate) fn lets_through(&self, vcpu: VcpuIndex, line: Line) -> bool {
        self.distributor().is_none_or(|gic| gic.is_enabled(vcpu.index(), line))
    }
}

impl Spmc {
    /// What of a partition's distributor or redistributors an address is.
    fn window(&self, partition: &Partition, address: u64, bytes: u8) -> Option<Window> {
        let within = |base: u64, bytes: u64| address.checked_sub(base).filter(|offset| *offset < bytes);
        partition.gic.as_ref()?;
        let (context, offset) = match within(self.frames.distributor, DISTRIBUTOR_BYTES) {
            Some(offset) => (None, offset),
            None => {
                let all = REDISTRIBUTOR_BYTES.saturating_mul(u64::try_from(partition.slots.len()).ok()?);
                let offset = within(self.frames.redistributors, all)?;
                let context = usize::try_from(offset / REDISTRIBUTOR_BYTES).ok()?;
                (Some(context), offset % REDISTRIBUTOR_BYTES)
            }
        };
        Some(Window {
            context,
            offset: low(offset),
            bytes: u32::from(bytes),
        })
    }

    /// Whether there are registers of a partition's virtual interrupt controller at a secure address.
    pub(crate) fn is_emulated(&self, partition: &Partition, world: World, address: u64) -> bool {
        world == World::Secure && self.window(partition, address, 0).is_some()
    }

    /// An access of the running context to memory that is not there. `false`: it is not to its interrupt controller, or of an
    /// instruction of which the syndrome says too little.
    #[cold]
    #[inline(never)]
    pub(crate) fn distributor_access<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        abort: Abort,
        address: u64,
    ) -> bool {
        let (Some(running), Some(access)) = (pe.running.as_mut(), abort.access) else {
            return false;
        };
        let partition = running.partition;
        let Some(window) = self.window(partition, address, access.bytes) else {
            return false;
        };
        if abort.write {
            let value = read_register(&running.ctx.x, access.rt);
            self.write_distributor(pe, machine, partition, window, value);
        } else {
            let value = self.read_distributor(pe, partition, window);
            if let Some(running) = pe.running.as_mut() {
                write_register(&mut running.ctx.x, access.rt, extend(access, value));
            }
        }
        skip_instruction(pe);
        true
    }

    fn read_distributor(&self, pe: &Pe<'_>, partition: &Partition, window: Window) -> u64 {
        let mut value = match self.fixed(partition, window) {
            Some(value) if window.is_words() => value.wrapping_shr((window.offset & 4).saturating_mul(8)),
            _ => 0,
        };
        window.each(partition, &mut |kind, line, place, mask| {
            let field = self.read_field(pe, partition, window.context, kind, line) & mask;
            value |= field.wrapping_shl(place);
        });
        value
    }

    /// The doubleword that a register is in which is not of interrupts.
    fn fixed(&self, partition: &Partition, window: Window) -> Option<u64> {
        let mut gic = partition.distributor()?;
        let highest = |extended: bool| {
            let ids = partition.devices.iter().map(|device| device.id);
            ids.filter(|id| (*id >= FIRST_EXTENDED_PRIVATE) == extended)
                .max()
                .unwrap_or(0)
        };
        let pair = |first: u32, second: u32| u64::from(first) | u64::from(second) << 32;
        Some(match (window.context, window.offset & !7) {
            (None, CONTROL) => {
                let mut kind = TYPE | (highest(false) / 32);
                if let Some(extended) = highest(true).checked_sub(FIRST_EXTENDED) {
                    kind |= EXTENDED | (extended / 32) << EXTENDED_RANGE;
                }
                pair(gic.control | AFFINITY, kind)
            }
            (None, 8) => pair(IMPLEMENTER, 0),
            (Some(_), CONTROL) => pair(0, IMPLEMENTER),
            (Some(context), 8) => {
                let number = u64::try_from(context).unwrap_or(0);
                let last = if context.saturating_add(1) == partition.slots.len() {
                    LAST
                } else {
                    0
                };
                let extended = if highest(true) == 0 { 0 } else { EXTENDED_PRIVATE };
                number << AFFINITY_SHIFT | number << NUMBER_SHIFT | last | extended
            }
            (context @ Some(_), 0x10) => {
                let asleep = gic.bank(context).is_some_and(|bank| bank.asleep);
                pair(0, if asleep { ASLEEP } else { 0 })
            }
            (_, IDENTIFICATION) => PERIPHERAL,
            _ => 0,
        })
    }

    fn read_field(&self, pe: &Pe<'_>, partition: &Partition, context: Option<usize>, kind: Kind, line: Line) -> u64 {
        u64::from(match kind {
            Kind::Pend | Kind::Withdraw => {
                let mut slots = slots(partition, context).iter();
                slots.any(|slot| slot.interrupts.is_pending(line)).into()
            }
            Kind::Activate | Kind::Deactivate => {
                let own = pe.running.as_ref().filter(|running| is_own(context, running.vcpu));
                let id = partition.interrupt_id(line);
                own.is_some_and(|running| running.ctx.virtual_gic.is_active(id)).into()
            }
            Kind::Trigger => {
                let level = device(partition, line).is_some_and(|device| device.trigger == Trigger::Level);
                if level || line == Line::TIMER { 0 } else { 0b10 }
            }
            Kind::Route => return self.target(partition, line),
            _ => {
                let Some(mut gic) = partition.distributor() else {
                    return 0;
                };
                let Some(bank) = gic.bank(context) else { return 0 };
                match bank.bits(kind) {
                    Some(bits) => u8::from(*bits & line.bit() != 0),
                    None => bank.priority(line).map_or(0, |priority| *priority),
                }
            }
        })
    }

    /// The context that a shared interrupt comes to.
    fn target(&self, partition: &Partition, line: Line) -> u64 {
        let id = partition.interrupt_id(line);
        let source = self.sources.binary_search_by_key(&id, |source| source.id).ok();
        let pe = source
            .and_then(|place| self.sources.get(place))
            .map(|source| source.pe.load(Relaxed));
        let own = |pe: &u16| usize::from(*pe) < partition.slots.len() && partition.multiplicity == Multiplicity::Pinned;
        u64::from(pe.filter(own).unwrap_or(0))
    }

    fn write_distributor<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        partition: &Partition,
        window: Window,
        value: u64,
    ) {
        if window.bytes == 4
            && let Some(mut gic) = partition.distributor()
        {
            match (window.context, window.offset) {
                (None, CONTROL) => gic.control = low(value) & (GROUP0 | GROUP1),
                (context @ Some(_), WAKER) => {
                    if let Some(bank) = gic.bank(context) {
                        bank.asleep = low(value) & SLEEP != 0;
                    }
                }
                _ => {}
            }
        }
        window.each(partition, &mut |kind, line, place, mask| {
            let field = value.wrapping_shr(place) & mask;
            self.write_field(pe, machine, partition, window.context, kind, line, field);
        });
        partition.follow_distributor();
        for (vcpu, slot) in (0..).map(VcpuIndex::new).zip(&partition.slots) {
            let interrupts = &slot.interrupts;
            let line = Line::lowest(interrupts.wanting()).or(Line::lowest(interrupts.deliverable()));
            if let Some(line) = line {
                self.notify(pe, machine, partition, vcpu, line);
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is written, where, by whom")]
    fn write_field<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        partition: &Partition,
        context: Option<usize>,
        kind: Kind,
        line: Line,
        field: u64,
    ) {
        let home = context.and_then(|context| u16::try_from(context).ok());
        let home = home.map_or(pe.index, PeIndex::new);
        let on = field != 0;
        match kind {
            Kind::Enable | Kind::Disable | Kind::Pend | Kind::Withdraw | Kind::Deactivate if !on => {}
            Kind::Pend => {
                let target = context.or(usize::try_from(self.target(partition, line)).ok());
                for slot in slots(partition, target) {
                    slot.interrupts.pend(line);
                }
            }
            // What has a level is pending as long as that is there.
            Kind::Withdraw if line == Line::TIMER => {}
            Kind::Withdraw => {
                for slot in slots(partition, context) {
                    if slot.interrupts.is_pending(line) {
                        slot.interrupts.withdraw(line);
                        let _ = self.change(machine, home, partition, line, InterruptChange::Deactivate);
                    }
                }
            }
            Kind::Deactivate => {
                let own = pe.running.as_mut().filter(|running| is_own(context, running.vcpu));
                if let Some(running) = own
                    && running.ctx.virtual_gic.deactivate(partition.interrupt_id(line))
                {
                    running.ctx.signals.list = running.ctx.virtual_gic.is_in_use();
                    if line == Line::TIMER {
                        self.timer_handled(machine, pe.index, &running.slot.interrupts, None);
                    }
                    let _ = self.change(machine, home, partition, line, InterruptChange::Deactivate);
                }
            }
            Kind::Route => {
                let target = field & AFFINITY_MASK;
                let there = usize::try_from(target).is_ok_and(|target| target < partition.slots.len());
                if there && partition.multiplicity == Multiplicity::Pinned {
                    let _ = self.route_to(machine, partition.interrupt_id(line), low(target));
                }
            }
            _ => {
                write_bank(partition, context, kind, line, low(field));
                let change = match kind {
                    Kind::Enable => InterruptChange::Enable,
                    Kind::Disable => InterruptChange::Disable,
                    _ => return,
                };
                let _ = self.change(machine, home, partition, line, change);
            }
        }
    }
}

/// Writes what is kept of an interrupt.
fn write_bank(partition: &Partition, context: Option<usize>, kind: Kind, line: Line, field: u32) {
    let Some(mut gic) = partition.distributor() else { return };
    let Some(bank) = gic.bank(context) else { return };
    if let Some(bits) = bank.bits(kind) {
        let on = field != 0 && kind != Kind::Disable;
        *bits = *bits & !line.bit() | if on { line.bit() } else { 0 };
    } else if kind == Kind::Priority
        && let Some(priority) = bank.priority(line)
    {
        *priority = u8::try_from(field).unwrap_or(0) & PRIORITY_MASK;
    }
}

/// The slots of a context, or of all.
fn slots(partition: &Partition, context: Option<usize>) -> &[Slot] {
    match context {
        Some(context) => partition.slots.get(context..=context).unwrap_or_default(),
        None => &partition.slots,
    }
}

/// Whether a register that is a context's, or shared, is that context's own.
fn is_own(context: Option<usize>, vcpu: VcpuIndex) -> bool {
    context.is_none_or(|context| context == vcpu.index())
}

/// What a load has in its register, of the value that was read.
fn extend(access: MemoryAccess, value: u64) -> u64 {
    let unused = 64_u32.saturating_sub(u32::from(access.bytes).saturating_mul(8));
    let top = value.wrapping_shl(unused);
    let value = if access.signed {
        top.cast_signed().wrapping_shr(unused).cast_unsigned()
    } else {
        top.wrapping_shr(unused)
    };
    if access.wide { value } else { u64::from(low(value)) }
}
