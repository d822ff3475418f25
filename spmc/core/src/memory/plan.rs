//! What transactions do to pages: whose they are, and who has access.
//!
//! | step | pages of a partition, in its stage-2 tables | pages of the normal world |
//! | --- | --- | --- |
//! | not passed on | mapped, Owned | not marked |
//! | [`Estate::claim`]: named in a transaction | mapped, Shared | marked |
//! | [`Estate::withdraw`]: lent, or to be donated | suspended, Lent or Donated | marked |
//! | [`Estate::restore`]: transaction undone, or reclaimed | mapped, Owned | not marked |
//! | [`Estate::give_away`]: donated | not mapped, None | marked for good |
//!
//! A borrower has the pages mapped as Borrowed, the receiver of a donation as Owned ([`Tenant`]).
//!
//! What can fail comes first: a claim splits the blocks that it begins or ends within, so that none of the later steps on
//! the same pages needs table memory. A partition's IPAs are PAs; the world is that of the space in which they are mapped.

use core::ops::ControlFlow;

use spin::mutex::{TicketMutex, TicketMutexGuard};
use tantalum_stage2::{
    Access, Attributes, Entry, Error, Execute, Granule, Invalidate, Ipa, IpaRange, MemoryType, OutputAddress,
    Ownership, Run, TableMemory, Tables,
};

use crate::{
    abi::FfaError,
    addr::World,
    context::Stage2Roots,
    id::EndpointId,
    machine::Machine,
    memory::{
        normal_world::NormalWorldMap,
        permission::{Granted, Kind, Memory},
        share::{Range, Share},
    },
    partition::{OnPartition, Stage2Tables},
};

/// The stage-2 spaces of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    /// Its id.
    pub id: EndpointId,
    /// Its tables.
    pub tables: &'a TicketMutex<Stage2Tables>,
    /// Their roots and VMID.
    pub roots: Stage2Roots,
    /// It was stopped: nothing is passed on to it.
    pub stopped: bool,
    /// It is at S-EL0: nothing of it is both writable and executable.
    pub at_el0: bool,
}

/// Where partitions are found.
pub trait Partitions {
    /// The spaces of a partition, `None` when there is none with that id.
    fn space(&self, id: EndpointId) -> Option<Space<'_>>;
}

impl Partitions for crate::spmc::Spmc {
    fn space(&self, id: EndpointId) -> Option<Space<'_>> {
        let partition = self.find(id)?;
        let (tables, roots, stopped) = (&partition.tables, partition.roots, partition.is_stopped());
        Some(Space {
            id,
            tables,
            roots,
            stopped,
            at_el0: partition.el1.is_some(),
        })
    }
}

fn ipa_range(range: Range) -> Option<IpaRange> {
    IpaRange::new(Ipa(range.address()), range.pages())
}

/// The tables of one of a partition's spaces.
fn of_world(tables: &mut Stage2Tables, world: World) -> &mut Tables {
    match world {
        World::Secure => &mut tables.secure,
        World::NonSecure => &mut tables.non_secure,
    }
}

