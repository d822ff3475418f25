//! Cycles: FFA_RUN, FFA_MSG_WAIT, FFA_YIELD, and preemption by an interrupt of the normal world (FF-A 1.2, chapters 8, 9
//! and 14).

use crate::{
    abi::{self, FfaError, Target, low},
    context::Context,
    interrupt::Line,
    machine::Machine,
    manifest::partition::NsInterruptsAction,
    messaging::is_pinned_elsewhere,
    partition::Partition,
    spmc::{Action, Attention, Pe, Running, Spmc, answer, refuse, reply},
    vcpu::{Framework, Model, Moves, Slot, State, Suspension, put_back},
    watch::{NO_LIMIT, handler_ends},
};

/// FFA_MSG_WAIT, bit 0 of w2: the RX buffer is kept. Until FF-A 1.1 there are no flags, and the register is ignored.
const RETAIN_RX: u32 = 1;

/// Whether interrupts of the normal world are held back while a context of `partition` runs: the least permissive of
/// those on the call chain decides (FF-A 1.2, section 9.3), and work for firmware is not interrupted at all.
#[inline]
pub(crate) fn masks_interrupts(partition: &Partition, model: Model, caller_masks: bool) -> bool {
    caller_masks || partition.ns_interrupts == NsInterruptsAction::Queued || is_for_firmware(model)
}

/// Holds back interrupts of the normal world from a context that is about to run, if it is to be so. The time of one that is
/// the first of its call chain to do so is counted.
#[inline(always)]
pub(crate) fn hold_interrupts(
    attention: &mut Attention,
    ctx: &mut Context,
    partition: &Partition,
    slot: &Slot,
    model: Model,
    caller_masks: bool,
) {
    ctx.mask_ns_interrupts = masks_interrupts(partition, model, caller_masks);
    if ctx.mask_ns_interrupts && !caller_masks {
        count_time(attention, ctx, partition, slot, model);
    }
}

#[cold]
#[inline(never)]
fn count_time(attention: &mut Attention, ctx: &mut Context, partition: &Partition, slot: &Slot, model: Model) {
    let limits = &partition.time_limits;
    let limit = if is_for_firmware(model) {
        limits.firmware
    } else {
        limits.queued
    };
    ctx.watch.renew(limit, &slot.interrupts);
    if limit != NO_LIMIT {
        slot.interrupts.activate(Line::MANAGED_EXIT);
        attention.insert(Attention::WATCH);
    }
}

/// Whether firmware waits for the context to end, and for nothing else: a logical partition of EL3, or the SPMC with a power
/// message or a secure interrupt (EL3 takes FFA_NORMAL_WORLD_RESUME only).
#[inline]
fn is_for_firmware(model: Model) -> bool {
    match model {
        Model::DirectRequest { requester, .. } => requester.is_el3_logical(),
        Model::Framework(message) => message == Framework::Power,
        Model::SecureInterrupt => true,
        Model::Init | Model::Run => false,
    }
}

