//! An SPMC with its PEs: events in, registers out.

use alloc::{string::String, vec, vec::Vec};
use core::fmt::Write as _;
use std::{boxed::Box, collections::BTreeMap};

use crate::{
    abi,
    context::{Context, El1Registers},
    machine::{
        NO_DEADLINE, SmcRegisters,
        fake::{FakeMachine, what_is_wrong},
    },
    spmc::{Action, Event, Exit, Pe, Spmc},
    vcpu::{Model, State},
    watch::{NO_LIMIT, SLICES},
};

/// Marks a value as `owner`'s (a partition's id, or 0 for the normal world), in both halves of the register.
#[must_use]
pub const fn taint(owner: u16, register: usize) -> u64 {
    let half = 0xfa00_0000 | ((owner & 0xff) as u64) << 16 | (register & 0xffff) as u64;
    half << 32 | half
}

/// Whose mark a value bears in one of its halves: the low byte of the id.
#[must_use]
pub const fn taint_owner(value: u64) -> Option<u8> {
    let high = value >> 32;
    if value >> 24 & 0xff == 0xfa {
        Some((value >> 16 & 0xff) as u8)
    } else if high >> 24 == 0xfa {
        Some((high >> 16 & 0xff) as u8)
    } else {
        None
    }
}

/// Who has a PE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Nobody.
    Off,
    /// The normal world.
    NormalWorld,
    /// A context of a partition.
    Partition(u16, u16),
}

/// An SPMC, its PEs and the machine. Every step checks that
/// * the policy's invariants hold,
/// * a context finds x18-x30 as it left them, and x8-x17 unless the call that returns defines them,
/// * nobody sees a value that bears another's [`taint`],
/// * the decoder of `arm-ffa` takes every result that the normal world gets.
#[derive(Debug)]
pub struct System<'s> {
    /// The SPMC.
    pub spmc: &'s Spmc,
    /// The machine.
    pub machine: FakeMachine,
    pub(super) pes: Vec<Pe<'s>>,
    pub(super) owners: Vec<Owner>,
    /// Registers of contexts as they left them.
    pub(super) left: BTreeMap<(u16, u16), Box<[u64; 31]>>,
    el3_calls: usize,
    steps: usize,
    checking: bool,
}

impl<'s> System<'s> {
    /// All PEs are off.
    #[must_use]
    pub fn new(spmc: &'s Spmc, machine: FakeMachine) -> Self {
        let pes: Vec<_> = spmc.cpus().iter().filter_map(|cpu| spmc.pe(cpu.as_u64())).collect();
        let owners = vec![Owner::Off; pes.len()];
        Self {
            spmc,
            machine,
            pes,
            owners,
            left: BTreeMap::new(),
            el3_calls: 0,
            steps: 0,
            checking: true,
        }
    }

    /// All PEs are on, one after the other, and all contexts have called FFA_MSG_WAIT.
    #[must_use]
    pub fn booted(spmc: &'s Spmc, machine: FakeMachine) -> Self {
        let mut system = Self::new(spmc, machine);
        for pe in 0..system.pes.len() {
            system.boot(pe);
        }
        system
    }

    /// Turns a PE on; its contexts call FFA_MSG_WAIT.
    pub fn boot(&mut self, pe: usize) {
        self.online(pe);
        while self.owner(pe) != Owner::NormalWorld {
            if self.ctx(pe).pstate & 0xf == 0 {
                self.svc(pe, &[abi::FFA_MSG_WAIT]);
            } else {
                self.smc(pe, &[abi::FFA_MSG_WAIT]);
            }
        }
    }

    /// Turns a PE on.
    pub fn online(&mut self, pe: usize) -> Owner {
        assert_eq!(self.owner(pe), Owner::Off);
        self.step(pe, Event::Online)
    }

    /// Turns a PE off, as the SPMD does.
    pub fn turn_off(&mut self, pe: usize) {
        self.nwd(pe, &[0x8400_006f, 0xffff_8000, 0x8000_0000, 0x8400_0002]);
        // Partitions that want to know agree.
        while let Owner::Partition(id, _) = self.owner(pe) {
            self.smc(pe, &[0x8400_0070, u64::from(id) << 16 | 0x8000, 0x8000_0002, 0]);
        }
        self.went_off(pe);
    }

