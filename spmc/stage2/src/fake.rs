//! Table memory and TLBs for tests on the host: an owned value that panics on misuse.
//!
//! [`FakeMemory`] hands out table pages, fails on demand, and panics when a page is used after it was freed, freed twice,
//! or left over. For the trees that it was told to [watch](FakeMemory::watch) it also models the worst that TLBs and
//! walk caches may do: a walk may use, for each descriptor on its way, any value that it had since the last
//! invalidation that covered it. By that model it panics when
//! * a table is freed that some walk could still reach,
//! * a valid descriptor is written where walks may use another one that must have been broken first (D8.17.1),
//!
//! and [`FakeMemory::possible`] tells what an address may translate to.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a fake reports misuse by panicking"
)]

use std::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};

use crate::{
    IpaRange, IpaSize, Level, TableAddr, TableMemory, Tables, Tlb, Violation,
    attributes::{S2AP, STATE, XN},
    descriptor::{self, COUNT, ENTRIES},
};

/// Address of the first table page.
const BASE: u64 = 0x0012_3450_0000;

/// A page of the pool.
#[derive(Clone, Debug)]
struct Page {
    live: bool,
    descriptors: Box<[u64; ENTRIES]>,
    /// Level, once the page is in a watched tree.
    level: Option<Level>,
    /// Valid values that descriptors had and that walks may still use.
    old: BTreeMap<usize, BTreeSet<u64>>,
}

/// Table memory, with TLBs. See the module's documentation.
#[derive(Clone, Debug, Default)]
pub struct FakeMemory {
    pages: Vec<Page>,
    /// Pages to hand out again, the one freed last first.
    free: Vec<TableAddr>,
    /// Allocations that still succeed.
    budget: Option<usize>,
    allocations: usize,
    invalidations: usize,
    writes: usize,
    watched: Vec<(TableAddr, IpaSize)>,
}

impl FakeMemory {
    /// Memory without an end.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets `more` allocations succeed and fails all after them; `None`: all succeed.
    pub fn set_budget(&mut self, more: Option<usize>) {
        self.budget = more;
    }

    /// Table pages that are allocated now.
    #[must_use]
    pub fn live(&self) -> usize {
        self.pages.iter().filter(|page| page.live).count()
    }

    /// Allocations that succeeded so far.
    #[must_use]
    pub fn allocations(&self) -> usize {
        self.allocations
    }

    /// Invalidations so far.
    #[must_use]
    pub fn invalidations(&self) -> usize {
        self.invalidations
    }

    /// Descriptor writes so far.
    #[must_use]
    pub fn writes(&self) -> usize {
        self.writes
    }

    /// From now on PEs may walk `tables`.
    pub fn watch(&mut self, tables: &Tables) {
        self.watched.push((tables.root(), tables.ipa_size()));
        self.learn_levels(tables.root(), tables.ipa_size().root_level());
    }

    /// No PE walks the tree of `root` any more.
    pub fn unwatch(&mut self, root: TableAddr) {
        self.watched.retain(|&(watched, _)| watched != root);
    }

    /// The page descriptors, invalid ones as 0, that a walk of a watched tree may find for the page of `ipa`.
    #[must_use]
    pub fn possible(&self, root: TableAddr, ipa: u64) -> BTreeSet<u64> {
        let mut found = BTreeSet::new();
        for &(_, size) in self.watched.iter().filter(|&&(watched, _)| watched == root) {
            self.possible_below(root, size.root_level(), ipa, &mut found);
        }
        found
    }

    fn possible_below(&self, table: TableAddr, level: Level, ipa: u64, found: &mut BTreeSet<u64>) {
        for value in self.values(table, level.index(ipa)) {
            if descriptor::is_table(value, level) {
                self.possible_below(descriptor::next_table(value), level.below(), ipa, found);
            } else if descriptor::is_valid(value) {
                let offset = Level::Three.floor(ipa) - level.floor(ipa);
                found.insert(descriptor::part(value, offset, Level::Three));
            } else {
                found.insert(0);
            }
        }
    }

    /// Runs [`Tables::check`] and that `tables` has all pages that are live.
    ///
    /// # Panics
    /// When not.
    pub fn check(&self, tables: &Tables) {
        let seen = self.check_one(tables).expect("the tree is well-formed");
        assert_eq!(seen, self.live(), "table pages leaked");
    }

    /// Runs [`Tables::check`]; returns the number of table pages.
    ///
    /// # Errors
    /// Those of [`Tables::check`].
    pub fn check_one(&self, tables: &Tables) -> Result<usize, Violation> {
        let mut seen = BTreeSet::new();
        tables.check(self, |table| seen.insert(table))?;
        Ok(seen.len())
    }

    fn slot(&self, table: TableAddr) -> usize {
        let slot = table.0.checked_sub(BASE).map(|offset| offset / 4096);
        let slot = slot
            .and_then(|slot| usize::try_from(slot).ok())
            .expect("a table address");
        assert!(
            table.0.is_multiple_of(4096) && slot < self.pages.len(),
            "{table:x?} was never allocated"
        );
        slot
    }

