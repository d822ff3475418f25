//! Changes of what is there already: one pattern for all of them.

use core::ops::Range;

use super::{
    Error, Tables,
    fill::{add_entries, write_parts},
    reserve,
    walk::{Slot, covers},
};
use crate::{
    Access, Execute, Invalidate, Ipa, IpaRange, Level, Ownership, TableAddr, Tlb,
    attributes::{AF, Attributes, MemoryType, S2AP, STATE, XN},
    descriptor::{self, ENTRIES, VALID},
    invalidate::PageList,
};

/// A change of every descriptor in a range: some bits stay, some are set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    /// Valid and AF bits that each descriptor must have, or the change is refused.
    needs: Option<u64>,
    keep: u64,
    set: u64,
    /// Tables that are left empty may be taken out.
    prune: bool,
}

impl Edit {
    /// Empties descriptors and leaves their tables in place.
    pub(super) const CLEAR: Self = Self {
        prune: false,
        ..Self::unmap(Ownership::None)
    };

    pub(super) const fn unmap(remember: Ownership) -> Self {
        Self {
            needs: None,
            keep: 0,
            set: remember.bits(),
            prune: true,
        }
    }

    pub(super) const fn suspend(state: Ownership) -> Self {
        Self {
            needs: Some(VALID | AF),
            keep: !(VALID | STATE),
            set: state.bits(),
            prune: false,
        }
    }

    pub(super) const fn resume(state: Ownership) -> Self {
        Self {
            needs: Some(AF),
            keep: !STATE,
            set: state.bits() | VALID,
            prune: false,
        }
    }

    pub(super) const fn protect(access: Access, execute: Execute) -> Self {
        let sample = Attributes::new(MemoryType::NormalWriteBack, access, execute, Ownership::None);
        Self {
            needs: Some(VALID | AF),
            keep: !(S2AP | XN),
            set: sample.bits() & (S2AP | XN),
            prune: false,
        }
    }

    pub(super) const fn set_state(state: Ownership) -> Self {
        Self {
            needs: None,
            keep: !STATE,
            set: state.bits(),
            prune: true,
        }
    }

    /// Whether whole tables may be replaced by one descriptor: all come out alike, and tables may go.
    #[inline]
    const fn drops_tables(&self) -> bool {
        self.keep == 0 && self.prune
    }

    /// A descriptor, not a table's, after the change.
    #[inline]
    const fn patched(&self, old: u64) -> u64 {
        old & self.keep | self.set
    }
}

