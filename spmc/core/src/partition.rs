//! A partition: what its manifest says, which does not change, and the little that does.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use spin::mutex::TicketMutex;
use tantalum_stage2::{Access, Execute, IpaRange, TableAddr, TableMemory, Tables, Tlb};

use crate::{
    abi::{V1_2, Version},
    addr::{PageRange, PhysAddr, World},
    console::{LogBudget, LogLine},
    context::{El1Registers, Stage2Roots},
    id::{EndpointId, PeIndex, SpId, VcpuIndex},
    interrupt::{Signal, distributor::Distributor},
    machine::Machine,
    mailbox::{Buffers, Mailbox},
    manifest::partition::{
        Access as Granted, Interrupt, MessagingMethod, NsInterruptsAction, OtherSInterruptsAction, Service, SriPolicy,
    },
    notification::Notifications,
    notifying::for_partition,
    restart::Restart,
    vcpu::Slot,
    watch::TimeLimits,
};

/// How execution contexts and PEs belong together (FF-A 1.2, "Execution contexts": MP and UP partitions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Multiplicity {
    /// One context for each PE, pinned to it.
    Pinned,
    /// One context, which runs on any PE.
    Migratable,
}

/// Memory that a partition may access, as the fault report names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// "memory", or the name of the node in its manifest.
    pub name: String,
    /// Where it is; IPA and PA are the same.
    pub range: PageRange,
    /// Which of the two IPA spaces.
    pub world: World,
    /// Letters r, w, x as granted, for people.
    pub access: crate::manifest::partition::Access,
    /// Whether it is a device.
    pub device: bool,
}

impl Region {
    /// What stage 2 lets the partition do, as its manifest has it.
    #[must_use]
    pub fn stage2(&self) -> (Access, Execute) {
        let access = match (
            self.access.contains(Granted::READ),
            self.access.contains(Granted::WRITE),
        ) {
            (true, true) => Access::ReadWrite,
            (true, false) => Access::ReadOnly,
            (false, true) => Access::WriteOnly,
            (false, false) => Access::None,
        };
        let executable = self.access.contains(Granted::EXECUTE) && !self.device && self.world == World::Secure;
        (access, if executable { Execute::Always } else { Execute::Never })
    }
}

/// Health of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Health {
    /// Not yet initialised.
    Starting = 0,
    /// Initialised on the boot PE: may be sent messages.
    Ready = 1,
    /// Stopped for good.
    Stopped = 2,
}

/// A secure partition.
///
/// Everything without interior mutability is fixed at boot. The atomics are independent of each other.
#[derive(Debug)]
pub struct Partition {
    /// Its endpoint id.
    pub id: SpId,
    /// Its name, for people.
    pub name: String,
    /// UUIDs with their messaging methods.
    pub services: Vec<Service>,
    /// All messaging methods together.
    pub messaging: MessagingMethod,
    /// Pinned or migratable.
    pub multiplicity: Multiplicity,
    /// Action on an interrupt of the normal world.
    pub ns_interrupts: NsInterruptsAction,
    /// How it is told to give up the PE (managed exit).
    pub managed_exit: Signal,
    /// The interrupts of its devices.
    pub devices: Vec<Interrupt>,
    /// What an interrupt of another partition does while it runs.
    pub other_s_interrupts: OtherSInterruptsAction,
    /// How long it may keep the normal world's interrupts away.
    pub time_limits: TimeLimits,
    /// When the scheduler of the normal world is told of its interrupts, instead of the SPMC running it.
    pub sri_policy: SriPolicy,
    /// What it has written to its virtual interrupt controller; its contexts have a virtual CPU interface each then.
    pub gic: Option<Box<TicketMutex<Distributor>>>,
    /// Its notifications, if its manifest asks for them.
    pub notifications: Option<Box<TicketMutex<Notifications>>>,
    /// Which availability messages it wants (shown in its properties).
    pub vm_availability: crate::manifest::partition::VmAvailability,
    /// Which power messages it wants.
    pub power: crate::manifest::partition::PowerManagement,
    /// Its memory: image and RAM.
    pub memory: PageRange,
    /// All that it may access.
    pub regions: Vec<Region>,
    /// Where the first context starts.
    pub entry: u64,
    /// Boot information: register number and address.
    pub boot_info: Option<(u8, u64)>,
    /// SMC function identifiers that are passed on to EL3.
    pub smc_whitelist: Vec<u32>,
    /// All SMCs outside FF-A are passed on.
    pub smc_whitelist_permissive: bool,
    /// EL1 registers of its contexts when it is at S-EL0; `None` when it is at S-EL1.
    pub el1: Option<Box<El1Registers>>,
    /// Roots of its stage-2 tables.
    pub roots: Stage2Roots,
    /// Its stage-2 tables.
    pub tables: TicketMutex<Stage2Tables>,
    /// Its RX/TX buffers.
    pub mailbox: Mailbox,
    /// How to start it afresh, if it may be.
    pub restart: Option<Box<Restart>>,
    /// Its execution contexts.
    pub slots: Vec<Slot>,
    /// What it has written to the console and not ended with a new line yet, one a context.
    pub log: Vec<TicketMutex<LogLine>>,
    /// How much more it may write.
    pub log_budget: TicketMutex<LogBudget>,
    version: AtomicU32,
    health: AtomicU8,
    secondary_entry: AtomicU64,
    reports: AtomicU32,
}

