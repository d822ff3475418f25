//! The virtual CPU interface of partitions that ask for one (GICv3, list registers).
//!
//! Such a context takes its interrupts from the registers of the architecture (`ICC_IAR1_EL1` and so on), which the hardware
//! serves from list registers. They are filled from the pending lines before the context is entered, and emptied when it has
//! stopped running, but for what is active: while the SPMC runs, what is pending is in the pending lines only, so that it can
//! be withdrawn, and found wherever the context runs next. Lines that find no list register wait for the next time.
//!
//! An interrupt of a device is bound to the physical one, which the hardware deactivates when the context does.

use crate::{
    abi::low,
    context::Context,
    id::{PeIndex, VcpuIndex},
    id_registers,
    interrupt::{Line, SOFTWARE_LINES, VirtualInterrupts},
    machine::{InterruptChange, Machine, SystemRegister},
    partition::Partition,
    spmc::{Attention, Pe, Spmc},
    syndrome::SystemRegisterAccess,
    trap::{read_register, skip_instruction, write_register},
};

/// List registers that are used.
pub const LIST_REGISTERS: usize = 4;

/// `ICH_LR<n>_EL2`: pending.
pub const PENDING: u64 = 1 << 62;
/// `ICH_LR<n>_EL2`: active.
pub const ACTIVE: u64 = 1 << 63;
/// `ICH_LR<n>_EL2`: bound to a physical interrupt.
pub const HARDWARE: u64 = 1 << 61;
/// `ICH_LR<n>_EL2`: Group 1, an IRQ; else Group 0, a FIQ.
pub const GROUP1: u64 = 1 << 60;
/// `ICH_LR<n>_EL2`: where the priority is.
const PRIORITY: u32 = 48;
/// `ICH_LR<n>_EL2`: where the physical interrupt is.
const PHYSICAL: u32 = 32;

/// The virtual CPU interface of a context.
#[repr(C)]
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct VirtualGic {
    /// `ICH_LR<n>_EL2`; 0 for a free one.
    pub list: [u64; LIST_REGISTERS],
    /// `ICH_VMCR_EL2`.
    pub control: u64,
    /// `ICH_AP0R0_EL2` and `ICH_AP1R0_EL2`.
    pub priorities: [u64; 2],
}

const fn register(op1: u8, crn: u8, crm: u8, op2: u8) -> SystemRegister {
    SystemRegister {
        op0: 3,
        op1,
        crn,
        crm,
        op2,
    }
}

/// `ICC_SRE_EL1`, and what it always is: there are no other registers than those of the system.
const SRE: SystemRegister = register(0, 12, 12, 5);
const SRE_ALWAYS: u64 = 0b111;
/// `ICC_SGI1R_EL1`, `ICC_ASGI1R_EL1`, `ICC_SGI0R_EL1`: which group the sender takes it for does not matter.
const SGI1R: SystemRegister = register(0, 12, 11, 5);
const ASGI1R: SystemRegister = register(0, 12, 11, 6);
const SGI0R: SystemRegister = register(0, 12, 11, 7);
/// `ID_AA64PFR0_EL1`, and its field that says that there is a CPU interface of version 3.
const PFR0: SystemRegister = register(0, 0, 4, 0);
const PFR0_GIC: u64 = 1 << 24;

/// Puts what is pending and enabled for `ctx` into its list registers, the most urgent first.
#[cold]
#[inline(never)]
pub(crate) fn fill(ctx: &mut Context, interrupts: &VirtualInterrupts, partition: &Partition) {
    let Some(gic) = partition.distributor() else { return };
    let context = usize::from(u16::try_from(ctx.vmpidr & 0xffff).unwrap_or(0));
    let list = &mut ctx.virtual_gic.list;
    let mut lines = interrupts.deliverable();
    while let Some((line, priority)) = gic.most_urgent(context, lines, partition) {
        lines &= !line.bit();
        let id = u64::from(partition.interrupt_id(line));
        let same = |entry: &&mut u64| **entry != 0 && u64::from(low(**entry)) == id;
        if let Some(entry) = list.iter_mut().find(same) {
            // One that is bound comes again only after it was deactivated.
            if *entry & HARDWARE != 0 {
                continue;
            }
            *entry |= PENDING;
        } else if let Some(entry) = list.iter_mut().find(|entry| **entry == 0) {
            let group = if interrupts.is_fiq(line) { 0 } else { GROUP1 };
            let bound = if line.number() < SOFTWARE_LINES {
                0
            } else {
                HARDWARE | id << PHYSICAL
            };
            *entry = PENDING | group | u64::from(priority) << PRIORITY | bound | id;
        } else {
            break;
        }
        interrupts.take_out(line);
    }
    ctx.signals.list = ctx.virtual_gic.is_in_use();
}

