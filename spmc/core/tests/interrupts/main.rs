//! Every interleaving of calls, interrupts of devices and of the normal world, and cores, for two PEs, two partitions and two
//! device interrupts: an edge that the first partition owns, a level that the second one owns.
//!
//! After each step the policy's own invariants hold, and
//! * an interrupt that was raised and not taken is pending somewhere: at the interrupt controller or in a context of its owner;
//! * an interrupt that is active was taken, or is pending in a context: it is going to be deactivated;
//! * the normal world gets FFA_NORMAL_WORLD_RESUME when, and only when, a secure interrupt had interrupted it;
//! * from each state on, a system in which nothing new happens, partitions do their work and the normal world runs those that
//!   have some comes to rest: all interrupts are taken, all contexts wait, all PEs are in the normal world.
//!
//! `TANTALUM_MODEL` multiplies how long they take (1 by default: a minute in all, some ten thousand states; with optimisation, ten times as many).

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    fmt::Write as _,
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};

use tantalum_core::{
    id::PeIndex,
    interrupt::{Line, SOFTWARE_LINES, Signal},
    machine::fake::{Builder, FakeMachine, Owner, PartitionBuilder, System},
    manifest::partition::{NsInterruptsAction, OtherSInterruptsAction, SriPolicy, Trigger},
    spmc::{Exit, Spmc},
    vcpu::State,
};

const PES: usize = 2;
const PARTITIONS: [u16; 2] = [0x8001, 0x8002];
/// The edge and the level, and whose they are.
const EDGE: (u32, usize) = (40, 0);
const LEVEL: (u32, usize) = (41, 1);

const INTERRUPT: u64 = 0x8400_0062;
const MSG_WAIT: u64 = 0x8400_006b;
const YIELD: u64 = 0x8400_006c;
const RUN: u64 = 0x8400_006d;
const REQUEST: u64 = 0x8400_006f;
const RESPONSE: u64 = 0x8400_0070;
const NORMAL_WORLD_RESUME: u64 = 0x8400_007c;
const ABORT: u64 = 0x8400_0090;
const GET: u64 = 0xff04;
const DEACTIVATE: u64 = 0xff08;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The edge comes.
    Raise,
    /// The level changes.
    Toggle,
    /// An interrupt is routed to the other PE from now on.
    Move(u32),
    /// On a PE: whoever has it asks a partition, gives it cycles, responds, waits, yields, ends its partition.
    Request(usize, u16),
    Run(usize, u16),
    Respond(usize),
    Wait(usize),
    Yield(usize),
    Abort(usize),
    /// A context takes an interrupt, or says that it has handled the level.
    Get(usize),
    Deactivate(usize),
    /// The PE takes an interrupt: a secure one (or a spurious one), one of the normal world.
    Secure(usize),
    Other(usize),
}

/// The line of the one device interrupt of each partition.
fn device() -> Line {
    Line::new(SOFTWARE_LINES).expect("a line")
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
struct Setup {
    name: &'static str,
    partitions: [fn(PartitionBuilder) -> PartitionBuilder; 2],
    moves: bool,
    aborts: bool,
}

/// A system, and what it should do.
struct World<'s> {
    system: System<'s>,
    /// The edge was raised and not taken.
    raised: bool,
    /// A secure interrupt has interrupted the normal world of a PE.
    interrupted: [bool; PES],
}

fn build(setup: &Setup) -> (Spmc, FakeMachine) {
    let [first, second] = setup.partitions;
    Builder::new(PES)
        .partition_with("edge", |p| first(p.device_interrupt(EDGE.0, Trigger::Edge)))
        .partition_with("level", |p| second(p.device_interrupt(LEVEL.0, Trigger::Level)))
        .build()
}

impl<'s> World<'s> {
    /// All PEs are on, and the contexts have enabled their interrupts.
    fn new(spmc: &'s Spmc, machine: FakeMachine) -> Self {
        let mut system = System::new(spmc, machine);
        system.set_checking(false);
        for pe in 0..PES {
            system.online(pe);
            while system.owner(pe) != Owner::NormalWorld {
                for (id, _) in [EDGE, LEVEL] {
                    system.hvc(pe, &[0xff03, u64::from(id), 1, 0]);
                }
                system.smc(pe, &[MSG_WAIT]);
            }
        }
        system.machine.interrupts.get_mut(&LEVEL.0).expect("set up").pe = 1;
        Self {
            system,
            raised: false,
            interrupted: [false; PES],
        }
    }