/// The pages of an owner, held for the time of one step.
#[derive(Debug)]
pub(super) enum Estate<'a> {
    /// The normal world's.
    NormalWorld(&'a mut NormalWorldMap),
    /// A partition's.
    Partition(TicketMutexGuard<'a, Stage2Tables>, Stage2Roots),
}

impl<'a> Estate<'a> {
    /// The pages of `owner`; `None` when there is no such partition.
    pub(super) fn of<P: Partitions>(owner: EndpointId, partitions: &'a P, map: &'a mut NormalWorldMap) -> Option<Self> {
        if !owner.is_secure() {
            return Some(Self::NormalWorld(map));
        }
        let space = partitions.space(owner)?;
        Some(Self::Partition(space.tables.lock(), space.roots))
    }

    /// Claims `ranges` in order, which must be the owner's, and its alone, up to the first that isn't. `known` is what was
    /// claimed before in the same transaction, and then what all is. Returns how many were claimed, and why not more.
    ///
    /// # Errors
    /// `Denied` when one is not its, or not like the others; `NoMemory`. Nothing has become of that one then.
    pub(super) fn claim<M: Machine>(
        &mut self,
        machine: &mut M,
        ranges: &[Range],
        known: &mut Option<Memory>,
    ) -> (usize, Result<(), FfaError>) {
        match self {
            Self::NormalWorld(map) => map.claim_all(machine, ranges, known),
            Self::Partition(tables, roots) => {
                for (claimed, range) in ranges.iter().enumerate() {
                    match claim_pages(tables, machine, roots, *range, *known, Ownership::Shared) {
                        Ok(memory) => *known = Some(memory),
                        Err(error) => return (claimed, Err(error)),
                    }
                }
                (ranges.len(), Ok(()))
            }
        }
    }

    /// Marks `range` as in a use in which it must not be passed on; the owner keeps its access. It must be memory of the
    /// owner's alone, that it may write; unless it `writes` there, data that it may only read does as well. Says in which
    /// world it is.
    ///
    /// # Errors
    /// As [`Estate::claim`].
    pub(super) fn hold<M: Machine>(&mut self, machine: &mut M, range: Range, writes: bool) -> Result<World, FfaError> {
        let found = match self {
            Self::NormalWorld(map) => map.claim(machine, &range.checked().ok_or(FfaError::Denied)?)?,
            Self::Partition(tables, roots) => claim_pages(tables, machine, roots, range, None, Ownership::Buffer)?,
        };
        if found.device || !found.writable && (writes || found.executable) {
            self.release(machine, &[range], Some(found.world));
            return Err(FfaError::Denied);
        }
        Ok(found.world)
    }

    /// Takes the owner's access to all ranges of a share away that is lent or donated.
    ///
    /// # Errors
    /// `Aborted` when the tables are not as the claim has left them, which can't be; [`Estate::restore`] is to follow.
    pub(super) fn withdraw<M: Machine>(&mut self, machine: &mut M, share: &Share) -> Result<(), FfaError> {
        let state = match share.kind {
            Kind::Share => return Ok(()),
            Kind::Lend => Ownership::Lent,
            Kind::Donate => Ownership::Donated,
        };
        let (Self::Partition(tables, roots), Some(memory)) = (self, share.memory) else {
            return Ok(());
        };
        let tables = of_world(tables, memory.world);
        let mut ranges = share.ranges_from(machine, 0);
        let mut tlb = OnPartition::new(machine, *roots);
        let mut token = Invalidate::nothing();
        let mut result = Ok(());
        while let Some(range) = ranges.next(tlb.memory(), share) {
            let suspended = ipa_range(range).and_then(|ipas| tables.suspend(&mut tlb, ipas, state).ok());
            let Some(more) = suspended else {
                result = Err(FfaError::Aborted);
                break;
            };
            token = token.merge(&mut tlb, more);
        }
        token.complete(&mut tlb);
        result
    }

    /// Gives the owner all ranges of a share back, with its access as it was before the claim.
    pub(super) fn restore<M: Machine>(&mut self, machine: &mut M, share: &Share) {
        let mut ranges = share.ranges_from(machine, 0);
        match self {
            Self::NormalWorld(map) => {
                while let Some(range) = ranges.next(machine, share) {
                    map.release(machine, range);
                }
            }
            Self::Partition(tables, roots) => {
                let Some(memory) = share.memory else { return };
                let tables = of_world(tables, memory.world);
                let mut tlb = OnPartition::new(machine, *roots);
                while let Some(range) = ranges.next(tlb.memory(), share) {
                    let Some(ipas) = ipa_range(range) else { continue };
                    if share.kind == Kind::Share || tables.resume(&mut tlb, ipas, Ownership::Owned).is_err() {
                        // It was shared, or its transaction ended before it was withdrawn.
                        let result = tables.set_state(&mut tlb, ipas, Ownership::Owned);
                        debug_assert!(result.is_ok(), "{range:?} was not claimed");
                    }
                }
            }
        }
    }

    /// Gives back ranges that were claimed and are not in a share yet; `world` is where they are.
    #[cold]
    pub(super) fn release<M: Machine>(&mut self, machine: &mut M, ranges: &[Range], world: Option<World>) {
        match (self, world) {
            (Self::NormalWorld(map), _) => ranges.iter().for_each(|range| map.release(machine, *range)),
            (Self::Partition(tables, roots), Some(world)) => {
                let tables = of_world(tables, world);
                let mut tlb = OnPartition::new(machine, *roots);
                for range in ranges {
                    let result = ipa_range(*range).map(|ipas| tables.set_state(&mut tlb, ipas, Ownership::Owned));
                    debug_assert!(result.is_some_and(|result| result.is_ok()), "{range:?} was not claimed");
                }
            }
            (Self::Partition(..), None) => debug_assert!(ranges.is_empty(), "claimed, and not known what"),
        }
    }

    /// Forgets all ranges of a share that was withdrawn and has a new owner.
    pub(super) fn give_away<M: Machine>(&mut self, machine: &mut M, share: &Share) {
        let (Self::Partition(tables, roots), Some(memory)) = (self, share.memory) else {
            return;
        };
        let tables = of_world(tables, memory.world);
        unmap(tables, machine, roots, share, None);
    }
}

/// [`Estate::claim`] for a partition: its pages are marked as `state`.
#[inline(never)]
fn claim_pages<M: Machine>(
    tables: &mut Stage2Tables,
    machine: &mut M,
    roots: &Stage2Roots,
    range: Range,
    known: Option<Memory>,
    state: Ownership,
) -> Result<Memory, FfaError> {
    let ipas = ipa_range(range).ok_or(FfaError::Denied)?;
    let mut tlb = OnPartition::fair(machine, *roots, tables);
    let secure = matches!(tables.secure.entry(&tlb, ipas.start()), Entry::Mapped(..));
    let world = if secure { World::Secure } else { World::NonSecure };
    let tables = of_world(tables, world);
    let found = inspect(tables, &tlb, ipas, world)?;
    let memory = known
        .map_or(Some(found), |known| known.and(found))
        .ok_or(FfaError::Denied)?;
    match tables.set_state(&mut tlb, ipas, state) {
        Ok(()) => Ok(memory),
        Err(Error::OutOfTables) => Err(FfaError::NoMemory),
        Err(_) => Err(FfaError::Denied),
    }
}

/// What a range is of a partition's own; all of it must be mapped for it, owned, and in no other use.
fn inspect<M: TableMemory>(tables: &Tables, machine: &M, ipas: IpaRange, world: World) -> Result<Memory, FfaError> {
    let mut all: Option<Memory> = None;
    let visit = |run: Run| {
        let found = describe(&run, world);
        let both = found.and_then(|found| all.map_or(Some(found), |all| all.and(found)));
        all = both;
        if both.is_some() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    match tables.walk(machine, ipas, visit) {
        Ok(ControlFlow::Continue(())) => all.ok_or(FfaError::Denied),
        _ => Err(FfaError::Denied),
    }
}

/// What a run of pages is to its owner, `None` when it is not to be passed on.
fn describe(run: &Run, world: World) -> Option<Memory> {
    let Entry::Mapped(output, attributes) = run.entry else {
        return None;
    };
    let device = match attributes.memory() {
        MemoryType::NormalWriteBack => false,
        kind if kind.is_device() => true,
        _ => return None,
    };
    let writable = match attributes.access() {
        Access::ReadWrite => true,
        Access::ReadOnly => false,
        Access::None | Access::WriteOnly => return None,
    };
    let mine = matches!(attributes.ownership(), Ownership::Owned) && output.0 == run.range.start().0;
    let executable = attributes.execute() == Execute::Always;
    mine.then_some(Memory {
        world,
        device,
        writable,
        executable,
    })
}

/// Unmaps the ranges of a share before the one at `until`, or all.
fn unmap<M: Machine>(tables: &mut Tables, machine: &mut M, roots: &Stage2Roots, share: &Share, until: Option<u64>) {
    let mut ranges = share.ranges_from(machine, 0);
    let mut tlb = OnPartition::new(machine, *roots);
    let mut token = Invalidate::nothing();
    while let Some(range) = ranges
        .next(tlb.memory(), share)
        .filter(|range| Some(range.address()) != until)
    {
        let Some(ipas) = ipa_range(range) else { continue };
        match tables.unmap(&mut tlb, ipas, Ownership::None) {
            Ok(more) => token = token.merge(&mut tlb, more),
            Err(error) => debug_assert!(false, "{range:?} can't be unmapped: {error:?}"),
        }
    }
    token.complete(&mut tlb);
}

/// The spaces of a borrower, held for the time of one step.
#[derive(Debug)]
pub(super) struct Tenant<'a> {
    tables: TicketMutexGuard<'a, Stage2Tables>,
    roots: Stage2Roots,
    at_el0: bool,
}

impl<'a> Tenant<'a> {
    /// Holds the spaces of a partition.
    pub(super) fn of<P: Partitions>(id: EndpointId, partitions: &'a P) -> Option<Self> {
        let space = partitions.space(id)?;
        Some(Self {
            tables: space.tables.lock(),
            roots: space.roots,
            at_el0: space.at_el0,
        })
    }

    /// Maps all ranges of a share.
    ///
    /// # Errors
    /// `Denied` when something else is mapped there, or they are beyond what a partition can address, and for more than a
    /// partition at S-EL0 may do; `NoMemory`, also when
    /// it would take more tables than its share. Nothing is mapped then.
    pub(super) fn map<M: Machine>(&mut self, machine: &mut M, share: &Share, granted: Granted) -> Result<(), FfaError> {
        let memory = share.memory.ok_or(FfaError::Aborted)?;
        if self.at_el0 && granted.write && granted.execute {
            return Err(FfaError::Denied);
        }
        let kind = if memory.device {
            MemoryType::DeviceNGnRnE
        } else {
            MemoryType::NormalWriteBack
        };
        let ownership = if share.kind == Kind::Donate {
            Ownership::Owned
        } else {
            Ownership::Borrowed
        };
        let (access, execute) = granted.stage2();
        let attributes = Attributes::new(kind, access, execute, ownership);
        let mut ranges = share.ranges_from(machine, 0);
        let mut tlb = OnPartition::fair(machine, self.roots, &self.tables);
        let tables = of_world(&mut self.tables, memory.world);
        loop {
            ranges.skip(tables.map_near(&mut tlb, ranges.pages_ahead(), attributes));
            let Some(range) = ranges.next(tlb.memory(), share) else {
                return Ok(());
            };
            let output = OutputAddress(range.address());
            let result = match ipa_range(range) {
                Some(ipas) => tables.map(&mut tlb, ipas, output, attributes, Granule::Blocks),
                None => Err(Error::OutsideIpaSpace),
            };
            if let Err(error) = result {
                unmap(tables, machine, &self.roots, share, Some(range.address()));
                return Err(if error == Error::OutOfTables {
                    FfaError::NoMemory
                } else {
                    FfaError::Denied
                });
            }
        }
    }

    /// Takes all ranges of a share away again.
    pub(super) fn unmap<M: Machine>(&mut self, machine: &mut M, share: &Share) {
        let Some(memory) = share.memory else { return };
        unmap(
            of_world(&mut self.tables, memory.world),
            machine,
            &self.roots,
            share,
            None,
        );
    }
}

/// Zeroes all ranges of a share.
///
/// # Errors
/// `Aborted` when some of it can't be written; some may be zeroed then.
pub(super) fn zero<M: Machine>(machine: &mut M, share: &Share) -> Result<(), FfaError> {
    let world = share.memory.map_or(World::NonSecure, |memory| memory.world);
    let mut ranges = share.ranges_from(machine, 0);
    while let Some(range) = ranges.next(machine, share).and_then(Range::checked) {
        machine.zero(world, range).map_err(|_| FfaError::Aborted)?;
    }
    Ok(())
}