impl VirtualGic {
    /// Whether there is something in the list registers.
    pub(crate) fn is_in_use(&self) -> bool {
        self.list.iter().any(|entry| *entry != 0)
    }

    /// Whether an interrupt is active.
    pub(crate) fn is_active(&self, id: u32) -> bool {
        self.list.iter().any(|entry| entry & ACTIVE != 0 && low(*entry) == id)
    }

    /// An interrupt is not active any more, without having been ended; says whether it was.
    pub(crate) fn deactivate(&mut self, id: u32) -> bool {
        let entry = self
            .list
            .iter_mut()
            .find(|entry| **entry & ACTIVE != 0 && low(**entry) == id);
        entry.is_some_and(|entry| {
            *entry = 0;
            true
        })
    }

    /// Takes what is still pending back, and frees the list registers of what was handled; returns the lines of the latter.
    pub(crate) fn empty(&mut self, interrupts: &VirtualInterrupts, partition: &Partition) -> u64 {
        let mut handled = 0;
        for entry in &mut self.list {
            let Some(line) = partition.line(low(*entry)).filter(|_| *entry != 0) else {
                *entry = 0;
                continue;
            };
            let state = *entry & (ACTIVE | PENDING);
            if state & PENDING != 0 {
                interrupts.pend(line);
            }
            if state != PENDING {
                interrupts.untell(line);
            }
            match state & ACTIVE {
                0 => *entry = 0,
                _ => *entry &= !PENDING,
            }
            if state == 0 {
                handled |= line.bit();
            }
        }
        handled
    }
}

impl Spmc {
    /// A context is about to start, or its PE goes off: what it left active of its devices is not.
    pub(crate) fn forget_list_registers<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        partition: &Partition,
        ctx: &Context,
    ) {
        for entry in ctx.virtual_gic.list.into_iter().filter(|entry| entry & HARDWARE != 0) {
            if let Some(line) = partition.line(low(entry)) {
                let _ = self.change(machine, pe, partition, line, InterruptChange::Deactivate);
            }
        }
    }

    /// What of the CPU interface the hardware does not do by itself. `false`: the access is of something else.
    #[cold]
    pub(crate) fn virtual_gic_access<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        access: SystemRegisterAccess,
    ) -> bool {
        let Some(running) = pe.running.as_mut() else {
            return false;
        };
        let (partition, x) = (running.partition, &mut running.ctx.x);
        match (access.register, access.read) {
            (SRE, true) => write_register(x, access.rt, SRE_ALWAYS),
            (SRE, false) => {}
            (SGI1R | ASGI1R | SGI0R, false) => {
                let value = read_register(x, access.rt);
                self.send_sgi(pe, machine, partition, value);
            }
            (PFR0, true) => {
                let value = id_registers::visible(PFR0, machine.id_register(PFR0)) | PFR0_GIC;
                write_register(x, access.rt, value);
            }
            _ => return false,
        }
        skip_instruction(pe);
        true
    }

    /// `ICC_SGI1R_EL1` and its like: raises a line below 16 in contexts of the partition, whose affinity is their number.
    fn send_sgi<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, partition: &Partition, value: u64) {
        /// All but oneself.
        const ALL: u64 = 1 << 40;
        /// Aff3, Aff2, Aff1.
        const HIGHER: u64 = 0x00ff_00ff_00ff_0000;
        let own = partition.vcpu_on(pe.index);
        let Ok(line) = usize::try_from(value >> 24 & 0xf) else {
            return;
        };
        for vcpu in (0..).map(VcpuIndex::new).take(partition.slots.len()) {
            let number = u64::from(vcpu.as_u16());
            let named = value & HIGHER == 0 && number >> 4 == value >> 44 & 0xf && value >> (number & 0xf) & 1 != 0;
            let target = if value & ALL != 0 { vcpu != own } else { named };
            if let Some(line) = Line::new(line).filter(|_| target) {
                self.pend(pe, machine, partition, vcpu, line);
            }
        }
    }

    /// The running context has stopped running, with something in its list registers.
    #[cold]
    #[inline(never)]
    pub(crate) fn empty_list_registers<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M) {
        let Some(running) = pe.running.as_mut() else {
            return;
        };
        machine.take_list_registers(&mut running.ctx);
        let interrupts = &running.slot.interrupts;
        let gic = &mut running.ctx.virtual_gic;
        let handled = gic.empty(interrupts, running.partition);
        running.ctx.signals.list = gic.is_in_use();
        if handled & Line::TIMER.bit() != 0 {
            self.timer_handled(machine, pe.index, interrupts, None);
        }
        // If it goes on, it is to find them again.
        pe.attention.insert(Attention::REASSERT);
    }
}
