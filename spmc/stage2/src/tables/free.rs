//! Taking tables out of the tree.

use super::{Tables, walk::Slot};
use crate::{
    Invalidate, IpaRange, Level, TableAddr, TableMemory,
    descriptor::{self, COUNT_ONE, ENTRIES},
};

impl Tables {
    /// The table of `level` that `ipa` lies in holds nothing any more. Takes it out, with the tables above that become
    /// empty by that; of level 3 tables the one that was emptied last is kept instead, and the one before it goes.
    #[inline(never)]
    pub(super) fn emptied<M: TableMemory>(&mut self, memory: &mut M, level: Level, ipa: u64, token: &mut Invalidate) {
        let mut victim = Some(ipa);
        if level == Level::Three {
            let base = Level::Two.floor(ipa);
            victim = self.spare.replace(base).filter(|&previous| previous != base);
        }
        if let Some(victim) = victim {
            self.prune(memory, victim, token);
        }
    }

    /// A later emptied table must not cost `range` its tables.
    pub(super) fn keep_spare(&mut self, range: IpaRange) {
        let first = Level::Two.floor(range.start().0);
        if self.spare.is_some_and(|spare| first <= spare && spare < range.end().0) {
            self.spare = None;
        }
    }

    /// Takes out the tables that `ipa` lies in and that hold nothing, from the lowest one up.
    fn prune<M: TableMemory>(&mut self, memory: &mut M, ipa: u64, token: &mut Invalidate) {
        self.prune_below(memory, self.root, self.size.root_level(), ipa, token);
    }

    /// [`Tables::prune`] below the entry for `ipa` of `table`. Whether that entry is 0 now and was not before. Recurses
    /// at most three deep.
    fn prune_below<M: TableMemory>(
        &mut self,
        memory: &mut M,
        table: TableAddr,
        level: Level,
        ipa: u64,
        token: &mut Invalidate,
    ) -> bool {
        let index = level.index(ipa);
        let mut found = memory.read_descriptor(table, index);
        if !descriptor::is_table(found, level) {
            return false;
        }
        let child = descriptor::next_table(found);
        if self.prune_below(memory, child, level.below(), ipa, token) {
            found = found.wrapping_sub(COUNT_ONE);
            memory.write_descriptor(table, index, found);
        }
        if descriptor::count(found) != 0 {
            return false;
        }
        memory.write_descriptor(table, index, 0);
        let base = level.floor(ipa);
        self.hold(memory, child, base, base.wrapping_add(level.size()), token);
        true
    }

    /// Passes `table` of `level`, whose translations begin at `base` and to which nothing points any more, to `token`,
    /// and all tables below it. Recurses at most three deep.
    pub(super) fn take_out<M: TableMemory>(
        &mut self,
        memory: &mut M,
        table: TableAddr,
        level: Level,
        base: u64,
        token: &mut Invalidate,
    ) {
        let mut at = base;
        for index in 0..ENTRIES {
            if level == Level::Three {
                at = base.wrapping_add(level.size().wrapping_mul(512));
                break;
            }
            let found = memory.read_descriptor(table, index);
            if descriptor::is_table(found, level) {
                self.take_out(memory, descriptor::next_table(found), level.below(), at, token);
            }
            at = at.wrapping_add(level.size());
        }
        self.hold(memory, table, base, at, token);
    }

    /// Passes one table, which translates `start..end`, to `token`.
    fn hold<M: TableMemory>(&mut self, memory: &mut M, table: TableAddr, start: u64, end: u64, token: &mut Invalidate) {
        token.hold(memory, table, start, end);
        self.count = self.count.wrapping_sub(1);
        self.leaf = None;
    }

    /// Takes out tables within `range` that hold nothing.
    pub(super) fn release_empty<M: TableMemory>(&mut self, memory: &mut M, range: IpaRange, token: &mut Invalidate) {
        let (mut at, end) = (range.start().0, range.end().0);
        while at < end {
            let Slot { level, parent, .. } = self.find(memory, at, 0);
            let held = parent.map(|(table, index)| descriptor::count(memory.read_descriptor(table, index)));
            if held == Some(0) {
                self.prune(memory, at, token);
                continue;
            }
            let step = if level == Level::Three { Level::Two } else { level };
            at = step.floor(at).wrapping_add(step.size());
        }
    }
}
