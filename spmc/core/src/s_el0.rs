//! Partitions at S-EL0: what EL1 holds for them, FFA_MEM_PERM_GET and SET, and their faults.
//!
//! They run in the EL1&0 translation regime as other partitions do. What is at EL1 is the SPMC's: a page of vectors
//! ([`Machine::write_vectors`]) that makes an SVC an HVC #0 and returns with its result, and every other exception an
//! HVC #1; and a stage 1 that only says in which IPA space an address is. It is the same for all partitions and never
//! changes: what a partition may do with a page is in its stage 2, as for those at S-EL1.

use alloc::vec::Vec;
use core::ops::ControlFlow;

use tantalum_stage2::{
    Access, Attributes, Entry, Error, Execute, Granule, Ipa, IpaRange, IpaSize, MAIR_EL1, MemoryType, OutputAddress,
    Ownership, Run, TableAddr, TableMemory, Tables,
};

use crate::{
    abi::{FfaError, low},
    addr::{PageRange, World},
    context::{Context, El1Registers, SCTLR_EL1_RESET},
    machine::Machine,
    manifest::{
        partition::Access as Granted,
        spmc::{MemoryKind, MemoryRange},
    },
    partition::{OnPartition, Partition, Region},
    spmc::{Running, success},
    vcpu::Model,
};

/// PSTATE of a context that enters at EL0 with D, A, I, F masked.
pub const PSTATE_EL0_MASKED: u64 = 0x3c0;

/// `SCTLR_EL1`: MMU and caches on; stack pointers are to be aligned; EL0 may zero and maintain caches by address and read
/// their geometry. WFI and WFE of EL0 are EL2's to trap.
const SCTLR: u64 = {
    const M: u64 = 1 << 0;
    const C: u64 = 1 << 2;
    const SA: u64 = 1 << 3;
    const SA0: u64 = 1 << 4;
    const I: u64 = 1 << 12;
    const DZE: u64 = 1 << 14;
    const UCT: u64 = 1 << 15;
    const NOT_TRAP_WFI: u64 = 1 << 16;
    const NOT_TRAP_WFE: u64 = 1 << 18;
    const UCI: u64 = 1 << 26;
    SCTLR_EL1_RESET | M | C | SA | SA0 | I | DZE | UCT | NOT_TRAP_WFI | NOT_TRAP_WFE | UCI
};
/// `CPACR_EL1.FPEN`: FP and Advanced SIMD do not trap to EL1.
const CPACR: u64 = 0b11 << 20;
/// `CNTKCTL_EL1`: EL0 reads both counters, and its accesses to the physical timer do not trap to EL1: they do to EL2, as
/// those of EL1 ([`crate::timer`]).
const CNTKCTL: u64 = 1 << 9 | 0b11;

/// What all partitions at S-EL0 have in common.
#[derive(Clone, Debug)]
pub struct Environment {
    /// EL1 registers of their contexts.
    pub el1: El1Registers,
    /// The page of vectors, then the stage-1 tables: what stage 2 has to let EL1 and its table walks read.
    pages: Vec<TableAddr>,
}

impl Environment {
    /// Makes vectors and stage 1, of no more than `share` pages of the pool. Allocates.
    ///
    /// `own` is the SPMC's memory, `declared` what its manifest declares.
    ///
    /// # Errors
    /// [`Error::OutOfTables`]: that is too few. Nothing is taken then.
    pub fn new<M: Machine>(
        machine: &mut M,
        share: usize,
        size: IpaSize,
        own: &PageRange,
        declared: &[MemoryRange],
    ) -> Result<Self, Error> {
        // Never live before boot is over: there is nothing to invalidate.
        let mut memory = OnPartition::not_live(machine, share);
        let vectors = memory.allocate_table().ok_or(Error::OutOfTables)?;
        let tables = Tables::new(&mut memory, size).and_then(|mut tables| {
            let result = fill(&mut tables, &mut memory, vectors, own, declared);
            if let Err(error) = result {
                tables.destroy(&mut memory).complete(&mut memory);
                return Err(error);
            }
            Ok(tables)
        });
        let tables = tables.inspect_err(|_| memory.free_table(vectors))?;
        machine.write_vectors(vectors);
        let mut pages = alloc::vec![vectors];
        tables.each_table(machine, &mut |table| pages.push(table));
        let el1 = El1Registers {
            sctlr: SCTLR,
            cpacr: CPACR,
            ttbr0: tables.root().0,
            tcr: size.tcr_el1(),
            mair: MAIR_EL1,
            vbar: vectors.0,
            cntkctl: CNTKCTL,
            ..El1Registers::default()
        };
        Ok(Self { el1, pages })
    }

