//! What is explored: an SPMC, its PEs, devices and whoever calls, with all that can happen to them.

use tantalum_core::{
    id::{PeIndex, VcpuIndex},
    interrupt::{
        Line, SOFTWARE_LINES,
        virtual_gic::{ACTIVE, HARDWARE, PENDING},
    },
    machine::{
        NO_DEADLINE,
        fake::{Builder, FakeInterrupt, FakeMachine, Owner, Part, PartitionBuilder, System},
    },
    manifest::partition::Trigger,
    partition::{Multiplicity, Partition},
    spmc::{Exit, Spmc},
    vcpu::{Model, Slot, State},
    watch::TimeLimits,
};

const SUCCESS: u64 = 0x8400_0061;
const INTERRUPT: u64 = 0x8400_0062;
const MSG_WAIT: u64 = 0x8400_006b;
const YIELD: u64 = 0x8400_006c;
const RUN: u64 = 0x8400_006d;
const REQUEST: u64 = 0x8400_006f;
const RESPONSE: u64 = 0x8400_0070;
const NORMAL_WORLD_RESUME: u64 = 0x8400_007c;
const NOTIFICATION_INFO_GET: u64 = 0x8400_0083;
const ABORT: u64 = 0x8400_0090;
const SPMD_TO_SPMC: u64 = 0xffff_8000;
const SPMC_TO_SPMD: u64 = 0x8000_ffff;
const PSCI_REQUEST: u64 = 0x8000_0000;
const POWER_RESPONSE: u64 = 0x8000_0002;
const CPU_OFF: u64 = 0x8400_0002;
const ENABLE: u64 = 0xff03;
const GET: u64 = 0xff04;
const DEACTIVATE: u64 = 0xff08;
const RECONFIGURE: u64 = 0xff09;
const SEND_IPI: u64 = 0xff0a;
const DISTRIBUTOR: u64 = 0x0800_0000;
const ROUTES: u64 = DISTRIBUTOR + 0x6000;
/// The second frame of the first redistributor, and bytes to the next.
const PRIVATE: u64 = 0x080b_0000;
const STRIDE: u64 = 0x2_0000;
/// Groups and enable bits of the first interrupts.
const GROUP: u64 = 0x80;
const SET_ENABLE: u64 = 0x100;
/// The number of an interrupt in a list register.
const NUMBER: u64 = 0xffff_ffff;

/// The time between two ticks: the shortest time that a context waits for its timer.
const TICK: u64 = 1250;

bitflags::bitflags! {
    /// What happens in a machine, besides that contexts are run, wait and take their interrupts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Happens: u16 {
        /// The normal world sends requests.
        const REQUESTS = 1 << 0;
        /// Partitions send requests to each other.
        const CHAINS = 1 << 1;
        /// The normal world runs any context, not only those that want it; partitions too.
        const RUNS = 1 << 2;
        const YIELDS = 1 << 3;
        /// The normal world has interrupts.
        const NORMAL_WORLD = 1 << 4;
        /// Owners send the interrupts of their devices to another PE.
        const ROUTES = 1 << 5;
        /// Partitions end themselves.
        const ABORTS = 1 << 6;
        /// PEs go off and come up.
        const POWER = 1 << 7;
        /// Partitions arm and disarm timers, and time passes.
        const TIMERS = 1 << 8;
        /// Contexts interrupt other contexts of their partition.
        const IPIS = 1 << 9;
        /// Partitions handle interrupts badly: take one and say nothing, or say something that is not so.
        const CARELESS = 1 << 10;
        /// Partitions have limits to how long they hold back the normal world's interrupts, and time passes.
        const LIMITS = 1 << 11;
    }
}

/// An interrupt of a device, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    pub id: u32,
    pub owner: usize,
    pub trigger: Trigger,
    /// The PE that it comes to at first.
    pub pe: usize,
}

/// A machine.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub name: &'static str,
    pub pes: usize,
    pub partitions: &'static [fn(PartitionBuilder) -> PartitionBuilder],
    pub devices: &'static [Device],
    pub happens: Happens,
}

impl Setup {
    pub fn build(&self) -> (Spmc, FakeMachine) {
        let mut builder = Builder::new(self.pes);
        for (index, change) in self.partitions.iter().enumerate() {
            let devices = self.devices.iter().filter(|device| device.owner == index);
            builder = builder.partition_with(&format!("p{index}"), |partition| {
                let mut partition = change(devices.fold(partition.unlimited(), |partition, device| {
                    partition.device_interrupt(device.id, device.trigger)
                }));
                if self.happens.contains(Happens::LIMITS) {
                    // One slice, which is over with the next tick.
                    partition.time_limits = TimeLimits {
                        interrupt: 1,
                        queued: 1,
                        firmware: 1,
                        start: 1,
                    };
                }
                partition
            });
        }
        builder.build()
    }
}

