//! Small SPMCs without manifests.

use alloc::{boxed::Box, string::String, vec, vec::Vec};

use tantalum_stage2::{Attributes, Granule, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress, Ownership, Tables};
use uuid::Uuid;

use crate::{
    abi::{V1_2, Version},
    addr::{PageRange, PhysAddr, World},
    context::{Context, Stage2Roots},
    id::SpId,
    interrupt::{Signal, distributor::Frames},
    machine::fake::FakeMachine,
    mailbox::Buffers,
    manifest::{
        partition::{
            Access, Interrupt, InterruptKind, MessagingMethod, NsInterruptsAction, OtherSInterruptsAction,
            PowerManagement, Service, SriPolicy, Trigger, VmAvailability,
        },
        spmc::{MemoryKind, MemoryRange, Mpidr},
    },
    memory::{Limits, MemoryManager},
    partition::{Config, Multiplicity, OnPartition, Partition, Region, Stage2Tables},
    restart::Restart,
    s_el0::Environment,
    spmc::Spmc,
    vcpu::Slot,
    watch::{NO_LIMIT, TimeLimits},
};

/// Where the SPMC is.
const SPMC_BASE: u64 = 0x0e10_0000;
/// Where the first partition is.
const PARTITIONS_BASE: u64 = 0x0e30_0000;
/// Bytes from one partition to the next.
const PARTITION_STRIDE: u64 = 0x0010_0000;
/// Pages of a partition.
const PARTITION_PAGES: u64 = 16;

/// How long partitions may keep the normal world's interrupts away, in ticks.
const TIME_LIMITS: TimeLimits = TimeLimits {
    interrupt: 8_000_000,
    queued: NO_LIMIT,
    firmware: 80_000_000,
    start: 800_000_000,
};

/// A partition to be. All fields have defaults: pinned, preemptible, FF-A 1.2, all direct messages.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields of Config")]
pub struct PartitionBuilder {
    pub name: String,
    pub services: Vec<Service>,
    pub multiplicity: Multiplicity,
    pub ns_interrupts: NsInterruptsAction,
    pub managed_exit: Signal,
    pub devices: Vec<Interrupt>,
    pub other_s_interrupts: OtherSInterruptsAction,
    pub sri_policy: SriPolicy,
    pub time_limits: TimeLimits,
    pub version: Version,
    pub boot_info: Option<(u8, u64)>,
    pub smc_whitelist: Vec<u32>,
    pub smc_whitelist_permissive: bool,
    pub virtual_gic: bool,
    pub notifications: bool,
    pub power: PowerManagement,
    pub vm_availability: VmAvailability,
    /// It has RX/TX buffers from the start, see [`Builder::buffers`].
    pub buffers: bool,
    /// It may be started afresh, from [`Builder::saved`].
    pub restart: bool,
    /// It is at S-EL0.
    pub s_el0: bool,
    /// Regions besides its memory.
    pub regions: Vec<Region>,
}

impl PartitionBuilder {
    /// Makes it a partition with one context that runs on any PE.
    #[must_use]
    pub fn migratable(mut self) -> Self {
        self.multiplicity = Multiplicity::Migratable;
        self
    }

    /// Makes it a partition at S-EL0: with one context, and its regions mapped.
    #[must_use]
    pub fn s_el0(mut self) -> Self {
        self.s_el0 = true;
        self.migratable()
    }

    /// Adds a region of normal memory.
    #[must_use]
    pub fn region(mut self, name: &str, world: World, base: u64, pages: u64, access: Access) -> Self {
        self.regions.push(Region {
            name: name.into(),
            range: range(base, pages),
            world,
            access,
            device: false,
        });
        self
    }

    /// Makes it hold back interrupts of the normal world.
    #[must_use]
    pub fn queued(mut self) -> Self {
        self.ns_interrupts = NsInterruptsAction::Queued;
        self
    }

    /// Lets it hold them back for as long as it likes, whatever it does.
    #[must_use]
    pub fn unlimited(mut self) -> Self {
        self.time_limits = TimeLimits {
            interrupt: NO_LIMIT,
            queued: NO_LIMIT,
            firmware: NO_LIMIT,
            start: NO_LIMIT,
        };
        self
    }

