//! From an accepted manifest to a partition: stage-2 tables, boot information, execution contexts.

use alloc::{boxed::Box, format, string::String, vec::Vec};

use tantalum_stage2::{Attributes, Granule, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress, Ownership, Tables};

use crate::{
    addr::{PAGE_SIZE, PageRange, PhysAddr, World},
    boot::{Budget, complain, diagnostic, spare::Spare},
    context::{Context, Stage2Roots},
    interrupt::{MAX_DEVICE_INTERRUPTS, NAMED_LINES, Signal},
    machine::Machine,
    mailbox::{Buffers, from_manifest},
    manifest::{
        Package, Report, Severity, SpmcManifest,
        package::ByteRange,
        partition::{AbortAction, Access, BootInfo, ExceptionLevel, Interrupt, PartitionManifest, PowerManagement},
        system,
    },
    partition::{Config, Multiplicity, OnPartition, Partition, Region, Stage2Tables},
    restart::Restart,
    s_el0::Environment,
    sort::sort_by_key,
    vcpu::Slot,
    watch::TimeLimits,
};

/// Bytes of heap that one execution context takes, with its slot, its line of log and the allocator's own.
const CONTEXT_BYTES: usize = size_of::<Context>() + size_of::<Slot>() + 384;
/// Highest VMID with 8 bits.
const MAX_VMID: u16 = 255;

/// Builds partitions one after the other, each with a VMID of its own.
pub(super) struct Builder<'m> {
    pub(super) manifest: &'m SpmcManifest,
    /// The SPMC's own memory.
    pub(super) own: PageRange,
    pub(super) pes: usize,
    pub(super) budget: Budget,
    pub(super) spare: Spare,
    /// Partitions that are still to come.
    pub(super) left: usize,
    pub(super) ipa_size: IpaSize,
    /// Devices of all partitions, with their owners' places in the manifest.
    pub(super) devices: Vec<(usize, PageRange)>,
    /// VMIDs that were given out.
    pub(super) vmid: u16,
    /// What partitions at S-EL0 share, once there is one.
    pub(super) s_el0: Option<Environment>,
}

