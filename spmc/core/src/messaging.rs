//! Direct messages: requests from the normal world and between partitions, and their responses (FF-A 1.2, chapters 7 and
//! 15).

use uuid::Uuid;

use crate::{
    abi::{self, FRAMEWORK_MESSAGE, FfaError, Form, Route, V1_2, low},
    fault::FaultHistory,
    id::{EndpointId, PeIndex, VcpuIndex},
    machine::{Machine, SmcRegisters},
    manifest::partition::MessagingMethod,
    partition::Partition,
    scheduling::hold_interrupts,
    spmc::{Action, Attention, Pe, Running, Spmc, refuse, reply},
    vcpu::{Model, State, Unavailable, put_back, take_waiting},
};

impl Spmc {
    /// FFA_MSG_SEND_DIRECT_REQ or REQ2 from the normal world, or from a logical partition at EL3.
    #[inline(always)]
    pub(crate) fn request_from_normal_world<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        form: Form,
    ) -> Action {
        let [_, x1, x2, ..] = pe.normal_world;
        let route = Route::decode(x1);
        if route.source.is_secure() || low(x2) & FRAMEWORK_MESSAGE != 0 && form != Form::Direct2 {
            if route.source == EndpointId::SPMD || !route.source.is_secure() {
                return self.framework_message(pe, machine, route, form);
            }
            if !route.source.is_el3_logical() {
                return refuse(pe, FfaError::InvalidParameters);
            }
        }
        if form == Form::Direct2 && self.normal_world_version() < V1_2 && !route.source.is_secure() {
            return refuse(pe, FfaError::NotSupported);
        }
        if !route.source.is_secure() {
            self.lock_normal_world_version();
        }
        match self.start_request(
            pe.index,
            &pe.chain,
            &mut pe.attention,
            route,
            form,
            &pe.normal_world,
            false,
        ) {
            Ok(running) => {
                pe.running = Some(running);
                Action::Run
            }
            Err(error) => self.refused(pe, machine, error),
        }
    }

    /// FFA_MSG_SEND_DIRECT_REQ or REQ2 from the running context.
    #[inline(always)]
    pub(crate) fn request_from_partition<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        form: Form,
    ) -> Action {
        let Some(caller) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        let callee = match self.check_sender(caller, form, pe.chain.len() == pe.chain.capacity()) {
            Ok((route, registers)) => {
                let mask = caller.ctx.mask_ns_interrupts;
                self.start_request(pe.index, &pe.chain, &mut pe.attention, route, form, registers, mask)
            }
            Err(error) => Err(error),
        };
        match callee {
            Ok(callee) => {
                machine.park(&mut caller.ctx);
                let caller = core::mem::replace(caller, callee);
                pe.chain.push(caller);
                Action::Run
            }
            Err(error) => self.refused(pe, machine, error),
        }
    }

    /// Whether the running context may send requests of this form, in its own name, to another.
    #[inline(always)]
    fn check_sender<'c>(
        &self,
        caller: &'c Running<'_>,
        form: Form,
        chain_is_full: bool,
    ) -> Result<(Route, &'c SmcRegisters), FfaError> {
        let registers: &SmcRegisters = caller.ctx.x.first_chunk().ok_or(FfaError::InvalidParameters)?;
        let [_, x1, ..] = *registers;
        let route = Route::decode(x1);
        if route.source != caller.partition.endpoint() || route.destination == route.source || chain_is_full {
            return Err(FfaError::InvalidParameters);
        }
        let needed = match form {
            Form::Direct2 => MessagingMethod::DIRECT_REQ2_SEND,
            Form::Direct32 | Form::Direct64 => MessagingMethod::DIRECT_REQ_SEND,
        };
        if caller.partition.messaging.contains(needed) {
            Ok((route, registers))
        } else {
            Err(FfaError::Denied)
        }
    }

    /// Checks a request, takes the receiver's context and gives it the message. On an error nothing has changed.
    #[inline(always)]
    #[expect(clippy::too_many_arguments, reason = "parts of a PE that are borrowed apart")]
    fn start_request<'s>(
        &'s self,
        pe: PeIndex,
        chain: &[Running<'s>],
        attention: &mut Attention,
        route: Route,
        form: Form,
        registers: &SmcRegisters,
        mask_ns_interrupts: bool,
    ) -> Result<Running<'s>, FfaError> {
        let [_, _, x2, x3, ..] = *registers;
        if form != Form::Direct2 && low(x2) != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let receiver = self.find_inline(route.destination).ok_or(FfaError::InvalidParameters)?;
        if form == Form::Direct2 {
            accepts_request2(receiver, uuid_from_registers(x2, x3))?;
        } else if !receiver.messaging.contains(MessagingMethod::DIRECT_REQ_RECEIVE) {
            return Err(FfaError::Denied);
        }
        if receiver.is_stopped() {
            return Err(FfaError::Aborted);
        }
        let vcpu = receiver.vcpu_on(pe);
        let slot = receiver.slot(vcpu).ok_or(FfaError::InvalidParameters)?;
        let mut ctx = match take_waiting(slot, pe) {
            Ok(ctx) => ctx,
            Err(why) => return Err(unavailable(chain, receiver, why)),
        };
        let model = Model::DirectRequest {
            requester: route.source,
            form,
        };
        hold_interrupts(attention, &mut ctx, receiver, slot, model, mask_ns_interrupts);
        slot.interrupts.assert(&mut ctx, receiver);
        put_message(form, form.request_id(), route, registers, &mut ctx.x);
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

    /// FFA_MSG_SEND_DIRECT_RESP or RESP2 from the running context.
    #[inline(always)]
    pub(crate) fn response<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, form: Form) -> Action {
        let Some(responder) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        let route = match check_response(responder, form) {
            Ok(route) => route,
            Err(_) => return self.framework_response(pe, machine, form),
        };
        machine.park(&mut responder.ctx);
        self.rests(&mut pe.attention, machine, pe.index, responder);
        let Some(mut caller) = pe.chain.pop() else {
            return self.response_to_normal_world(pe, route, form);
        };
        put_first_18(form, route, &responder.ctx.x, &mut caller.ctx.x);
        caller.assert_interrupts();
        let responder = core::mem::replace(responder, caller);
        put_back(responder.slot, State::Waiting(responder.ctx));
        match &pe.running {
            Some(caller) if !caller.partition.is_stopped() => Action::Run,
            _ => self.leave_stopped(pe, machine),
        }
    }

    /// The end of a response when no partition waits for it. The responder was parked.
    #[inline(always)]
    fn response_to_normal_world<'s>(&'s self, pe: &mut Pe<'s>, route: Route, form: Form) -> Action {
        let Some(responder) = pe.running.take() else {
            return refuse(pe, FfaError::Aborted);
        };
        if route.destination.is_secure() && !route.destination.is_el3_logical() {
            // The partition that asked was stopped meanwhile; the normal world has seen its work to the end.
            let target = responder.target().encode();
            put_back(responder.slot, State::Waiting(responder.ctx));
            return reply(pe, Ok([abi::FFA_MSG_WAIT, target, 0, 0, 0, 0, 0, 0]));
        }
        if form == Form::Direct64 && !abi::is_wide(&pe.normal_world) {
            // EL3 need not have brought x8-x17 of an SMC32 call along, and takes those of an SMC64 result: what is
            // there may be of an earlier message, to another VM.
            if let Some(upper) = pe.normal_world.last_chunk_mut() {
                *upper = [0; 10];
            }
        }
        put_first_18(form, route, &responder.ctx.x, &mut pe.normal_world);
        put_back(responder.slot, State::Waiting(responder.ctx));
        Action::NormalWorld
    }
}