impl Spmc {
    /// FFA_RUN from the normal world: gives cycles to a context that waits, or resumes one that was preempted or yielded
    /// while it worked for the normal world.
    pub(crate) fn run_from_normal_world<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let [_, w1, ..] = pe.normal_world;
        match self.resume(pe, Target::decode(w1), Target::NORMAL_WORLD, false) {
            Ok(()) => Action::Run,
            // A context that is off may have to be started first.
            Err(FfaError::Denied) => self.refused_run(pe, machine),
            Err(error) => refuse(pe, error),
        }
    }

    #[cold]
    fn refused_run<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let [_, w1, ..] = pe.normal_world;
        let Target { endpoint, .. } = Target::decode(w1);
        match self.late_start(pe, machine, endpoint) {
            Some(running) => {
                pe.running = Some(running);
                pe.attention.insert(Attention::WATCH);
                pe.late = Some(0);
                Action::Run
            }
            None => refuse(pe, FfaError::Denied),
        }
    }

    /// FFA_RUN from the running context: resumes a context that was preempted or yielded while it worked for the caller.
    pub(crate) fn run_from_partition<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(mut caller) = pe.running.take() else {
            return refuse(pe, FfaError::Aborted);
        };
        let [_, w1, ..] = caller.ctx.x;
        let target = Target::decode(w1);
        let result = if target.endpoint == caller.partition.endpoint() || pe.chain.len() == pe.chain.capacity() {
            Err(FfaError::InvalidParameters)
        } else if !caller.model.allows(Moves::RUN) {
            Err(FfaError::Denied)
        } else {
            self.resume(pe, target, caller.target(), caller.ctx.mask_ns_interrupts)
        };
        match result {
            Ok(()) => {
                machine.park(&mut caller.ctx);
                pe.chain.push(caller);
                Action::Run
            }
            Err(error) => {
                pe.running = Some(caller);
                answer(pe, Err(error))
            }
        }
    }

    /// Takes the context `target` for `caller`. On an error nothing has changed.
    fn resume<'s>(
        &'s self,
        pe: &mut Pe<'s>,
        target: Target,
        caller: Target,
        caller_masks: bool,
    ) -> Result<(), FfaError> {
        let partition = self.find(target.endpoint).ok_or(FfaError::InvalidParameters)?;
        let slot = partition.slot(target.vcpu).ok_or(FfaError::InvalidParameters)?;
        if is_pinned_elsewhere(pe, partition, target.vcpu) {
            return Err(FfaError::InvalidParameters);
        }
        if partition.is_stopped() {
            return Err(FfaError::Aborted);
        }
        let by_normal_world = caller == Target::NORMAL_WORLD;
        let given_up_by = if by_normal_world { self.given_up_by(slot) } else { None };
        let mut state = slot.lock();
        let (mut ctx, model) = match core::mem::replace(&mut *state, State::OnPe(pe.index)) {
            State::Waiting(mut ctx) if by_normal_world => {
                abi::put(&mut ctx.x, [abi::FFA_RUN, target.encode(), 0, 0, 0, 0, 0, 0]);
                (ctx, Model::Run)
            }
            State::Suspended {
                mut ctx,
                model,
                why,
                resumer,
            } if resumer == caller || given_up_by == Some(resumer) => {
                if why == Suspension::Yielded {
                    abi::put(&mut ctx.x, crate::spmc::success(0));
                }
                (ctx, model)
            }
            other => {
                let error = match &other {
                    State::OnPe(_) => FfaError::Busy,
                    State::Stopped(_) => FfaError::Aborted,
                    State::Off(_) | State::Waiting(_) | State::Suspended { .. } => FfaError::Denied,
                };
                *state = other;
                return Err(error);
            }
        };
        drop(state);
        hold_interrupts(&mut pe.attention, &mut ctx, partition, slot, model, caller_masks);
        slot.interrupts.assert(&mut ctx, partition);
        pe.running = Some(Running {
            partition,
            slot,
            vcpu: target.vcpu,
            ctx,
            model,
            preempts: false,
            faults: crate::fault::FaultHistory::default(),
        });
        Ok(())
    }

    /// For whom a suspended context works, if that may never resume it: its partition was stopped, or it has ended its own
    /// work since. The normal world can bring such a context to its end, so that nobody can keep it from others.
    fn given_up_by(&self, slot: &Slot) -> Option<Target> {
        let resumer = match &*slot.lock() {
            State::Suspended { resumer, .. } => *resumer,
            _ => return None,
        };
        let partition = self.find(resumer.endpoint)?;
        let gone = partition.is_stopped()
            || partition
                .slot(resumer.vcpu)
                .is_none_or(|slot| matches!(*slot.lock(), State::Waiting(_) | State::Off(_) | State::Stopped(_)));
        gone.then_some(resumer)
    }

    /// FFA_MSG_WAIT: the running context has nothing more to do.
    pub(crate) fn message_wait<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(mut running) = pe.running.take() else {
            return refuse(pe, FfaError::Aborted);
        };
        let [_, _, flags, ..] = running.ctx.x;
        let result = if !running.model.allows(Moves::WAIT) {
            Err(FfaError::Denied)
        } else if low(flags) & !RETAIN_RX != 0 && running.partition.is_v1_2() {
            Err(FfaError::InvalidParameters)
        } else {
            Ok(())
        };
        if result.is_err() {
            pe.running = Some(running);
            return answer(pe, result.map(|()| [0; 8]));
        }
        let target = running.target();
        let was_init = matches!(running.model, Model::Init);
        if low(flags) & RETAIN_RX == 0 || !running.partition.is_v1_2() {
            crate::mailbox::release_at_wait(running.partition);
        }
        machine.park(&mut running.ctx);
        if running.preempts {
            handler_ends(&mut pe.pace, machine, &mut running);
        }
        if was_init {
            pe.attention.insert(Attention::WATCH);
            running.partition.set_ready();
            self.tell_others_of_start(machine, pe.index, running.partition);
        }
        self.rests(&mut pe.attention, machine, pe.index, &running);
        put_back(running.slot, State::Waiting(running.ctx));
        if running.preempts {
            return self.go_back(pe, machine);
        }
        if was_init {
            return self.unwind(pe, machine);
        }
        reply(pe, Ok([abi::FFA_MSG_WAIT, target.encode(), 0, 0, 0, 0, 0, 0]))
    }

    /// FFA_YIELD: the running context gives its cycles back and wants to be resumed.
    pub(crate) fn yield_cycles<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(running) = pe.running.as_ref() else {
            return refuse(pe, FfaError::Aborted);
        };
        let [_, _, timeout_low, timeout_high, x4, x5, x6, x7, ..] = running.ctx.x;
        if !running.model.allows(Moves::YIELD) {
            return answer(pe, Err(FfaError::Denied));
        }
        if low(x4 | x5 | x6 | x7) != 0 {
            return answer(pe, Err(FfaError::InvalidParameters));
        }
        let timeout = [u64::from(low(timeout_low)), u64::from(low(timeout_high))];
        self.suspend(pe, machine, Suspension::Yielded, |target| {
            let [low, high] = timeout;
            [abi::FFA_YIELD, target, low, high, 0, 0, 0, 0]
        })
    }

    /// An interrupt of the normal world has arrived while a context was running. It is told, if its manifest wants that, or
    /// preempted: then whoever gave it cycles gets FFA_INTERRUPT. A partition that called it has its turn after it, with the
    /// same interrupt.
    pub(crate) fn preempt<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        if running.partition.is_stopped() {
            return self.leave_stopped(pe, machine);
        }
        // Initialisation is not interrupted: the interrupt stays pending until the normal world runs.
        if running.model == Model::Init || running.ctx.mask_ns_interrupts {
            return Action::Run;
        }
        if running.begin_managed_exit() {
            pe.attention.insert(Attention::WATCH);
            return Action::Run;
        }
        self.suspend(pe, machine, Suspension::Preempted, |target| {
            [abi::FFA_INTERRUPT, target, 0, 0, 0, 0, 0, 0]
        })
    }

    fn suspend<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        why: Suspension,
        result: impl FnOnce(u64) -> [u64; 8],
    ) -> Action {
        let Some(target) = set_aside(pe, machine, why) else {
            return refuse(pe, FfaError::Aborted);
        };
        let registers = result(target);
        let Some(caller) = pe.running.as_mut() else {
            return reply(pe, Ok(registers));
        };
        abi::put(&mut caller.ctx.x, registers);
        self.go_on_with_caller(pe, machine)
    }
}

/// Suspends the running context; the partition that gave it cycles is the running one then, if it was one. Returns w1 of the
/// result that whoever it was is to get.
#[inline]
pub(crate) fn set_aside<M: Machine>(pe: &mut Pe<'_>, machine: &mut M, why: Suspension) -> Option<u64> {
    let mut running = pe.running.take()?;
    machine.park(&mut running.ctx);
    running.slot.interrupts.withdraw(Line::MANAGED_EXIT);
    if running.slot.interrupts.is_active(Line::MANAGED_EXIT) {
        running.slot.interrupts.deactivate(Line::MANAGED_EXIT);
        pe.attention.insert(Attention::WATCH);
    }
    let target = running.target().encode();
    let state = State::Suspended {
        ctx: running.ctx,
        model: running.model,
        why,
        resumer: pe.chain.last().map_or(Target::NORMAL_WORLD, Running::target),
    };
    put_back(running.slot, state);
    if let Some(caller) = pe.chain.pop() {
        pe.running = Some(caller);
    }
    Some(target)
}