    fn hash(&self) -> u64 {
        let mut text = self.system.fingerprint();
        let machine = &self.system.machine;
        let _ = write!(text, "{:?} {} {:?}", machine.interrupts, self.raised, self.interrupted);
        for pe in 0..PES {
            let _ = write!(text, "{:?}", machine.pending(pe));
            if let Owner::Partition(..) = self.system.owner(pe) {
                // What a caller learns of its callee.
                let [x0, ..] = self.system.regs(pe);
                let _ = write!(text, "{}", [INTERRUPT, YIELD].contains(&x0));
            }
        }
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        hasher.finish()
    }

    /// What can happen next.
    fn steps(&mut self, setup: &Setup) -> Vec<Step> {
        let mut steps = Vec::new();
        if !self.raised {
            steps.push(Step::Raise);
        }
        steps.push(Step::Toggle);
        if setup.moves {
            steps.extend([Step::Move(EDGE.0), Step::Move(LEVEL.0)]);
        }
        for pe in 0..PES {
            match self.system.owner(pe) {
                Owner::Off => {}
                Owner::NormalWorld => {
                    for partition in PARTITIONS {
                        steps.extend([Step::Request(pe, partition), Step::Run(pe, partition)]);
                    }
                    steps.push(Step::Secure(pe));
                }
                Owner::Partition(me, _) => {
                    let other = me ^ 3;
                    steps.extend([
                        Step::Request(pe, other),
                        Step::Run(pe, other),
                        Step::Wait(pe),
                        Step::Yield(pe),
                        Step::Get(pe),
                        Step::Secure(pe),
                    ]);
                    if self.system.owes(pe).is_some() {
                        steps.push(Step::Respond(pe));
                    }
                    if me == PARTITIONS[LEVEL.1] {
                        steps.push(Step::Deactivate(pe));
                    }
                    if !self.system.ctx(pe).mask_ns_interrupts {
                        steps.push(Step::Other(pe));
                    }
                    if setup.aborts {
                        steps.push(Step::Abort(pe));
                    }
                }
            }
        }
        steps
    }

    fn call(&mut self, pe: usize, registers: &[u64]) {
        if self.system.owner(pe) == Owner::NormalWorld {
            self.interrupted[pe] = registers[0] == INTERRUPT;
            self.system.nwd(pe, registers);
        } else {
            self.system.smc(pe, registers);
        }
    }

    fn me(&self, pe: usize) -> u64 {
        match self.system.owner(pe) {
            Owner::Partition(me, _) => u64::from(me),
            Owner::NormalWorld | Owner::Off => 0,
        }
    }

    fn take(&mut self, step: Step) {
        let level = LEVEL.0;
        match step {
            Step::Raise => {
                self.raised = !self.is_stopped(EDGE.1);
                self.system.machine.raise(EDGE.0);
            }
            Step::Toggle => self.level().high ^= true,
            Step::Move(id) => {
                let irq = self.system.machine.interrupts.get_mut(&id).expect("set up");
                irq.pe = 1 - irq.pe;
            }
            Step::Request(pe, to) => {
                let from = self.me(pe);
                self.call(pe, &[REQUEST, from << 16 | u64::from(to)]);
            }
            Step::Run(pe, partition) => {
                let vcpu = self.vcpu(pe, partition);
                self.call(pe, &[RUN, u64::from(partition) << 16 | vcpu]);
            }
            Step::Respond(pe) => {
                let (me, requester) = (self.me(pe), self.system.owes(pe).expect("it owes a response"));
                self.call(pe, &[RESPONSE, me << 16 | u64::from(requester)]);
            }
            Step::Wait(pe) => self.call(pe, &[MSG_WAIT]),
            Step::Yield(pe) => self.call(pe, &[YIELD]),
            Step::Abort(pe) => {
                let first = self.me(pe) == u64::from(PARTITIONS[EDGE.1]);
                self.call(pe, &[ABORT]);
                self.raised &= !first;
            }
            Step::Get(pe) => {
                // Another context may be on top of this one afterwards: what it took shows in what is pending.
                let me = self.me(pe) == u64::from(PARTITIONS[EDGE.1]);
                let vcpu = usize::try_from(self.vcpu(pe, PARTITIONS[EDGE.1])).expect("few");
                let partitions = self.system.spmc.partitions();
                let edge = || partitions[EDGE.1].slots[vcpu].interrupts.is_pending(device());
                let pending = edge();
                self.system.hvc(pe, &[GET]);
                self.raised &= !(me && pending && !edge());
            }
            Step::Deactivate(pe) => {
                self.system.hvc(pe, &[DEACTIVATE, u64::from(level), u64::from(level)]);
            }
            Step::Secure(pe) => {
                if self.system.owner(pe) == Owner::NormalWorld {
                    self.call(pe, &[INTERRUPT]);
                } else {
                    self.leave(pe, Exit::Irq);
                }
            }
            Step::Other(pe) => self.leave(pe, Exit::Fiq),
        }
    }

