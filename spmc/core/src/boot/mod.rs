//! Cold boot: from the SPMC manifest to partitions that are ready to run.
//!
//! Runs once, on the boot PE, before anything else; the only phase that allocates. One partition that cannot be used is
//! left out with a message that says why; the SPMC itself fails only when its own manifest or memory does not do.

mod build;
mod load;
mod spare;

use alloc::vec::Vec;
use core::fmt;

use tantalum_stage2::IpaSize;

use crate::{
    addr::{PageRange, World},
    interrupt::distributor::Frames,
    machine::Machine,
    manifest::{Diagnostic, Report, Severity, SpmcManifest, spmc::Mpidr, system},
    memory::{Limits, MemoryManager, SHARE_BYTES},
    partition::Partition,
    sort::sort_by_key,
    spmc::Spmc,
};

/// What the machine layer knows when it starts the policy.
#[derive(Clone, Copy, Debug)]
pub struct BootConfig<'a> {
    /// The SPMC manifest, a private copy.
    pub manifest: &'a [u8],
    /// All memory that the SPMC occupies.
    pub spmc_memory: PageRange,
    /// `MPIDR_EL1` of the boot PE.
    pub boot_mpidr: u64,
    /// Pages of the SPMC's memory that nothing uses yet.
    pub free_pages: usize,
    /// Pages that the machine layer will take for each PE.
    pub pages_a_pe: usize,
    /// Where the board has its interrupt controller.
    pub interrupt_controller: Frames,
    /// Devices that no partition may be given.
    pub devices: &'a [system::Reserved],
}

/// Why the SPMC cannot run. What is wrong in detail was printed before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The SPMC manifest has errors.
    Manifest,
    /// The SPMC manifest has no CPU node for the boot PE.
    BootCpuUnknown(u64),
    /// Not enough memory for the PEs and the memory that the manifest names.
    OutOfMemory,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifest => f.write_str("the SPMC manifest cannot be used; see the errors above"),
            Self::BootCpuUnknown(mpidr) => {
                write!(
                    f,
                    "the SPMC manifest has no cpu node for the boot CPU, whose MPIDR is {mpidr:#x}"
                )
            }
            Self::OutOfMemory => f.write_str("the SPMC's memory is too small for what the manifest names"),
        }
    }
}

/// Reads the manifests and sets the partitions up.
///
/// # Errors
/// [`BootError`] when no normal world could be served; nothing has run then.
pub fn start<M: Machine>(config: &BootConfig<'_>, machine: &mut M) -> Result<Spmc, BootError> {
    let mut report = Report::new();
    let result = set_up(config, machine, &mut report);
    print(machine, &report);
    result
}

#[inline(never)]
fn set_up<M: Machine>(config: &BootConfig<'_>, machine: &mut M, report: &mut Report) -> Result<Spmc, BootError> {
    let manifest = SpmcManifest::parse(config.manifest, report).ok_or(BootError::Manifest)?;
    let cpus = cpus(&manifest, config)?;
    let budget = Budget::new(config, cpus.len())?;
    let candidates = load::candidates(&manifest, config, budget.heap_bytes, machine, report);
    let ipa_size = ipa_size(&manifest);
    let (accepted, spare) = {
        let own = system::Reserved {
            range: config.spmc_memory,
            owner: "the SPMC",
        };
        let mut reserved = alloc::vec![own];
        reserved.extend_from_slice(config.devices);
        let accepted = system::check(&manifest, candidates, &reserved, report);
        let spare = spare::Spare::new(&manifest, &accepted, &reserved);
        (accepted, spare)
    };
    let mut devices = Vec::new();
    for partition in &accepted {
        for region in &partition.manifest.device_regions {
            devices.push((partition.vm, region.range));
        }
    }
    let mut builder = build::Builder {
        manifest: &manifest,
        own: config.spmc_memory,
        pes: cpus.len(),
        budget,
        spare,
        left: accepted.len(),
        ipa_size,
        devices,
        vmid: 0,
        s_el0: None,
    };
    let mut partitions = Vec::with_capacity(accepted.len());
    for accepted in accepted {
        if let Some(partition) = builder.build(accepted, machine, report) {
            partitions.push(partition);
        }
    }
    let shares = shares(&manifest, &partitions, budget, machine)?;
    let logical = crate::logical::ask(machine);
    let spmc = Spmc::new(cpus, partitions, config.spmc_memory, manifest.memory, ipa_size, shares);
    for partition in spmc.partitions() {
        let buffers = partition.mailbox.lock().take();
        spmc.take_buffers(machine, partition, buffers);
    }
    Ok(spmc
        .with_logical_partitions(logical)
        .with_interrupt_controller(manifest.interrupt_controller, config.interrupt_controller))
}