impl Builder<'_> {
    /// Sets one partition up, or says in `report` why it cannot be.
    #[inline(never)]
    pub(super) fn build<M: Machine>(
        &mut self,
        mut accepted: system::Partition,
        machine: &mut M,
        report: &mut Report,
    ) -> Option<Partition> {
        let name = accepted.name.clone();
        let fail = |report: &mut Report, property, message: &str| {
            complain(report, Severity::Error, &name, "/", property, message);
            None
        };
        let contexts = usize::from(accepted.execution_contexts);
        let at_el0 = accepted.manifest.exception_level == ExceptionLevel::SEl0;
        let migratable = at_el0 || contexts == 1 && self.pes != 1;
        let needed = contexts.saturating_mul(CONTEXT_BYTES);
        // What the ones before have left of their shares is for those that follow.
        let share = self.budget.table_pages.checked_div(self.left).unwrap_or(0);
        self.left = self.left.saturating_sub(1);
        if needed > self.budget.heap_bytes {
            return fail(
                report,
                Some("execution-ctx-count"),
                "the SPMC's memory is too small for so many contexts",
            );
        }
        if self.vmid >= MAX_VMID {
            return fail(report, None, "expected at most 255 partitions");
        }
        if let Err((region, message)) = self.place_regions(&mut accepted, machine) {
            let node = format!("/memory-regions/{region}");
            complain(report, Severity::Error, &name, &node, Some("base-address"), message);
            return None;
        }
        let regions = regions(&accepted);
        if at_el0 && !self.make_s_el0(machine) {
            let message = "the SPMC's memory is too small for the translation tables of S-EL0";
            return fail(report, Some("exception-level"), message);
        }
        let environment = self.s_el0.as_ref().filter(|_| at_el0);
        let tables = match tables(
            &accepted,
            &regions,
            environment,
            self.ipa_size,
            share,
            &self.devices,
            machine,
        ) {
            Ok(tables) => tables,
            Err(message) => return fail(report, None, &message),
        };
        let el1 = environment.map(|environment| Box::new(environment.el1.clone()));
        let taken = tables
            .secure
            .table_count()
            .saturating_add(tables.non_secure.table_count());
        self.budget.table_pages = self.budget.table_pages.saturating_sub(taken);
        self.budget.heap_bytes = self.budget.heap_bytes.saturating_sub(needed);
        self.vmid = self.vmid.saturating_add(1);
        warn_of_what_is_not_obeyed(&accepted, migratable, report);
        let roots = Stage2Roots {
            secure: PhysAddr::new(tables.secure.root().0),
            non_secure: PhysAddr::new(tables.non_secure.root().0),
            vmid: self.vmid,
        };
        let virtual_gic = virtual_gic(&accepted, el1.is_some(), machine, report);
        let devices = device_interrupts(&accepted, virtual_gic, report);
        let buffers = buffers(&accepted, report);
        let boot_info = boot_info(&accepted, machine, report);
        let version = accepted.manifest.ffa_version;
        let restart = self
            .restart(&accepted, machine, report)
            .map(|copy| Box::new(Restart::new(copy, version, buffers)));
        let mut slots = Vec::with_capacity(contexts);
        for _ in 0..contexts {
            slots.push(Slot::new(Box::new(Context::new(roots, 0))));
        }
        let vm = self.manifest.partitions.get(accepted.vm);
        let system::Partition {
            id,
            name,
            memory,
            manifest,
            ..
        } = accepted;
        Some(Partition::new(Config {
            id,
            name,
            services: manifest.services.clone(),
            multiplicity: if migratable {
                Multiplicity::Migratable
            } else {
                Multiplicity::Pinned
            },
            ns_interrupts: manifest.ns_interrupts_action,
            managed_exit: if manifest.managed_exit_virq {
                Signal::Irq
            } else {
                Signal::Fiq
            },
            devices,
            other_s_interrupts: manifest.other_s_interrupts_action,
            time_limits: TimeLimits::new(&manifest.time_limits, machine.frequency()),
            sri_policy: manifest.sri_policy,
            virtual_gic,
            notifications: manifest.notification_support,
            vm_availability: manifest.vm_availability,
            power: manifest.power_management,
            memory,
            regions,
            entry: memory.base().as_u64().saturating_add(manifest.entrypoint_offset),
            boot_info,
            smc_whitelist: vm.map(|vm| vm.smc_whitelist.clone()).unwrap_or_default(),
            smc_whitelist_permissive: vm.is_some_and(|vm| vm.smc_whitelist_permissive),
            el1,
            roots,
            tables,
            buffers,
            restart,
            slots,
            version: manifest.ffa_version,
        }))
    }

    /// Makes what partitions at S-EL0 share, if that was not done before. `false`: there is no memory for it.
    fn make_s_el0<M: Machine>(&mut self, machine: &mut M) -> bool {
        let share = self.budget.table_pages;
        if self.s_el0.is_none()
            && let Ok(new) = Environment::new(machine, share, self.ipa_size, &self.own, &self.manifest.memory)
        {
            self.budget.table_pages = share.saturating_sub(new.page_count());
            self.s_el0 = Some(new);
        }
        self.s_el0.is_some()
    }

    /// Chooses the memory of regions without an address, zeroed, and tells the partition by its manifest. On an error the name of
    /// the region, and what is wrong.
    fn place_regions<M: Machine>(
        &mut self,
        accepted: &mut system::Partition,
        machine: &mut M,
    ) -> Result<(), (String, &'static str)> {
        let mut addresses = Vec::new();
        let mut last = None;
        for (region, range) in accepted.manifest.memory_regions.iter().zip(&mut accepted.region_ranges) {
            let refuse = |message| Err((region.name.clone(), message));
            let placed = match *range {
                Some(_) => None,
                None if region.world == World::NonSecure => {
                    return refuse("missing: memory of the normal world is not the SPMC's to choose");
                }
                None => {
                    *range = self.spare.take(region.pages.into());
                    let Some(range) = *range else {
                        return refuse("missing, and there is not so much secure memory in one piece that nobody has");
                    };
                    if machine.zero(World::Secure, range).is_err() {
                        return refuse("missing, and the memory that was chosen cannot be written");
                    }
                    last = Some(&region.name);
                    Some(range.base())
                }
            };
            addresses.push(placed);
        }
        let Some(name) = last else { return Ok(()) };
        tell_addresses(accepted.memory.base(), &mut accepted.package, &addresses, machine).ok_or_else(|| {
            (
                name.clone(),
                "missing, and there is no room in the package to say which was chosen",
            )
        })
    }

    /// Keeps a copy of the package of a partition that is to be started afresh after a fault.
    fn restart<M: Machine>(
        &mut self,
        accepted: &system::Partition,
        machine: &mut M,
        report: &mut Report,
    ) -> Option<PageRange> {
        let manifest = &accepted.manifest;
        if !manifest.lifecycle_support || manifest.abort_action != Some(AbortAction::Restart) {
            return None;
        }
        let package = &accepted.package;
        let end = |part: &ByteRange| part.offset.saturating_add(part.bytes);
        let bytes = end(&package.image).max(end(&package.manifest));
        let whole = PageRange::from_bytes(accepted.memory.base(), bytes.next_multiple_of(PAGE_SIZE)).ok();
        let copy = whole.and_then(|whole| self.spare.keep(machine, whole));
        if copy.is_none() {
            let message = "no free secure memory for a copy of the package: after a fault the partition stays stopped";
            complain(
                report,
                Severity::Warning,
                &accepted.name,
                "/",
                Some("abort-action"),
                message,
            );
        }
        copy
    }
}

