//! The invariants of a tree, checked descriptor by descriptor.

use super::{Tables, Violation};
use crate::{
    Level, TableAddr, TableMemory,
    descriptor::{self, ENTRIES},
};

impl Tables {
    pub(super) fn check_tree<M: TableMemory>(
        &self,
        memory: &M,
        mut first_time: impl FnMut(TableAddr) -> bool,
    ) -> Result<(), Violation> {
        let mut total = 0;
        check_table(memory, self.root, self.size.root_level(), &mut first_time, &mut total)?;
        if total != self.count {
            return Err(Violation::WrongTotal(total));
        }
        Ok(())
    }
}

/// Checks `table` and all below it, adds their number to `total`, and returns how many of its entries are not 0.
/// Recurses at most three deep.
fn check_table<M: TableMemory>(
    memory: &M,
    table: TableAddr,
    level: Level,
    first_time: &mut impl FnMut(TableAddr) -> bool,
    total: &mut usize,
) -> Result<u64, Violation> {
    if !first_time(table) {
        return Err(Violation::TableTwice(table));
    }
    *total = total.wrapping_add(1);
    let mut entries = 0_u64;
    for index in 0..ENTRIES {
        let found = memory.read_descriptor(table, index);
        if !descriptor::is_well_formed(found, level) {
            return Err(Violation::BadDescriptor(table, index, found));
        }
        if descriptor::is_table(found, level) {
            let child = descriptor::next_table(found);
            let counted = check_table(memory, child, level.below(), first_time, total)?;
            if counted != descriptor::count(found) {
                return Err(Violation::WrongCount(child));
            }
        }
        entries = entries.wrapping_add(u64::from(found != 0));
    }
    Ok(entries)
}