/// Memory management, with as much of everything as the SPMC's memory allows.
fn shares<M: Machine>(
    manifest: &SpmcManifest,
    partitions: &[Partition],
    budget: Budget,
    machine: &mut M,
) -> Result<MemoryManager, BootError> {
    let taken = partitions
        .iter()
        .flat_map(|partition| &partition.regions)
        .filter(|region| region.world == World::NonSecure)
        .map(|region| region.range);
    MemoryManager::new(machine, &manifest.memory, taken, budget.shares()).map_err(|_| BootError::OutOfMemory)
}

/// What partitions may take of the SPMC's memory while it boots. What the PEs need is set aside first, and some is left for
/// what changes tables later, so that no partition's manifest can take from the SPMC or from another partition.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// Heap for manifests, and then again for contexts.
    heap_bytes: usize,
    /// Pages for stage-2 tables of all partitions together.
    table_pages: usize,
    /// Pages for all of that.
    pages: usize,
}

impl Budget {
    fn new(config: &BootConfig<'_>, pes: usize) -> Result<Self, BootError> {
        let for_pes = pes.checked_mul(config.pages_a_pe);
        let rest = for_pes
            .and_then(|pages| config.free_pages.checked_sub(pages))
            .ok_or(BootError::OutOfMemory)?;
        Ok(Self {
            heap_bytes: (rest / 3).saturating_mul(PAGE_BYTES),
            table_pages: rest / 2,
            pages: rest,
        })
    }

    /// An eighth of the memory is for shares, and a quarter of it for what they hold; of either, an eighth is not the normal
    /// world's.
    fn shares(&self) -> Limits {
        let number = |pages: usize| u32::try_from(pages).unwrap_or(u32::MAX);
        let shares = number(self.pages.saturating_mul(PAGE_BYTES / 8 / SHARE_BYTES)).min(MAX_SHARES);
        Limits {
            shares,
            pages: number(self.pages / 4),
            reserved: shares / 8,
        }
    }
}

/// As many shares as there may be, whatever the memory.
const MAX_SHARES: u32 = 0x4000;
/// Bytes of a page.
const PAGE_BYTES: usize = 4096;

/// Affinities in ascending order: a PE's place is its linear index, as TF-A numbers PEs.
fn cpus(manifest: &SpmcManifest, config: &BootConfig<'_>) -> Result<Vec<Mpidr>, BootError> {
    let mut cpus = manifest.cpus.clone();
    sort_by_key(&mut cpus, |cpu| *cpu);
    let boot = Mpidr::from_register(config.boot_mpidr);
    if cpus.contains(&boot) {
        Ok(cpus)
    } else {
        Err(BootError::BootCpuUnknown(boot.as_u64()))
    }
}

/// The smallest IPA space that has room for all declared memory.
fn ipa_size(manifest: &SpmcManifest) -> IpaSize {
    let top = manifest
        .memory
        .iter()
        .map(|memory| memory.range.last().as_u64())
        .max()
        .unwrap_or(0);
    if top < IpaSize::Bits39.limit().0 {
        IpaSize::Bits39
    } else {
        IpaSize::Bits48
    }
}

fn print<M: Machine>(machine: &mut M, report: &Report) {
    for diagnostic in report.diagnostics() {
        machine.print(format_args!("spmc: {diagnostic:#}\n"));
    }
    if report.dropped() > 0 {
        machine.print(format_args!("spmc: ... and {} more\n", report.dropped()));
    }
}

/// Reports something about a partition as a whole, or about one of its nodes.
#[cold]
#[inline(never)]
fn complain(
    report: &mut Report,
    severity: Severity,
    partition: &str,
    node: &str,
    property: Option<&str>,
    message: &str,
) {
    report.push(diagnostic(severity, partition, node, property, message));
}

/// A diagnostic about a partition as a whole, or about one of its nodes.
fn diagnostic(severity: Severity, partition: &str, node: &str, property: Option<&str>, message: &str) -> Diagnostic {
    Diagnostic {
        severity,
        partition: Some(partition.into()),
        node: node.into(),
        property: property.map(Into::into),
        value: None,
        message: message.into(),
    }
}
