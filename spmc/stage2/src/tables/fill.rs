//! New mappings: which tables they need, and how they are filled in.

use super::{
    Error, Tables,
    edit::page_indices,
    walk::{Leaf, Slot, covers},
};
use crate::{
    Attributes, Granule, Ipa, IpaRange, Level, OutputAddress, TableAddr, TableMemory,
    descriptor::{self, COUNT_ONE, ENTRIES},
    invalidate::PageList,
};

/// How IPAs of a new mapping relate to outputs, and what it may be made of.
#[derive(Clone, Copy, Debug)]
struct Layout {
    /// Output address less IPA, modulo 2^64.
    distance: u64,
    granule: Granule,
}

impl Layout {
    const fn new(range: IpaRange, output: OutputAddress, granule: Granule) -> Self {
        Self {
            distance: output.0.wrapping_sub(range.start().0),
            granule,
        }
    }

    /// Whether entries of `level` may be blocks (pages), when they are covered.
    const fn allows(self, level: Level) -> bool {
        match level {
            Level::Zero => false,
            Level::One | Level::Two => matches!(self.granule, Granule::Blocks) && level.aligned(self.distance),
            Level::Three => true,
        }
    }

    /// Whether `at..end` begins with a whole entry of `level` that may be a block (page).
    #[inline]
    const fn fits(self, level: Level, at: u64, end: u64) -> bool {
        self.allows(level) && covers(level, at, end)
    }

    /// Number of tables that `start..end`, all within one empty entry of `level`, needs below that entry.
    fn tables_below(self, level: Level, start: u64, end: u64) -> u64 {
        let mut tables = 0_u64;
        let mut entries = level;
        while entries != Level::Three {
            tables = tables.wrapping_add(self.tables_in(entries, start, end));
            entries = entries.below();
        }
        tables
    }

    /// Number of entries of `level` that `start..end` touches and that must be tables.
    fn tables_in(self, level: Level, start: u64, end: u64) -> u64 {
        let (first, last) = (level.floor(start), level.floor(end.wrapping_sub(1)));
        let (head, tail) = (!level.aligned(start), !level.aligned(end));
        if !self.allows(level) {
            last.wrapping_sub(first).wrapping_shr(level.shift()).wrapping_add(1)
        } else if first == last {
            u64::from(head || tail)
        } else {
            u64::from(head).wrapping_add(u64::from(tail))
        }
    }
}

impl Leaf {
    /// [`Tables::map_near`].
    #[inline(always)]
    pub(super) fn map<M: TableMemory>(
        &self,
        memory: &mut M,
        pages: impl Iterator<Item = u64>,
        attributes: Attributes,
    ) -> usize {
        let (mut mapped, mut more) = (0_usize, 0_u64);
        for page in pages {
            if Level::Two.floor(page) != self.base || !Level::Three.aligned(page) {
                break;
            }
            let leaf = descriptor::leaf(page, attributes.bits(), Level::Three);
            let old = memory.update_descriptor(self.table, Level::Three.index(page), |old| {
                if descriptor::is_occupied(old) { old } else { leaf }
            });
            if descriptor::is_occupied(old) {
                break;
            }
            mapped = mapped.wrapping_add(1);
            more = more.wrapping_add(u64::from(old == 0));
        }
        if more != 0 {
            add_entries(memory, Some(self.parent), more);
        }
        mapped
    }
}

impl Tables {
    /// [`Tables::map`] of a range with a valid output within one level 3 table.
    #[inline]
    pub(super) fn map_in_leaf<M: TableMemory>(
        memory: &mut M,
        slot: Slot,
        range: IpaRange,
        output: OutputAddress,
        attributes: Attributes,
    ) -> Result<(), Error> {
        let indices = page_indices(range.start().0, range.end().0);
        let mut leaf = descriptor::leaf(output.0, attributes.bits(), Level::Three);
        let mut more = 0_u64;
        let mut at = range.start().0;
        for index in indices.clone() {
            let old = memory.read_descriptor(slot.table, index);
            if descriptor::is_occupied(old) {
                return Err(Error::AlreadyMapped { at: Ipa(at) });
            }
            more = more.wrapping_add(u64::from(old == 0));
            at = at.wrapping_add(Level::Three.size());
        }
        for index in indices {
            memory.write_descriptor(slot.table, index, leaf);
            leaf = leaf.wrapping_add(Level::Three.size());
        }
        if more != 0 {
            add_entries(memory, slot.parent, more);
        }
        Ok(())
    }

