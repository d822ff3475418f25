//! The reference: as little as possible, and nothing of the policy's code.

use tantalum_core::{abi::Form, machine::fake::Owner};

use crate::operation::Operation;

const NOT_SUPPORTED: i32 = -1;
const INVALID_PARAMETERS: i32 = -2;
const BUSY: i32 = -4;
const DENIED: i32 = -6;
const ABORTED: i32 = -8;

/// What a context was given cycles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Init,
    Run,
    Request { requester: u16, wide: bool },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Off,
    Waiting,
    /// On a PE, running or blocked on what it called there.
    OnPe,
    /// Until the context `resumer` (partition, vCPU), or with `None` the normal world, calls FFA_RUN.
    Suspended {
        work: Work,
        yielded: bool,
        resumer: Option<(u16, u16)>,
    },
}

#[derive(Clone, Debug)]
struct Context {
    state: State,
    /// x0-x17 that it will find when it runs next.
    x: [u64; 18],
}

#[derive(Clone, Debug)]
struct Partition {
    pinned: bool,
    queued: bool,
    ready: bool,
    stopped: bool,
    contexts: Vec<Context>,
}

/// A context on a PE.
#[derive(Clone, Copy, Debug)]
struct Frame {
    partition: u16,
    vcpu: u16,
    work: Work,
    masked: bool,
}

#[derive(Clone, Debug, Default)]
struct Pe {
    on: bool,
    /// The next partition to initialise.
    booting: Option<usize>,
    /// Who called whom; the last one runs. Empty: the normal world.
    stack: Vec<Frame>,
    normal_world: [u64; 18],
}

/// How a partition of the reference is to be.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub pinned: bool,
    pub queued: bool,
}

/// The reference model.
#[derive(Clone, Debug)]
pub struct Reference {
    partitions: Vec<Partition>,
    pes: Vec<Pe>,
    booted: bool,
}

fn target(partition: u16, vcpu: u16) -> u64 {
    u64::from(partition) << 16 | u64::from(vcpu)
}

fn error(code: i32) -> [u64; 8] {
    [0x8400_0060, 0, u64::from(code.cast_unsigned()), 0, 0, 0, 0, 0]
}

fn is_el3(id: u16) -> bool {
    (0xffc0..0xffff).contains(&id)
}

impl Reference {
    pub fn new(pes: usize, kinds: &[Kind]) -> Self {
        let partition = |kind: &Kind| {
            let context = Context {
                state: State::Off,
                x: [0; 18],
            };
            let contexts = vec![context; if kind.pinned { pes } else { 1 }];
            Partition {
                pinned: kind.pinned,
                queued: kind.queued,
                ready: false,
                stopped: false,
                contexts,
            }
        };
        Self {
            partitions: kinds.iter().map(partition).collect(),
            pes: vec![Pe::default(); pes],
            booted: false,
        }
    }

    /// Who has the PE, and x0-x17 that it finds.
    pub fn expected(&self, pe: usize) -> (Owner, [u64; 18]) {
        let pe = &self.pes[pe];
        match pe.stack.last() {
            _ if !pe.on => (Owner::Off, [0; 18]),
            None => (Owner::NormalWorld, pe.normal_world),
            Some(frame) => (
                Owner::Partition(frame.partition, frame.vcpu),
                self.context(frame.partition, frame.vcpu).x,
            ),
        }
    }

    pub fn is_on(&self, pe: usize) -> bool {
        self.pes[pe].on
    }

    /// Whether the first PE has initialised all partitions.
    pub fn has_booted(&self) -> bool {
        self.booted
    }

    /// Whether the normal world has the PE.
    pub fn in_normal_world(&self, pe: usize) -> bool {
        self.pes[pe].on && self.pes[pe].stack.is_empty()
    }

    /// The partition that runs on the PE, and whom it is to respond to, in which form.
    pub fn running(&self, pe: usize) -> Option<(u16, Option<(u16, bool)>)> {
        let frame = self.pes[pe].stack.last()?;
        let owes = match frame.work {
            Work::Request { requester, wide } => Some((requester, wide)),
            Work::Init | Work::Run => None,
        };
        Some((frame.partition, owes))
    }

    fn partition(&self, id: u16) -> Option<&Partition> {
        self.partitions.get(usize::from(id.checked_sub(0x8001)?))
    }

    fn partition_mut(&mut self, id: u16) -> &mut Partition {
        &mut self.partitions[usize::from(id - 0x8001)]
    }

    fn context(&self, id: u16, vcpu: u16) -> &Context {
        &self.partition(id).expect("a partition").contexts[usize::from(vcpu)]
    }

