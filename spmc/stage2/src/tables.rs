//! One translation tree and what can be done to it.

mod check;
mod edit;
mod fill;
mod free;
mod walk;

use core::ops::ControlFlow;

use self::{
    edit::Edit,
    walk::{Leaf, Slot},
};
use crate::{
    Access, Attributes, Execute, Invalidate, Ipa, IpaRange, IpaSize, Level, OutputAddress, Ownership, TableAddr,
    TableMemory, Tlb, descriptor, invalidate::PageList,
};

/// Why an operation was refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The range reaches above the IPA space.
    OutsideIpaSpace,
    /// The output address is not aligned to a page, or the output range reaches above 2^48.
    BadOutput,
    /// There is a valid or suspended mapping already.
    AlreadyMapped {
        /// First address that is mapped.
        at: Ipa,
    },
    /// Not all of the range is mapped (for [`Tables::resume`]: suspended).
    NotMapped {
        /// First address that is not.
        at: Ipa,
    },
    /// Table memory has run out.
    OutOfTables,
}

/// Which descriptors a mapping may be made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granule {
    /// Blocks of 1 GiB and 2 MiB wherever addresses and length allow.
    Blocks,
    /// Pages only: no later operation needs to split.
    Pages,
}

/// A valid translation of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// What the address itself translates to, its offset in the page included.
    pub output: OutputAddress,
    /// Attributes of the page or block.
    pub attributes: Attributes,
    /// Level of the descriptor.
    pub level: Level,
}

/// What the tables say of a page or a range of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Not translated; the ownership was left there by [`Tables::unmap`] or [`Tables::set_state`], else it is
    /// [`Ownership::None`].
    Empty(Ownership),
    /// Translated: output address of the (first) page, attributes.
    Mapped(OutputAddress, Attributes),
    /// Not translated, but remembers how it was before [`Tables::suspend`] and will be after [`Tables::resume`].
    Suspended(OutputAddress, Attributes),
}

/// Neighbouring pages in the same state: mapped (or suspended) to neighbouring addresses with the same attributes, or
/// empty with the same ownership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The pages.
    pub range: IpaRange,
    /// State of the first page; the others are alike, with outputs that go on from the first.
    pub entry: Entry,
}

/// What [`Tables::check`] found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A table is referenced twice.
    TableTwice(TableAddr),
    /// The number of entries that a table descriptor holds is not that of the table.
    WrongCount(TableAddr),
    /// A descriptor has bits that must be clear, or a block output that is not aligned.
    BadDescriptor(TableAddr, usize, u64),
    /// The tree's count of its tables is wrong; the number found.
    WrongTotal(usize),
}

/// A stage-2 translation tree.
///
/// All memory arguments must be the same memory throughout the life of a tree. Dropping a tree without
/// [`Tables::destroy`] leaks its tables.
#[derive(Debug)]
pub struct Tables {
    root: TableAddr,
    size: IpaSize,
    /// Number of tables in the tree.
    count: usize,
    /// The level 3 table used last. It is in the tree: reset by whatever takes tables out.
    leaf: Option<Leaf>,
    /// Start of the 2 MiB whose level 3 table was emptied last and kept, against freeing and allocating it in turn. The
    /// table may be in use again, or gone.
    spare: Option<u64>,
}

impl Tables {
    /// An empty tree: one table, the root.
    ///
    /// # Errors
    /// [`Error::OutOfTables`].
    pub fn new<M: TableMemory>(memory: &mut M, size: IpaSize) -> Result<Self, Error> {
        let root = memory.allocate_table().ok_or(Error::OutOfTables)?;
        Ok(Self {
            root,
            size,
            count: 1,
            leaf: None,
            spare: None,
        })
    }

    /// Root table, for `VSTTBR_EL2.BADDR` or `VTTBR_EL2.BADDR`.
    #[must_use]
    pub const fn root(&self) -> TableAddr {
        self.root
    }

    /// Size of the IPA space.
    #[must_use]
    pub const fn ipa_size(&self) -> IpaSize {
        self.size
    }

    /// Number of table pages in the tree, the root included.
    #[must_use]
    pub const fn table_count(&self) -> usize {
        self.count
    }