bitflags::bitflags! {
    /// Why a step is taken by a system in which nothing new happens.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Taken: u8 {
        /// Partitions do their work, and the normal world runs those that have some.
        const AS_WORK = 1 << 0;
        /// Partitions do nothing but end their turn.
        const BY_THE_LAZY = 1 << 1;
        /// Partitions do nothing, time passes, and the normal world has interrupts.
        const BY_THE_HUNG = 1 << 2;
    }
}

/// Something that happens. PEs, partitions and devices go by their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// An edge comes; a level changes.
    Device(u8),
    /// The owner, on this PE, has an interrupt come to another PE.
    Route(u8, u8, u8),
    /// On a PE: whoever has it asks a partition, gives it cycles, responds, waits, yields, ends its partition.
    Request(u8, u8),
    Run(u8, u8),
    Respond(u8),
    Wait(u8),
    Yield(u8),
    Abort(u8),
    /// A context takes an interrupt, and quiets what has raised it, or not; says that it has handled one.
    Handle(u8),
    Get(u8),
    Deactivate(u8, u8),
    /// A context that starts enables its interrupts.
    Enable(u8),
    /// A context has its timer fire after a tick, or not at all. A tick passes.
    Arm(u8),
    Disarm(u8),
    Tick,
    /// A context interrupts another one of its partition.
    Ipi(u8, u8),
    /// The PE takes an interrupt: a secure one (or a spurious one), one of the normal world.
    Secure(u8),
    Other(u8),
    /// The normal world asks which contexts it is to run.
    Ask(u8),
    PowerOff(u8),
    PowerOn(u8),
}

/// What is known of the outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Outside {
    /// By device: the edge was raised and not taken.
    raised: u8,
    /// By PE: a secure interrupt has interrupted the normal world.
    interrupted: u8,
    /// By context: the normal world was told to run it.
    told: u8,
    /// By PE: the SPMD turns it off when the partitions were told.
    going_off: u8,
}

const fn bit(index: usize) -> u8 {
    1 << index
}

const fn set(bits: &mut u8, index: usize, on: bool) {
    *bits = *bits & !bit(index) | if on { bit(index) } else { 0 };
}

fn byte(index: usize) -> u8 {
    u8::try_from(index).expect("few")
}

/// A system, and what it should do.
pub struct World<'s> {
    setup: &'s Setup,
    pub system: System<'s>,
    outside: Outside,
    /// The PE that has taken the last step.
    acted: Option<usize>,
}

impl<'s> World<'s> {
    /// All PEs are on, and all contexts wait with their interrupts enabled.
    pub fn new(setup: &'s Setup, spmc: &'s Spmc, machine: FakeMachine) -> Self {
        let mut world = Self {
            setup,
            system: System::new(spmc, machine),
            outside: Outside::default(),
            acted: None,
        };
        world.system.machine.pace = 0;
        for pe in 0..setup.pes {
            world.system.online(pe);
            while world.system.owner(pe) != Owner::NormalWorld {
                world.take(Step::Enable(byte(pe)));
                world.take(Step::Wait(byte(pe)));
            }
        }
        for device in setup.devices {
            world.irq(device.id).pe = device.pe;
        }
        world
    }

    /// The state, as numbers of its parts and of what is known of the outside.
    pub fn state(&self) -> (Vec<Part>, u32) {
        let Outside {
            raised,
            interrupted,
            told,
            going_off,
        } = self.outside;
        (
            self.system.parts(),
            u32::from_le_bytes([raised, interrupted, told, going_off]),
        )
    }

