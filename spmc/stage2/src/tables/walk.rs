//! Finding descriptors, and visiting them in order.

use core::ops::ControlFlow;

use super::{Run, Tables};
use crate::{
    Ipa, IpaRange, Level, TableAddr, TableMemory,
    attributes::AF,
    descriptor::{self, ENTRIES},
};

/// The table whose entry decides on an address: the entry is not a table descriptor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The table.
    pub(super) table: TableAddr,
    /// Its level.
    pub(super) level: Level,
    /// The entry that points to it: table and index. `None` for the root.
    pub(super) parent: Option<(TableAddr, usize)>,
}

/// A level 3 table and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// Start of the 2 MiB that it translates.
    pub(super) base: u64,
    pub(super) table: TableAddr,
    pub(super) parent: (TableAddr, usize),
}

impl Tables {
    /// Gives `each` all tables of the tree, the root first.
    pub fn each_table<M: TableMemory>(&self, memory: &M, each: &mut dyn FnMut(TableAddr)) {
        tables_below(memory, self.root, self.size.root_level(), each);
    }

    /// Finds the entry that decides on `ipa`. Also stops at the entry of a table all of whose addresses lie in
    /// `ipa..whole_until` (never when that is 0).
    #[inline]
    pub(super) fn find<M: TableMemory>(&self, memory: &M, ipa: u64, whole_until: u64) -> Slot {
        match self.cached(ipa, whole_until) {
            Some(slot) => slot,
            None => self.descend(memory, ipa, whole_until),
        }
    }

    /// [`Tables::find`] where the level 3 table used last serves.
    #[inline]
    fn cached(&self, ipa: u64, whole_until: u64) -> Option<Slot> {
        let leaf = self.leaf?;
        let serves = leaf.base == Level::Two.floor(ipa) && !covers(Level::Two, ipa, whole_until);
        serves.then_some(Slot {
            table: leaf.table,
            level: Level::Three,
            parent: Some(leaf.parent),
        })
    }

    /// [`Tables::find`], remembering the level 3 table that was found.
    #[inline]
    pub(super) fn seek<M: TableMemory>(&mut self, memory: &M, ipa: u64, whole_until: u64) -> Slot {
        if let Some(slot) = self.cached(ipa, whole_until) {
            return slot;
        }
        let slot = self.descend(memory, ipa, whole_until);
        if let (Level::Three, Some(parent)) = (slot.level, slot.parent) {
            self.leaf = Some(Leaf {
                base: Level::Two.floor(ipa),
                table: slot.table,
                parent,
            });
        }
        slot
    }

    fn descend<M: TableMemory>(&self, memory: &M, ipa: u64, whole_until: u64) -> Slot {
        let root = Slot {
            table: self.root,
            level: self.size.root_level(),
            parent: None,
        };
        let below = |slot: Slot| {
            let index = slot.level.index(ipa);
            let found = memory.read_descriptor(slot.table, index);
            let stop =
                !descriptor::is_table(found, slot.level) || whole_until != 0 && covers(slot.level, ipa, whole_until);
            (!stop).then(|| Slot {
                table: descriptor::next_table(found),
                level: slot.level.below(),
                parent: Some((slot.table, index)),
            })
        };
        // By hand, so that the levels are constants.
        let mut slot = root;
        if slot.level == Level::Zero {
            let Some(next) = below(slot) else { return slot };
            slot = next;
        }
        slot.level = Level::One;
        let Some(mut next) = below(slot) else { return slot };
        next.level = Level::Two;
        below(next).unwrap_or(next)
    }

    /// The level 3 table that has all of `range`, when there is one.
    #[inline]
    pub(super) fn leaf_of<M: TableMemory>(&mut self, memory: &M, range: IpaRange) -> Option<Slot> {
        let (start, last) = (range.start().0, range.end().0.wrapping_sub(1));
        if Level::Two.floor(start) != Level::Two.floor(last) {
            return None;
        }
        let slot = self.seek(memory, start, 0);
        (slot.level == Level::Three).then_some(slot)
    }

    /// The loop of [`Tables::walk`]; `range` lies in the IPA space.
    pub(super) fn visit_runs<M: TableMemory>(
        &self,
        memory: &M,
        range: IpaRange,
        visit: &mut dyn FnMut(Run) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let end = range.end().0;
        let mut at = range.start().0;
        // The run so far: where it began, the page descriptor there, and the one that would continue it.
        let mut start = at;
        let mut first = None;
        let mut expected = 0;
        while at < end {
            let Slot { table, level, .. } = self.find(memory, at, 0);
            let mut index = level.index(at);
            let mut found = memory.read_descriptor(table, index);
            loop {
                let base = level.floor(at);
                let page = descriptor::part(found, at.wrapping_sub(base), Level::Three);
                if page != expected || first.is_none() {
                    if let Some(first) = first.replace(page) {
                        visit(run(start, at, first))?;
                    }
                    start = at;
                }
                let next = base.wrapping_add(level.size()).min(end);
                let step = if page & AF != 0 { next.wrapping_sub(at) } else { 0 };
                expected = page.wrapping_add(step);
                at = next;
                // Page after page alike: what most of a walk is.
                loop {
                    index = index.wrapping_add(1);
                    if at >= end || index >= ENTRIES {
                        break;
                    }
                    found = memory.read_descriptor(table, index);
                    if level != Level::Three || found != expected {
                        break;
                    }
                    expected = expected.wrapping_add(step);
                    at = at.wrapping_add(Level::Three.size());
                }
                if at >= end || index >= ENTRIES || descriptor::is_table(found, level) {
                    break;
                }
            }
        }
        match first {
            Some(first) => visit(run(start, end, first)),
            None => ControlFlow::Continue(()),
        }
    }
}

/// Whether the whole entry of `level` at `ipa` lies in `ipa..until`.
#[inline]
pub(super) const fn covers(level: Level, ipa: u64, until: u64) -> bool {
    level.aligned(ipa) && ipa.wrapping_add(level.size()) <= until
}

const fn run(start: u64, end: u64, first: u64) -> Run {
    debug_assert!(Ipa(start).0 < end);
    Run {
        range: IpaRange::cut(start, end),
        entry: descriptor::entry(first),
    }
}

fn tables_below<M: TableMemory>(memory: &M, table: TableAddr, level: Level, each: &mut dyn FnMut(TableAddr)) {
    each(table);
    for index in 0..ENTRIES {
        let found = memory.read_descriptor(table, index);
        if descriptor::is_table(found, level) {
            tables_below(memory, descriptor::next_table(found), level.below(), each);
        }
    }
}