    /// How many pages of the pool it has.
    #[must_use]
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Maps what a partition needs of it in its secure IPA space. It is not the partition's: EL0 cannot reach it, since
    /// stage 1 has it for EL1 or not at all, and no call takes it for the partition's memory.
    ///
    /// # Errors
    /// As [`Tables::map`].
    pub(crate) fn map<M: Machine>(&self, memory: &mut OnPartition<'_, M>, tables: &mut Tables) -> Result<(), Error> {
        let mut execute = Execute::Always;
        for page in &self.pages {
            let attributes = Attributes::new(MemoryType::NormalWriteBack, Access::ReadOnly, execute, Ownership::None);
            let range = ipa_range(page.0, 1)?;
            tables.map(memory, range, OutputAddress(page.0), attributes, Granule::Pages)?;
            execute = Execute::Never;
        }
        Ok(())
    }
}

/// Maps what the SPMC manifest declares, less the SPMC's own, and the vectors.
fn fill<M: Machine>(
    tables: &mut Tables,
    memory: &mut OnPartition<'_, M>,
    vectors: TableAddr,
    own: &PageRange,
    declared: &[MemoryRange],
) -> Result<(), Error> {
    let whole = |range: &PageRange| ipa_range(range.base().as_u64(), range.pages());
    let identity = |range: IpaRange| OutputAddress(range.start().0);
    for declared in declared {
        let non_secure = matches!(declared.kind, MemoryKind::NsMemory | MemoryKind::NsDeviceMemory);
        let range = whole(&declared.range)?;
        tables.remap(
            memory,
            range,
            identity(range),
            Attributes::for_el0(non_secure),
            Granule::Blocks,
        )?;
    }
    tables.unmap(memory, whole(own)?, Ownership::None)?.complete(memory);
    let code = ipa_range(vectors.0, 1)?;
    tables.remap(memory, code, identity(code), Attributes::code_for_el1(), Granule::Pages)
}

fn ipa_range(base: u64, pages: u64) -> Result<IpaRange, Error> {
    IpaRange::new(Ipa(base), pages).ok_or(Error::OutsideIpaSpace)
}

/// Gives all memory of a partition the permissions back that it had at first, if it is at S-EL0 (others cannot change them);
/// or, with `writable`, makes data of all of its own memory. `false`: it no longer has all of it, or there are no tables.
pub(crate) fn reset_permissions<M: Machine>(machine: &mut M, partition: &Partition, writable: bool) -> bool {
    if partition.el1.is_none() {
        return true;
    }
    let mut tables = partition.tables.lock();
    let mut memory = OnPartition::new(machine, partition.roots);
    // Largest first: what is in another region comes after it.
    partition
        .regions
        .iter()
        .rev()
        .filter(|region| !region.device)
        .all(|region| {
            let tables = match region.world {
                World::Secure => &mut tables.secure,
                World::NonSecure => &mut tables.non_secure,
            };
            let (access, execute) = if writable && is_inside(partition, region) {
                (Access::ReadWrite, Execute::Never)
            } else {
                region.stage2()
            };
            let range = ipa_range(region.range.base().as_u64(), region.range.pages());
            let token = range.and_then(|range| tables.protect(&mut memory, range, access, execute));
            token.map(|token| token.complete(&mut memory)).is_ok()
        })
}

/// Whether a region is part of the partition's own memory.
fn is_inside(partition: &Partition, region: &Region) -> bool {
    region.world == World::Secure && partition.memory.contains_range(&region.range)
}

/// A context of a partition at S-EL0 that has stopped running in the vectors, as it was when it left EL0. It is parked.
pub(crate) fn back_to_el0(ctx: &mut Context) {
    const EL1: u64 = 1 << 2;
    if ctx.pstate & EL1 != 0 {
        (ctx.pc, ctx.pstate) = (ctx.el1.elr, ctx.el1.spsr);
    }
}

/// Not executable, in the permissions of FFA_MEM_PERM_GET and SET (FF-A memory management 1.2, "FFA_MEM_PERM_GET").
const NOT_EXECUTABLE: u32 = 1 << 2;
// Permissions that a page may be given: bits 1:0 are 0b11 to read, 0b01 to read and write.
const CODE: u32 = 0b11;
const CONSTANTS: u32 = 0b11 | NOT_EXECUTABLE;
const DATA: u32 = 0b01 | NOT_EXECUTABLE;

