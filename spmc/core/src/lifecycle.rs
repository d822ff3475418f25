//! Life of a partition: initialisation on each PE, failure, and the end (FF-A 1.2, chapters 5 and 18).

use crate::{
    abi::{self, FfaError, Target},
    context::Context,
    id::{PeIndex, VcpuIndex},
    machine::Machine,
    partition::{Health, Multiplicity, Partition},
    report::{self, Cause},
    s_el0::{PSTATE_EL0_MASKED, back_to_el0},
    spmc::{Action, Attention, Pe, Running, Spmc, answer, refuse, reply, success},
    vcpu::{Model, Moves, Slot, State, put_back},
    watch::NO_LIMIT,
};

/// `VMPIDR_EL2` bit 31, RES1.
const MPIDR_RES1: u64 = 1 << 31;
/// The register that holds the index of the context at its entry.
const INDEX_REGISTER: usize = 4;

impl Spmc {
    /// The PE has come up: initialise its contexts in boot order, then tell the SPMD.
    pub(crate) fn online<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        pe.running = None;
        pe.chain.clear();
        pe.relay = None;
        pe.late = None;
        pe.attention = Attention::DUE;
        pe.normal_world = [0; 18];
        pe.booting = Some(0);
        self.enable_private(machine, pe.index);
        self.take_in_timers(machine, pe.index);
        self.route_interrupts(machine);
        self.boot_next(pe, machine)
    }

    /// Enters the next context to initialise on this PE, or ends the PE's initialisation with FFA_MSG_WAIT.
    pub(crate) fn boot_next<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        pe.attention.insert(Attention::WATCH);
        let first = pe.booting.unwrap_or(self.partitions.len());
        for (index, partition) in self.partitions.iter().enumerate().skip(first) {
            if let Some(running) = self.start(machine, pe.index, partition) {
                pe.booting = Some(index.saturating_add(1));
                pe.running = Some(running);
                return Action::Run;
            }
        }
        pe.booting = None;
        if !self.booted.swap(true, core::sync::atomic::Ordering::AcqRel) {
            report::booted(self, machine);
        }
        reply(pe, Ok([abi::FFA_MSG_WAIT, 0, 0, 0, 0, 0, 0, 0]))
    }

    /// The context of `partition` to initialise on `pe`, if there is one.
    fn start<'s, M: Machine>(&'s self, machine: &mut M, pe: PeIndex, partition: &'s Partition) -> Option<Running<'s>> {
        let first = !self.is_booted();
        let startable = match partition.health() {
            Health::Starting => first,
            Health::Ready => !first && partition.multiplicity == Multiplicity::Pinned,
            Health::Stopped => false,
        };
        if !startable {
            return None;
        }
        self.take_off(machine, pe, partition, first)
    }

    /// FFA_ERROR from the running context: its initialisation has failed.
    pub(crate) fn partition_error<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(running) = pe.running.as_ref() else {
            return refuse(pe, FfaError::Aborted);
        };
        if !running.model.allows(Moves::FAIL) {
            return answer(pe, Err(FfaError::NotSupported));
        }
        let [_, _, w2, ..] = running.ctx.x;
        self.stop_running(pe, machine, &Cause::InitFailed { code: abi::low(w2) })
    }

    /// Stops the partition of the running context; its callers get FFA_ERROR with ABORTED.
    pub(crate) fn stop_running<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, cause: &Cause) -> Action {
        if let Some(running) = pe.running.as_mut() {
            machine.park(&mut running.ctx);
            if running.partition.el1.is_some() {
                back_to_el0(&mut running.ctx);
            }
            if let (Health::Starting, Some(restart)) = (running.partition.health(), &running.partition.restart) {
                restart.give_up();
            }
            if running.partition.stop() {
                crate::console::flush(running, machine);
                self.forget_mailbox(machine, running.partition);
                crate::notifying::forget(self, running.partition);
                self.stop_interrupts(machine, pe.index, running.partition);
                self.interrupt_others(machine, pe.index, running.partition);
                report::stopped(self, machine, pe.index, running, cause);
            }
        }
        self.leave_stopped(pe, machine)
    }

    /// Contexts of a partition that was stopped, running on other PEs, do nothing more.
    fn interrupt_others<M: Machine>(&self, machine: &mut M, pe: PeIndex, partition: &Partition) {
        for slot in &partition.slots {
            let on = match &*slot.lock() {
                State::OnPe(on) if *on != pe => *on,
                _ => continue,
            };
            machine.kick(self.cpu(on));
        }
    }

    /// Takes the running context, whose partition was stopped, off the PE and goes on with whoever waits for it.
    pub(crate) fn leave_stopped<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        pe.attention.insert(Attention::WATCH);
        while let Some(running) = pe.running.take() {
            let (partition, preempts) = (running.partition, running.preempts);
            retire(machine, running);
            let again = preempts && pe.pace.afresh && partition.time_limits.interrupt != NO_LIMIT;
            let afresh = if again {
                // It starts when it is next asked for: the normal world has not run since it last did.
                self.settle_all(machine);
                None
            } else {
                self.bury(pe, machine, partition)
            };
            if self.holds_back() {
                pe.attention.insert(Attention::DUE);
            }
            if let Some(mut afresh) = afresh {
                afresh.preempts = preempts;
                pe.pace.afresh |= preempts;
                pe.running = Some(afresh);
                return Action::Run;
            }
            let error = why_gone(pe);
            let Some(mut caller) = pe.chain.pop() else {
                return if preempts {
                    Action::NormalWorld
                } else {
                    self.chain_is_gone(pe, machine, error)
                };
            };
            if !preempts {
                abi::put_error(&mut caller.ctx.x, error);
            }
            let goes_on = !caller.partition.is_stopped();
            if goes_on {
                caller.assert_interrupts();
            }
            pe.running = Some(caller);
            if goes_on {
                return Action::Run;
            }
        }
        refuse(pe, FfaError::Aborted)
    }

    /// Goes on with whoever waits for a context that is gone, or that was just started. At boot it is the next to start.
    pub(crate) fn unwind<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let error = why_gone(pe);
        match pe.chain.pop() {
            Some(mut caller) => {
                abi::put_error(&mut caller.ctx.x, error);
                self.resume_caller(pe, machine, caller)
            }
            None => self.chain_is_gone(pe, machine, error),
        }
    }

    /// The normal world or a partition (then it is `running`) has asked for a context that cannot be entered. One that was
    /// not started on this PE since its partition was started afresh is started now.
    #[cold]
    #[inline(never)]
    pub(crate) fn refused<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, error: FfaError) -> Action {
        let [_, asked, ..] = pe.normal_world;
        let asked = pe.running.as_ref().map_or(asked, |caller| {
            let [_, x1, ..] = caller.ctx.x;
            x1
        });
        let receiver = abi::Route::decode(asked).destination;
        let full = pe.chain.len() == pe.chain.capacity();
        let may_start = !full && matches!(error, FfaError::Busy | FfaError::Aborted);
        let Some(running) = may_start.then(|| self.late_start(pe, machine, receiver)).flatten() else {
            return if pe.running.is_some() {
                answer(pe, Err(error))
            } else {
                refuse(pe, error)
            };
        };
        if let Some(mut caller) = pe.running.replace(running) {
            machine.park(&mut caller.ctx);
            pe.chain.push(caller);
        }
        pe.late = Some(pe.chain.len());
        pe.attention.insert(Attention::WATCH);
        Action::Run
    }

    /// Goes on with a context whose call has ended, its result already in its registers; if its partition was stopped
    /// meanwhile, with the next one outward.
    #[inline]
    pub(crate) fn resume_caller<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        caller: Running<'s>,
    ) -> Action {
        pe.running = Some(caller);
        self.go_on_with_caller(pe, machine)
    }

    /// The same for one that is the running context already.
    pub(crate) fn go_on_with_caller<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        match &mut pe.running {
            Some(caller) if !caller.partition.is_stopped() => {
                caller.assert_interrupts();
                Action::Run
            }
            _ => self.leave_stopped(pe, machine),
        }
    }

    /// Nobody of the call chain is left: the PE goes on with its boot or a power message, or the normal world learns of it.
    fn chain_is_gone<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, error: FfaError) -> Action {
        if pe.booting.is_some() {
            self.boot_next(pe, machine)
        } else if pe.relay.is_some() {
            self.relay_answered(pe, machine, crate::power::PSCI_DENIED)
        } else {
            refuse(pe, error)
        }
    }

    /// The PE goes off: the contexts that are pinned to it go with it, whatever they were doing. What they had asked of
    /// contexts that are not pinned, the normal world may bring to its end.
    pub(crate) fn turn_off(&self, pe: PeIndex) {
        for slot in self
            .partitions
            .iter()
            .filter(|p| p.multiplicity == Multiplicity::Migratable)
            .flat_map(|p| &p.slots)
        {
            if let State::Suspended { resumer, .. } = &mut *slot.lock() {
                let pinned = self
                    .find(resumer.endpoint)
                    .is_some_and(|p| p.multiplicity == Multiplicity::Pinned);
                if pinned && resumer.vcpu.as_u16() == pe.as_u16() {
                    *resumer = Target::NORMAL_WORLD;
                }
            }
        }
        for partition in self
            .partitions
            .iter()
            .filter(|p| p.multiplicity == Multiplicity::Pinned)
        {
            let Some(slot) = partition.slot(partition.vcpu_on(pe)) else {
                continue;
            };
            switch_off(slot, pe);
        }
    }
}