/// The two stage-2 spaces of a partition.
#[derive(Debug)]
pub struct Stage2Tables {
    /// Secure IPA space.
    pub secure: Tables,
    /// Non-secure IPA space.
    pub non_secure: Tables,
    /// Tables of both when the partition was built.
    at_boot: usize,
}

impl Stage2Tables {
    /// The spaces of a partition that was built.
    #[must_use]
    pub const fn new(secure: Tables, non_secure: Tables) -> Self {
        let at_boot = secure.table_count().saturating_add(non_secure.table_count());
        Self {
            secure,
            non_secure,
            at_boot,
        }
    }

    /// How many tables more the partition may take, of `free` that there are: as many as it leaves for all others. Of what
    /// was free at first, one partition gets half, the next a quarter, and so on.
    pub(crate) const fn share_of(&self, free: usize) -> usize {
        let count = self.secure.table_count().saturating_add(self.non_secure.table_count());
        free.saturating_sub(count.saturating_sub(self.at_boot)).div_ceil(2)
    }
}

/// Table memory of a partition's stage-2 tables, with what invalidates TLBs of them. One type for all changes to tables, so
/// that there is one copy of the code that makes them.
#[derive(Debug)]
pub(crate) struct OnPartition<'m, M> {
    machine: &'m mut M,
    roots: Option<Stage2Roots>,
    /// Tables that may still be taken.
    pub(crate) left: usize,
}

impl<'m, M> OnPartition<'m, M> {
    /// Tables with `roots`.
    pub(crate) const fn new(machine: &'m mut M, roots: Stage2Roots) -> Self {
        Self {
            machine,
            roots: Some(roots),
            left: usize::MAX,
        }
    }

    /// The same, of which no more than the partition's share may be taken.
    pub(crate) fn fair(machine: &'m mut M, roots: Stage2Roots, tables: &Stage2Tables) -> Self
    where
        M: TableMemory,
    {
        let left = tables.share_of(machine.free_tables());
        Self {
            left,
            ..Self::new(machine, roots)
        }
    }

    /// Tables that no PE walks yet, of no more than `share` pages.
    pub(crate) const fn not_live(machine: &'m mut M, share: usize) -> Self {
        Self {
            machine,
            roots: None,
            left: share,
        }
    }

    /// The memory alone.
    #[inline]
    pub(crate) const fn memory(&self) -> &M {
        self.machine
    }
}

impl<M: Machine> TableMemory for OnPartition<'_, M> {
    fn allocate_table(&mut self) -> Option<TableAddr> {
        let left = self.left.checked_sub(1)?;
        let table = self.machine.allocate_table()?;
        self.left = left;
        Some(table)
    }

    fn free_table(&mut self, table: TableAddr) {
        self.left = self.left.saturating_add(1);
        self.machine.free_table(table);
    }

    #[inline]
    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64 {
        self.machine.read_descriptor(table, index)
    }

    #[inline]
    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64) {
        self.machine.write_descriptor(table, index, value);
    }

    #[inline]
    fn update_descriptor(&mut self, table: TableAddr, index: usize, change: impl FnOnce(u64) -> u64) -> u64 {
        self.machine.update_descriptor(table, index, change)
    }
}