    /// Gives it a secure device interrupt.
    #[must_use]
    pub fn device_interrupt(mut self, id: u32, trigger: Trigger) -> Self {
        self.devices.push(Interrupt {
            id,
            priority: 0,
            world: World::Secure,
            trigger,
            kind: if id < 32 {
                InterruptKind::Ppi
            } else {
                InterruptKind::Spi
            },
            target: None,
        });
        self
    }

    /// The FF-A version of its manifest.
    #[must_use]
    pub fn version(mut self, major: u16, minor: u16) -> Self {
        self.version = Version(major, minor);
        self
    }

    /// What its services (just one at first) send and receive.
    #[must_use]
    pub fn messaging(mut self, messaging: MessagingMethod) -> Self {
        for service in &mut self.services {
            service.messaging = messaging;
        }
        self
    }

    /// Adds a service.
    #[must_use]
    pub fn service(mut self, uuid: u128, messaging: MessagingMethod) -> Self {
        self.services.push(Service {
            uuid: Uuid::from_u128(uuid),
            messaging,
        });
        self
    }

    /// Lets it send and receive indirect messages, with one page each of RX and TX, and notifications.
    #[must_use]
    pub fn indirect(mut self) -> Self {
        self.notifications = true;
        self.buffers = true;
        for service in &mut self.services {
            service.messaging |= MessagingMethod::INDIRECT;
        }
        self
    }

    /// Power messages that it wants.
    #[must_use]
    pub fn power(mut self, power: PowerManagement) -> Self {
        self.power = power;
        self
    }

    /// Messages about VMs that it wants.
    #[must_use]
    pub fn vm_availability(mut self, messages: VmAvailability) -> Self {
        self.vm_availability = messages;
        self
    }

    /// Lets it be started afresh after a fault.
    #[must_use]
    pub fn restart(mut self) -> Self {
        self.restart = true;
        self
    }

    /// Lets it make one SMC outside FF-A.
    #[must_use]
    pub fn smc(mut self, id: u32) -> Self {
        self.smc_whitelist.push(id);
        self
    }
}

/// An SPMC to be. Partitions get the ids 0x8001, 0x8002, ... and boot in that order.
#[derive(Clone, Debug)]
pub struct Builder {
    pes: usize,
    partitions: Vec<PartitionBuilder>,
}

impl Builder {
    /// An SPMC on `pes` PEs, with no partition.
    #[must_use]
    pub fn new(pes: usize) -> Self {
        Self {
            pes,
            partitions: Vec::new(),
        }
    }