    /// The SPMD, which was told that the PE may go off, has turned it off.
    pub fn went_off(&mut self, pe: usize) {
        assert_eq!(self.regs(pe), [0x8400_0070, 0x8000_ffff, 0x8000_0002, 0, 0, 0, 0, 0]);
        self.owners[pe] = Owner::Off;
        self.machine.set_current(pe);
        self.machine.turn_off();
    }

    /// Whether steps check anything (at first they do).
    pub fn set_checking(&mut self, checking: bool) {
        self.checking = checking;
    }

    /// The state of the policy without the contents of registers: equal for states that behave alike.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut text = String::new();
        for pe in &self.pes {
            let _ = write!(
                text,
                "{:?} {:?} {:?}",
                self.owners[pe.index().index()],
                pe.booting,
                pe.attention
            );
            for running in pe.chain.iter().chain(&pe.running) {
                let masked = running.ctx.mask_ns_interrupts;
                let _ = write!(
                    text,
                    "[{} {} {:?} {masked}]",
                    running.partition.id, running.vcpu, running.model
                );
            }
            text.push('\n');
        }
        for partition in self.spmc.partitions() {
            let _ = write!(text, "{:?} {:?}", partition.health(), partition.version());
            for slot in &partition.slots {
                let _ = write!(text, "{:x?}", slot.interrupts);
                let _ = match &*slot.lock() {
                    State::Off(_) => write!(text, "[off]"),
                    State::Waiting(_) => write!(text, "[waiting]"),
                    State::OnPe(pe) => write!(text, "[on {pe}]"),
                    State::Suspended {
                        model, why, resumer, ..
                    } => write!(text, "[{model:?} {why:?} {resumer:?}]"),
                    State::Stopped(_) => write!(text, "[stopped]"),
                };
            }
            text.push('\n');
        }
        text
    }

    /// What the context that runs on `pe` is doing.
    #[must_use]
    pub fn model(&self, pe: usize) -> Option<Model> {
        Some(self.pes[pe].running.as_ref()?.model)
    }

    /// Whom the context that runs on `pe` owes a response.
    #[must_use]
    pub fn owes(&self, pe: usize) -> Option<u16> {
        match self.model(pe)? {
            Model::DirectRequest { requester, .. } => Some(requester.as_u16()),
            _ => None,
        }
    }

    /// How many PEs there are.
    #[must_use]
    pub fn pe_count(&self) -> usize {
        self.pes.len()
    }

    /// Who has a PE.
    #[must_use]
    pub fn owner(&self, pe: usize) -> Owner {
        self.owners[pe]
    }

    /// Steps that were taken.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// A call of the normal world. What is left out of x0-x7 is 0, of x8-x17 the normal world's taint.
    pub fn nwd(&mut self, pe: usize, registers: &[u64]) -> Owner {
        assert_eq!(self.owner(pe), Owner::NormalWorld);
        fill(&mut self.pes[pe].normal_world, registers, 0);
        self.step(pe, Event::NormalWorld)
    }

    /// An SMC by the context that runs on `pe`. What is left out of x0-x7 is 0, of x8-x30 the partition's taint.
    pub fn smc(&mut self, pe: usize, registers: &[u64]) -> Owner {
        self.load(pe, registers);
        self.exit(
            pe,
            Exit::Synchronous {
                esr: 0x17 << 26 | 1 << 25,
                far: 0,
                hpfar: 0,
            },
        )
    }

    /// An HVC by the context that runs on `pe`.
    pub fn hvc(&mut self, pe: usize, registers: &[u64]) -> Owner {
        self.load(pe, registers);
        let ctx = self.ctx(pe);
        ctx.pc = ctx.pc.wrapping_add(4);
        self.exit(
            pe,
            Exit::Synchronous {
                esr: 0x16 << 26 | 1 << 25,
                far: 0,
                hpfar: 0,
            },
        )
    }

    /// An SVC by the context that runs on `pe`, of a partition at S-EL0: what the vectors make of it.
    pub fn svc(&mut self, pe: usize, registers: &[u64]) -> Owner {
        self.load(pe, registers);
        self.el0_exception(pe, 0x15 << 26 | 1 << 25, 0)
    }

    /// The context that runs on `pe`, of a partition at S-EL0, takes an exception to its EL1, with this syndrome and fault
    /// address: what the vectors make of it.
    pub fn el0_exception(&mut self, pe: usize, esr: u64, far: u64) -> Owner {
        const SVC: u64 = 0x15;
        let is_call = esr >> 26 & 0x3f == SVC;
        self.back_to_el0(pe);
        let (pc, pstate) = (self.ctx(pe).pc, self.ctx(pe).pstate);
        assert_eq!(pstate & 0xf, 0, "the context is at EL0");
        let el1 = self.el1(pe);
        (el1.esr, el1.far, el1.spsr) = (esr, far, pstate);
        el1.elr = if is_call { pc.wrapping_add(4) } else { pc };
        let vector = el1.vbar + 0x400;
        let ctx = self.ctx(pe);
        (ctx.pc, ctx.pstate) = (vector + 0x20, 0x3c5);
        let esr = 0x16 << 26 | 1 << 25 | u64::from(!is_call);
        self.exit(pe, Exit::Synchronous { esr, far: 0, hpfar: 0 })
    }

    /// Lets the vectors return to EL0 if they run.
    pub fn back_to_el0(&mut self, pe: usize) {
        if self.ctx(pe).pstate & 0xf != 0 {
            let (elr, spsr) = (self.el1(pe).elr, self.el1(pe).spsr);
            let ctx = self.ctx(pe);
            (ctx.pc, ctx.pstate) = (elr, spsr);
        }
    }

    /// Fills the registers of the context that runs on `pe`, as [`System::smc`] does.
    pub fn load(&mut self, pe: usize, registers: &[u64]) {
        let Owner::Partition(id, _) = self.owner(pe) else {
            panic!("no partition runs on PE {pe}")
        };
        fill(&mut self.ctx(pe).x, registers, id);
    }

    /// The context that runs on `pe` stops running.
    pub fn exit(&mut self, pe: usize, exit: Exit) -> Owner {
        let Owner::Partition(id, vcpu) = self.owner(pe) else {
            panic!("no partition runs on PE {pe}")
        };
        let x = self.ctx(pe).x;
        self.left.insert((id, vcpu), Box::new(x));
        if let Exit::Synchronous { esr, .. } = exit
            && matches!(esr >> 26 & 0x3f, 0x18 | 0x24)
        {
            // An emulated access may change any register.
            self.left.remove(&(id, vcpu));
        }
        self.step(pe, Event::Exit(exit))
    }

    /// One step of the policy, and what it wants done.
    pub fn step(&mut self, pe: usize, event: Event) -> Owner {
        self.steps += 1;
        let function = self.all(pe)[0];
        self.machine.set_current(pe);
        self.el3_calls = self.machine.pe(pe).el3_calls.len();
        match self.spmc.handle(&mut self.pes[pe], &mut self.machine, event) {
            Action::Run => {
                let policy = &mut self.pes[pe];
                let running = policy.running.as_mut().expect("the policy names the context to run");
                let owner = Owner::Partition(running.partition.id.as_u16(), running.vcpu.as_u16());
                self.machine.enter(&mut running.ctx);
                self.owners[pe] = owner;
            }
            Action::NormalWorld => {
                self.machine.leave();
                self.owners[pe] = Owner::NormalWorld;
            }
        }
        if !self.checking {
            return self.owners[pe];
        }
        self.check_registers(pe);
        if let Err(what) = self.spmc.check_invariants(&self.pes) {
            panic!("after {event:x?} on PE {pe}: {what}");
        }
        self.check_watchdog(pe);
        // Slower, and what changes it is rare.
        if self.steps.is_multiple_of(16) || changes_memory(function) {
            self.check_memory();
        }
        self.owners[pe]
    }

    /// x0-x7 of whoever has the PE.
    #[must_use]
    pub fn regs(&self, pe: usize) -> [u64; 8] {
        *self.all(pe).first_chunk().expect("18 registers")
    }

    /// x8-x17 as [`System::nwd`] gives them to the SPMC, and gets them back with a result of eight registers.
    #[must_use]
    pub fn upper_of_the_normal_world() -> [u64; 10] {
        let mut registers: SmcRegisters = [0; 18];
        fill(&mut registers, &[], 0);
        *registers.last_chunk().expect("18 registers")
    }

    /// x0-x17 of whoever has the PE.
    #[must_use]
    pub fn all(&self, pe: usize) -> SmcRegisters {
        match &self.pes[pe].running {
            Some(running) => *running.ctx.x.first_chunk().expect("31 registers"),
            None => self.pes[pe].normal_world,
        }
    }

    /// The context that runs on `pe`. Its EL1 registers are not here, see [`System::el1`].
    pub fn ctx(&mut self, pe: usize) -> &mut Context {
        self.pes[pe].running_context().expect("a context runs")
    }

    /// EL1 registers of the context that runs on `pe`.
    pub fn el1(&mut self, pe: usize) -> &mut El1Registers {
        &mut self.machine.pe(pe).live().el1
    }

    /// What the policy keeps for a PE.
    #[must_use]
    pub fn policy(&self, pe: usize) -> &Pe<'s> {
        &self.pes[pe]
    }

    /// Checks whose memory is.
    pub fn check_memory(&self) {
        if let Err(what) = self.spmc.check_memory(&self.machine) {
            panic!("after {} steps: {what}", self.steps);
        }
    }

    /// Nobody holds back the normal world's interrupts without end.
    fn check_watchdog(&mut self, pe: usize) {
        let limit = self.pes[pe].time_limit();
        let (now, deadline) = (self.machine.counter(), self.machine.pe(pe).watchdog);
        if limit == NO_LIMIT {
            assert_eq!(deadline, NO_DEADLINE, "nobody's time is counted");
        } else {
            assert!(
                deadline.saturating_sub(now) <= limit / SLICES + 1,
                "{deadline} at {now}"
            );
        }
    }

    fn check_registers(&mut self, pe: usize) {
        let policy = &self.pes[pe];
        let Owner::Partition(id, vcpu) = self.owners[pe] else {
            for (n, value) in policy.normal_world.iter().enumerate() {
                let owner = taint_owner(*value);
                assert!(
                    owner.is_none_or(|owner| owner == 0),
                    "the normal world sees x{n} {value:#x}"
                );
            }
            if let Some(wrong) = what_is_wrong(&policy.normal_world) {
                panic!("{wrong}");
            }
            return;
        };
        let x = &policy.running.as_ref().expect("a context runs").ctx.x;
        for (n, value) in x.iter().enumerate() {
            let owner = taint_owner(*value);
            assert!(
                owner.is_none_or(|owner| u16::from(owner) == id & 0xff),
                "{id:#x} sees x{n} {value:#x}"
            );
        }
        let called_el3 = self.machine.pe(pe).el3_calls.len() != self.el3_calls;
        let Some(left) = self.left.get(&(id, vcpu)).filter(|_| !called_el3) else {
            return;
        };
        if x[18..].iter().all(|x| *x == 0) {
            // started afresh
            self.left.remove(&(id, vcpu));
            return;
        }
        assert_eq!(
            x[18..],
            left[18..],
            "{id:#x} finds other values in x18-x30 than it left"
        );
        let wide = [
            abi::FFA_SUCCESS_64,
            abi::Form::Direct2.request_id(),
            abi::Form::Direct2.response_id(),
        ];
        if !wide.contains(&x[0]) {
            assert_eq!(
                x[8..18],
                left[8..18],
                "{id:#x} finds other values in x8-x17 than it left"
            );
        }
    }
}

/// Whether a call is one of those that map buffers or pass memory on, or ends a partition.
const fn changes_memory(function: u64) -> bool {
    matches!(function & 0xff, 0x66..=0x67 | 0x71..=0x7b | 0x90)
}

fn fill(to: &mut [u64], registers: &[u64], owner: u16) {
    for (n, register) in to.iter_mut().enumerate() {
        let default = if n < 8 { 0 } else { taint(owner, n) };
        *register = registers.get(n).copied().unwrap_or(default);
    }
}