/// Writes a response from the registers of the context that gives it.
#[inline(always)]
fn put_first_18(form: Form, route: Route, from: &[u64; 31], to: &mut [u64]) {
    if let Some(from) = from.first_chunk() {
        put_message(form, form.response_id(), route, from, to);
    }
}

/// Whether `receiver` takes a FFA_MSG_SEND_DIRECT_REQ2 for the service `uuid`; the nil UUID means no particular one.
fn accepts_request2(receiver: &Partition, uuid: Uuid) -> Result<(), FfaError> {
    let messaging = if uuid.is_nil() {
        receiver.messaging
    } else {
        let service = receiver.services.iter().find(|service| service.has(&uuid));
        service.ok_or(FfaError::InvalidParameters)?.messaging
    };
    if messaging.contains(MessagingMethod::DIRECT_REQ2_RECEIVE) && receiver.is_v1_2() {
        Ok(())
    } else {
        Err(FfaError::Denied)
    }
}

/// A UUID in two 64-bit registers: byte 0 in bits 7:0 of the first (FF-A 1.2, FFA_MSG_SEND_DIRECT_REQ2).
#[must_use]
pub(crate) fn uuid_from_registers(first: u64, second: u64) -> Uuid {
    let mut bytes = [0; 16];
    let (low, high) = bytes.split_at_mut(8);
    low.copy_from_slice(&first.to_le_bytes());
    high.copy_from_slice(&second.to_le_bytes());
    Uuid::from_bytes(bytes)
}