    pub fn put_back<'p>(&mut self, parts: impl IntoIterator<Item = &'p Part>, outside: u32) {
        self.system.put_back(parts);
        let [raised, interrupted, told, going_off] = outside.to_le_bytes();
        self.outside = Outside {
            raised,
            interrupted,
            told,
            going_off,
        };
    }

    fn irq(&mut self, id: u32) -> &mut FakeInterrupt {
        self.system.machine.interrupts.entry(id).or_default()
    }

    fn partition(&self, index: usize) -> &'s Partition {
        &self.system.spmc.partitions()[index]
    }

    fn happens(&self, what: Happens) -> bool {
        self.setup.happens.contains(what)
    }

    /// Place and context of whoever runs on a PE.
    fn running(&self, pe: usize) -> Option<(usize, usize)> {
        match self.system.owner(pe) {
            Owner::Partition(id, vcpu) => Some((place(id), usize::from(vcpu))),
            Owner::NormalWorld | Owner::Off => None,
        }
    }

    fn running_slot(&self, pe: usize) -> Option<&'s Slot> {
        let (me, vcpu) = self.running(pe)?;
        self.partition(me).slots.get(vcpu)
    }

    fn vcpu_on(&self, pe: usize, partition: usize) -> VcpuIndex {
        let pe = PeIndex::new(u16::try_from(pe).expect("few"));
        self.partition(partition).vcpu_on(pe)
    }

    fn slot_on(&self, pe: usize, partition: usize) -> &'s Slot {
        &self.partition(partition).slots[self.vcpu_on(pe, partition).index()]
    }

    /// The bit of a context in [`Outside::told`].
    fn number(&self, partition: usize, vcpu: usize) -> usize {
        partition * self.setup.pes + vcpu
    }

    fn is_starting(&self, pe: usize) -> bool {
        self.system.policy(pe).is_starting()
    }

    /// Which line of its owner a device has.
    fn line(&self, device: usize) -> Line {
        let Device { owner, .. } = self.setup.devices[device];
        let before = &self.setup.devices[..device];
        let place = before.iter().filter(|other| other.owner == owner).count();
        Line::new(SOFTWARE_LINES + place).expect("few")
    }

    /// The lines of all devices of a partition.
    fn devices(&self, partition: usize) -> impl Iterator<Item = (usize, Device)> {
        let devices = self.setup.devices.iter().copied().enumerate();
        devices.filter(move |(_, device)| device.owner == partition)
    }

    /// Whether something of a device is pending in a context.
    fn has_pending(&self, partition: usize, slot: &Slot) -> bool {
        let mut devices = self.devices(partition);
        devices.any(|(device, _)| slot.interrupts.is_pending(self.line(device)))
    }

    /// Whether a partition has a virtual interrupt controller.
    fn has_gic(&self, partition: usize) -> bool {
        self.partition(partition).gic.is_some()
    }

    /// What list registers have of an interrupt, wherever the context is.
    fn listed(&self, owner: usize, id: u32) -> u64 {
        let mut states = 0;
        self.system.each_virtual_gic(&mut |partition, gic| {
            let own = gic.list.iter().filter(|_| place(partition.as_u16()) == owner);
            let same = own.filter(|entry| **entry & NUMBER == u64::from(id));
            states |= same.fold(0, |states, entry| states | entry & (PENDING | ACTIVE));
        });
        states
    }

    fn timer_is_armed(slot: &Slot) -> bool {
        slot.interrupts.is_active(Line::TIMER)
    }

    /// Whether time has to pass until a timer fires.
    fn time_is_awaited(&self) -> bool {
        let slots = self
            .system
            .spmc
            .partitions()
            .iter()
            .filter(|partition| !partition.is_stopped())
            .flat_map(|partition| &partition.slots);
        slots.into_iter().any(|slot| {
            Self::timer_is_armed(slot)
                && !slot.interrupts.is_pending(Line::TIMER)
                && !matches!(&*slot.lock(), State::Off(_))
        })
    }

    /// Whether the normal world of a PE has a reason to run the context of a partition that is its: it was told to, or the
    /// context was interrupted, or it waits without having taken what it was run for.
    fn wants_to_run(&self, pe: usize, partition: usize) -> bool {
        let slot = self.slot_on(pe, partition);
        let told = self.outside.told & bit(self.number(partition, self.vcpu_on(pe, partition).index())) != 0;
        match &*slot.lock() {
            State::Suspended { .. } => true,
            State::Waiting(_) => told || slot.interrupts.deliverable() & !slot.interrupts.wanting() != 0,
            State::Off(_) | State::OnPe(_) | State::Stopped(_) => told,
        }
    }

    /// Whether the context of a PE of another partition works for the one that runs there, and wants to be run by it.
    fn works_for(&self, pe: usize, other: usize, (me, vcpu): (usize, usize)) -> bool {
        let (owner, slot) = (self.partition(other), self.slot_on(pe, other));
        matches!(&*slot.lock(), State::Suspended { resumer, .. }
            if !owner.is_stopped() && resumer.endpoint == self.partition(me).endpoint() && resumer.vcpu.index() == vcpu)
    }

    /// What can happen next, and for whom that is nothing new.
    pub fn steps(&mut self) -> Vec<(Step, Taken)> {
        let mut steps = Vec::with_capacity(32);
        for (place, device) in self.setup.devices.iter().enumerate() {
            if device.trigger == Trigger::Level || self.outside.raised & bit(place) == 0 {
                steps.push((Step::Device(byte(place)), Taken::empty()));
            }
        }
        let timers = self.happens(Happens::TIMERS) && self.time_is_awaited();
        let limits = (0..self.setup.pes).any(|pe| {
            let watchdog = self.system.machine.pe(pe).watchdog;
            watchdog != NO_DEADLINE && watchdog > self.system.machine.counter()
        });
        if timers || limits {
            steps.push((Step::Tick, Taken::BY_THE_HUNG | as_work_if(timers)));
        }
        for pe in 0..self.setup.pes {
            match self.running(pe) {
                Some((me, vcpu)) => self.steps_of_partition(pe, me, vcpu, &mut steps),
                None if self.system.owner(pe) == Owner::NormalWorld => self.steps_of_normal_world(pe, &mut steps),
                None => steps.push((Step::PowerOn(byte(pe)), Taken::empty())),
            }
        }
        steps
    }

    fn steps_of_normal_world(&self, pe: usize, steps: &mut Vec<(Step, Taken)>) {
        let here = byte(pe);
        steps.push((Step::Secure(here), by_all_if(self.system.machine.pending(pe).is_some())));
        for partition in 0..self.setup.partitions.len() {
            if self.happens(Happens::REQUESTS) {
                steps.push((Step::Request(here, byte(partition)), Taken::empty()));
            }
            let wanted = self.wants_to_run(pe, partition);
            if wanted || self.happens(Happens::RUNS) {
                steps.push((Step::Run(here, byte(partition)), as_work_if(wanted)));
            }
        }
        if self.system.machine.schedule_receiver_raised != 0 {
            steps.push((Step::Ask(here), Taken::AS_WORK));
        }
        // Whoever turned the last one off would not be there to turn one on.
        let stays = |other: usize| {
            other != pe && self.system.owner(other) != Owner::Off && self.outside.going_off & bit(other) == 0
        };
        let others_are_on = (0..self.setup.pes).any(stays);
        if self.happens(Happens::POWER) && others_are_on {
            steps.push((Step::PowerOff(here), Taken::empty()));
        }
    }

    fn steps_of_partition(&mut self, pe: usize, me: usize, vcpu: usize, steps: &mut Vec<(Step, Taken)>) {
        let (here, slot) = (byte(pe), &self.partition(me).slots[vcpu]);
        let starting = self.is_starting(pe);
        let disabled = starting && !self.enabled_by(me).iter().all(|line| slot.interrupts.is_enabled(*line));
        let ctx = self.system.ctx(pe);
        let masked = ctx.mask_ns_interrupts;
        let told = ctx.signals.irq
            || ctx.signals.fiq
            || ctx.virtual_gic.list.iter().any(|entry| entry & (PENDING | ACTIVE) != 0);
        steps.push((Step::Secure(here), by_all_if(self.system.machine.pending(pe).is_some())));
        if disabled {
            steps.push((Step::Enable(here), by_all_if(true) - Taken::BY_THE_HUNG));
        } else {
            steps.push((Step::Handle(here), as_work_if(told)));
        }
        let mut busy = told || disabled;
        for other in (0..self.setup.partitions.len()).filter(|other| *other != me) {
            // FFA_RUN is not for one that starts.
            let works_for_me = !starting && self.works_for(pe, other, (me, vcpu));
            if works_for_me || self.happens(Happens::RUNS) {
                steps.push((Step::Run(here, byte(other)), as_work_if(works_for_me && !busy)));
            }
            busy |= works_for_me;
            if self.happens(Happens::CHAINS) {
                steps.push((Step::Request(here, byte(other)), Taken::empty()));
            }
        }
        let owes = self.owes(pe);
        if owes {
            steps.push((Step::Respond(here), Taken::BY_THE_LAZY | as_work_if(!busy)));
        }
        if !disabled {
            // Refused where a response is owed.
            steps.push((
                Step::Wait(here),
                by_all_if(!owes) - as_work_if(busy) - Taken::BY_THE_HUNG,
            ));
        }
        if self.happens(Happens::YIELDS) {
            steps.push((Step::Yield(here), Taken::empty()));
        }
        if self.happens(Happens::NORMAL_WORLD) && !masked {
            steps.push((Step::Other(here), Taken::BY_THE_HUNG));
        }
        if self.happens(Happens::ABORTS) {
            steps.push((Step::Abort(here), Taken::empty()));
        }
        if self.happens(Happens::CARELESS) {
            steps.push((Step::Get(here), Taken::empty()));
            let devices = self
                .devices(me)
                .map(|(device, _)| (Step::Deactivate(here, byte(device)), Taken::empty()));
            steps.extend(devices);
        }
        if self.happens(Happens::ROUTES) {
            let targets = (0..self.setup.pes).filter(|to| *to != pe).map(byte);
            let devices = self.devices(me).flat_map(|(device, _)| {
                let targets = targets.clone();
                targets.map(move |to| (Step::Route(here, byte(device), to), Taken::empty()))
            });
            steps.extend(devices);
        }
        if self.happens(Happens::TIMERS) {
            steps.push((Step::Arm(here), Taken::empty()));
            steps.push((Step::Disarm(here), Taken::empty()));
        }
        if self.happens(Happens::IPIS) {
            let others = (0..self.partition(me).slots.len()).filter(|other| *other != vcpu);
            steps.extend(others.map(|other| (Step::Ipi(here, byte(other)), Taken::empty())));
        }
    }

    /// The lines that a context enables when it starts.
    fn enabled_by(&self, partition: usize) -> Vec<Line> {
        let mut lines: Vec<_> = self.devices(partition).map(|(device, _)| self.line(device)).collect();
        if self.happens(Happens::TIMERS) {
            lines.push(Line::TIMER);
        }
        if self.happens(Happens::IPIS) {
            lines.push(Line::IPI);
        }
        lines
    }

    fn owes(&self, pe: usize) -> bool {
        self.system.owes(pe).is_some() || self.is_told_of_power(pe)
    }

    fn is_told_of_power(&self, pe: usize) -> bool {
        self.system
            .model(pe)
            .is_some_and(|model| matches!(model, Model::Framework(_)))
    }

    fn call(&mut self, pe: usize, registers: &[u64]) {
        self.acted = Some(pe);
        if self.system.owner(pe) == Owner::NormalWorld {
            set(&mut self.outside.interrupted, pe, registers[0] == INTERRUPT);
            self.system.nwd(pe, registers);
        } else {
            self.system.smc(pe, registers);
        }
    }

    fn hvc(&mut self, pe: usize, registers: &[u64]) {
        self.acted = Some(pe);
        self.system.hvc(pe, registers);
    }

    fn exit(&mut self, pe: usize, exit: Exit) {
        self.acted = Some(pe);
        self.system.exit(pe, exit);
    }

    /// The id by which whoever has the PE calls.
    fn me(&self, pe: usize) -> u64 {
        self.running(pe).map_or(0, |(me, _)| id(me))
    }

    pub fn take(&mut self, step: Step) {
        self.acted = None;
        let at = |pe: u8| usize::from(pe);
        match step {
            Step::Device(place) => self.raise(at(place)),
            Step::Route(pe, device, to) if self.drives_gic(at(pe)) => {
                let interrupt = u64::from(self.setup.devices[at(device)].id);
                self.write(at(pe), ROUTES + 8 * interrupt, 8, u64::from(to));
            }
            Step::Route(pe, device, to) => {
                let interrupt = u64::from(self.setup.devices[at(device)].id);
                self.hvc(at(pe), &[RECONFIGURE, interrupt, 0, u64::from(to)]);
            }
            Step::Request(pe, to) => {
                let from = self.me(at(pe));
                self.call(at(pe), &[REQUEST, from << 16 | id(at(to))]);
            }
            Step::Run(pe, partition) => {
                let vcpu = self.vcpu_on(at(pe), at(partition));
                if self.system.owner(at(pe)) == Owner::NormalWorld {
                    let number = self.number(at(partition), vcpu.index());
                    set(&mut self.outside.told, number, false);
                }
                self.call(at(pe), &[RUN, id(at(partition)) << 16 | u64::from(vcpu.as_u16())]);
            }
            Step::Respond(pe) => self.respond(at(pe)),
            Step::Wait(pe) => self.call(at(pe), &[MSG_WAIT]),
            Step::Yield(pe) => self.call(at(pe), &[YIELD]),
            Step::Abort(pe) => {
                let me = self.running(at(pe)).expect("it runs").0;
                for (device, _) in self.devices(me).collect::<Vec<_>>() {
                    set(&mut self.outside.raised, device, false);
                }
                self.call(at(pe), &[ABORT]);
            }
            Step::Handle(pe) => self.handle(at(pe)),
            Step::Get(pe) => {
                self.get(at(pe));
            }
            Step::Deactivate(pe, device) if self.drives_gic(at(pe)) => {
                self.end(at(pe), self.setup.devices[at(device)].id)
            }
            Step::Deactivate(pe, device) => {
                let interrupt = u64::from(self.setup.devices[at(device)].id);
                self.hvc(at(pe), &[DEACTIVATE, interrupt, interrupt]);
            }
            Step::Enable(pe) => {
                let (me, vcpu) = self.running(at(pe)).expect("it runs");
                if self.has_gic(me) {
                    return self.set_up(at(pe), me, vcpu);
                }
                for line in self.enabled_by(me) {
                    let interrupt = u64::from(self.partition(me).interrupt_id(line));
                    self.hvc(at(pe), &[ENABLE, interrupt, 1, 0]);
                }
            }
            Step::Arm(pe) => self.set_timer(at(pe), Some(TICK)),
            Step::Disarm(pe) => self.set_timer(at(pe), None),
            Step::Tick => self.system.machine.advance(TICK),
            Step::Ipi(pe, to) if self.drives_gic(at(pe)) => {
                let ipi = u64::try_from(Line::IPI.number()).expect("small");
                self.write_system_register(at(pe), [0, 12, 11, 5], ipi << 24 | 1 << to);
            }
            Step::Ipi(pe, to) => self.hvc(at(pe), &[SEND_IPI, u64::from(to)]),
            Step::Secure(pe) if self.system.owner(at(pe)) == Owner::NormalWorld => self.call(at(pe), &[INTERRUPT]),
            Step::Secure(pe) => self.exit(at(pe), Exit::Irq),
            Step::Other(pe) => self.exit(at(pe), Exit::Fiq),
            Step::Ask(pe) => self.ask(at(pe)),
            Step::PowerOff(pe) => {
                set(&mut self.outside.going_off, at(pe), true);
                self.call(at(pe), &[REQUEST, SPMD_TO_SPMC, PSCI_REQUEST, CPU_OFF]);
                self.may_go_off(at(pe));
            }
            Step::PowerOn(pe) => {
                self.system.online(at(pe));
            }
        }
    }

    fn raise(&mut self, device: usize) {
        let Device { id, owner, trigger, .. } = self.setup.devices[device];
        if trigger == Trigger::Level {
            self.irq(id).high ^= true;
        } else {
            let stopped = self.partition(owner).is_stopped();
            set(&mut self.outside.raised, device, !stopped);
            self.system.machine.raise(id);
        }
    }

    fn respond(&mut self, pe: usize) {
        let me = self.me(pe);
        if self.is_told_of_power(pe) {
            self.call(pe, &[RESPONSE, me << 16 | 0x8000, POWER_RESPONSE, 0]);
            self.may_go_off(pe);
        } else {
            let requester = self.system.owes(pe).expect("it owes a response");
            self.call(pe, &[RESPONSE, me << 16 | u64::from(requester)]);
        }
    }

    /// The SPMD turns the PE off when it is told that all is done.
    fn may_go_off(&mut self, pe: usize) {
        let [x0, x1, ..] = self.system.regs(pe);
        if self.system.owner(pe) == Owner::NormalWorld && (x0, x1) == (RESPONSE, SPMC_TO_SPMD) {
            self.system.went_off(pe);
            set(&mut self.outside.going_off, pe, false);
        }
    }

    /// Takes an interrupt and returns its number. Another context may be on top of this one afterwards.
    fn get(&mut self, pe: usize) -> Option<Line> {
        let slot = self.running_slot(pe)?;
        if self.drives_gic(pe) {
            return self.acknowledge(pe);
        }
        let before = slot.interrupts.deliverable();
        self.hvc(pe, &[GET]);
        let (me, _) = place_of(slot, self.system.spmc)?;
        let line = Line::lowest(before & !slot.interrupts.deliverable())?;
        for (device, _) in self.devices(me).collect::<Vec<_>>() {
            if self.line(device) == line {
                set(&mut self.outside.raised, device, false);
            }
        }
        Some(line)
    }

    fn handle(&mut self, pe: usize) {
        let Some((me, vcpu)) = self.running(pe) else { return };
        let taken = self.get(pe);
        if !self.drives_gic(pe) {
            return self.quiet(pe, me, taken);
        }
        let mut list = self.system.ctx(pe).virtual_gic.list.into_iter();
        let active = list.find(|entry| entry & ACTIVE != 0);
        let active = active.and_then(|entry| u32::try_from(entry & NUMBER).ok());
        self.quiet(pe, me, taken.or(active.and_then(|id| self.partition(me).line(id))));
        if let Some(id) = active.filter(|_| self.running(pe) == Some((me, vcpu))) {
            self.end(pe, id);
        }
    }

    /// Makes what has raised an interrupt quiet.
    fn quiet(&mut self, pe: usize, me: usize, line: Option<Line>) {
        match line {
            Some(Line::TIMER) if self.running(pe).is_some_and(|(now, _)| now == me) => self.set_timer(pe, None),
            Some(line) => {
                let level = |(_, device): &(usize, Device)| device.trigger == Trigger::Level;
                for (device, Device { id, .. }) in self.devices(me).filter(level).collect::<Vec<_>>() {
                    if self.line(device) == line {
                        self.irq(id).high = false;
                    }
                }
            }
            None => {}
        }
    }

    /// Whether whoever has the PE has a virtual interrupt controller.
    fn drives_gic(&self, pe: usize) -> bool {
        self.running(pe).is_some_and(|(me, _)| self.has_gic(me))
    }

    /// A context sets up its interrupt controller.
    fn set_up(&mut self, pe: usize, me: usize, vcpu: usize) {
        let private = PRIVATE + STRIDE * u64::try_from(vcpu).expect("few");
        self.write(pe, DISTRIBUTOR, 4, 0b10);
        self.write(pe, private + GROUP, 4, NUMBER);
        self.write(pe, DISTRIBUTOR + GROUP + 4, 4, NUMBER);
        for line in self.enabled_by(me) {
            let id = self.partition(me).interrupt_id(line);
            let base = if id < 32 { private } else { DISTRIBUTOR };
            self.write(pe, base + SET_ENABLE + u64::from(id / 32 * 4), 4, 1 << (id % 32));
        }
    }

    /// A context writes to memory, from x7.
    fn write(&mut self, pe: usize, address: u64, bytes: u64, value: u64) {
        self.system.ctx(pe).x[7] = value;
        let iss = 1 << 24 | u64::from(bytes.ilog2()) << 22 | 7 << 16 | 1 << 6 | 0x07;
        let exit = Exit::Synchronous {
            esr: 0x24 << 26 | 1 << 25 | iss,
            far: address,
            hpfar: address >> 12 << 4,
        };
        self.exit(pe, exit);
    }

    /// Takes an interrupt as the hardware does it, without an exit: one that is pending and not active.
    fn acknowledge(&mut self, pe: usize) -> Option<Line> {
        let list = &mut self.system.ctx(pe).virtual_gic.list;
        let entry = list.iter_mut().find(|entry| **entry & (PENDING | ACTIVE) == PENDING)?;
        *entry ^= PENDING | ACTIVE;
        let id = u32::try_from(*entry & NUMBER).expect("32 bits");
        let (me, _) = self.running(pe)?;
        for (device, Device { id: own, .. }) in self.devices(me).collect::<Vec<_>>() {
            if own == id {
                set(&mut self.outside.raised, device, false);
            }
        }
        self.partition(me).line(id)
    }

    /// Ends an interrupt as the hardware does it, if it is active.
    fn end(&mut self, pe: usize, id: u32) {
        let list = &mut self.system.ctx(pe).virtual_gic.list;
        let same = |entry: &&mut u64| **entry & ACTIVE != 0 && **entry & NUMBER == u64::from(id);
        if let Some(entry) = list.iter_mut().find(same) {
            *entry &= !ACTIVE;
            if *entry & HARDWARE != 0 {
                self.irq(id).active = false;
            }
        }
    }

    /// Writes a system register as a context would, from x5: op1, CRn, CRm, op2.
    fn write_system_register(&mut self, pe: usize, [op1, crn, crm, op2]: [u64; 4], value: u64) {
        self.system.ctx(pe).x[5] = value;
        let iss = 3 << 20 | op2 << 17 | op1 << 14 | crn << 10 | 5 << 5 | crm << 1;
        let esr = 0x18 << 26 | 1 << 25 | iss;
        self.exit(pe, Exit::Synchronous { esr, far: 0, hpfar: 0 });
    }

    /// Writes the registers of the timer as a context would, from x5.
    fn set_timer(&mut self, pe: usize, after: Option<u64>) {
        const VALUE: u64 = 0;
        const CONTROL: u64 = 1;
        for (register, value) in [(VALUE, after.unwrap_or(0)), (CONTROL, u64::from(after.is_some()))] {
            if self.running(pe).is_some() {
                self.write_system_register(pe, [3, 14, 2, register], value);
            }
        }
    }

    /// The normal world's handler of the schedule receiver interrupt.
    fn ask(&mut self, pe: usize) {
        self.system.machine.schedule_receiver_raised = 0;
        self.call(pe, &[NOTIFICATION_INFO_GET]);
        let [x0, _, x2, lists @ ..] = self.system.regs(pe);
        if x0 != SUCCESS {
            // Another PE has asked before.
            return;
        }
        // Lists of an id and a context each, four numbers in a pair of registers.
        let halves = lists.iter().flat_map(|x| [x & 0xffff, x >> 16 & 0xffff]);
        let numbers: Vec<_> = halves.map(|half| usize::try_from(half).expect("16 bits")).collect();
        let mut at = 0;
        for list in 0..usize::try_from(x2 >> 7 & 0x1f).expect("few") {
            let vcpus = usize::try_from(x2 >> (12 + 2 * list) & 3).expect("few");
            let partition = (numbers[at] & 0x7fff) - 1;
            for vcpu in &numbers[at + 1..=at + vcpus] {
                let number = self.number(partition, *vcpu);
                set(&mut self.outside.told, number, true);
            }
            at += 1 + vcpus;
        }
    }

    /// What must hold after each step, besides the policy's invariants.
    pub fn check(&mut self) -> Result<(), String> {
        for device in 0..self.setup.devices.len() {
            self.check_device(device)?;
        }
        for pe in 0..self.setup.pes {
            self.check_pe(pe)?;
        }
        Ok(())
    }

    fn check_device(&self, device: usize) -> Result<(), String> {
        let Device { id, owner, trigger, .. } = self.setup.devices[device];
        let partition = self.partition(owner);
        if partition.is_stopped() {
            return Ok(());
        }
        let irq = self.system.machine.interrupts[&id];
        let line = self.line(device);
        let listed = self.listed(owner, id);
        let pending = listed & PENDING != 0 || partition.slots.iter().any(|slot| slot.interrupts.is_pending(line));
        let taken = listed & ACTIVE != 0 || partition.slots.iter().any(|slot| slot.interrupts.is_active(line));
        let raised = self.outside.raised & bit(device) != 0;
        if trigger == Trigger::Edge && raised && !irq.latched && !pending {
            return Err(format!("the edge is lost: {irq:?}"));
        }
        if irq.active && !pending && !taken {
            return Err(format!("interrupt {id} is active for ever: {irq:?}"));
        }
        if !irq.enabled {
            return Err(format!("interrupt {id} does not come any more: {irq:?}"));
        }
        let on = |pe: usize| self.system.owner(pe) != Owner::Off;
        if !on(irq.pe) && (0..self.setup.pes).any(on) {
            return Err(format!("interrupt {id} comes to a PE that is off: {irq:?}"));
        }
        Ok(())
    }

    fn check_pe(&mut self, pe: usize) -> Result<(), String> {
        match self.system.owner(pe) {
            Owner::Off => {}
            Owner::NormalWorld if self.acted != Some(pe) => {}
            Owner::NormalWorld => {
                let resumes = self.system.regs(pe)[0] == NORMAL_WORLD_RESUME;
                if resumes != (self.outside.interrupted & bit(pe) != 0) {
                    let registers = self.system.regs(pe);
                    return Err(format!("PE {pe} resumes the normal world, or not: {registers:x?}"));
                }
                set(&mut self.outside.interrupted, pe, false);
            }
            Owner::Partition(..) => {
                let slot = self.running_slot(pe).expect("it runs");
                let deliverable = slot.interrupts.deliverable() != 0;
                let told_to_exit = slot.interrupts.is_pending(Line::MANAGED_EXIT);
                let stopped = self.running(pe).is_some_and(|(me, _)| self.partition(me).is_stopped());
                let kicked = self.system.machine.pending(pe).is_some();
                let has_gic = self.drives_gic(pe);
                let ctx = self.system.ctx(pe);
                if has_gic {
                    // Few enough for the list registers.
                    let wrong = deliverable && !kicked || ctx.signals.irq || ctx.signals.fiq;
                    let all = ctx.virtual_gic.list.iter().all(|entry| *entry == 0) || ctx.signals.list;
                    if wrong || !all {
                        return Err(format!(
                            "who runs on PE {pe} does not find its interrupts in its list registers"
                        ));
                    }
                } else if (ctx.signals.irq || ctx.signals.fiq) != deliverable && !kicked {
                    return Err(format!("who runs on PE {pe} is not told of its interrupts, or of none"));
                }
                if told_to_exit && !ctx.mask_ns_interrupts {
                    return Err(format!("who runs on PE {pe} is to exit for an interrupt that is over"));
                }
                if stopped && !kicked {
                    return Err(format!("PE {pe} goes on with a partition that was stopped"));
                }
            }
        }
        Ok(())
    }

    /// What must hold when partitions have done nothing but end their turn.
    pub fn check_back(&self) -> Result<(), String> {
        match (0..self.setup.pes).find(|pe| self.running(*pe).is_some()) {
            Some(pe) => Err(format!("PE {pe} does not come back to the normal world")),
            None => Ok(()),
        }
    }

    /// What must hold when nothing is left to do.
    pub fn check_rest(&self) -> Result<(), String> {
        self.check_back()?;
        let partitions = self.system.spmc.partitions();
        let owners: Vec<_> = (0..self.setup.pes).map(|pe| self.system.owner(pe)).collect();
        if owners.iter().all(|owner| *owner == Owner::Off) {
            return Ok(());
        }
        for (index, partition) in partitions.iter().enumerate().filter(|(_, p)| !p.is_stopped()) {
            for (vcpu, slot) in partition.slots.iter().enumerate() {
                let pinned = partition.multiplicity == Multiplicity::Pinned;
                let rests = match &*slot.lock() {
                    State::Waiting(_) => slot.interrupts.deliverable() == 0 && !Self::timer_is_armed(slot),
                    State::Off(_) => pinned && !self.has_pending(index, slot),
                    State::OnPe(_) | State::Suspended { .. } | State::Stopped(_) => false,
                };
                if !rests {
                    return Err(format!("context {vcpu} of partition {index} is not at rest"));
                }
            }
        }
        for (place, Device { id, owner, .. }) in self.setup.devices.iter().enumerate() {
            let irq = self.system.machine.interrupts[id];
            let raised = self.outside.raised & bit(place) != 0;
            // One that its partition has taken and not ended does not come before it does.
            let left = self.listed(*owner, *id) & ACTIVE != 0;
            if (raised || irq.high || irq.active) && !left && !self.partition(*owner).is_stopped() {
                return Err(format!("interrupt {id} was not handled: {irq:?}"));
            }
        }
        if let Some(pe) = (0..self.setup.pes)
            .find(|pe| owners[*pe] == Owner::NormalWorld && self.system.machine.pending(*pe).is_some())
        {
            return Err(format!("an interrupt is pending on PE {pe}"));
        }
        Ok(())
    }
}

fn as_work_if(so: bool) -> Taken {
    if so { Taken::AS_WORK } else { Taken::empty() }
}

fn by_all_if(so: bool) -> Taken {
    if so { Taken::all() } else { Taken::empty() }
}

/// Place of a partition by its id, and the other way round.
fn place(id: u16) -> usize {
    usize::from(id & 0x7fff) - 1
}

fn id(place: usize) -> u64 {
    0x8001 + u64::try_from(place).expect("few")
}

/// Whose a slot is.
fn place_of(slot: &Slot, spmc: &Spmc) -> Option<(usize, usize)> {
    spmc.partitions().iter().enumerate().find_map(|(index, partition)| {
        let vcpu = partition.slots.iter().position(|other| std::ptr::eq(other, slot))?;
        Some((index, vcpu))
    })
}