    fn context_mut(&mut self, id: u16, vcpu: u16) -> &mut Context {
        &mut self.partition_mut(id).contexts[usize::from(vcpu)]
    }

    /// `operation` happens on `pe`; `x` are the registers of whoever has it.
    pub fn step(&mut self, pe: usize, operation: Operation, x: &[u64; 18]) {
        match operation {
            Operation::Online => self.online(pe),
            Operation::Offline => self.offline(pe),
            _ if self.pes[pe].stack.is_empty() => self.normal_world_call(pe, operation, x),
            _ => self.exit(pe, operation, x),
        }
    }

    fn online(&mut self, pe: usize) {
        self.pes[pe] = Pe {
            on: true,
            booting: Some(0),
            ..Pe::default()
        };
        self.boot_next(pe);
    }

    fn boot_next(&mut self, pe: usize) {
        let first = self.pes[pe].booting.expect("the PE comes up");
        for index in first..self.partitions.len() {
            let partition = &self.partitions[index];
            let vcpu = if partition.pinned { pe } else { 0 };
            let wanted = if self.booted {
                partition.ready && partition.pinned
            } else {
                true
            };
            if !wanted || partition.stopped || partition.contexts[vcpu].state != State::Off {
                continue;
            }
            let (id, vcpu) = (
                0x8001 + u16::try_from(index).expect("few"),
                u16::try_from(vcpu).expect("few"),
            );
            let context = self.context_mut(id, vcpu);
            context.state = State::OnPe;
            context.x = [0; 18];
            context.x[4] = u64::from(vcpu);
            self.pes[pe].booting = Some(index + 1);
            self.pes[pe].stack.push(Frame {
                partition: id,
                vcpu,
                work: Work::Init,
                masked: true,
            });
            return;
        }
        self.pes[pe].booting = None;
        self.booted = true;
        self.answer_normal_world(pe, [0x8400_006b, 0, 0, 0, 0, 0, 0, 0]);
    }

    fn offline(&mut self, pe: usize) {
        self.pes[pe] = Pe::default();
        let gone = u16::try_from(pe).expect("few");
        for partition in self.partitions.iter_mut().filter(|partition| partition.pinned) {
            let context = &mut partition.contexts[pe];
            if context.state != State::OnPe {
                context.state = State::Off;
            }
        }
        let pinned: Vec<bool> = self.partitions.iter().map(|partition| partition.pinned).collect();
        for partition in self.partitions.iter_mut().filter(|partition| !partition.pinned) {
            if let State::Suspended { resumer, .. } = &mut partition.contexts[0].state
                && resumer.is_some_and(|(id, vcpu)| vcpu == gone && pinned[usize::from(id - 0x8001)])
            {
                *resumer = None;
            }
        }
    }

    fn answer_normal_world(&mut self, pe: usize, x: [u64; 8]) {
        self.pes[pe].normal_world[..8].copy_from_slice(&x);
    }

    fn normal_world_call(&mut self, pe: usize, operation: Operation, x: &[u64; 18]) {
        self.pes[pe].normal_world = *x;
        let result = match operation {
            Operation::Request { source, .. } if source >= 0x8000 && !is_el3(source) => Err(INVALID_PARAMETERS),
            Operation::Request {
                form,
                source,
                destination,
            } => self.request(pe, form, source, destination, false, x),
            Operation::Run { partition, vcpu } => self.resume(pe, partition, vcpu, None, false),
            Operation::Response { .. } => Err(DENIED),
            Operation::IdGet => {
                self.answer_normal_world(pe, [0x8400_0061, 0, 0, 0, 0, 0, 0, 0]);
                Ok(())
            }
            _ => Err(NOT_SUPPORTED),
        };
        if let Err(code) = result {
            self.answer_normal_world(pe, error(code));
        }
    }

    fn vcpu_on(&self, pe: usize, partition: u16) -> u16 {
        let pinned = self.partition(partition).is_some_and(|partition| partition.pinned);
        if pinned { u16::try_from(pe).expect("few") } else { 0 }
    }

    fn masks(&self, partition: u16, work: Work, caller: bool) -> bool {
        let el3 = matches!(work, Work::Request { requester, .. } if is_el3(requester));
        caller || el3 || self.partition(partition).is_some_and(|partition| partition.queued)
    }