/// Whether two UUIDs are the same. A loop out of line: 16 bytes that may lie anywhere take many instructions to load at once.
#[inline(never)]
pub(crate) fn same_uuid(one: &Uuid, other: &Uuid) -> bool {
    one.as_bytes().iter().eq(other.as_bytes())
}

/// The error for a receiver that cannot be entered. A request to a context that waits for this very call chain is a loop.
#[cold]
pub(crate) fn unavailable(chain: &[Running<'_>], receiver: &Partition, why: Unavailable) -> FfaError {
    let in_chain = |running: &Running<'_>| core::ptr::eq(running.partition, receiver);
    match why {
        Unavailable::Stopped => FfaError::Aborted,
        Unavailable::Busy if chain.iter().any(in_chain) => FfaError::Denied,
        Unavailable::Busy | Unavailable::Off => FfaError::Busy,
    }
}

/// Whether the running context may respond as it does: somebody waits for it, and for a response of this form.
#[inline(always)]
pub(crate) fn check_response(running: &Running<'_>, form: Form) -> Result<Route, FfaError> {
    let [_, x1, x2, x3, ..] = running.ctx.x;
    let route = Route::decode(x1);
    let Model::DirectRequest {
        requester,
        form: requested,
    } = running.model
    else {
        return Err(FfaError::Denied);
    };
    if (form == Form::Direct2) != (requested == Form::Direct2) {
        return Err(FfaError::Denied);
    }
    let reserved = if form == Form::Direct2 {
        x2 | x3
    } else {
        u64::from(low(x2))
    };
    if reserved != 0 || route.source != running.partition.endpoint() || route.destination == route.source {
        return Err(FfaError::InvalidParameters);
    }
    if route.destination != requester {
        return Err(FfaError::Denied);
    }
    Ok(route)
}

/// Writes a message as its receiver gets it. A 32- or 64-bit message has x0-x7, and x8 and above stay the receiver's.
#[inline(always)]
fn put_message(form: Form, id: u64, route: Route, from: &SmcRegisters, to: &mut [u64]) {
    let [_, _, x2, x3, x4, x5, x6, x7, ..] = *from;
    let words = |value: u64| u64::from(low(value));
    match form {
        Form::Direct32 => abi::put(
            to,
            [
                id,
                route.encode(),
                words(x2),
                words(x3),
                words(x4),
                words(x5),
                words(x6),
                words(x7),
            ],
        ),
        Form::Direct64 => abi::put(to, [id, route.encode(), words(x2), x3, x4, x5, x6, x7]),
        Form::Direct2 => {
            if let Some(to) = to.first_chunk_mut::<18>() {
                *to = *from;
                let [to_id, to_route, ..] = to;
                *to_id = id;
                *to_route = route.encode();
            }
        }
    }
}

/// Which context of a partition a request from `pe` reaches, as FFA_RUN would name it.
#[must_use]
pub(crate) fn is_pinned_elsewhere(pe: &Pe<'_>, partition: &Partition, vcpu: VcpuIndex) -> bool {
    partition.vcpu_on(pe.index) != vcpu
}