/// What is told to whoever waits for a context that has just left the PE: to ask again when it was only started.
fn why_gone(pe: &mut Pe<'_>) -> FfaError {
    if pe.late.take_if(|depth| *depth == pe.chain.len()).is_some() {
        FfaError::Busy
    } else {
        FfaError::Aborted
    }
}

fn switch_off(slot: &Slot, pe: PeIndex) {
    let mut state = slot.lock();
    *state = match core::mem::replace(&mut *state, State::OnPe(pe)) {
        State::Waiting(ctx) | State::Suspended { ctx, .. } | State::Off(ctx) => State::Off(ctx),
        other @ (State::OnPe(_) | State::Stopped(_)) => other,
    };
}

/// Puts away a context of a stopped partition, with nothing left in its registers.
fn retire<M: Machine>(machine: &mut M, mut running: Running<'_>) {
    machine.park(&mut running.ctx);
    *running.ctx = Context::new(running.ctx.stage2, running.ctx.vmpidr);
    put_back(running.slot, State::Stopped(running.ctx));
}

/// Registers of a context at its entry (FF-A 1.2, "Protocol for passing data"; x4 as TF-A and Hafnium have it).
pub(crate) fn reset(ctx: &mut Context, partition: &Partition, vcpu: VcpuIndex, first: bool) {
    *ctx = Context::new(partition.roots, MPIDR_RES1 | u64::from(vcpu.as_u16()));
    if let Some(el1) = &partition.el1 {
        ctx.el1 = (**el1).clone();
        ctx.pstate = PSTATE_EL0_MASKED;
    }
    ctx.mask_ns_interrupts = true;
    ctx.signals.gic = partition.gic.is_some();
    if let Some(register) = ctx.x.get_mut(INDEX_REGISTER) {
        *register = u64::from(vcpu.as_u16());
    }
    if !first {
        ctx.pc = partition.secondary_entry();
        return;
    }
    ctx.pc = partition.entry;
    if let Some((number, address)) = partition.boot_info
        && let Some(register) = ctx.x.get_mut(usize::from(number))
    {
        *register = address;
    }
}

/// FFA_SECONDARY_EP_REGISTER: where the running partition's contexts on other PEs start.
pub(crate) fn register_secondary_entry(running: &Running<'_>, booted: bool, wide: bool) -> Result<[u64; 8], FfaError> {
    let partition = running.partition;
    let [_, x1, ..] = running.ctx.x;
    let entry = if wide { x1 } else { u64::from(abi::low(x1)) };
    if partition.multiplicity != Multiplicity::Pinned {
        return Err(FfaError::NotSupported);
    }
    if running.model != Model::Init || booted && partition.health() != Health::Starting {
        return Err(FfaError::Denied);
    }
    if entry % 4 != 0 || !partition.memory.contains(crate::addr::PhysAddr::new(entry)) {
        return Err(FfaError::InvalidParameters);
    }
    partition.set_secondary_entry(entry);
    Ok(success(0))
}
