//! Direct messages: requests from the normal world and between partitions, and their responses (FF-A 1.2, chapters 7 and
//! 15).

use uuid::Uuid;

use crate::{
    abi::{self, FRAMEWORK_MESSAGE, FfaError, Form, Route, low},
    id::{EndpointId, VcpuIndex},
    machine::{Machine, SmcRegisters},
    manifest::partition::{MessagingMethod, NsInterruptsAction},
    partition::Partition,
    spmc::{Action, Pe, Running, Spmc, answer, refuse, reply},
    vcpu::{Model, State, Unavailable, put_back, take_waiting},
};

impl Spmc {
    /// FFA_MSG_SEND_DIRECT_REQ or REQ2 from the normal world, or from a logical partition at EL3.
    #[inline]
    pub(crate) fn request_from_normal_world<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        form: Form,
    ) -> Action {
        let [_, x1, x2, ..] = pe.normal_world;
        let route = Route::decode(x1);
        if route.source == EndpointId::SPMD || low(x2) & FRAMEWORK_MESSAGE != 0 && form != Form::Direct2 {
            return self.framework_message(pe, machine, route, form);
        }
        if route.source.is_secure() && !route.source.is_el3_logical() {
            return refuse(pe, FfaError::InvalidParameters);
        }
        let registers = pe.normal_world;
        match self.start_request(pe, route, form, &registers, false) {
            Ok(()) => Action::Run,
            Err(error) => refuse(pe, error),
        }
    }

    /// FFA_MSG_SEND_DIRECT_REQ or REQ2 from the running context.
    pub(crate) fn request_from_partition<'s, M: Machine>(
        &'s self,
        pe: &mut Pe<'s>,
        machine: &mut M,
        form: Form,
    ) -> Action {
        let Some(mut caller) = pe.running.take() else { return refuse(pe, FfaError::Aborted) };
        let needed = if form == Form::Direct2 { MessagingMethod::DIRECT_REQ2_SEND } else { MessagingMethod::DIRECT_REQ_SEND };
        let registers = first_18(&caller.ctx.x);
        let [_, x1, ..] = registers;
        let route = Route::decode(x1);
        let result = if route.source != caller.partition.endpoint()
            || route.destination == route.source
            || pe.chain.len() == pe.chain.capacity()
        {
            Err(FfaError::InvalidParameters)
        } else if !caller.partition.messaging.contains(needed) {
            Err(FfaError::Denied)
        } else {
            self.start_request(pe, route, form, &registers, caller.ctx.mask_ns_interrupts)
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

    /// Checks a request, takes the receiver's context and gives it the message. On an error nothing has changed.
    #[inline]
    fn start_request<'s>(
        &'s self,
        pe: &mut Pe<'s>,
        route: Route,
        form: Form,
        registers: &SmcRegisters,
        mask_ns_interrupts: bool,
    ) -> Result<(), FfaError> {
        let [_, _, x2, x3, ..] = *registers;
        if form != Form::Direct2 && low(x2) != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let receiver = self.find(route.destination).ok_or(FfaError::InvalidParameters)?;
        if form == Form::Direct2 {
            accepts_request2(receiver, x2, x3)?;
        } else if !receiver.messaging.contains(MessagingMethod::DIRECT_REQ_RECEIVE) {
            return Err(FfaError::Denied);
        }
        if receiver.is_stopped() {
            return Err(FfaError::Aborted);
        }
        let vcpu = receiver.vcpu_on(pe.index);
        let slot = receiver.slot(vcpu).ok_or(FfaError::InvalidParameters)?;
        let mut ctx = take_waiting(slot, pe.index).map_err(|why| unavailable(pe, receiver, why))?;
        ctx.mask_ns_interrupts =
            mask_ns_interrupts || receiver.ns_interrupts == NsInterruptsAction::Queued || route.source.is_el3_logical();
        put_message(form, form.request_id(), route, registers, &mut ctx.x);
        pe.running = Some(Running {
            partition: receiver,
            slot,
            vcpu,
            ctx,
            model: Model::DirectRequest { requester: route.source, form },
            faults: crate::fault::FaultHistory::default(),
        });
        Ok(())
    }

    /// FFA_MSG_SEND_DIRECT_RESP or RESP2 from the running context.
    #[inline]
    pub(crate) fn response<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, form: Form) -> Action {
        let Some(running) = pe.running.as_ref() else { return refuse(pe, FfaError::Aborted) };
        let route = match check_response(running, form) {
            Ok(route) => route,
            Err(error) => return answer(pe, Err(error)),
        };
        let Some(mut responder) = pe.running.take() else { return refuse(pe, FfaError::Aborted) };
        let target = responder.target();
        machine.park(&mut responder.ctx);
        let registers = first_18(&responder.ctx.x);
        put_back(responder.slot, State::Waiting(responder.ctx));
        match pe.chain.pop() {
            Some(mut caller) => {
                put_message(form, form.response_id(), route, &registers, &mut caller.ctx.x);
                self.resume_caller(pe, machine, caller)
            }
            // The partition that asked was stopped meanwhile; the normal world has seen its work to the end.
            None if route.destination.is_secure() && !route.destination.is_el3_logical() => {
                reply(pe, Ok([abi::FFA_MSG_WAIT, target.encode(), 0, 0, 0, 0, 0, 0]))
            }
            None => {
                put_message(form, form.response_id(), route, &registers, &mut pe.normal_world);
                if form != Form::Direct2 {
                    abi::clear_upper(&mut pe.normal_world);
                }
                Action::NormalWorld
            }
        }
    }
}