    /// UUID of the first service of the partition `id`.
    #[must_use]
    pub fn uuid(id: u16) -> Uuid {
        Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0000 | u128::from(id))
    }

    /// Adds a partition with the defaults.
    #[must_use]
    pub fn partition(self, name: &str) -> Self {
        self.partition_with(name, |partition| partition)
    }

    /// Adds a partition; `change` may alter what it is.
    #[must_use]
    pub fn partition_with(mut self, name: &str, change: impl FnOnce(PartitionBuilder) -> PartitionBuilder) -> Self {
        let id = self.id(self.partitions.len()).as_u16();
        let partition = PartitionBuilder {
            name: name.into(),
            services: vec![Service {
                uuid: Self::uuid(id),
                messaging: MessagingMethod::DIRECT_REQ_RECEIVE
                    | MessagingMethod::DIRECT_REQ_SEND
                    | MessagingMethod::DIRECT_REQ2_RECEIVE
                    | MessagingMethod::DIRECT_REQ2_SEND,
            }],
            multiplicity: Multiplicity::Pinned,
            ns_interrupts: NsInterruptsAction::Signaled,
            managed_exit: Signal::Fiq,
            devices: Vec::new(),
            other_s_interrupts: OtherSInterruptsAction::Signaled,
            sri_policy: SriPolicy::empty(),
            time_limits: TIME_LIMITS,
            version: V1_2,
            boot_info: None,
            smc_whitelist: Vec::new(),
            smc_whitelist_permissive: false,
            virtual_gic: false,
            notifications: false,
            power: PowerManagement::empty(),
            vm_availability: VmAvailability::empty(),
            buffers: false,
            restart: false,
            s_el0: false,
            regions: Vec::new(),
        };
        self.partitions.push(change(partition));
        self
    }

    fn id(&self, index: usize) -> SpId {
        let number = u16::try_from(index.saturating_add(1)).expect("few partitions");
        SpId::from_vm_number(number).expect("few partitions")
    }

    /// The SPMC, and the machine that holds its tables.
    #[must_use]
    pub fn build(self) -> (Spmc, FakeMachine) {
        let mut machine = FakeMachine::new(self.pes);
        let cpus = (0..self.pes).map(|index| Mpidr::from_register(index as u64)).collect();
        let memory = range(SPMC_BASE, 0x100);
        let declared = declared();
        let environment = self.partitions.iter().any(|partition| partition.s_el0).then(|| {
            Environment::new(&mut machine, usize::MAX, IpaSize::Bits39, &memory, &declared)
                .expect("fake memory has no end")
        });
        let partitions: Vec<_> = self
            .partitions
            .iter()
            .enumerate()
            .map(|(index, p)| self.build_one(index, p, environment.as_ref(), &mut machine))
            .collect();
        let taken = partitions.iter().flat_map(|partition: &Partition| {
            let regions = partition.regions.iter();
            regions
                .filter(|region| region.world == World::NonSecure)
                .map(|region| region.range)
        });
        let shares =
            MemoryManager::new(&mut machine, &declared, taken, Limits::default()).expect("fake memory has no end");
        let board = Frames {
            distributor: 0x0800_0000,
            redistributors: 0x080a_0000,
        };
        let spmc = Spmc::new(cpus, partitions, memory, declared, IpaSize::Bits39, shares)
            .with_interrupt_controller(None, board);
        for partition in spmc.partitions() {
            let buffers = partition.mailbox.lock().take();
            spmc.take_buffers(&mut machine, partition, buffers);
        }
        (spmc, machine)
    }

    fn build_one(
        &self,
        index: usize,
        builder: &PartitionBuilder,
        environment: Option<&Environment>,
        machine: &mut FakeMachine,
    ) -> Partition {
        let environment = environment.filter(|_| builder.s_el0);
        let mut new = || Tables::new(machine, IpaSize::Bits39).expect("fake memory has no end");
        let mut tables = Stage2Tables::new(new(), new());
        let roots = Stage2Roots {
            secure: PhysAddr::new(tables.secure.root().0),
            non_secure: PhysAddr::new(tables.non_secure.root().0),
            vmid: u16::try_from(index.saturating_add(1)).expect("few partitions"),
        };
        let memory = Self::memory(index);
        machine.memory.add(World::Secure, memory);
        let pages = IpaRange::new(Ipa(memory.base().as_u64()), memory.pages()).expect("small");
        let memory_access = if builder.s_el0 {
            Access::READ | Access::EXECUTE
        } else {
            Access::all()
        };
        let memory_region = Region {
            name: "memory".into(),
            range: memory,
            world: World::Secure,
            access: memory_access,
            device: false,
        };
        let own = attributes(&memory_region);
        let output = OutputAddress(memory.base().as_u64());
        tables
            .secure
            .map(machine, pages, output, own, Granule::Pages)
            .expect("fake memory has no end");
        for region in builder.regions.iter().filter(|region| region.world == World::NonSecure) {
            let base = region.range.base().as_u64();
            let pages = IpaRange::new(Ipa(base), region.range.pages()).expect("small");
            let attributes = attributes(region);
            tables
                .non_secure
                .map(machine, pages, OutputAddress(base), attributes, Granule::Pages)
                .expect("fake memory has no end");
        }
        let mut regions = builder.regions.clone();
        if let Some(environment) = environment {
            map_s_el0(environment, machine, &mut tables, &regions);
        }
        regions.push(memory_region);
        let contexts = if builder.multiplicity == Multiplicity::Migratable {
            1
        } else {
            self.pes
        };
        Partition::new(Config {
            id: self.id(index),
            name: builder.name.clone(),
            services: builder.services.clone(),
            multiplicity: builder.multiplicity,
            ns_interrupts: builder.ns_interrupts,
            managed_exit: builder.managed_exit,
            devices: builder.devices.clone(),
            other_s_interrupts: builder.other_s_interrupts,
            sri_policy: builder.sri_policy,
            time_limits: builder.time_limits,
            virtual_gic: builder.virtual_gic,
            notifications: builder.notifications,
            vm_availability: builder.vm_availability,
            power: builder.power,
            buffers: builder.buffers.then(|| Self::buffers(index)),
            memory,
            regions,
            entry: memory.base().as_u64(),
            boot_info: builder.boot_info,
            smc_whitelist: builder.smc_whitelist.clone(),
            smc_whitelist_permissive: builder.smc_whitelist_permissive,
            el1: environment.map(|environment| Box::new(environment.el1.clone())),
            roots,
            tables,
            restart: builder.restart.then(|| {
                let version = builder.version;
                let saved = Self::saved(index);
                machine.memory.add(World::Secure, saved);
                Box::new(Restart::new(
                    saved,
                    version,
                    builder.buffers.then(|| Self::buffers(index)),
                ))
            }),
            slots: (0..contexts)
                .map(|_| Slot::new(Box::new(Context::new(roots, 0))))
                .collect(),
            version: builder.version,
        })
    }

    /// RX/TX buffers of the partition that is added as number `index`, in its memory.
    #[must_use]
    pub fn buffers(index: usize) -> Buffers {
        let base = Self::memory(index).base().as_u64();
        Buffers {
            world: World::Secure,
            rx: range(base + 0x8000, 1),
            tx: range(base + 0x9000, 1),
            rx_full: false,
        }
    }

    /// Where the copy of the partition is that is added as number `index`: two pages.
    #[must_use]
    pub fn saved(index: usize) -> PageRange {
        let index = u64::try_from(index).expect("few partitions");
        range(0x0ef0_0000 + 0x2000 * index, 2)
    }

    /// Memory of the partition that is added as number `index`, the first being 0.
    #[must_use]
    pub fn memory(index: usize) -> PageRange {
        let index = u64::try_from(index).expect("few partitions");
        range(
            PARTITIONS_BASE.saturating_add(PARTITION_STRIDE.saturating_mul(index)),
            PARTITION_PAGES,
        )
    }
}

