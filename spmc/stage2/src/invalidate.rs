//! What remains to be done after a change that TLBs may not have seen.

use crate::{IpaRange, TableAddr, TableMemory};

/// Table memory of tables that a PE may be using, with the means to make all PEs forget what they hold of them.
///
/// [`WithTlb`] makes one from a [`TableMemory`] and a function.
pub trait Tlb: TableMemory {
    /// Makes all earlier descriptor writes visible to table walks and invalidates on all PEs what TLBs and walk caches
    /// hold of these tables: combined stage 1 and 2 entries, and intermediate ones. Complete when it returns.
    ///
    /// `range` has every address that is concerned; invalidating more is right as well.
    fn invalidate(&mut self, range: IpaRange);
}

/// A [`TableMemory`] with a function that invalidates.
///
/// For tables that were never live, `|_, _| ()` is right.
#[derive(Debug)]
pub struct WithTlb<'a, M, F> {
    memory: &'a mut M,
    invalidate: F,
}

impl<'a, M: TableMemory, F: FnMut(&mut M, IpaRange)> WithTlb<'a, M, F> {
    /// Table memory `memory` whose tables `invalidate` invalidates.
    pub const fn new(memory: &'a mut M, invalidate: F) -> Self {
        Self { memory, invalidate }
    }
}

impl<M: TableMemory, F: FnMut(&mut M, IpaRange)> TableMemory for WithTlb<'_, M, F> {
    #[inline]
    fn allocate_table(&mut self) -> Option<TableAddr> {
        self.memory.allocate_table()
    }

    #[inline]
    fn free_table(&mut self, table: TableAddr) {
        self.memory.free_table(table);
    }

    #[inline]
    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64 {
        self.memory.read_descriptor(table, index)
    }

    #[inline]
    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64) {
        self.memory.write_descriptor(table, index, value);
    }
}

impl<M: TableMemory, F: FnMut(&mut M, IpaRange)> Tlb for WithTlb<'_, M, F> {
    #[inline]
    fn invalidate(&mut self, range: IpaRange) {
        (self.invalidate)(self.memory, range);
    }
}

/// Table pages outside any tree, as a list that is threaded through the pages themselves.
///
/// The link is in descriptor 0, with the valid bit clear: a walk that still reaches the page finds no translation there.
#[derive(Debug, Default)]
pub(crate) struct PageList {
    /// First and last page.
    ends: Option<(TableAddr, TableAddr)>,
}

/// In a link: there is a next page.
const LINK: u64 = 0b10;
/// In a link: address of the next page.
const LINK_ADDRESS: u64 = !0xfff;

impl PageList {
    /// Puts a page in front.
    pub(crate) fn push<M: TableMemory>(&mut self, memory: &mut M, page: TableAddr) {
        let (link, last) = match self.ends {
            Some((first, last)) => (first.0 & LINK_ADDRESS | LINK, last),
            None => (0, page),
        };
        memory.write_descriptor(page, 0, link);
        self.ends = Some((page, last));
    }

    /// Takes the first page out; its descriptor 0 is 0 then.
    pub(crate) fn pop<M: TableMemory>(&mut self, memory: &mut M) -> Option<TableAddr> {
        let (first, last) = self.ends?;
        let link = memory.read_descriptor(first, 0);
        self.ends = (link & LINK != 0).then_some((TableAddr(link & LINK_ADDRESS), last));
        memory.write_descriptor(first, 0, 0);
        Some(first)
    }

    /// Puts all pages of `other` in front.
    fn append<M: TableMemory>(&mut self, memory: &mut M, other: Self) {
        self.ends = match (other.ends, self.ends) {
            (Some((first, middle)), Some((next, last))) => {
                memory.write_descriptor(middle, 0, next.0 & LINK_ADDRESS | LINK);
                Some((first, last))
            }
            (one, None) => one,
            (None, one) => one,
        };
    }

    /// Gives all pages back. None may be reachable by a walk.
    pub(crate) fn free<M: TableMemory>(mut self, memory: &mut M) {
        while let Some(page) = self.pop(memory) {
            memory.free_table(page);
        }
    }
}

/// What TLBs may still hold after a change, and the tables that only they may still reach.
///
/// Whoever got it must pass it to [`Invalidate::complete`] before anything relies on the change: before memory that was
/// unmapped goes to somebody else, and before the next mapping (or its preparation) in the same tables, since that may
/// use an entry again that was broken but that walks still hold. Dropping it instead is a bug: it leaks
/// the tables (never worse: they are not reused). Tokens of several changes to the *same* tables can be
/// [merged](Invalidate::merge), to invalidate once for all.
#[must_use = "the change is complete only when `Invalidate::complete` has invalidated the TLBs"]
#[derive(Debug)]
pub struct Invalidate {
    /// From the lowest to above the highest address concerned; empty when `start >= end`.
    start: u64,
    end: u64,
    pages: PageList,
}

impl Invalidate {
    /// Nothing to do.
    pub const fn nothing() -> Self {
        Self {
            start: u64::MAX,
            end: 0,
            pages: PageList { ends: None },
        }
    }

    /// The addresses that TLBs may hold something stale of (one range over all of them), or `None` when there is
    /// nothing to invalidate.
    #[must_use]
    pub fn range(&self) -> Option<IpaRange> {
        (self.start < self.end).then_some(IpaRange::cut(self.start, self.end))
    }

    /// Both tokens in one.
    #[inline]
    pub fn merge<M: TableMemory>(mut self, memory: &mut M, other: Self) -> Self {
        self.note(other.start, other.end);
        self.pages.append(memory, other.pages);
        self
    }

    /// Invalidates when there is something to invalidate, and then gives the tables back that were taken out.
    #[inline]
    pub fn complete<M: Tlb>(self, memory: &mut M) {
        if let Some(range) = self.range() {
            memory.invalidate(range);
        }
        self.pages.free(memory);
    }

    /// TLBs may hold something of `start..end`.
    #[inline]
    pub(crate) fn note(&mut self, start: u64, end: u64) {
        self.start = self.start.min(start);
        self.end = self.end.max(end);
    }

    /// `page`, a table for `start..end`, was taken out of the tree.
    pub(crate) fn hold<M: TableMemory>(&mut self, memory: &mut M, page: TableAddr, start: u64, end: u64) {
        self.note(start, end);
        self.pages.push(memory, page);
    }
}