/// Writes the addresses that were chosen into the manifest: where it is, if there is room for so many bytes more, else where
/// there is room for boot information, behind that.
fn tell_addresses<M: Machine>(
    base: PhysAddr,
    package: &mut Package,
    addresses: &[Option<PhysAddr>],
    machine: &mut M,
) -> Option<()> {
    let at = base.checked_add(package.manifest.offset)?;
    let mut blob = alloc::vec![0; usize::try_from(package.manifest.bytes).ok()?];
    machine.copy_in(World::Secure, at, &mut blob).ok()?;
    let blob = PartitionManifest::with_addresses(&blob, addresses)?;
    let mut told = ByteRange {
        offset: package.manifest.offset,
        bytes: u64::try_from(blob.len()).ok()?,
    };
    if told.bytes > package.manifest_room() {
        let room = package.boot_info?;
        told.offset = room.offset.checked_add(BLOB_BYTES)?.checked_next_multiple_of(8)?;
        if told.end() > room.end() {
            return None;
        }
    }
    package.manifest = told;
    let at = base.checked_add(told.offset)?;
    machine.copy_out(World::Secure, at, &blob).ok()?;
    let pages = PageRange::from_bytes(
        at.page_base(),
        at.page_offset().checked_add(told.bytes)?.next_multiple_of(PAGE_SIZE),
    );
    machine.synchronise_code(World::Secure, pages.ok()?);
    Some(())
}

/// What the partition may access: its memory first, then the regions of its manifest.
fn regions(accepted: &system::Partition) -> Vec<Region> {
    let manifest = &accepted.manifest;
    let mut regions = Vec::new();
    let mut add = |name: &str, range, world, access, device| {
        regions.push(Region {
            name: name.into(),
            range,
            world,
            access,
            device,
        });
    };
    for (region, range) in manifest.memory_regions.iter().zip(&accepted.region_ranges) {
        if let Some(range) = *range {
            add(&region.name, range, region.world, region.access, false);
        }
    }
    for region in &manifest.device_regions {
        add(&region.name, region.range, region.world, region.access, true);
    }
    // At S-EL0 nothing is both writable and executable. The partition says what it is by FFA_MEM_PERM_SET.
    let access = if manifest.exception_level == ExceptionLevel::SEl0 {
        Access::READ | Access::EXECUTE
    } else {
        Access::all()
    };
    // The narrowest is looked at first when an address is explained, and mapped last: a region of all of the partition's
    // memory comes before the memory.
    add("memory", accepted.memory, World::Secure, access, false);
    sort_by_key(&mut regions, |region| region.range.pages());
    regions
}

