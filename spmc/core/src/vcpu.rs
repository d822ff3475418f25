//! Execution contexts (vCPUs): where their registers are and what they are doing.

use alloc::boxed::Box;
use spin::mutex::{TicketMutex, TicketMutexGuard};

use crate::{
    abi::{FRAMEWORK_MESSAGE, Form, Target},
    context::Context,
    id::{EndpointId, PeIndex},
    interrupt::VirtualInterrupts,
};

/// Runtime model of a context that has been given cycles (FF-A 1.2, chapter 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Model {
    /// SP_INIT: first run, ends with FFA_MSG_WAIT or FFA_ERROR.
    Init,
    /// Cycles by FFA_RUN from the normal world, ends with FFA_MSG_WAIT.
    Run,
    /// A direct request of `requester`, ends with the response of the same form.
    DirectRequest {
        /// Who waits for the response.
        requester: EndpointId,
        /// Which call it was.
        form: Form,
    },
    /// SEC_INTERRUPT: run by the SPMC for a secure interrupt while it waited, ends with FFA_MSG_WAIT.
    SecureInterrupt,
    /// A framework message, ends with the response to it.
    Framework(Framework),
}

/// Framework messages that a partition answers (FF-A 1.2, chapter 18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framework {
    /// The PE's power changes; from the SPMC.
    Power,
    /// A VM was created; from the hypervisor.
    VmCreated,
    /// A VM is destroyed; from the hypervisor.
    VmDestroyed,
}

bitflags::bitflags! {
    /// Calls by which a running context gives the PE up, or on. All others end at once, in any model.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Moves: u8 {
        /// FFA_MSG_WAIT: to WAITING.
        const WAIT = 1 << 0;
        /// FFA_MSG_SEND_DIRECT_RESP and RESP2: to WAITING.
        const RESPOND = 1 << 1;
        /// FFA_YIELD: to BLOCKED.
        const YIELD = 1 << 2;
        /// FFA_RUN: BLOCKED until the other context gives the PE back.
        const RUN = 1 << 3;
        /// FFA_MSG_SEND_DIRECT_REQ and REQ2: BLOCKED until the response.
        const REQUEST = 1 << 4;
        /// FFA_ERROR: to the end of its partition.
        const FAIL = 1 << 5;
    }
}

impl Model {
    /// What a context may do in this model: the tables of FF-A 1.2, chapter 8. Elsewhere it gets DENIED, and NOT_SUPPORTED
    /// for FFA_ERROR.
    ///
    /// Who waits for a response and nothing else (EL3's logical partitions, the SPMC with a power message) does not get
    /// FFA_YIELD. A framework message is a direct request in all other respects.
    #[must_use]
    pub const fn moves(self) -> Moves {
        let calls = Moves::REQUEST.union(Moves::RUN);
        match self {
            Self::Init => Moves::WAIT.union(Moves::REQUEST).union(Moves::FAIL),
            Self::Run => calls.union(Moves::WAIT).union(Moves::YIELD),
            Self::DirectRequest { requester, .. } if requester.is_el3_logical() => calls.union(Moves::RESPOND),
            Self::Framework(Framework::Power) => calls.union(Moves::RESPOND),
            Self::DirectRequest { .. } | Self::Framework(_) => calls.union(Moves::RESPOND).union(Moves::YIELD),
            Self::SecureInterrupt => calls.union(Moves::WAIT),
        }
    }

    /// Whether a context may do one thing in this model.
    #[must_use]
    pub const fn allows(self, one: Moves) -> bool {
        self.moves().contains(one)
    }
}

// A response needs to know who waits for it, and a request is allowed to all: both are on the way of every message.
const _: () = assert!(Model::Init.allows(Moves::REQUEST) && Model::SecureInterrupt.allows(Moves::REQUEST));

impl Framework {
    /// Who waits for the response.
    #[must_use]
    pub const fn requester(self) -> EndpointId {
        match self {
            Self::Power => EndpointId::SPMC,
            Self::VmCreated | Self::VmDestroyed => EndpointId::HYPERVISOR,
        }
    }

