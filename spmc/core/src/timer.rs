//! The EL1 physical timer of each context, emulated (Arm ARM, chapter "The Generic Timer").
//!
//! The timer itself is the normal world's. A partition's accesses to its registers trap, and each context has values of its
//! own. While its condition holds and is not masked, the line [`Line::TIMER`] is raised: once, and again when the partition
//! has handled it and the condition still holds. A context that waits is run for it, once, and not at once.
//!
//! Each PE keeps one deadline with a timer of the SPMC's own ([`Machine::set_timer`]): the earliest of the contexts whose
//! home the PE is, wherever they run or wait. A context's home is where it has last written to its timer, or rested with it
//! armed. When its home goes off, another PE takes it in.

use core::sync::atomic::Ordering::SeqCst;

use crate::{
    abi::low,
    id::PeIndex,
    interrupt::{Line, VirtualInterrupts},
    machine::{Machine, NO_DEADLINE, SystemRegister},
    partition::Multiplicity,
    spmc::{Action, Pe, Spmc},
    syndrome::SystemRegisterAccess,
    trap::{read_register, skip_instruction, write_register},
};

/// `CNTP_CTL_EL0`: the timer runs.
const ENABLE: u64 = 1 << 0;
/// `CNTP_CTL_EL0`: the interrupt is masked.
const IMASK: u64 = 1 << 1;
/// `CNTP_CTL_EL0`, read only: the condition holds.
const ISTATUS: u64 = 1 << 2;

/// A register of the timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// `CNTP_TVAL_EL0`.
    Value,
    /// `CNTP_CTL_EL0`.
    Control,
    /// `CNTP_CVAL_EL0`.
    Compare,
}

impl Register {
    /// Which one a system register is, if it is one.
    pub(crate) const fn decode(register: SystemRegister) -> Option<Self> {
        match register {
            SystemRegister {
                op0: 3,
                op1: 3,
                crn: 14,
                crm: 2,
                op2,
            } => match op2 {
                0 => Some(Self::Value),
                1 => Some(Self::Control),
                2 => Some(Self::Compare),
                _ => None,
            },
            _ => None,
        }
    }
}

/// The shortest time that a context waits before it is run for its timer: 1 / this of a second. So the PE is not its alone.
const PAUSES_A_SECOND: u64 = 10_000;

/// The timer of a context. At its start it is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timer {
    /// [`ENABLE`] and [`IMASK`].
    control: u64,
    compare: u64,
    /// The line is not raised before.
    pause: u64,
    /// The line was raised, and what of the timer has raised it is as it was.
    raised: bool,
    /// The PE that keeps the deadline.
    home: Option<PeIndex>,
}

impl Timer {
    /// The same with other times.
    #[cfg(feature = "fake")]
    pub(crate) fn with_times(&self, time: impl Fn(u64) -> u64) -> Self {
        Self {
            compare: time(self.compare),
            pause: time(self.pause),
            ..self.clone()
        }
    }

    /// When the line is to be raised next, by the clock of [`Machine::now`]; [`NO_DEADLINE`] for not at all.
    fn deadline(&self) -> u64 {
        if self.control == ENABLE && !self.raised {
            self.compare.max(self.pause)
        } else {
            NO_DEADLINE
        }
    }

    fn read(&self, register: Register, now: u64) -> u64 {
        match register {
            Register::Value => self.compare.wrapping_sub(now) & u64::from(u32::MAX),
            Register::Control if self.control & ENABLE != 0 && now >= self.compare => self.control | ISTATUS,
            Register::Control => self.control,
            Register::Compare => self.compare,
        }
    }

    fn write(&mut self, register: Register, value: u64, now: u64) {
        match register {
            Register::Value => {
                let ticks = i64::from(low(value).cast_signed());
                self.compare = now.wrapping_add_signed(ticks);
            }
            Register::Control => self.control = value & (ENABLE | IMASK),
            Register::Compare => self.compare = value,
        }
        self.raised = false;
        self.pause = 0;
    }

    /// Raises the line if it is time and it was not raised, or withdraws it if it should not be. Says whether it was raised.
    fn evaluate(&mut self, now: u64, interrupts: &VirtualInterrupts) -> bool {
        let raise = self.control == ENABLE && now >= self.compare.max(self.pause);
        let raised = core::mem::replace(&mut self.raised, raise);
        if !raise {
            interrupts.withdraw(Line::TIMER);
        } else if !raised {
            interrupts.pend(Line::TIMER);
        }
        raise && !raised
    }
}