impl Tables {
    /// Carries out `edit` on `range`, or changes nothing.
    #[inline(never)]
    pub(super) fn rewrite<M: Tlb>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        edit: &Edit,
    ) -> Result<Invalidate, Error> {
        self.check_range(range)?;
        if let Some(slot) = self.leaf_of(memory, range)
            && !(edit.drops_tables() && range.bytes() == Level::Two.size())
        {
            return self.rewrite_leaf(memory, slot, range, edit);
        }
        self.rewrite_any(memory, range, edit)
    }

    /// [`Tables::rewrite`] of a range within one level 3 table.
    #[inline(always)]
    fn rewrite_leaf<M: Tlb>(
        &mut self,
        memory: &mut M,
        slot: Slot,
        range: IpaRange,
        edit: &Edit,
    ) -> Result<Invalidate, Error> {
        let (start, end) = (range.start().0, range.end().0);
        if let Some(needs) = edit.needs {
            require_pages(memory, slot.table, start, end, needs)?;
        }
        let mut token = Invalidate::nothing();
        self.apply_pages(memory, slot, start, end, edit, &mut token);
        Ok(token)
    }

    /// [`Tables::rewrite`] of any range.
    fn rewrite_any<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, edit: &Edit) -> Result<Invalidate, Error> {
        if let Some(needs) = edit.needs {
            self.require(memory, range, needs)?;
        }
        self.split_edges(memory, range, |descriptor| edit.patched(descriptor) != descriptor)?;
        Ok(self.apply(memory, range, edit))
    }

    /// That all descriptors of `range` have exactly the valid and AF bits `needs`.
    fn require<M: Tlb>(&mut self, memory: &M, range: IpaRange, needs: u64) -> Result<(), Error> {
        let (mut at, end) = (range.start().0, range.end().0);
        while at < end {
            let slot = self.seek(memory, at, 0);
            at = if slot.level == Level::Three {
                require_pages(memory, slot.table, at, page_end(at, end), needs)?
            } else {
                require_blocks(memory, slot, at, end, needs)?
            };
        }
        Ok(())
    }

    /// Carries out `edit`. Where `range` begins or ends within a descriptor, that one doesn't change by it.
    pub(super) fn apply<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, edit: &Edit) -> Invalidate {
        let mut token = Invalidate::nothing();
        let (mut at, end) = (range.start().0, range.end().0);
        let whole_until = if edit.drops_tables() { end } else { 0 };
        while at < end {
            let slot = self.seek(memory, at, whole_until);
            at = if slot.level == Level::Three {
                self.apply_pages(memory, slot, at, page_end(at, end), edit, &mut token)
            } else {
                self.apply_blocks(memory, slot, at, end, edit, &mut token)
            };
        }
        token
    }

    /// Carries out `edit` on `start..end`, all in the level 3 table of `slot`. Returns `end`.
    #[inline(always)]
    fn apply_pages<M: Tlb>(
        &mut self,
        memory: &mut M,
        slot: Slot,
        start: u64,
        end: u64,
        edit: &Edit,
        token: &mut Invalidate,
    ) -> u64 {
        let mut stale = 0;
        // Entries that are not 0 any more, less those that no longer are 0, modulo 2^64.
        let mut more = 0_u64;
        for index in page_indices(start, end) {
            let old = memory.read_descriptor(slot.table, index);
            let new = edit.patched(old);
            if new != old {
                memory.write_descriptor(slot.table, index, new);
                more = more.wrapping_add(u64::from(new != 0)).wrapping_sub(u64::from(old != 0));
                if old & VALID != 0 {
                    stale |= old ^ new;
                }
            }
        }
        if stale & !STATE != 0 {
            token.note(start, end);
        }
        if more != 0 && add_entries(memory, slot.parent, more) == Some(0) && edit.prune {
            self.emptied(memory, Level::Three, start, token);
        }
        end
    }

    /// Carries out `edit` on the entries of one table above level 3 from that of `at` on, up to `end`, the table's end,
    /// or an entry that points to a table of which some is to be kept. Returns the address reached.
    fn apply_blocks<M: Tlb>(
        &mut self,
        memory: &mut M,
        slot: Slot,
        start: u64,
        end: u64,
        edit: &Edit,
        token: &mut Invalidate,
    ) -> u64 {
        let Slot { table, level, parent } = slot;
        let mut at = start;
        let mut stale = false;
        // Entries that are not 0 any more, less those that no longer are 0, modulo 2^64.
        let mut more = 0_u64;
        for index in level.index(start)..ENTRIES {
            if at >= end {
                break;
            }
            let old = memory.read_descriptor(table, index);
            let new = if !descriptor::is_table(old, level) {
                edit.patched(old)
            } else if edit.drops_tables() && covers(level, at, end) {
                edit.set
            } else {
                break;
            };
            if new != old {
                memory.write_descriptor(table, index, new);
                more = more.wrapping_add(u64::from(new != 0)).wrapping_sub(u64::from(old != 0));
                if descriptor::is_table(old, level) {
                    self.take_out(memory, descriptor::next_table(old), level.below(), at, token);
                } else {
                    stale |= old & VALID != 0 && (old ^ new) & !STATE != 0;
                }
            }
            at = level.floor(at).wrapping_add(level.size());
        }
        if stale {
            token.note(start, at.min(end));
        }
        if more != 0 && add_entries(memory, parent, more) == Some(0) && edit.prune {
            self.emptied(memory, level, start, token);
        }
        at
    }

    /// Splits the descriptors that `range` begins or ends within, so far as `matters` says of them, or changes nothing.
    #[inline]
    pub(super) fn split_edges<M: Tlb>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        matters: impl Fn(u64) -> bool,
    ) -> Result<(), Error> {
        let (start, end) = (range.start().0, range.end().0);
        let last = end.wrapping_sub(Level::Three.size());
        let first_slot = self.seek(memory, start, 0);
        if first_slot.level == Level::Three && Level::Two.floor(start) == Level::Two.floor(last) {
            return Ok(());
        }
        let head = self.split_levels(memory, start, start, &matters);
        let tail = self.split_levels(memory, last, end, &matters);
        let needed = tables_to_split(head, tail, start, last);
        if needed == 0 {
            return Ok(());
        }
        let mut pages = reserve(memory, needed)?;
        self.split_at(memory, start, start, &matters, &mut pages);
        self.split_at(memory, last, end, &matters, &mut pages);
        pages.free(memory);
        Ok(())
    }

    /// Level of the descriptor of `ipa`, and the level down to which it must be split for `boundary`, its start or end,
    /// to be a boundary between descriptors. Both are the same when nothing need be split.
    fn split_levels<M: Tlb>(
        &self,
        memory: &M,
        ipa: u64,
        boundary: u64,
        matters: &impl Fn(u64) -> bool,
    ) -> (Level, Level) {
        let Slot { table, level, .. } = self.find(memory, ipa, 0);
        let goal = Level::of_boundary(boundary);
        if goal.is_finer_than(level) && matters(memory.read_descriptor(table, level.index(ipa))) {
            (level, goal)
        } else {
            (level, level)
        }
    }

    /// Splits the descriptor of `ipa` until `boundary` is a boundary between descriptors.
    fn split_at<M: Tlb>(
        &mut self,
        memory: &mut M,
        ipa: u64,
        boundary: u64,
        matters: &impl Fn(u64) -> bool,
        pages: &mut PageList,
    ) {
        loop {
            let (level, goal) = self.split_levels(memory, ipa, boundary, matters);
            if !goal.is_finer_than(level) {
                return;
            }
            let Some(table) = pages.pop(memory) else {
                debug_assert!(false, "tables for splits were counted wrong");
                return;
            };
            self.split(memory, ipa, table);
        }
    }

    /// Replaces the descriptor of `ipa`, above level 3, by `table` with the same translations.
    fn split<M: Tlb>(&mut self, memory: &mut M, ipa: u64, table: TableAddr) {
        let slot = self.find(memory, ipa, 0);
        let (index, base) = (slot.level.index(ipa), slot.level.floor(ipa));
        let whole = memory.read_descriptor(slot.table, index);
        write_parts(memory, table, slot.level.below(), whole);
        if descriptor::is_valid(whole) {
            memory.write_descriptor(slot.table, index, 0);
            memory.invalidate(IpaRange::cut(base, base.wrapping_add(slot.level.size())));
        }
        self.link(memory, slot, index, table, whole);
    }
}