/// The interrupts of its devices, as many as it can have.
fn device_interrupts(accepted: &system::Partition, virtual_gic: bool, report: &mut Report) -> Vec<Interrupt> {
    let mut interrupts = Vec::new();
    let [_, by_register] = NAMED_LINES;
    for region in &accepted.manifest.device_regions {
        for interrupt in &region.interrupts {
            let message = if interrupt.world == World::NonSecure {
                "a partition cannot have an interrupt of the normal world: it stays there"
            } else if virtual_gic && by_register.contains(&interrupt.id) {
                "the virtual interrupt controller has another one of this number: it does not get it"
            } else if interrupts.len() >= MAX_DEVICE_INTERRUPTS {
                "expected at most 45 interrupts in a partition: it does not get this one"
            } else {
                interrupts.push(*interrupt);
                continue;
            };
            let mut warning = diagnostic(
                Severity::Warning,
                &accepted.name,
                &format!("/device-regions/{}", region.name),
                Some("interrupts"),
                message,
            );
            warning.value = Some(format!("{}", u64::from(interrupt.id)));
            report.push(warning);
        }
    }
    interrupts
}

/// Whether a partition gets the virtual CPU interface that it asks for.
fn virtual_gic<M: Machine>(accepted: &system::Partition, at_el0: bool, machine: &mut M, report: &mut Report) -> bool {
    if !accepted.manifest.virtual_gic {
        return false;
    }
    let message = if at_el0 {
        "a partition at S-EL0 has no use for it"
    } else if machine.has_virtual_gic() {
        return true;
    } else {
        "this machine does not give S-EL1 a virtual CPU interface: the partition has the calls only"
    };
    let property = Some("tantalum,virtual-gic");
    complain(report, Severity::Warning, &accepted.name, "/", property, message);
    false
}

/// `alone`: no other partition has it by its manifest.
fn attributes(region: &Region, alone: bool) -> Attributes {
    let memory = if region.device {
        MemoryType::DeviceNGnRnE
    } else {
        MemoryType::NormalWriteBack
    };
    let (access, execute) = region.stage2();
    let ownership = if alone { Ownership::Owned } else { Ownership::Device };
    Attributes::new(memory, access, execute, ownership)
}

/// Both stage-2 spaces of a partition: IPA and PA are the same.
fn tables<M: Machine>(
    accepted: &system::Partition,
    regions: &[Region],
    environment: Option<&Environment>,
    size: IpaSize,
    share: usize,
    devices: &[(usize, PageRange)],
    machine: &mut M,
) -> Result<Stage2Tables, String> {
    // Never live before boot is over: there is nothing to invalidate.
    let mut memory = OnPartition::not_live(machine, share);
    let mut secure = Tables::new(&mut memory, size).map_err(|_| String::from(TOO_SMALL))?;
    let message = match Tables::new(&mut memory, size) {
        Err(_) => TOO_SMALL.into(),
        Ok(mut non_secure) => {
            let spaces = (&mut secure, &mut non_secure);
            match fill(spaces, &mut memory, accepted, regions, environment, devices) {
                Ok(()) => return Ok(Stage2Tables::new(secure, non_secure)),
                Err(message) => {
                    non_secure.destroy(&mut memory).complete(&mut memory);
                    message
                }
            }
        }
    };
    secure.destroy(&mut memory).complete(&mut memory);
    Err(message)
}

const TOO_SMALL: &str = "its translation tables take more than its share of the SPMC's memory: expected fewer regions, \
                         or regions closer to each other";