impl<M: Machine> Tlb for OnPartition<'_, M> {
    fn invalidate(&mut self, _: IpaRange) {
        if let Some(roots) = self.roots {
            self.machine.invalidate_stage2(&roots);
        }
    }
}

/// What is fixed about a partition at boot.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields of Partition")]
pub struct Config {
    pub id: SpId,
    pub name: String,
    pub services: Vec<Service>,
    pub multiplicity: Multiplicity,
    pub ns_interrupts: NsInterruptsAction,
    pub managed_exit: Signal,
    pub devices: Vec<Interrupt>,
    pub other_s_interrupts: OtherSInterruptsAction,
    pub time_limits: TimeLimits,
    pub sri_policy: SriPolicy,
    pub virtual_gic: bool,
    pub notifications: bool,
    pub vm_availability: crate::manifest::partition::VmAvailability,
    pub power: crate::manifest::partition::PowerManagement,
    pub memory: PageRange,
    pub regions: Vec<Region>,
    pub entry: u64,
    pub boot_info: Option<(u8, u64)>,
    pub smc_whitelist: Vec<u32>,
    pub smc_whitelist_permissive: bool,
    pub el1: Option<Box<El1Registers>>,
    pub roots: Stage2Roots,
    pub tables: Stage2Tables,
    pub buffers: Option<Buffers>,
    pub restart: Option<Box<Restart>>,
    pub slots: Vec<Slot>,
    pub version: Version,
}