/// Whether `receiver` takes a FFA_MSG_SEND_DIRECT_REQ2 for the service whose UUID is in x2 and x3; the nil UUID means no
/// particular one.
fn accepts_request2(receiver: &Partition, x2: u64, x3: u64) -> Result<(), FfaError> {
    let uuid = uuid_from_registers(x2, x3);
    if !uuid.is_nil() && !receiver.services.iter().any(|service| service.uuid == uuid) {
        return Err(FfaError::InvalidParameters);
    }
    if !receiver.messaging.contains(MessagingMethod::DIRECT_REQ2_RECEIVE) || !receiver.is_v1_2() {
        return Err(FfaError::Denied);
    }
    Ok(())
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

/// The error for a receiver that cannot be entered. A request to a context that waits for this very call chain is a loop.
fn unavailable(pe: &Pe<'_>, receiver: &Partition, why: Unavailable) -> FfaError {
    let in_chain = |running: &Running<'_>| core::ptr::eq(running.partition, receiver);
    match why {
        Unavailable::Stopped => FfaError::Aborted,
        Unavailable::Busy if pe.chain.iter().any(in_chain) => FfaError::Denied,
        Unavailable::Busy | Unavailable::Off => FfaError::Busy,
    }
}

/// Whether the running context may respond as it does: somebody waits for it, and for a response of this form.
#[inline]
fn check_response(running: &Running<'_>, form: Form) -> Result<Route, FfaError> {
    let [_, x1, x2, x3, ..] = running.ctx.x;
    let route = Route::decode(x1);
    let Model::DirectRequest { requester, form: requested } = running.model else { return Err(FfaError::Denied) };
    if (form == Form::Direct2) != (requested == Form::Direct2) {
        return Err(FfaError::Denied);
    }
    let reserved = if form == Form::Direct2 { x2 | x3 } else { u64::from(low(x2)) };
    if reserved != 0 || route.source != running.partition.endpoint() || route.destination != requester {
        return Err(FfaError::InvalidParameters);
    }
    Ok(route)
}

/// The first 18 of a context's registers.
#[inline]
fn first_18(x: &[u64; 31]) -> SmcRegisters {
    x.first_chunk().copied().unwrap_or([0; 18])
}

/// Writes a message as its receiver gets it. A 32- or 64-bit message has x0-x7, and x8 and above stay the receiver's.
#[inline]
fn put_message(form: Form, id: u64, route: Route, from: &SmcRegisters, to: &mut [u64]) {
    let [_, _, x2, x3, x4, x5, x6, x7, ..] = *from;
    let words = |value: u64| u64::from(low(value));
    match form {
        Form::Direct32 => abi::put(
            to,
            [id, route.encode(), words(x2), words(x3), words(x4), words(x5), words(x6), words(x7)],
        ),
        Form::Direct64 => abi::put(to, [id, route.encode(), words(x2), x3, x4, x5, x6, x7]),
        Form::Direct2 => {
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
            for (to, value) in to.iter_mut().zip([id, route.encode()]) {
                *to = value;
            }
        }
    }
}

/// Which context of a partition a request from `pe` reaches, as FFA_RUN would name it.
#[must_use]
pub(crate) fn is_pinned_elsewhere(pe: &Pe<'_>, partition: &Partition, vcpu: VcpuIndex) -> bool {
    partition.vcpu_on(pe.index) != vcpu
}
