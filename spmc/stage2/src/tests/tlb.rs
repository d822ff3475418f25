//! Stale translations: what a token covers, when tables are reused, and that the fake notices when they are too early.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    vec::Vec,
};

use super::{Bed, GIB, KIB4, MIB2, data, invalidate_all, range};
use crate::{
    Access, Execute, Granule, Invalidate, Ipa, IpaRange, IpaSize, OutputAddress, Ownership, TableMemory, Tables, Tlb,
    WithTlb, fake::FakeMemory,
};

#[test]
fn an_unmapped_page_may_be_read_until_its_token_is_completed() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, 4 * KIB4, 0, Granule::Blocks).expect("mapped");
    let token = bed
        .tables
        .unmap(&mut bed.memory, range(GIB, KIB4), Ownership::None)
        .expect("unmapped");
    assert_eq!(bed.memory.possible(bed.tables.root(), GIB).len(), 2);
    assert_eq!(token.range(), Some(range(GIB, KIB4)));
    token.complete(&mut bed.memory);
    assert_eq!(
        bed.memory
            .possible(bed.tables.root(), GIB)
            .into_iter()
            .collect::<Vec<_>>(),
        [0]
    );
    assert_eq!(bed.memory.invalidations(), 1);
    bed.finish();
}

#[test]
fn freed_tables_wait_in_the_token() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, 2 * MIB2, 0, Granule::Pages).expect("mapped");
    let live = bed.memory.live();
    let token = bed
        .tables
        .unmap(&mut bed.memory, range(GIB, 2 * MIB2), Ownership::None)
        .expect("unmapped");
    assert_eq!((bed.tables.table_count(), bed.memory.live()), (1, live));
    // New tables meanwhile are others.
    bed.map(2 * GIB, KIB4, 0x5000, Granule::Pages).expect("mapped");
    assert_eq!(bed.memory.live(), live + 2);
    token.complete(&mut bed.memory);
    assert_eq!(bed.memory.live(), 3);
    bed.finish();
}

#[test]
fn tokens_merge_to_one_invalidation() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, 4 * MIB2, 0, Granule::Pages).expect("mapped");
    let live = bed.memory.live();
    let mut all = Invalidate::nothing();
    for part in [
        range(GIB, KIB4),
        range(GIB + MIB2, MIB2),
        range(GIB + 2 * MIB2, MIB2),
        range(GIB + 9 * KIB4, KIB4),
    ] {
        let one = bed
            .tables
            .unmap(&mut bed.memory, part, Ownership::None)
            .expect("unmapped");
        all = all.merge(&mut bed.memory, one);
    }
    assert_eq!(all.range(), Some(range(GIB, 3 * MIB2)));
    assert_eq!((bed.memory.invalidations(), bed.memory.live()), (0, live));
    all.complete(&mut bed.memory);
    assert_eq!((bed.memory.invalidations(), bed.memory.live()), (1, live - 2));
    bed.finish();
}

#[test]
fn a_token_that_is_dropped_leaks_and_never_reuses() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, MIB2, 0, Granule::Pages).expect("mapped");
    let token = bed
        .tables
        .unmap(&mut bed.memory, range(GIB, MIB2), Ownership::None)
        .expect("unmapped");
    drop(token);
    assert_eq!((bed.tables.table_count(), bed.memory.live()), (1, 3));
}

#[test]
fn with_tlb_passes_the_range_on() {
    let mut memory = FakeMemory::new();
    let mut ranges: Vec<IpaRange> = Vec::new();
    let mut live = WithTlb::new(&mut memory, |memory: &mut FakeMemory, range| {
        ranges.push(range);
        memory.invalidate(range);
    });
    let mut tables = Tables::new(&mut live, IpaSize::Bits39).expect("memory");
    tables
        .map(&mut live, range(0, GIB), OutputAddress(0), data(), Granule::Blocks)
        .expect("mapped");
    let token = tables
        .unmap(&mut live, range(KIB4, KIB4), Ownership::None)
        .expect("unmapped");
    token.complete(&mut live);
    let token = tables.destroy(&mut live);
    token.complete(&mut live);
    assert_eq!(
        ranges,
        [range(0, GIB), range(0, MIB2), range(KIB4, KIB4), range(0, 1 << 39)]
    );
    assert_eq!(memory.live(), 0);
}