/// Maps the regions, and what a partition at S-EL0 needs, in the secure and the non-secure space. On an error what is wrong.
fn fill<M: Machine>(
    (secure, non_secure): (&mut Tables, &mut Tables),
    memory: &mut OnPartition<'_, M>,
    accepted: &system::Partition,
    regions: &[Region],
    environment: Option<&Environment>,
    devices: &[(usize, PageRange)],
) -> Result<(), String> {
    // Largest first: regions of the partition's own memory replace what is there.
    for region in regions.iter().rev() {
        let tables = if region.world == World::Secure {
            &mut *secure
        } else {
            &mut *non_secure
        };
        let shared = |(owner, range): &(usize, PageRange)| *owner != accepted.vm && range.overlaps(&region.range);
        let attributes = attributes(region, !devices.iter().any(shared));
        map(tables, memory, accepted, region, attributes).map_err(|error| {
            let why = match error {
                tantalum_stage2::Error::OutOfTables => return String::from(TOO_SMALL),
                tantalum_stage2::Error::AlreadyMapped { .. } => "overlaps another region of the partition",
                _ => "cannot be mapped",
            };
            format!("region \"{}\" {}: {why}", region.name, region.range)
        })?;
    }
    match environment {
        Some(environment) => environment.map(memory, secure).map_err(|_| TOO_SMALL.into()),
        None => Ok(()),
    }
}

fn map<M: Machine>(
    tables: &mut Tables,
    memory: &mut OnPartition<'_, M>,
    accepted: &system::Partition,
    region: &Region,
    attributes: Attributes,
) -> Result<(), tantalum_stage2::Error> {
    let base = region.range.base().as_u64();
    let range = IpaRange::new(Ipa(base), region.range.pages()).ok_or(tantalum_stage2::Error::OutsideIpaSpace)?;
    let output = OutputAddress(base);
    let inside = region.world == World::Secure && accepted.memory.contains_range(&region.range);
    if inside {
        tables.remap(memory, range, output, attributes, Granule::Blocks)
    } else {
        tables.map(memory, range, output, attributes, Granule::Blocks)
    }
}

/// The RX/TX buffers that the manifest names (`rx_tx-info`).
fn buffers(accepted: &system::Partition, report: &mut Report) -> Option<Buffers> {
    let rx_tx = accepted.manifest.rx_tx?;
    let region = |index: usize, access: Access| {
        let region = accepted.manifest.memory_regions.get(index)?;
        let range = (*accepted.region_ranges.get(index)?)?;
        region.access.contains(access).then_some((range, region.world))
    };
    let buffers = match (
        region(rx_tx.rx, Access::READ),
        region(rx_tx.tx, Access::READ | Access::WRITE),
    ) {
        (Some((rx, world)), Some((tx, same))) if world == same => from_manifest(rx, tx, world),
        _ => None,
    };
    if buffers.is_none() {
        let message = "expected two regions of the same size and world, readable, and TX writable: it has no buffers";
        complain(report, Severity::Warning, &accepted.name, "/rx_tx-info", None, message);
    }
    buffers
}

/// Writes the boot information (FF-A 1.1, "Boot information protocol") and returns the register and the address to pass.
fn boot_info<M: Machine>(accepted: &system::Partition, machine: &mut M, report: &mut Report) -> Option<(u8, u64)> {
    let manifest = &accepted.manifest;
    let register = manifest.gp_register_num?;
    let package = &accepted.package;
    // Without a node that says what: the manifest.
    let info = manifest.boot_info.unwrap_or(BootInfo {
        ffa_manifest: true,
        hob_list: false,
    });
    let mut warn = |message: &str| {
        complain(
            report,
            Severity::Warning,
            &accepted.name,
            "/",
            Some("gp-register-num"),
            message,
        );
    };
    if info.hob_list && package.hob.is_none() {
        warn("the package has no list of hand-off blocks: it is not passed");
    }
    let contents = [
        Some((FDT, package.manifest)).filter(|_| info.ffa_manifest),
        package.hob.map(|hob| (HOB_LIST, hob)).filter(|_| info.hob_list),
    ];
    if contents == [None; 2] {
        return None;
    }
    let Some(room) = package.boot_info.filter(|room| room.bytes >= BLOB_BYTES) else {
        warn("the package has no room for boot information: it is not passed");
        return None;
    };
    let base = accepted.memory.base();
    let address = base.checked_add(room.offset)?;
    if machine
        .copy_out(World::Secure, address, &boot_info_blob(base, contents))
        .is_err()
    {
        warn("the boot information cannot be written: it is not passed");
        return None;
    }
    // It is aligned such that it lies in one page.
    let page = PageRange::new(address.page_base(), 1).ok()?;
    machine.synchronise_code(World::Secure, page);
    Some((register, address.as_u64()))
}

