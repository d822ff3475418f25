//! Framework messages that partitions have subscribed to: power messages, which the SPMC relays on one PE, and messages
//! about VMs, which the hypervisor addresses to one partition (FF-A 1.2, chapter 18).

use crate::{
    abi::{self, FRAMEWORK_MESSAGE, FfaError, Form, Route, low},
    fault::FaultHistory,
    id::EndpointId,
    machine::Machine,
    manifest::partition::{PowerManagement, VmAvailability},
    messaging::{check_response, unavailable},
    partition::{Health, Multiplicity, Partition},
    power::{POWER_RESPONSE, PSCI_DENIED, PSCI_SUCCESS, respond},
    report,
    scheduling::hold_interrupts,
    spmc::{Action, Attention, Pe, Running, Spmc, answer, refuse, reply},
    vcpu::{Framework, Model, State, Unavailable, put_back, take_waiting},
};

/// w2 of the hypervisor's messages.
const VM_CREATED: u32 = FRAMEWORK_MESSAGE | 4;
const VM_DESTROYED: u32 = FRAMEWORK_MESSAGE | 6;

/// A power message on its way through the partitions of a PE, in boot order.
///
/// Bounded: each partition gets it once; one that is stopped, busy or answers wrongly does not hold up the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Relay {
    /// w2-w7 of the message.
    pub message: [u32; 6],
    /// What the first partition that did not agree has answered.
    pub status: u32,
    /// The place in boot order to go on at.
    pub next: u16,
    /// Who wants it.
    pub wanted: PowerManagement,
}