    fn request(
        &mut self,
        pe: usize,
        form: Form,
        source: u16,
        destination: u16,
        masked: bool,
        x: &[u64; 18],
    ) -> Result<(), i32> {
        let receiver = self.partition(destination).ok_or(INVALID_PARAMETERS)?;
        if receiver.stopped {
            return Err(ABORTED);
        }
        let vcpu = self.vcpu_on(pe, destination);
        if self.context(destination, vcpu).state != State::Waiting {
            let callers = self.pes[pe].stack.iter().rev().skip(1);
            let waits = callers.into_iter().any(|frame| frame.partition == destination);
            return Err(if waits { DENIED } else { BUSY });
        }
        let work = Work::Request {
            requester: source,
            wide: form == Form::Direct2,
        };
        let masked = self.masks(destination, work, masked);
        let context = self.context_mut(destination, vcpu);
        context.state = State::OnPe;
        message(form, form.request_id(), source, destination, x, &mut context.x);
        self.pes[pe].stack.push(Frame {
            partition: destination,
            vcpu,
            work,
            masked,
        });
        Ok(())
    }

    fn resume(&mut self, pe: usize, id: u16, vcpu: u16, by: Option<(u16, u16)>, masked: bool) -> Result<(), i32> {
        let partition = self.partition(id).ok_or(INVALID_PARAMETERS)?;
        if usize::from(vcpu) >= partition.contexts.len() || partition.pinned && usize::from(vcpu) != pe {
            return Err(INVALID_PARAMETERS);
        }
        if partition.stopped {
            return Err(ABORTED);
        }
        let work = match self.context(id, vcpu).state {
            State::OnPe => return Err(BUSY),
            State::Waiting if by.is_none() => {
                self.context_mut(id, vcpu).x[..8].copy_from_slice(&[0x8400_006d, target(id, vcpu), 0, 0, 0, 0, 0, 0]);
                Work::Run
            }
            State::Suspended { work, yielded, resumer } => {
                // The one that may resume it was stopped, or has ended its own work.
                let orphan = resumer.is_some_and(|(id, vcpu)| {
                    let idle = matches!(self.context(id, vcpu).state, State::Off | State::Waiting);
                    idle || self.partition(id).is_some_and(|partition| partition.stopped)
                });
                if resumer != by && !(orphan && by.is_none()) {
                    return Err(DENIED);
                }
                if yielded {
                    self.context_mut(id, vcpu).x[..8].copy_from_slice(&[0x8400_0061, 0, 0, 0, 0, 0, 0, 0]);
                }
                work
            }
            State::Off | State::Waiting => return Err(DENIED),
        };
        let masked = self.masks(id, work, masked);
        self.context_mut(id, vcpu).state = State::OnPe;
        self.pes[pe].stack.push(Frame {
            partition: id,
            vcpu,
            work,
            masked,
        });
        Ok(())
    }

    /// The context that runs on `pe` stops running, with `x`.
    fn exit(&mut self, pe: usize, operation: Operation, x: &[u64; 18]) {
        let frame = *self.pes[pe].stack.last().expect("a partition runs");
        let Frame {
            partition: id,
            vcpu,
            work,
            masked,
        } = frame;
        self.context_mut(id, vcpu).x = *x;
        if self.partition(id).is_some_and(|partition| partition.stopped) {
            return self.unwind(pe);
        }
        let me = Some((id, vcpu));
        let result = match operation {
            Operation::IdGet => {
                self.context_mut(id, vcpu).x[..8].copy_from_slice(&[0x8400_0061, 0, u64::from(id), 0, 0, 0, 0, 0]);
                Ok(())
            }
            Operation::Irq => Ok(()),
            Operation::Fiq if masked => Ok(()),
            Operation::Fiq => {
                self.suspend(pe, work, false, [0x8400_0062, target(id, vcpu), 0, 0, 0, 0, 0, 0]);
                Ok(())
            }
            Operation::Yield if work == Work::Init => Err(DENIED),
            Operation::Yield if matches!(work, Work::Request { requester, .. } if is_el3(requester)) => Err(DENIED),
            Operation::Yield => {
                self.suspend(pe, work, true, [0x8400_006c, target(id, vcpu), 0, 0, 0, 0, 0, 0]);
                Ok(())
            }
            Operation::Request {
                source, destination, ..
            } if source != id || destination == id => Err(INVALID_PARAMETERS),
            Operation::Request {
                form,
                source,
                destination,
            } => self.request(pe, form, source, destination, masked, x),
            Operation::Run { partition, .. } if partition == id => Err(INVALID_PARAMETERS),
            Operation::Run { .. } if work == Work::Init => Err(DENIED),
            Operation::Run { partition, vcpu } => self.resume(pe, partition, vcpu, me, masked),
            Operation::Response {
                form,
                source,
                destination,
            } => self.response(pe, form, source, destination, x),
            Operation::Wait => match work {
                Work::Request { .. } => Err(DENIED),
                Work::Init => {
                    self.partition_mut(id).ready = true;
                    self.leave(pe, State::Waiting);
                    self.boot_next(pe);
                    Ok(())
                }
                Work::Run => {
                    self.leave(pe, State::Waiting);
                    self.answer_normal_world(pe, [0x8400_006b, target(id, vcpu), 0, 0, 0, 0, 0, 0]);
                    Ok(())
                }
            },
            Operation::Error if work != Work::Init => Err(NOT_SUPPORTED),
            Operation::Error | Operation::Abort | Operation::SError => {
                self.partition_mut(id).stopped = true;
                self.unwind(pe);
                Ok(())
            }
            Operation::Online | Operation::Offline => panic!("not while a partition runs"),
        };
        if let Err(code) = result {
            self.context_mut(id, vcpu).x[..8].copy_from_slice(&error(code));
        }
    }