    /// w2 of the response.
    #[must_use]
    pub const fn response(self) -> u32 {
        FRAMEWORK_MESSAGE
            | match self {
                Self::Power => 2,
                Self::VmCreated => 5,
                Self::VmDestroyed => 7,
            }
    }
}

/// Why a suspended context does not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suspension {
    /// An interrupt of the normal world took its PE (state PREEMPTED).
    Preempted,
    /// It called FFA_YIELD (state BLOCKED).
    Yielded,
}

/// Where the register file of an execution context is, and in which state of FF-A's state machine it stands.
#[derive(Debug)]
pub enum State {
    /// Not started: before boot, or its PE is off.
    Off(Box<Context>),
    /// WAITING for a message or for cycles.
    Waiting(Box<Context>),
    /// RUNNING, or BLOCKED on a context that it called: its registers are with that PE.
    OnPe(PeIndex),
    /// PREEMPTED or BLOCKED, until `resumer` calls FFA_RUN.
    Suspended {
        /// Its registers.
        ctx: Box<Context>,
        /// What it was doing.
        model: Model,
        /// Why it stopped.
        why: Suspension,
        /// Who may resume it: the normal world (any of its VMs and PEs), or the context that it works for.
        resumer: Target,
    },
    /// Its partition was stopped; the registers are kept to be scrubbed or started afresh.
    Stopped(Box<Context>),
}

/// One execution context of a partition.
///
/// Lock order: a slot's lock is a leaf, and no two slots are locked at a time. It is held for a few instructions and
/// never across an ERET or an SMC. The slot of a pinned context is locked by its own PE, and by those that raise an
/// interrupt for it.
#[derive(Debug)]
pub struct Slot {
    state: TicketMutex<State>,
    /// Its virtual interrupts.
    pub interrupts: VirtualInterrupts,
}

impl Slot {
    /// The slot of a context that was not started.
    #[must_use]
    pub fn new(ctx: Box<Context>) -> Self {
        Self {
            state: TicketMutex::new(State::Off(ctx)),
            interrupts: VirtualInterrupts::default(),
        }
    }

    /// The state, for a few instructions.
    #[inline(always)]
    pub fn lock(&self) -> TicketMutexGuard<'_, State> {
        self.state.lock()
    }
}

/// Why a context could not be taken to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// It runs, is blocked or preempted.
    Busy,
    /// It was never started, or its PE is off.
    Off,
    /// Its partition was stopped.
    Stopped,
}

/// Takes the registers out of a context that waits; it is on `pe` then.
///
/// # Errors
/// Why it could not be taken; it is unchanged then.
#[inline(always)]
pub fn take_waiting(slot: &Slot, pe: PeIndex) -> Result<Box<Context>, Unavailable> {
    let mut state = slot.lock();
    if !matches!(*state, State::Waiting(_)) {
        return Err(why_unavailable(&state));
    }
    match core::mem::replace(&mut *state, State::OnPe(pe)) {
        State::Waiting(ctx) => Ok(ctx),
        // Cannot be, as it was just looked at.
        _ => Err(Unavailable::Busy),
    }
}

#[cold]
#[inline(never)]
const fn why_unavailable(state: &State) -> Unavailable {
    match state {
        State::Off(_) => Unavailable::Off,
        State::Stopped(_) => Unavailable::Stopped,
        State::OnPe(_) | State::Suspended { .. } | State::Waiting(_) => Unavailable::Busy,
    }
}

/// Puts the registers of a context that was on a PE back.
#[inline(always)]
pub fn put_back(slot: &Slot, state: State) {
    let mut slot = slot.lock();
    debug_assert!(matches!(*slot, State::OnPe(_)));
    // What was there holds no registers: nothing to drop.
    core::mem::forget(core::mem::replace(&mut *slot, state));
}