/// FFA_MEM_PERM_GET, and FFA_MEM_PERM_SET (`set`): what the running partition may do with a page, or from now on with pages.
///
/// # Errors
/// `Denied` unless it is at S-EL0 and initialises; to set, also for pages that are in use by others, and for what its manifest
/// does not let it do: execute memory of the normal world or a device, write to what it may only read outside its own
/// memory, donations included. `InvalidParameters` for pages that are not mapped for it, for reserved bits, for permissions that there are not,
/// or that let it write what it executes. `NoMemory` for tables. Nothing has changed then.
pub(crate) fn permissions<M: Machine>(
    running: &Running<'_>,
    machine: &mut M,
    asked: &[u64; 8],
    wide: bool,
    set: bool,
) -> Result<[u64; 8], FfaError> {
    let partition = running.partition;
    if partition.el1.is_none() || running.model != Model::Init {
        return Err(FfaError::Denied);
    }
    let [_, base, w2, w3, ..] = *asked;
    let base = if wide { base } else { u64::from(low(base)) };
    let (pages, wanted) = match (set, low(w2)) {
        (true, pages) => (pages, low(w3)),
        (false, 0) => (1, CODE),
        (false, _) => return Err(FfaError::InvalidParameters),
    };
    let range = IpaRange::new(Ipa(base), u64::from(pages)).ok_or(FfaError::InvalidParameters)?;
    let (access, execute) = match wanted {
        CODE => (Access::ReadOnly, Execute::Always),
        DATA => (Access::ReadWrite, Execute::Never),
        CONSTANTS => (Access::ReadOnly, Execute::Never),
        _ => return Err(FfaError::InvalidParameters),
    };
    let mut tables = partition.tables.lock();
    let mut memory = OnPartition::new(machine, partition.roots);
    let secure = own_attributes(tables.secure.entry(&memory, range.start())).is_some();
    let tables = if secure {
        &mut tables.secure
    } else {
        &mut tables.non_secure
    };
    let mut found = Err(FfaError::InvalidParameters);
    let mut writable = true;
    let visit = |run: Run| {
        found = own_attributes(run.entry).ok_or(FfaError::InvalidParameters);
        if let Ok(attributes) = found {
            writable &= attributes.access() == Access::ReadWrite;
            let code = secure && !attributes.memory().is_device();
            let allowed = attributes.ownership() == Ownership::Owned && (code || execute == Execute::Never);
            if !set || allowed {
                return ControlFlow::Continue(());
            }
            found = Err(FfaError::Denied);
        }
        ControlFlow::Break(())
    };
    let _ = tables.walk(&memory, range, visit);
    let found = found?;
    if !set {
        return Ok(success(u64::from(encode(found))));
    }
    if access == Access::ReadWrite && !writable && !may_write(partition, range) {
        return Err(FfaError::Denied);
    }
    let change = tables.protect(&mut memory, range, access, execute);
    change.map_err(|_| FfaError::NoMemory)?.complete(&mut memory);
    Ok(success(0))
}

/// Attributes of a page that is mapped for the partition, and not for its [`Environment`].
fn own_attributes(entry: Entry) -> Option<Attributes> {
    match entry {
        Entry::Mapped(_, attributes) => Some(attributes).filter(|found| found.ownership() != Ownership::None),
        _ => None,
    }
}

/// What a page may be used for, as FFA_MEM_PERM_GET has it.
fn encode(attributes: Attributes) -> u32 {
    let data = match attributes.access() {
        Access::ReadWrite => DATA & !NOT_EXECUTABLE,
        Access::ReadOnly => CODE,
        Access::None | Access::WriteOnly => 0,
    };
    if attributes.execute() == Execute::Never {
        data | NOT_EXECUTABLE
    } else {
        data
    }
}

/// Whether `range` is in the partition's own memory, or in a region that its manifest lets it write. What was donated to it is
/// in neither: who had that may have had it to read only.
fn may_write(partition: &Partition, range: IpaRange) -> bool {
    let contains =
        |whole: &PageRange| whole.base().as_u64() <= range.start().0 && range.end().0 <= whole.end().as_u64();
    let mut regions = partition.regions.iter();
    contains(&partition.memory)
        || regions.any(|region| region.access.contains(Granted::WRITE) && contains(&region.range))
}