fn range(base: u64, pages: u64) -> PageRange {
    PageRange::new(PhysAddr::new(base), pages).expect("a range")
}

/// What the SPMC manifest would declare.
fn declared() -> Vec<MemoryRange> {
    vec![
        MemoryRange {
            kind: MemoryKind::Memory,
            range: range(SPMC_BASE, 0xf00),
        },
        MemoryRange {
            kind: MemoryKind::NsMemory,
            range: range(0x4000_0000, 0x1000),
        },
        MemoryRange {
            kind: MemoryKind::DeviceMemory,
            range: range(0x0904_0000, 1),
        },
    ]
}

fn attributes(region: &Region) -> Attributes {
    let (access, execute) = region.stage2();
    Attributes::new(MemoryType::NormalWriteBack, access, execute, Ownership::Owned)
}

/// Maps what a partition at S-EL0 has besides its memory.
fn map_s_el0(environment: &Environment, machine: &mut FakeMachine, tables: &mut Stage2Tables, regions: &[Region]) {
    let mut tlb = OnPartition::not_live(machine, usize::MAX);
    environment
        .map(&mut tlb, &mut tables.secure)
        .expect("fake memory has no end");
    for region in regions {
        let tables = match region.world {
            World::Secure => &mut tables.secure,
            World::NonSecure => &mut tables.non_secure,
        };
        let base = region.range.base().as_u64();
        let pages = IpaRange::new(Ipa(base), region.range.pages()).expect("small");
        tables
            .remap(
                &mut tlb,
                pages,
                OutputAddress(base),
                attributes(region),
                Granule::Blocks,
            )
            .expect("fake memory has no end");
    }
}