    /// Number of tables that [`Tables::fill`] needs. Unless `over`, whatever is mapped or suspended is refused.
    ///
    /// With `over`, `range` must begin and end at boundaries of the descriptors that are not 0.
    pub(super) fn plan<M: TableMemory>(
        &mut self,
        memory: &M,
        range: IpaRange,
        output: OutputAddress,
        granule: Granule,
        over: bool,
    ) -> Result<u64, Error> {
        let layout = Layout::new(range, output, granule);
        let (mut at, end) = (range.start().0, range.end().0);
        let mut needed = 0_u64;
        while at < end {
            let Slot { table, level, .. } = self.seek(memory, at, 0);
            for index in level.index(at)..ENTRIES {
                if at >= end {
                    break;
                }
                let found = memory.read_descriptor(table, index);
                if descriptor::is_table(found, level) {
                    break;
                }
                if descriptor::is_occupied(found) && !over {
                    return Err(Error::AlreadyMapped { at: Ipa(at) });
                }
                let next = level.floor(at).wrapping_add(level.size());
                if level != Level::Three {
                    needed = needed.wrapping_add(layout.tables_below(level, at, next.min(end)));
                }
                at = next;
            }
        }
        Ok(needed)
    }

    /// Maps `range`, none of which is valid or suspended, to `output` onwards; without attributes only makes the tables
    /// for it. Takes tables from `pages`, which has those that [`Tables::plan`] counted.
    pub(super) fn fill<M: TableMemory>(
        &mut self,
        memory: &mut M,
        range: IpaRange,
        output: OutputAddress,
        attributes: Option<Attributes>,
        granule: Granule,
        pages: &mut PageList,
    ) {
        let layout = Layout::new(range, output, granule);
        let (mut at, end) = (range.start().0, range.end().0);
        while at < end {
            let slot = self.seek(memory, at, 0);
            if layout.fits(slot.level, at, end) {
                at = match slot.level {
                    Level::Three => {
                        let slot = Slot {
                            level: Level::Three,
                            ..slot
                        };
                        fill_in(memory, slot, at, end, layout, attributes)
                    }
                    _ => fill_in(memory, slot, at, end, layout, attributes),
                };
                continue;
            }
            let Some(table) = pages.pop(memory) else {
                debug_assert!(false, "tables for a mapping were counted wrong");
                return;
            };
            let index = slot.level.index(at);
            let whole = memory.read_descriptor(slot.table, index);
            write_parts(memory, table, slot.level.below(), whole);
            self.link(memory, slot, index, table, whole);
        }
    }

    /// Points the entry `index` of `slot`, which said `whole`, to `table`, which says the same in parts.
    pub(super) fn link<M: TableMemory>(
        &mut self,
        memory: &mut M,
        slot: Slot,
        index: usize,
        table: TableAddr,
        whole: u64,
    ) {
        let entries: u64 = if whole == 0 { 0 } else { 512 };
        memory.write_descriptor(slot.table, index, descriptor::table(table, entries));
        if whole == 0 {
            add_entries(memory, slot.parent, 1);
        }
        self.count = self.count.wrapping_add(1);
    }
}

/// Maps what fits of `start..end` in the table of `slot`. Returns the address reached. Inlined, so that the loop over
/// level 3 has its level as a constant.
#[inline(always)]
fn fill_in<M: TableMemory>(
    memory: &mut M,
    slot: Slot,
    start: u64,
    end: u64,
    layout: Layout,
    attributes: Option<Attributes>,
) -> u64 {
    let Slot { table, level, parent } = slot;
    let mut at = start;
    let mut more = 0_u64;
    for index in level.index(start)..ENTRIES {
        if !layout.fits(level, at, end) {
            break;
        }
        let old = memory.read_descriptor(table, index);
        if descriptor::is_table(old, level) {
            break;
        }
        if let Some(attributes) = attributes {
            let output = at.wrapping_add(layout.distance);
            memory.write_descriptor(table, index, descriptor::leaf(output, attributes.bits(), level));
            more = more.wrapping_add(u64::from(old == 0));
        }
        at = at.wrapping_add(level.size());
    }
    if more != 0 {
        add_entries(memory, parent, more);
    }
    at
}

/// Adds `more`, modulo 2^64, to the count that `parent` holds of its table; the root has none. Returns the new count.
#[inline]
pub(super) fn add_entries<M: TableMemory>(
    memory: &mut M,
    parent: Option<(TableAddr, usize)>,
    more: u64,
) -> Option<u64> {
    let (table, index) = parent?;
    let more = more.wrapping_mul(COUNT_ONE);
    let before = memory.update_descriptor(table, index, |counted| counted.wrapping_add(more));
    Some(descriptor::count(before.wrapping_add(more)))
}

/// Writes to `table`, which is not linked yet, in parts what a descriptor of the level above said.
pub(super) fn write_parts<M: TableMemory>(memory: &mut M, table: TableAddr, level: Level, whole: u64) {
    if whole == 0 {
        return;
    }
    let mut offset = 0_u64;
    for index in 0..ENTRIES {
        memory.write_descriptor(table, index, descriptor::part(whole, offset, level));
        offset = offset.wrapping_add(level.size());
    }
}