impl Spmc {
    /// An access of the running context to a register of its timer.
    #[cold]
    #[inline(never)]
    pub(crate) fn timer_access<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        access: SystemRegisterAccess,
        register: Register,
    ) -> Action {
        let now = machine.now();
        skip_instruction(pe);
        if let Some(running) = pe.running.as_mut() {
            let interrupts = &running.slot.interrupts;
            let mut timer = interrupts.timer.lock();
            if access.read {
                let value = timer.read(register, now);
                drop(timer);
                write_register(&mut running.ctx.x, access.rt, value);
                return Action::Run;
            }
            timer.write(register, read_register(&running.ctx.x, access.rt), now);
            timer.home = Some(pe.index);
            timer.evaluate(now, interrupts);
            if timer.control == ENABLE {
                interrupts.activate(Line::TIMER);
            } else {
                interrupts.deactivate(Line::TIMER);
            }
            drop(timer);
            running.assert_interrupts();
        }
        self.set_timer(machine, pe.index);
        Action::Run
    }

    /// The running context has taken the interrupt `but`, or none, and handled those that it took before: its timer's is
    /// raised again if it is as it was.
    pub(crate) fn timer_handled<M: Machine>(
        &self,
        machine: &mut M,
        pe: PeIndex,
        interrupts: &VirtualInterrupts,
        but: Option<Line>,
    ) {
        if !interrupts.is_active(Line::TIMER) || but == Some(Line::TIMER) {
            return;
        }
        let mut timer = interrupts.timer.lock();
        if timer.raised && !interrupts.is_pending(Line::TIMER) {
            timer.raised = false;
            timer.home = Some(pe);
            timer.evaluate(machine.now(), interrupts);
            drop(timer);
            self.set_timer(machine, pe);
        }
    }

    /// A context waits: it is not run for its timer at once, and if it has left that as it was, not for this.
    pub(crate) fn timer_rests<M: Machine>(&self, machine: &mut M, pe: PeIndex, interrupts: &VirtualInterrupts) {
        if !interrupts.is_active(Line::TIMER) {
            return;
        }
        let pause = machine.frequency() / PAUSES_A_SECOND;
        let now = machine.now();
        let mut timer = interrupts.timer.lock();
        if timer.raised && !interrupts.is_pending(Line::TIMER) {
            interrupts.pend(Line::TIMER);
            interrupts.tell(Line::TIMER.bit());
        } else if !timer.raised || interrupts.wanting() & Line::TIMER.bit() != 0 {
            timer.raised = false;
            timer.home = Some(pe);
            timer.pause = now.saturating_add(pause);
            timer.evaluate(now, interrupts);
            drop(timer);
            self.set_timer(machine, pe);
        }
    }

    /// The PE's deadline has passed, or so it seemed: raises the lines of those whose time it is.
    pub(crate) fn timer_interrupt<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M) {
        let now = machine.now();
        for partition in &self.partitions {
            let vcpu = partition.vcpu_on(pe.index);
            let Some(slot) = partition.slot(vcpu).filter(|_| !partition.is_stopped()) else {
                continue;
            };
            let mut timer = slot.interrupts.timer.lock();
            let raised = timer.home == Some(pe.index) && timer.evaluate(now, &slot.interrupts);
            drop(timer);
            if raised {
                self.notify(pe, machine, partition, vcpu, Line::TIMER);
            }
        }
        self.set_timer(machine, pe.index);
    }

    /// Keeps the earliest deadline of those whose home the PE is, those without one among them.
    pub(crate) fn set_timer<M: Machine>(&self, machine: &mut M, pe: PeIndex) {
        let mut earliest = NO_DEADLINE;
        for partition in self.partitions.iter().filter(|partition| !partition.is_stopped()) {
            let Some(slot) = partition.slot(partition.vcpu_on(pe)) else {
                continue;
            };
            let mut timer = slot.interrupts.timer.lock();
            let deadline = timer.deadline();
            if deadline < earliest && *timer.home.get_or_insert(pe) == pe {
                earliest = deadline;
            }
        }
        machine.set_timer(earliest);
    }

    /// The PE goes off: another one keeps the deadlines of contexts that are not pinned to it.
    pub(crate) fn leave_timers<M: Machine>(&self, machine: &mut M, pe: PeIndex) {
        for partition in &self.partitions {
            if partition.multiplicity == Multiplicity::Migratable
                && let Some(slot) = partition.slot(partition.vcpu_on(pe))
            {
                let mut timer = slot.interrupts.timer.lock();
                if timer.home == Some(pe) {
                    timer.home = None;
                    self.homeless.store(true, SeqCst);
                }
            }
        }
        machine.set_timer(NO_DEADLINE);
        // After that: one that goes off at the same time is not told, or finds that there is something to pass on.
        let others = self.online.fetch_and(!bit(pe), SeqCst) & !bit(pe);
        if self.homeless.load(SeqCst)
            && let Ok(other) = u16::try_from(others.trailing_zeros())
            && others != 0
        {
            machine.kick(self.cpu(PeIndex::new(other)));
        }
    }

    /// The PE has come up, or another one went off and left something: takes in what has no home.
    pub(crate) fn take_in_timers<M: Machine>(&self, machine: &mut M, pe: PeIndex) {
        self.online.fetch_or(bit(pe), SeqCst);
        if self.homeless.swap(false, SeqCst) {
            self.set_timer(machine, pe);
        }
    }
}

/// The bit of a PE among those that are on.
pub(crate) fn bit(pe: PeIndex) -> u64 {
    1_u64.checked_shl(u32::from(pe.as_u16())).unwrap_or(0)
}