    fn live_page(&self, table: TableAddr) -> &Page {
        let page = &self.pages[self.slot(table)];
        assert!(page.live, "{table:x?} is used after it was freed");
        page
    }

    /// All values that a walk may use for a descriptor.
    fn values(&self, table: TableAddr, index: usize) -> Vec<u64> {
        let page = self.live_page(table);
        let mut values = vec![page.descriptors[index]];
        if let Some(old) = page.old.get(&index) {
            values.extend(old);
        }
        values
    }

    /// Remembers the level of a table that is in a watched tree, and of those below it.
    fn learn_levels(&mut self, table: TableAddr, level: Level) {
        let slot = self.slot(table);
        if self.pages[slot].level.replace(level).is_some() {
            return;
        }
        for index in 0..ENTRIES {
            let value = self.pages[slot].descriptors[index];
            if descriptor::is_table(value, level) {
                self.learn_levels(descriptor::next_table(value), level.below());
            }
        }
    }

    /// Calls `visit` with each table that a walk of a watched tree may read, its level and its first address.
    fn reachable(&self, visit: &mut impl FnMut(TableAddr, Level, u64)) {
        for &(root, size) in &self.watched {
            self.reachable_below(root, size.root_level(), 0, visit);
        }
    }

    fn reachable_below(
        &self,
        table: TableAddr,
        level: Level,
        base: u64,
        visit: &mut impl FnMut(TableAddr, Level, u64),
    ) {
        visit(table, level, base);
        if level == Level::Three {
            return;
        }
        for index in 0..ENTRIES {
            let next: BTreeSet<_> = self
                .values(table, index)
                .into_iter()
                .filter(|&value| descriptor::is_table(value, level))
                .map(descriptor::next_table)
                .collect();
            for next in next {
                self.reachable_below(next, level.below(), base + index as u64 * level.size(), visit);
            }
        }
    }

    fn is_reachable(&self, table: TableAddr) -> bool {
        let mut reachable = false;
        self.reachable(&mut |other, _, _| reachable |= other == table);
        reachable
    }

    /// Panics when walks may use a valid value of this descriptor, of a table of `level`, that must not meet `new`.
    fn check_break_before_make(&self, table: TableAddr, index: usize, level: Level, new: u64) {
        for value in self.values(table, index) {
            assert!(
                !descriptor::is_valid(value) || may_meet(value, new, level),
                "{table:x?}[{index}]: {new:#x} made before {value:#x} was broken and invalidated"
            );
        }
    }
}

/// Whether two valid values of a descriptor may be in use at once: they differ in permissions and ownership only, or,
/// for tables, in the count.
const fn may_meet(one: u64, other: u64, level: Level) -> bool {
    let differ = if descriptor::is_table(one, level) {
        COUNT
    } else {
        S2AP | XN | STATE
    };
    (one ^ other) & !differ == 0
}

impl TableMemory for FakeMemory {
    fn allocate_table(&mut self) -> Option<TableAddr> {
        if let Some(budget) = &mut self.budget {
            *budget = budget.checked_sub(1)?;
        }
        self.allocations += 1;
        let page = Page {
            live: true,
            descriptors: Box::new([0; ENTRIES]),
            level: None,
            old: BTreeMap::new(),
        };
        if let Some(table) = self.free.pop() {
            let slot = self.slot(table);
            self.pages[slot] = page;
            return Some(table);
        }
        self.pages.push(page);
        Some(TableAddr(BASE + (self.pages.len() as u64 - 1) * 4096))
    }

    fn free_tables(&self) -> usize {
        self.budget.unwrap_or(usize::MAX)
    }

    fn free_table(&mut self, table: TableAddr) {
        self.live_page(table);
        assert!(
            !self.is_reachable(table),
            "{table:x?} is freed while a walk may reach it"
        );
        let slot = self.slot(table);
        self.pages[slot].live = false;
        self.free.push(table);
    }

    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64 {
        self.live_page(table).descriptors[index % ENTRIES]
    }

    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64) {
        let index = index % ENTRIES;
        self.writes += 1;
        let level = self.live_page(table).level;
        let slot = self.slot(table);
        let before = core::mem::replace(&mut self.pages[slot].descriptors[index], value);
        let Some(level) = level else { return };
        if descriptor::is_valid(before) && !(descriptor::is_table(before, level) && may_meet(before, value, level)) {
            self.pages[slot].old.entry(index).or_default().insert(before);
        }
        if descriptor::is_valid(value) {
            self.check_break_before_make(table, index, level, value);
        }
        if descriptor::is_table(value, level) {
            self.learn_levels(descriptor::next_table(value), level.below());
        }
    }
}

impl Tlb for FakeMemory {
    fn invalidate(&mut self, range: IpaRange) {
        self.invalidations += 1;
        let mut reached = Vec::new();
        self.reachable(&mut |table, level, base| reached.push((table, level, base)));
        for (table, level, base) in reached {
            let slot = self.slot(table);
            self.pages[slot].old.retain(|&index, _| {
                let start = base + index as u64 * level.size();
                start < range.start().0 || range.end().0 < start + level.size()
            });
        }
    }
}
