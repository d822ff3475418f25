//! Changes of what is there already: one pattern for all of them.

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

/// How a descriptor changes: bits that stay, bits that are set.
#[derive(Clone, Copy, Debug)]
struct Patch {
    keep: u64,
    set: u64,
}

impl Patch {
    const NONE: Self = Self { keep: !0, set: 0 };

    const fn state(ownership: Ownership) -> Self {
        Self {
            keep: !STATE,
            set: ownership.bits(),
        }
    }
}

/// A change of every descriptor in a range.
#[derive(Clone, Copy, Debug)]
pub(super) struct Edit {
    /// Valid and AF bits that each descriptor must have, or the change is refused.
    needs: Option<u64>,
    mapped: Patch,
    suspended: Patch,
    empty: Patch,
    /// All come out alike: whole tables may be replaced by one descriptor.
    uniform: bool,
    /// Tables that are left empty may be taken out.
    prune: bool,
}

impl Edit {
    /// Empties descriptors and leaves the tables in place.
    pub(super) const CLEAR: Self = Self {
        uniform: false,
        prune: false,
        ..Self::unmap(Ownership::None)
    };

    pub(super) const fn unmap(remember: Ownership) -> Self {
        let patch = Patch {
            keep: 0,
            set: remember.bits(),
        };
        Self {
            needs: None,
            mapped: patch,
            suspended: patch,
            empty: patch,
            uniform: true,
            prune: true,
        }
    }

    pub(super) const fn suspend(state: Ownership) -> Self {
        Self {
            mapped: Patch {
                keep: !(VALID | STATE),
                set: state.bits(),
            },
            ..Self::only(VALID | AF)
        }
    }

    pub(super) const fn resume(state: Ownership) -> Self {
        Self {
            suspended: Patch {
                keep: !STATE,
                set: state.bits() | VALID,
            },
            ..Self::only(AF)
        }
    }

    pub(super) const fn protect(access: Access, execute: Execute) -> Self {
        let sample = Attributes::new(MemoryType::NormalWriteBack, access, execute, Ownership::None);
        Self {
            mapped: Patch {
                keep: !(S2AP | XN),
                set: sample.bits() & (S2AP | XN),
            },
            ..Self::only(VALID | AF)
        }
    }

    pub(super) const fn set_state(state: Ownership) -> Self {
        let patch = Patch::state(state);
        Self {
            needs: None,
            mapped: patch,
            suspended: patch,
            empty: patch,
            uniform: false,
            prune: true,
        }
    }

    /// No change yet, of descriptors with these valid and AF bits only.
    const fn only(needs: u64) -> Self {
        Self {
            needs: Some(needs),
            mapped: Patch::NONE,
            suspended: Patch::NONE,
            empty: Patch::NONE,
            uniform: false,
            prune: false,
        }
    }

    /// A descriptor, not a table's, after the change.
    #[inline]
    const fn patched(&self, old: u64) -> u64 {
        let Patch { keep, set } = if old & VALID != 0 {
            self.mapped
        } else if old & AF != 0 {
            self.suspended
        } else {
            self.empty
        };
        old & keep | set
    }
}

impl Tables {
    /// Carries out `edit` on `range`, or changes nothing.
    #[inline]
    pub(super) fn rewrite<M: Tlb>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        edit: &Edit,
    ) -> Result<Invalidate, Error> {
        self.check_range(range)?;
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
            let Slot { table, level, .. } = self.seek(memory, at, 0);
            for index in level.index(at)..ENTRIES {
                let found = memory.read_descriptor(table, index);
                if at >= end || descriptor::is_table(found, level) {
                    break;
                }
                if found & (VALID | AF) != needs {
                    return Err(Error::NotMapped { at: Ipa(at) });
                }
                at = level.floor(at).wrapping_add(level.size());
            }
        }
        Ok(())
    }

    /// Carries out `edit`. Where `range` begins or ends within a descriptor, that one doesn't change by it.
    pub(super) fn apply<M: Tlb>(&mut self, memory: &mut M, range: IpaRange, edit: &Edit) -> Invalidate {
        let mut token = Invalidate::nothing();
        let (mut at, end) = (range.start().0, range.end().0);
        let whole_until = if edit.uniform { end } else { 0 };
        while at < end {
            let slot = self.seek(memory, at, whole_until);
            at = self.apply_in(memory, slot, at, end, edit, &mut token);
        }
        token
    }

    /// Carries out `edit` on the entries of one table from that of `at` on, up to `end`, the table's end, or an entry
    /// that points to a table of which some is to be kept. Returns the address reached.
    #[inline]
    fn apply_in<M: Tlb>(
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
            } else if edit.uniform && covers(level, at, end) {
                edit.empty.set
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
        if goal > level && matters(memory.read_descriptor(table, level.index(ipa))) {
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
            if goal <= level {
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

/// Number of tables that splitting takes at both ends of a range, given the levels of [`Tables::split_levels`].
fn tables_to_split(head: (Level, Level), tail: (Level, Level), start: u64, last: u64) -> u64 {
    let tables = |(from, to): (Level, Level)| u64::from((to as u8).wrapping_sub(from as u8));
    // Tables of both ends are the same so long as both lie in the same entry.
    let shared = [Level::Zero, Level::One, Level::Two]
        .into_iter()
        .filter(|&level| level >= head.0 && level < head.1 && level >= tail.0 && level < tail.1)
        .filter(|level| level.floor(start) == level.floor(last))
        .map(|_| 1_u64)
        .fold(0, u64::wrapping_add);
    tables(head).wrapping_add(tables(tail)).wrapping_sub(shared)
}