    /// The context that runs on `pe` leaves it.
    fn leave(&mut self, pe: usize, state: State) {
        let frame = self.pes[pe].stack.pop().expect("a partition runs");
        self.context_mut(frame.partition, frame.vcpu).state = state;
    }

    fn response(&mut self, pe: usize, form: Form, source: u16, destination: u16, x: &[u64; 18]) -> Result<(), i32> {
        let frame = *self.pes[pe].stack.last().expect("a partition runs");
        let Work::Request { requester, wide } = frame.work else {
            return Err(DENIED);
        };
        if wide != (form == Form::Direct2) {
            return Err(DENIED);
        }
        if source != frame.partition || destination == source {
            return Err(INVALID_PARAMETERS);
        }
        if destination != requester {
            return Err(DENIED);
        }
        self.leave(pe, State::Waiting);
        match self.pes[pe].stack.last().copied() {
            Some(caller) => {
                assert_eq!(caller.partition, requester, "the caller is who asked");
                let to = &mut self.context_mut(caller.partition, caller.vcpu).x;
                message(form, form.response_id(), source, destination, x, to);
                self.go_on(pe);
            }
            None if requester >= 0x8000 && !is_el3(requester) => {
                let x = [0x8400_006b, target(frame.partition, frame.vcpu), 0, 0, 0, 0, 0, 0];
                self.answer_normal_world(pe, x);
            }
            None => {
                let to = &mut self.pes[pe].normal_world;
                if form == Form::Direct64 && to[0] & 1 << 30 == 0 {
                    to[8..].fill(0);
                }
                message(form, form.response_id(), source, destination, x, to);
            }
        }
        Ok(())
    }

    fn suspend(&mut self, pe: usize, work: Work, yielded: bool, x: [u64; 8]) {
        let resumer = self.pes[pe]
            .stack
            .iter()
            .rev()
            .nth(1)
            .map(|frame| (frame.partition, frame.vcpu));
        self.leave(pe, State::Suspended { work, yielded, resumer });
        match resumer {
            Some((id, vcpu)) => {
                self.context_mut(id, vcpu).x[..8].copy_from_slice(&x);
                self.go_on(pe);
            }
            None => self.answer_normal_world(pe, x),
        }
    }

    /// The caller goes on; one that was stopped meanwhile leaves, too.
    fn go_on(&mut self, pe: usize) {
        let caller = self.pes[pe].stack.last().expect("a caller").partition;
        if self.partition(caller).is_some_and(|partition| partition.stopped) {
            self.unwind(pe);
        }
    }

    /// The context that runs on `pe` is stopped: the next one outward that is not gets ABORTED.
    fn unwind(&mut self, pe: usize) {
        while let Some(frame) = self.pes[pe].stack.last().copied() {
            if !self
                .partition(frame.partition)
                .is_some_and(|partition| partition.stopped)
            {
                self.context_mut(frame.partition, frame.vcpu).x[..8].copy_from_slice(&error(ABORTED));
                return;
            }
            self.leave(pe, State::Off);
        }
        if self.pes[pe].booting.is_some() {
            self.boot_next(pe);
        } else {
            self.answer_normal_world(pe, error(ABORTED));
        }
    }
}

/// A message as its receiver finds it.
fn message(form: Form, id: u64, source: u16, destination: u16, from: &[u64; 18], to: &mut [u64; 18]) {
    let route = u64::from(source) << 16 | u64::from(destination);
    match form {
        Form::Direct32 => {
            to[2] = 0;
            for n in 3..8 {
                to[n] = from[n] & 0xffff_ffff;
            }
        }
        Form::Direct64 => {
            to[2] = 0;
            to[3..8].copy_from_slice(&from[3..8]);
        }
        Form::Direct2 => *to = *from,
    }
    to[0] = id;
    to[1] = route;
}