impl Partition {
    /// A partition that has not run yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let messaging = config
            .services
            .iter()
            .fold(MessagingMethod::empty(), |all, s| all | s.messaging);
        let slots = config.slots;
        let mut log = Vec::with_capacity(slots.len());
        log.resize_with(slots.len(), || TicketMutex::new(LogLine::new()));
        Self {
            id: config.id,
            name: config.name,
            services: config.services,
            messaging,
            multiplicity: config.multiplicity,
            ns_interrupts: config.ns_interrupts,
            managed_exit: config.managed_exit,
            devices: config.devices,
            other_s_interrupts: config.other_s_interrupts,
            time_limits: config.time_limits,
            sri_policy: config.sri_policy,
            gic: config
                .virtual_gic
                .then(|| Box::new(TicketMutex::new(Distributor::new(slots.len())))),
            notifications: for_partition(config.notifications, slots.len()),
            vm_availability: config.vm_availability,
            power: config.power,
            memory: config.memory,
            regions: config.regions,
            entry: config.entry,
            boot_info: config.boot_info,
            smc_whitelist: config.smc_whitelist,
            smc_whitelist_permissive: config.smc_whitelist_permissive,
            el1: config.el1,
            roots: config.roots,
            tables: TicketMutex::new(config.tables),
            mailbox: Mailbox::new(config.buffers),
            restart: config.restart,
            slots,
            log,
            log_budget: TicketMutex::new(LogBudget::new()),
            version: AtomicU32::new(u32::from(config.version)),
            health: AtomicU8::new(Health::Starting as u8),
            secondary_entry: AtomicU64::new(config.entry),
            reports: AtomicU32::new(0),
        }
    }

    /// Its id as any endpoint's.
    #[inline(always)]
    #[must_use]
    pub fn endpoint(&self) -> EndpointId {
        self.id.endpoint()
    }

    /// Health.
    #[must_use]
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Acquire) {
            0 => Health::Starting,
            1 => Health::Ready,
            _ => Health::Stopped,
        }
    }

    /// What of it changes when it stops and starts.
    #[cfg(feature = "fake")]
    pub(crate) fn life(&self) -> (&AtomicU8, &AtomicU32) {
        (&self.health, &self.version)
    }

    /// Whether it was stopped.
    #[inline(always)]
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.health.load(Ordering::Acquire) == Health::Stopped as u8
    }

    /// The boot PE's context has initialised. A partition that was stopped stays stopped.
    pub fn set_ready(&self) {
        let _ = self.health.compare_exchange(
            Health::Starting as u8,
            Health::Ready as u8,
            Ordering::AcqRel,
            Ordering::Acquire,
        );
    }

    /// It is about to run from its entry point again, as `version`.
    pub(crate) fn start_afresh(&self, version: Version) {
        self.version.store(u32::from(version), Ordering::Relaxed);
        self.secondary_entry.store(self.entry, Ordering::Release);
        self.health.store(Health::Starting as u8, Ordering::Release);
    }

    /// Stops it. Says whether it was running before: whoever gets `true` tells the people.
    pub fn stop(&self) -> bool {
        self.health.swap(Health::Stopped as u8, Ordering::AcqRel) != Health::Stopped as u8
    }

    /// The FF-A version that it has negotiated, at first its manifest's.
    #[must_use]
    pub fn version(&self) -> Version {
        decode_version(self.version.load(Ordering::Relaxed))
    }

    /// Whether it speaks FF-A 1.2 or newer.
    #[inline(always)]
    #[must_use]
    pub fn is_v1_2(&self) -> bool {
        self.version.load(Ordering::Relaxed) & !VERSION_LOCKED >= u32::from(V1_2)
    }

    /// FFA_VERSION: takes `version` unless another call has been made since; the one in force may be repeated.
    #[must_use]
    pub fn negotiate(&self, version: Version) -> bool {
        negotiate(&self.version, version)
    }

    /// Another call than FFA_VERSION was made: the version stays as it is from here on.
    #[inline(always)]
    pub fn lock_version(&self) {
        lock_version(&self.version);
    }

    /// Where contexts of the other PEs start.
    #[must_use]
    pub fn secondary_entry(&self) -> u64 {
        self.secondary_entry.load(Ordering::Acquire)
    }

    /// FFA_SECONDARY_EP_REGISTER.
    pub fn set_secondary_entry(&self, entry: u64) {
        self.secondary_entry.store(entry, Ordering::Release);
    }

    /// The context of this partition that runs on `pe`.
    #[inline(always)]
    #[must_use]
    pub fn vcpu_on(&self, pe: PeIndex) -> VcpuIndex {
        match self.multiplicity {
            Multiplicity::Pinned => VcpuIndex::new(pe.as_u16()),
            Multiplicity::Migratable => VcpuIndex::new(0),
        }
    }

    /// The slot of a context.
    #[inline(always)]
    #[must_use]
    pub fn slot(&self, vcpu: VcpuIndex) -> Option<&Slot> {
        self.slots.get(vcpu.index())
    }

    /// Counts a message about this partition; says whether it may still be printed, and whether it is the last.
    pub fn may_report(&self) -> Option<bool> {
        let before = self.reports.fetch_add(1, Ordering::Relaxed);
        if before > MAX_REPORTS {
            // saturate far below the wrap
            self.reports.store(MAX_REPORTS + 1, Ordering::Relaxed);
        }
        (before < MAX_REPORTS).then_some(before + 1 == MAX_REPORTS)
    }

    /// The region that holds an address of one of its IPA spaces.
    #[must_use]
    pub fn region_at(&self, world: World, address: u64) -> Option<&Region> {
        self.regions
            .iter()
            .find(|region| region.world == world && region.range.contains(PhysAddr::new(address)))
    }
}

/// Messages about survivable misbehaviour that a partition gets on the console, in all.
const MAX_REPORTS: u32 = 8;

/// The bit of a stored version, which no version has, that says that it is final.
const VERSION_LOCKED: u32 = 1 << 31;

/// FFA_VERSION: takes `version` while the one in `stored` is not final; the final one may be repeated.
pub(crate) fn negotiate(stored: &AtomicU32, version: Version) -> bool {
    let take = |current| (current & VERSION_LOCKED == 0).then_some(u32::from(version));
    match stored.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
        Ok(_) => true,
        Err(current) => current & !VERSION_LOCKED == u32::from(version),
    }
}

/// Makes the version in `stored` final.
#[inline(always)]
pub(crate) fn lock_version(stored: &AtomicU32) {
    if stored.load(Ordering::Relaxed) & VERSION_LOCKED == 0 {
        stored.fetch_or(VERSION_LOCKED, Ordering::Relaxed);
    }
}

/// The version in an atomic, final or not.
#[expect(clippy::cast_possible_truncation, reason = "two halves of 32 bits")]
pub(crate) fn decode_version(raw: u32) -> Version {
    let raw = raw & !VERSION_LOCKED;
    Version((raw >> 16) as u16, raw as u16)
}