impl Spmc {
    /// Sends a power message to the next partition that wants it; when all were told, answers the SPMD.
    pub(crate) fn relay_next<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, mut relay: Relay) -> Action {
        pe.attention.insert(Attention::WATCH);
        for (index, partition) in self.partitions.iter().enumerate().skip(usize::from(relay.next)) {
            let pinned = partition.multiplicity == Multiplicity::Pinned;
            if !pinned || !partition.power.intersects(relay.wanted) || partition.health() != Health::Ready {
                continue;
            }
            // A context that does not wait for a message is passed over: it was preempted, or never came up.
            if let Ok(running) = self.enter(pe, partition, Framework::Power, relay.message) {
                relay.next = u16::try_from(index.saturating_add(1)).unwrap_or(u16::MAX);
                pe.relay = Some(relay);
                pe.running = Some(running);
                return Action::Run;
            }
            report::no_power_message(machine, partition, "is busy and is not told");
        }
        if relay.wanted != PowerManagement::CPU_OFF {
            return respond(pe, POWER_RESPONSE, relay.status);
        }
        self.turn_off(pe.index);
        self.leave_timers(machine, pe.index);
        self.leave_interrupts(pe, machine);
        // The SPMD panics on anything else; PSCI knows no reason for a partition with a context on each PE to keep one on.
        respond(pe, POWER_RESPONSE, PSCI_SUCCESS)
    }

    /// The partition that was told has answered, or was stopped: the next one.
    pub(crate) fn relay_answered<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, status: u32) -> Action {
        let Some(mut relay) = pe.relay.take() else {
            return refuse(pe, FfaError::Aborted);
        };
        if relay.status == PSCI_SUCCESS {
            relay.status = status;
        }
        self.relay_next(pe, machine, relay)
    }

    /// Gives a framework message to the context of `receiver` on `pe`. On an error nothing has changed.
    fn enter<'s>(
        &'s self,
        pe: &mut Pe<'s>,
        receiver: &'s Partition,
        kind: Framework,
        message: [u32; 6],
    ) -> Result<Running<'s>, Unavailable> {
        let vcpu = receiver.vcpu_on(pe.index);
        let slot = receiver.slot(vcpu).ok_or(Unavailable::Off)?;
        let mut ctx = take_waiting(slot, pe.index)?;
        let model = Model::Framework(kind);
        let route = Route {
            source: kind.requester(),
            destination: receiver.endpoint(),
        };
        hold_interrupts(&mut pe.attention, &mut ctx, receiver, slot, model, false);
        slot.interrupts.assert(&mut ctx, receiver);
        let [x2, x3, x4, x5, x6, x7] = message.map(u64::from);
        abi::put(
            &mut ctx.x,
            [Form::Direct32.request_id(), route.encode(), x2, x3, x4, x5, x6, x7],
        );
        Ok(Running {
            partition: receiver,
            slot,
            vcpu,
            ctx,
            model,
            preempts: false,
            faults: FaultHistory::default(),
        })
    }

    /// A framework message of the hypervisor: a VM was created, or is destroyed; x3 and x4 a handle, w5 the VM.
    pub(crate) fn vm_message<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        route: Route,
        form: Form,
    ) -> Action {
        self.lock_normal_world_version();
        match self.check_vm_message(pe, machine, route, form) {
            Ok(running) => {
                pe.running = Some(running);
                Action::Run
            }
            Err(error) => refuse(pe, error),
        }
    }

    fn check_vm_message<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        route: Route,
        form: Form,
    ) -> Result<Running<'s>, FfaError> {
        let [_, _, x2, x3, x4, x5, x6, x7, ..] = pe.normal_world;
        let (wanted, kind) = match low(x2) {
            VM_CREATED => (VmAvailability::CREATED, Framework::VmCreated),
            VM_DESTROYED => (VmAvailability::DESTROYED, Framework::VmDestroyed),
            _ => return Err(FfaError::InvalidParameters),
        };
        let vm = EndpointId::new(u16::try_from(low(x5)).map_err(|_| FfaError::InvalidParameters)?);
        let cannot_be = vm.is_secure() || vm == EndpointId::HYPERVISOR || low(x6 | x7) != 0;
        if cannot_be || form != Form::Direct32 || route.source != EndpointId::HYPERVISOR {
            return Err(FfaError::InvalidParameters);
        }
        let receiver = self.find(route.destination).ok_or(FfaError::InvalidParameters)?;
        if !receiver.vm_availability.contains(wanted) {
            return Err(FfaError::Denied);
        }
        if receiver.is_stopped() {
            return Err(FfaError::Aborted);
        }
        let running = self
            .enter(pe, receiver, kind, [low(x2), low(x3), low(x4), low(x5), 0, 0])
            .map_err(|why| unavailable(&pe.chain, receiver, why))?;
        if wanted == VmAvailability::DESTROYED {
            // Nobody may send it anything from here on.
            self.forget_vm_mailbox(machine, vm);
            crate::notifying::forget_vm(self, vm);
        }
        Ok(running)
    }

    /// A direct response by a context that nobody waits for as for a direct message: it answers a framework message, or it
    /// has no business to.
    #[cold]
    #[inline(never)]
    pub(crate) fn framework_response<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, form: Form) -> Action {
        let Some(mut running) = pe.running.take() else {
            return refuse(pe, FfaError::Aborted);
        };
        let Model::Framework(kind) = running.model else {
            let error = check_response(&running, form).err().unwrap_or(FfaError::Denied);
            pe.running = Some(running);
            return answer(pe, Err(error));
        };
        let [_, x1, x2, x3, ..] = running.ctx.x;
        let route = Route {
            source: running.partition.endpoint(),
            destination: kind.requester(),
        };
        let fits = form == Form::Direct32 && Route::decode(x1) == route && low(x2) == kind.response();
        let for_spmc = kind == Framework::Power;
        if !fits && !for_spmc {
            pe.running = Some(running);
            return answer(pe, Err(FfaError::InvalidParameters));
        }
        let status = if fits { low(x3) } else { PSCI_DENIED };
        machine.park(&mut running.ctx);
        self.rests(&mut pe.attention, machine, pe.index, &running);
        put_back(running.slot, State::Waiting(running.ctx));
        if for_spmc {
            if status != PSCI_SUCCESS {
                report::no_power_message(machine, running.partition, "does not agree");
            }
            return self.relay_answered(pe, machine, status);
        }
        reply(
            pe,
            Ok([
                Form::Direct32.response_id(),
                route.encode(),
                u64::from(kind.response()),
                u64::from(status),
                0,
                0,
                0,
                0,
            ]),
        )
    }
}