/// Whether `misuse` makes the fake panic.
fn is_noticed(bed: &mut Bed, misuse: impl FnOnce(&mut FakeMemory, &mut Tables)) -> bool {
    let (memory, tables) = (&mut bed.memory, &mut bed.tables);
    catch_unwind(AssertUnwindSafe(|| misuse(memory, tables))).is_err()
}

#[test]
fn the_fake_notices_misuse() {
    let bed = || {
        let mut bed = Bed::new(IpaSize::Bits39);
        bed.map(0, KIB4, 0, Granule::Pages).expect("mapped");
        bed
    };
    assert!(is_noticed(&mut bed(), |memory, tables| memory.free_table(tables.root())));
    assert!(is_noticed(&mut bed(), |memory, _| {
        let table = memory.allocate_table().expect("memory");
        memory.free_table(table);
        memory.free_table(table);
    }));
    assert!(is_noticed(&mut bed(), |memory, _| {
        let table = memory.allocate_table().expect("memory");
        memory.free_table(table);
        memory.read_descriptor(table, 0);
    }));
    assert!(is_noticed(&mut bed(), |memory, tables| {
        // A leak.
        memory.allocate_table().expect("memory");
        memory.check(tables);
    }));
    assert!(is_noticed(&mut bed(), |memory, tables| {
        // The table is out of the tree, but walks may still be on their way to it.
        let table = crate::descriptor::next_table(memory.read_descriptor(tables.root(), 0));
        memory.write_descriptor(tables.root(), 0, 0);
        memory.free_table(table);
    }));
    assert!(is_noticed(&mut bed(), |memory, tables| {
        // Made without a break.
        memory.write_descriptor(
            tables.root(),
            0,
            crate::descriptor::leaf(0, data().bits(), crate::Level::One),
        );
    }));
    assert!(is_noticed(&mut bed(), |memory, tables| {
        // Broken, but not invalidated.
        memory.write_descriptor(tables.root(), 0, 0);
        memory.write_descriptor(
            tables.root(),
            0,
            crate::descriptor::leaf(0, data().bits(), crate::Level::One),
        );
    }));
    assert!(!is_noticed(&mut bed(), |memory, tables| {
        memory.write_descriptor(tables.root(), 0, 0);
        invalidate_all(memory, IpaSize::Bits39);
        memory.write_descriptor(
            tables.root(),
            0,
            crate::descriptor::leaf(0, data().bits(), crate::Level::One),
        );
    }));
}

#[test]
fn a_new_mapping_before_the_old_one_is_invalidated_is_noticed() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, 2 * KIB4, 0, Granule::Pages).expect("mapped");
    let token = bed
        .tables
        .unmap(&mut bed.memory, range(0, KIB4), Ownership::None)
        .expect("unmapped");
    assert!(is_noticed(&mut bed, |memory, tables| {
        tables
            .map(memory, range(0, KIB4), OutputAddress(0x9000), data(), Granule::Pages)
            .expect("mapped");
    }));
    drop(token);
}

#[test]
fn a_permission_that_was_withdrawn_is_gone_after_the_token() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, MIB2, 0, Granule::Blocks).expect("mapped");
    let token = bed
        .tables
        .protect(&mut bed.memory, range(KIB4, KIB4), Access::ReadOnly, Execute::Never)
        .expect("changed");
    assert_eq!(bed.memory.possible(bed.tables.root(), KIB4).len(), 2);
    token.complete(&mut bed.memory);
    assert_eq!(bed.memory.possible(bed.tables.root(), KIB4).len(), 1);
    let mapping = bed.tables.translate(&bed.memory, Ipa(KIB4)).expect("mapped");
    assert_eq!(mapping.attributes.access(), Access::ReadOnly);
    bed.finish();
}