    fn leave(&mut self, pe: usize, exit: Exit) {
        self.system.exit(pe, exit);
    }

    fn level(&mut self) -> &mut tantalum_core::machine::fake::FakeInterrupt {
        self.system.machine.interrupts.get_mut(&LEVEL.0).expect("set up")
    }

    fn vcpu(&self, pe: usize, partition: u16) -> u64 {
        let partition = &self.system.spmc.partitions()[usize::from(partition & 3) - 1];
        let pe = PeIndex::new(u16::try_from(pe).expect("few"));
        u64::from(partition.vcpu_on(pe).as_u16())
    }

    fn is_stopped(&self, partition: usize) -> bool {
        self.system.spmc.partitions()[partition].is_stopped()
    }

    /// What must hold after each step, besides the policy's invariants.
    fn check(&self) -> Result<(), String> {
        for ((id, owner), edge) in [(EDGE, true), (LEVEL, false)] {
            if self.is_stopped(owner) {
                continue;
            }
            let irq = self.system.machine.interrupts[&id];
            let slots = &self.system.spmc.partitions()[owner].slots;
            let pending = slots.iter().any(|slot| slot.interrupts.is_pending(device()));
            let taken = slots.iter().any(|slot| slot.interrupts.is_active(device()));
            if edge && self.raised && !irq.latched && !pending {
                return Err(format!("the edge is lost: {irq:?}"));
            }
            if irq.active && !pending && !taken {
                return Err(format!("interrupt {id} is active for ever: {irq:?}"));
            }
            if !irq.enabled {
                return Err(format!("interrupt {id} does not come any more: {irq:?}"));
            }
        }
        for pe in 0..PES {
            if self.system.owner(pe) == Owner::NormalWorld {
                let resumes = self.system.regs(pe)[0] == NORMAL_WORLD_RESUME;
                if resumes != self.interrupted[pe] {
                    return Err(format!(
                        "PE {pe} resumes the normal world, or not: {:x?}",
                        self.system.regs(pe)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lets everybody do their work until nothing is left to do.
    fn come_to_rest(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            let mut busy = false;
            for pe in 0..PES {
                busy |= self.work(pe);
                self.check()?;
            }
            if !busy {
                return self.is_at_rest();
            }
        }
        Err("it does not come to rest".into())
    }

    /// What a PE does when it has something to do.
    fn work(&mut self, pe: usize) -> bool {
        let owner = self.system.owner(pe);
        if self.system.machine.pending(pe).is_some() {
            self.take(Step::Secure(pe));
        } else if owner == Owner::NormalWorld {
            return PARTITIONS.into_iter().any(|partition| {
                let vcpu = self.vcpu(pe, partition);
                let index = usize::from(partition & 3) - 1;
                let slot = &self.system.spmc.partitions()[index].slots[usize::try_from(vcpu).expect("few")];
                // One that has waited without taking what it was run for gets it when it runs next.
                let wanted = match &*slot.lock() {
                    State::Suspended { .. } => true,
                    State::Waiting(_) => slot.interrupts.deliverable() != 0,
                    _ => false,
                };
                if wanted {
                    self.take(Step::Run(pe, partition));
                }
                wanted && self.system.owner(pe) != Owner::NormalWorld
            });
        } else if self.system.ctx(pe).virtual_irq || self.system.ctx(pe).virtual_fiq {
            self.take(Step::Get(pe));
            if self.system.regs(pe)[0] == u64::from(LEVEL.0) {
                self.level().high = false;
            }
        } else if self.system.owes(pe).is_some() {
            self.take(Step::Respond(pe));
        } else {
            self.take(Step::Wait(pe));
        }
        true
    }

    fn is_at_rest(&mut self) -> Result<(), String> {
        let level = *self.level();
        for (index, partition) in self.system.spmc.partitions().iter().enumerate() {
            if partition.is_stopped() {
                continue;
            }
            for slot in &partition.slots {
                let waits = matches!(&*slot.lock(), State::Waiting(_));
                if !waits || slot.interrupts.deliverable() != 0 {
                    return Err(format!("a context of partition {index} is not at rest"));
                }
            }
        }
        if self.raised || (level.high || level.active) && !self.is_stopped(LEVEL.1) {
            return Err(format!(
                "an interrupt was not handled: {:?}",
                self.system.machine.interrupts
            ));
        }
        Ok(())
    }
}

fn replay<'s>(spmc: &'s Spmc, machine: FakeMachine, path: &[Step]) -> World<'s> {
    let mut world = World::new(spmc, machine);
    for step in path {
        world.take(*step);
    }
    world.system.set_checking(true);
    world
}

/// Visits states, breadth first, for some time.
fn explore(setup: &Setup) {
    let begin = Instant::now();
    let effort = std::env::var("TANTALUM_MODEL")
        .ok()
        .and_then(|value| value.parse().ok());
    let limit = Duration::from_secs(10 * effort.unwrap_or(1));
    let mut seen = HashSet::new();
    let mut queue: VecDeque<Vec<Step>> = VecDeque::from([Vec::new()]);
    let (mut depth, mut transitions, mut complete) = (0, 0_usize, true);
    while let Some(path) = queue.pop_front() {
        if begin.elapsed() > limit {
            complete = false;
            break;
        }
        depth = path.len();
        let (spmc, machine) = build(setup);
        let mut world = replay(&spmc, machine, &path);
        let before = world.hash();
        let steps = world.steps(setup);
        // A step that changes nothing leaves the system in the state to expand; else it is made anew.
        let mut fresh = Some(world);
        for step in steps {
            let (spmc, machine);
            let mut world = match fresh.take() {
                Some(world) => world,
                None => {
                    (spmc, machine) = build(setup);
                    // The machine is used up with each attempt.
                    visit(setup, &path, step, &spmc, machine, before, &mut seen, &mut queue);
                    transitions += 1;
                    continue;
                }
            };
            transitions += 1;
            world.take(step);
            judge(&mut world, &path, step, before, &mut seen, &mut queue);
            if world.hash() == before {
                fresh = Some(world);
            }
        }
    }
    let what = if complete { "all states" } else { "states, not all" };
    println!(
        "{}: {} {what}, {transitions} steps, up to {depth} from the start",
        setup.name,
        seen.len()
    );
    assert!(seen.len() > 100);
}

#[expect(clippy::too_many_arguments, reason = "one place")]
fn visit(
    _: &Setup,
    path: &[Step],
    step: Step,
    spmc: &Spmc,
    machine: FakeMachine,
    before: u64,
    seen: &mut HashSet<u64>,
    queue: &mut VecDeque<Vec<Step>>,
) {
    let mut world = replay(spmc, machine, path);
    world.take(step);
    judge(&mut world, path, step, before, seen, queue);
}

/// Checks the state after `step`, and keeps it when it is new.
fn judge(
    world: &mut World<'_>,
    path: &[Step],
    step: Step,
    before: u64,
    seen: &mut HashSet<u64>,
    queue: &mut VecDeque<Vec<Step>>,
) {
    if let Err(what) = world.check() {
        panic!("after {path:?} {step:?}: {what}");
    }
    let after = world.hash();
    if after == before || !seen.insert(after) {
        return;
    }
    let mut path = path.to_vec();
    path.push(step);
    if let Err(what) = world.come_to_rest() {
        panic!("from {path:?} on: {what}\n{}", world.system.fingerprint());
    }
    queue.push_back(path);
}

fn same(partition: PartitionBuilder) -> PartitionBuilder {
    partition
}

fn managed_exit(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.ns_interrupts = NsInterruptsAction::ManagedExit;
    partition.managed_exit = Signal::Fiq;
    partition
}

fn queues(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.other_s_interrupts = OtherSInterruptsAction::Queued;
    partition.queued().migratable()
}

fn scheduled(mut partition: PartitionBuilder) -> PartitionBuilder {
    partition.sri_policy = SriPolicy::all();
    partition
}

const PINNED: Setup = Setup {
    name: "two pinned partitions",
    partitions: [same, same],
    moves: false,
    aborts: false,
};

#[test]
fn two_pinned_partitions() {
    explore(&PINNED);
}

#[test]
fn migratable_and_pinned_partition_with_interrupts_that_move() {
    explore(&Setup {
        name: "a migratable and a pinned partition, interrupts move",
        partitions: [PartitionBuilder::migratable, same],
        moves: true,
        ..PINNED
    });
}

#[test]
fn two_migratable_partitions() {
    explore(&Setup {
        name: "two migratable partitions",
        partitions: [PartitionBuilder::migratable, PartitionBuilder::migratable],
        ..PINNED
    });
}

#[test]
fn managed_exit_and_queued_interrupts() {
    explore(&Setup {
        name: "managed exit, and one that queues all interrupts",
        partitions: [managed_exit, queues],
        ..PINNED
    });
}

#[test]
fn partitions_that_end() {
    explore(&Setup {
        name: "partitions that end",
        partitions: [PartitionBuilder::migratable, PartitionBuilder::migratable],
        aborts: true,
        ..PINNED
    });
}

#[test]
fn partition_that_the_normal_world_schedules() {
    explore(&Setup {
        name: "one that the normal world schedules",
        partitions: [scheduled, PartitionBuilder::migratable],
        ..PINNED
    });
}