/// Types of boot information: a standard one (bit 7), by its number.
const FDT: u32 = 0;
const HOB_LIST: u32 = 1;
const BOOT_INFO_HEADER: u32 = 32;
const BOOT_INFO_DESCRIPTOR: u32 = 32;
/// Header and two descriptors.
const BLOB_BYTES: u64 = 96;

/// Header and a descriptor for each of `contents`: its type and where it is, from `base` on.
fn boot_info_blob(base: PhysAddr, contents: [Option<(u32, ByteRange)>; 2]) -> [u8; 96] {
    const SIGNATURE: u32 = 0xffa;
    const VERSION_1_1: u32 = 0x1_0001;
    let half = |value: u64| u32::try_from(value & 0xffff_ffff).unwrap_or(0);
    let mut words = [[0; 8]; 3];
    let mut count = 0;
    for (words, (kind, range)) in words.iter_mut().skip(1).zip(contents.into_iter().flatten()) {
        let address = base.as_u64().saturating_add(range.offset);
        // name[16] empty, type, flags 0 (the name is a string, the contents are an address), size, contents
        *words = [0, 0, 0, 0, kind, half(range.bytes), half(address), half(address >> 32)];
        count += 1;
    }
    // signature, version, bytes of the blob, bytes of a descriptor, descriptors, offset of the first, reserved
    let [header, ..] = &mut words;
    *header = [
        SIGNATURE,
        VERSION_1_1,
        BOOT_INFO_HEADER + BOOT_INFO_DESCRIPTOR * count,
        BOOT_INFO_DESCRIPTOR,
        count,
        BOOT_INFO_HEADER,
        0,
        0,
    ];
    let mut blob = [0; 96];
    for (to, word) in blob.as_chunks_mut().0.iter_mut().zip(words.as_flattened()) {
        *to = word.to_le_bytes();
    }
    blob
}

/// Says what the manifest asks for and does not get.
fn warn_of_what_is_not_obeyed(accepted: &system::Partition, migratable: bool, report: &mut Report) {
    let manifest = &accepted.manifest;
    let mut warn = |asked: bool, node: &str, property: &str, message: &str| {
        if asked {
            complain(report, Severity::Warning, &accepted.name, node, Some(property), message);
        }
    };
    const NOT_YET: &str = "is not supported yet and has no effect";
    warn(
        manifest.power_management != PowerManagement::empty() && migratable,
        "/",
        "power-management-messages",
        "has no effect: only partitions with a context for each CPU get them",
    );
    let action = manifest
        .abort_action
        .filter(|action| !matches!(action, AbortAction::Stop | AbortAction::Restart));
    warn(
        action.is_some(),
        "/",
        "abort-action",
        "is not supported yet: the partition is stopped",
    );
    warn(
        manifest.live_activation_support,
        "/",
        "live-activation-support",
        NOT_YET,
    );
    warn_of_regions(manifest, &mut warn);
}

fn warn_of_regions(manifest: &PartitionManifest, warn: &mut impl FnMut(bool, &str, &str, &str)) {
    for region in &manifest.device_regions {
        let node = format!("/device-regions/{}", region.name);
        warn(
            region.dma.is_some(),
            &node,
            "stream-ids",
            "no SMMU is programmed: the device's own accesses are not checked",
        );
    }
    for region in &manifest.memory_regions {
        let node = format!("/memory-regions/{}", region.name);
        warn(
            region.dma.is_some(),
            &node,
            "stream-ids",
            "no SMMU is programmed: the region is not open to devices",
        );
    }
}