    /// Maps `range` to `output` onwards. What ownership empty pages remembered is replaced by that of `attributes`.
    ///
    /// Needs no TLB invalidation, since nothing was valid there (see the crate's documentation on visibility).
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`], [`Error::BadOutput`], [`Error::AlreadyMapped`], [`Error::OutOfTables`].
    pub fn map<M: TableMemory>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        output: OutputAddress,
        attributes: Attributes,
        granule: Granule,
    ) -> Result<(), Error> {
        self.check_output(range, output)?;
        if let Some(slot) = self.leaf_of(memory, range) {
            return Self::map_in_leaf(memory, slot, range, output, attributes);
        }
        let needed = self.plan(memory, range, output, granule, false)?;
        let mut reserve = reserve(memory, needed)?;
        self.fill(memory, range, output, Some(attributes), granule, &mut reserve);
        reserve.free(memory);
        Ok(())
    }

    /// Maps pages to themselves, so long as they are in the level 3 table used last and [`Tables::map`] would not refuse them.
    /// Returns how many. Much faster than that for what is scattered.
    pub fn map_near<M: TableMemory>(
        &mut self,
        memory: &mut M,
        pages: impl Iterator<Item = u64>,
        attributes: Attributes,
    ) -> usize {
        self.leaf.map_or(0, |leaf| leaf.map(memory, pages, attributes))
    }

    /// As [`Tables::map`], but replaces what is mapped or suspended there, by break-before-make: `range` is invalid
    /// meanwhile, and TLBs are invalidated within. To change only permissions or ownership use [`Tables::protect`] and
    /// [`Tables::set_state`].
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`], [`Error::BadOutput`], [`Error::OutOfTables`].
    pub fn remap<M: Tlb>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        output: OutputAddress,
        attributes: Attributes,
        granule: Granule,
    ) -> Result<(), Error> {
        self.check_output(range, output)?;
        self.split_edges(memory, range, |descriptor| descriptor != 0)?;
        let needed = self.plan(memory, range, output, granule, true)?;
        let mut reserve = reserve(memory, needed)?;
        self.apply(memory, range, &Edit::CLEAR).complete(memory);
        self.fill(memory, range, output, Some(attributes), granule, &mut reserve);
        reserve.free(memory);
        Ok(())
    }

    /// Removes all mappings in `range`, suspended ones too, and leaves `remember` on its pages. Pages that are empty
    /// already are no error.
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`]; [`Error::OutOfTables`] when a block must be split, or when `remember` is not
    /// [`Ownership::None`] and pages without a table are to remember it.
    pub fn unmap<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, remember: Ownership) -> Result<Invalidate, Error> {
        self.rewrite(memory, range, &Edit::unmap(remember))
    }

    /// Makes mapped pages inaccessible, with ownership `state`, keeping output and attributes for [`Tables::resume`].
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`]; [`Error::NotMapped`] unless all of `range` is mapped; [`Error::OutOfTables`] when a
    /// block must be split.
    pub fn suspend<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, state: Ownership) -> Result<Invalidate, Error> {
        self.rewrite(memory, range, &Edit::suspend(state))
    }

    /// Makes suspended pages accessible again, with ownership `state`. Needs no TLB invalidation.
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`]; [`Error::NotMapped`] unless all of `range` is suspended; [`Error::OutOfTables`] when
    /// a block must be split.
    pub fn resume<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, state: Ownership) -> Result<(), Error> {
        let token = self.rewrite(memory, range, &Edit::resume(state))?;
        debug_assert!(token.range().is_none(), "nothing was valid");
        token.complete(memory);
        Ok(())
    }

    /// Changes the permissions of mapped pages.
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`]; [`Error::NotMapped`] unless all of `range` is mapped; [`Error::OutOfTables`] when a
    /// block must be split.
    pub fn protect<M: Tlb>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        access: Access,
        execute: Execute,
    ) -> Result<Invalidate, Error> {
        self.rewrite(memory, range, &Edit::protect(access, execute))
    }

    /// Changes the ownership that pages carry: mapped, suspended and empty ones. Needs no TLB invalidation.
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`]; [`Error::OutOfTables`] when a block must be split, or pages without a table are to
    /// remember something.
    pub fn set_state<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, state: Ownership) -> Result<(), Error> {
        // Marking the last page of a table as nothing may empty the table: that is when there is something to complete.
        self.rewrite(memory, range, &Edit::set_state(state))?.complete(memory);
        Ok(())
    }

    /// Makes all tables that [`Tables::map`] with the same arguments needs: it can't fail then with
    /// [`Error::OutOfTables`], until something is unmapped. Changes no translation.
    ///
    /// # Errors
    /// Those of [`Tables::map`].
    pub fn prepare_map<M: TableMemory>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        output: OutputAddress,
        granule: Granule,
    ) -> Result<(), Error> {
        self.check_output(range, output)?;
        let needed = self.plan(memory, range, output, granule, false)?;
        let mut reserve = reserve(memory, needed)?;
        self.fill(memory, range, output, None, granule, &mut reserve);
        reserve.free(memory);
        self.keep_spare(range);
        Ok(())
    }

    /// Splits the blocks, valid or not, that `range` begins or ends within: no other operation on exactly `range` but
    /// `map` and `remap` can fail then with [`Error::OutOfTables`] (`set_state` and `unmap` only where none of it is
    /// empty). Changes no translation.
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`], [`Error::OutOfTables`].
    pub fn prepare_change<M: Tlb>(&mut self, memory: &mut M, range: IpaRange) -> Result<(), Error> {
        self.check_range(range)?;
        self.split_edges(memory, range, |descriptor| descriptor != 0)?;
        self.keep_spare(range);
        Ok(())
    }

    /// Takes out the tables within `range` that hold nothing, such as those of a [`Tables::prepare_map`] that no `map`
    /// followed.
    pub fn release<M: TableMemory>(&mut self, memory: &mut M, range: IpaRange) -> Invalidate {
        let mut token = Invalidate::nothing();
        if self.check_range(range).is_ok() {
            self.release_empty(memory, range, &mut token);
        }
        token
    }

    /// Translation of `ipa` (any address, aligned or not), `None` when it is not mapped.
    #[must_use]
    pub fn translate<M: TableMemory>(&self, memory: &M, ipa: Ipa) -> Option<Mapping> {
        if ipa >= self.size.limit() {
            return None;
        }
        let Slot { table, level, .. } = self.find(memory, ipa.0, 0);
        let found = memory.read_descriptor(table, level.index(ipa.0));
        let offset = ipa.0.wrapping_sub(level.floor(ipa.0));
        descriptor::is_valid(found).then(|| Mapping {
            output: OutputAddress((found & descriptor::ADDRESS).wrapping_add(offset)),
            attributes: Attributes::of(found),
            level,
        })
    }

    /// What the tables say of the page of `ipa`; empty when outside the IPA space.
    #[must_use]
    pub fn entry<M: TableMemory>(&self, memory: &M, ipa: Ipa) -> Entry {
        if ipa >= self.size.limit() {
            return Entry::Empty(Ownership::None);
        }
        let page = Level::Three.floor(ipa.0);
        let Slot { table, level, .. } = self.find(memory, page, 0);
        let found = memory.read_descriptor(table, level.index(page));
        descriptor::entry(descriptor::part(
            found,
            page.wrapping_sub(level.floor(page)),
            Level::Three,
        ))
    }

    /// Visits `range` in order, cut into the longest runs of pages in the same state, until `visit` breaks. Empty pages
    /// are visited too. Takes a step for each descriptor in the range.
    ///
    /// # Errors
    /// [`Error::OutsideIpaSpace`], before the first visit.
    pub fn walk<M: TableMemory>(
        &self,
        memory: &M,
        range: IpaRange,
        mut visit: impl FnMut(Run) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        self.check_range(range)?;
        Ok(self.visit_runs(memory, range, &mut visit))
    }

    /// Takes the tree apart. No translation register may hold its root any more when the token is completed.
    pub fn destroy<M: TableMemory>(self, memory: &mut M) -> Invalidate {
        let mut token = Invalidate::nothing();
        let mut tables = self;
        let (root, level) = (tables.root, tables.size.root_level());
        tables.take_out(memory, root, level, 0, &mut token);
        token
    }

    /// Checks the tree: well-formed, no reserved bits, counts right, each table referenced once. For tests and fuzzing.
    /// `first_time` is told each table and answers whether it is new.
    ///
    /// # Errors
    /// The first [`Violation`] found.
    pub fn check<M: TableMemory>(
        &self,
        memory: &M,
        first_time: impl FnMut(TableAddr) -> bool,
    ) -> Result<(), Violation> {
        self.check_tree(memory, first_time)
    }

    /// That `range` lies in the IPA space.
    const fn check_range(&self, range: IpaRange) -> Result<(), Error> {
        if range.end().0 > self.size.limit().0 {
            return Err(Error::OutsideIpaSpace);
        }
        Ok(())
    }

    /// That `range` can be mapped to `output`, so far as addresses go.
    fn check_output(&self, range: IpaRange, output: OutputAddress) -> Result<(), Error> {
        self.check_range(range)?;
        if !output.is_valid_for(range.bytes()) {
            return Err(Error::BadOutput);
        }
        Ok(())
    }
}

/// Allocates `needed` tables, or none.
fn reserve<M: TableMemory>(memory: &mut M, needed: u64) -> Result<PageList, Error> {
    let mut pages = PageList::default();
    for _ in 0..needed {
        let Some(page) = memory.allocate_table() else {
            pages.free(memory);
            return Err(Error::OutOfTables);
        };
        pages.push(memory, page);
    }
    Ok(pages)
}