/// End of what of `at..end` lies in the same level 3 table as `at`.
fn page_end(at: u64, end: u64) -> u64 {
    end.min(Level::Two.floor(at).wrapping_add(Level::Two.size()))
}

/// Indices of `start..end`, all in one level 3 table.
#[inline]
pub(super) const fn page_indices(start: u64, end: u64) -> Range<usize> {
    let last = Level::Three.index(end.wrapping_sub(1));
    Level::Three.index(start)..last.wrapping_add(1)
}

/// That `start..end`, all in the level 3 table `table`, have exactly the valid and AF bits `needs`. Returns `end`.
#[inline]
fn require_pages<M: Tlb>(memory: &M, table: TableAddr, start: u64, end: u64, needs: u64) -> Result<u64, Error> {
    let mut at = start;
    for index in page_indices(start, end) {
        if memory.read_descriptor(table, index) & (VALID | AF) != needs {
            return Err(Error::NotMapped { at: Ipa(at) });
        }
        at = at.wrapping_add(Level::Three.size());
    }
    Ok(end)
}

/// That the entries of one table above level 3 from that of `start` on, up to `end`, the table's end or an entry that
/// points to a table, have exactly the valid and AF bits `needs`. Returns the address reached.
fn require_blocks<M: Tlb>(memory: &M, slot: Slot, start: u64, end: u64, needs: u64) -> Result<u64, Error> {
    let Slot { table, level, .. } = slot;
    let mut at = start;
    for index in level.index(start)..ENTRIES {
        if at >= end {
            break;
        }
        let found = memory.read_descriptor(table, index);
        if descriptor::is_table(found, level) {
            break;
        }
        if found & (VALID | AF) != needs {
            return Err(Error::NotMapped { at: Ipa(at) });
        }
        at = level.floor(at).wrapping_add(level.size());
    }
    Ok(at)
}

/// Whether an entry of `level` becomes a table when one of level `from` is split down to level `to`.
const fn is_split(level: Level, (from, to): (Level, Level)) -> bool {
    !from.is_finer_than(level) && to.is_finer_than(level)
}

/// Number of tables that splitting takes at both ends of a range, given the levels of [`Tables::split_levels`].
fn tables_to_split(head: (Level, Level), tail: (Level, Level), start: u64, last: u64) -> u64 {
    let tables = |(from, to): (Level, Level)| u64::from(to.number().wrapping_sub(from.number()));
    // Tables of both ends are the same so long as both lie in the same entry.
    let shared = [Level::Zero, Level::One, Level::Two]
        .into_iter()
        .filter(|&level| is_split(level, head) && is_split(level, tail))
        .filter(|level| level.floor(start) == level.floor(last))
        .map(|_| 1_u64)
        .fold(0, u64::wrapping_add);
    tables(head).wrapping_add(tables(tail)).wrapping_sub(shared)
}
