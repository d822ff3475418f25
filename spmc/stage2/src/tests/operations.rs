//! Mapping, removing, translating, and what is refused.

use core::ops::ControlFlow;

use super::{Bed, GIB, KIB4, MIB2, data, everything, range};
use crate::{
    Access, Entry, Error, Execute, Granule, Ipa, IpaRange, IpaSize, OutputAddress, Ownership, Tables, fake::FakeMemory,
};

#[test]
fn new_takes_one_table_or_says_that_there_is_none() {
    let mut memory = FakeMemory::new();
    memory.set_budget(Some(0));
    assert_eq!(
        Tables::new(&mut memory, IpaSize::Bits39).err(),
        Some(Error::OutOfTables)
    );
    let bed = Bed::new(IpaSize::Bits48);
    assert_eq!((bed.memory.live(), bed.tables.table_count()), (1, 1));
    assert_eq!(bed.tables.ipa_size(), IpaSize::Bits48);
    bed.finish();
}

#[test]
fn a_page_is_translated_and_its_neighbours_are_not() {
    for (size, tables) in [(IpaSize::Bits39, 3), (IpaSize::Bits48, 4)] {
        let mut bed = Bed::new(size);
        bed.map(0x4000_3000, KIB4, 0xe10_5000, Granule::Blocks).expect("mapped");
        assert_eq!(bed.at(0x4000_3000), Some((3, 0xe10_5000)));
        assert_eq!(bed.at(0x4000_3abc), Some((3, 0xe10_5abc)));
        assert_eq!(bed.at(0x4000_2fff), None);
        assert_eq!(bed.at(0x4000_4000), None);
        assert_eq!(bed.tables.table_count(), tables);
        bed.unmap(0x4000_3000, KIB4);
        assert_eq!(bed.at(0x4000_3000), None);
        bed.finish();
    }
}

#[test]
fn blocks_are_used_where_both_addresses_allow() {
    let mut bed = Bed::new(IpaSize::Bits39);
    // From one page below 2 GiB to one page above 3 GiB + 2 MiB.
    bed.map(2 * GIB - KIB4, GIB + MIB2 + 2 * KIB4, 8 * GIB - KIB4, Granule::Blocks)
        .expect("mapped");
    assert_eq!(bed.at(2 * GIB - KIB4), Some((3, 8 * GIB - KIB4)));
    assert_eq!(bed.at(2 * GIB + 0x1234_5678), Some((1, 8 * GIB + 0x1234_5678)));
    assert_eq!(bed.at(3 * GIB + 0x1f_ffff), Some((2, 9 * GIB + 0x1f_ffff)));
    assert_eq!(bed.at(3 * GIB + MIB2), Some((3, 9 * GIB + MIB2)));
    assert_eq!(bed.at(3 * GIB + MIB2 + KIB4), None);
    assert_eq!(bed.runs(2 * GIB - KIB4, GIB + MIB2 + 2 * KIB4).len(), 1);
    bed.finish();
}

#[test]
fn an_output_that_is_not_aligned_alike_makes_smaller_entries() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, GIB, 4 * GIB + MIB2, Granule::Blocks).expect("mapped");
    assert_eq!(bed.at(GIB), Some((2, 4 * GIB + MIB2)));
    assert_eq!(bed.tables.table_count(), 2);
    bed.map(2 * GIB, MIB2, 4 * GIB + KIB4, Granule::Blocks).expect("mapped");
    assert_eq!(bed.at(2 * GIB + MIB2 - 1), Some((3, 4 * GIB + KIB4 + MIB2 - 1)));
    bed.finish();
}

#[test]
fn pages_are_forced() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, 2 * MIB2, GIB, Granule::Pages).expect("mapped");
    assert_eq!(bed.at(GIB + MIB2), Some((3, GIB + MIB2)));
    assert_eq!(bed.tables.table_count(), 4);
    bed.unmap(GIB, 2 * MIB2);
    assert_eq!(bed.tables.table_count(), 1);
    bed.finish();
}

#[test]
fn the_top_of_the_ipa_space_is_usable_and_what_is_above_refused() {
    for size in [IpaSize::Bits39, IpaSize::Bits48] {
        let mut bed = Bed::new(size);
        let limit = size.limit().0;
        bed.map(limit - KIB4, KIB4, 0x1000, Granule::Blocks).expect("mapped");
        assert_eq!(bed.at(limit - 1), Some((3, 0x1fff)));
        assert_eq!(bed.at(limit), None);
        assert_eq!(bed.at(u64::MAX), None);
        assert_eq!(
            bed.tables.entry(&bed.memory, Ipa(u64::MAX)),
            Entry::Empty(Ownership::None)
        );
        for outside in [range(limit, KIB4), range(limit - KIB4, 2 * KIB4), range(1 << 60, KIB4)] {
            refuses_range(&mut bed, outside);
        }
        bed.unmap(limit - KIB4, KIB4);
        bed.finish();
    }
}

fn refuses_range(bed: &mut Bed, outside: IpaRange) {
    let (memory, tables) = (&mut bed.memory, &mut bed.tables);
    let refused = Error::OutsideIpaSpace;
    let output = OutputAddress(0);
    assert_eq!(
        tables.map(memory, outside, output, data(), Granule::Blocks),
        Err(refused)
    );
    assert_eq!(
        tables.remap(memory, outside, output, data(), Granule::Blocks),
        Err(refused)
    );
    assert_eq!(
        tables.prepare_map(memory, outside, output, Granule::Blocks),
        Err(refused)
    );
    assert_eq!(tables.prepare_change(memory, outside), Err(refused));
    assert_eq!(tables.unmap(memory, outside, Ownership::None).err(), Some(refused));
    assert_eq!(tables.suspend(memory, outside, Ownership::Lent).err(), Some(refused));
    assert_eq!(tables.resume(memory, outside, Ownership::Lent), Err(refused));
    assert_eq!(tables.set_state(memory, outside, Ownership::Lent), Err(refused));
    let protected = tables.protect(memory, outside, Access::None, Execute::Never);
    assert_eq!(protected.err(), Some(refused));
    assert_eq!(
        tables.walk(memory, outside, |_| ControlFlow::Continue(())),
        Err(refused)
    );
    let nothing = tables.release(memory, outside);
    assert_eq!(nothing.range(), None);
    nothing.complete(memory);
}

#[test]
fn bad_outputs_are_refused() {
    let mut bed = Bed::new(IpaSize::Bits48);
    for output in [1, 0x800, 1 << 48, (1 << 48) - KIB4, !0xfff] {
        assert_eq!(bed.map(0, 2 * KIB4, output, Granule::Blocks), Err(Error::BadOutput));
        let remapped = bed.tables.remap(
            &mut bed.memory,
            range(0, 2 * KIB4),
            OutputAddress(output),
            data(),
            Granule::Blocks,
        );
        assert_eq!(remapped, Err(Error::BadOutput));
    }
    bed.map(0, 2 * KIB4, (1 << 48) - 2 * KIB4, Granule::Blocks)
        .expect("the last two pages");
    assert_eq!(bed.runs(0, 2 * KIB4).len(), 1);
    bed.finish();
}

#[test]
fn map_never_overwrites() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB + 5 * KIB4, KIB4, 0x5000, Granule::Blocks).expect("mapped");
    bed.map(4 * GIB, GIB, 4 * GIB, Granule::Blocks).expect("mapped");
    let tables = bed.tables.table_count();
    let at = |ipa| Err(Error::AlreadyMapped { at: Ipa(ipa) });
    assert_eq!(bed.map(GIB, GIB, 0, Granule::Blocks), at(GIB + 5 * KIB4));
    assert_eq!(
        bed.map(GIB + 5 * KIB4, KIB4, 0x5000, Granule::Blocks),
        at(GIB + 5 * KIB4)
    );
    assert_eq!(
        bed.map(4 * GIB + 7 * KIB4, KIB4, 0, Granule::Blocks),
        at(4 * GIB + 7 * KIB4)
    );
    assert_eq!(bed.map(3 * GIB, 2 * GIB, 0, Granule::Pages), at(4 * GIB));
    assert_eq!(bed.tables.table_count(), tables);
    assert_eq!(bed.at(3 * GIB), None);
    bed.finish();
}

#[test]
fn unmapping_what_was_never_mapped_needs_nothing() {
    let mut bed = Bed::new(IpaSize::Bits48);
    bed.memory.set_budget(Some(0));
    let writes = bed.memory.writes();
    for range in [
        range(0x5000, KIB4),
        range(MIB2 - KIB4, GIB),
        everything(IpaSize::Bits48),
    ] {
        let token = bed
            .tables
            .unmap(&mut bed.memory, range, Ownership::None)
            .expect("nothing to do");
        assert_eq!(token.range(), None);
        token.complete(&mut bed.memory);
    }
    assert_eq!((bed.memory.writes(), bed.memory.invalidations()), (writes, 0));
    bed.finish();
}

#[test]
fn a_page_out_of_a_block_splits_it_and_leaves_the_rest() {
    let mut bed = Bed::new(IpaSize::Bits48);
    bed.map(0, 2 * GIB, 0x40_0000_0000, Granule::Blocks).expect("mapped");
    bed.unmap(GIB + 3 * MIB2 + 7 * KIB4, KIB4);
    assert_eq!(bed.at(GIB + 3 * MIB2 + 7 * KIB4), None);
    assert_eq!(
        bed.at(GIB + 3 * MIB2 + 6 * KIB4),
        Some((3, 0x40_0000_0000 + GIB + 3 * MIB2 + 6 * KIB4))
    );
    assert_eq!(bed.at(GIB + 4 * MIB2), Some((2, 0x40_0000_0000 + GIB + 4 * MIB2)));
    assert_eq!(bed.at(0x1234), Some((1, 0x40_0000_1234)));
    let runs = bed.runs(0, 2 * GIB);
    assert_eq!(runs.len(), 3);
    assert_eq!(runs[1].range, range(GIB + 3 * MIB2 + 7 * KIB4, KIB4));
    // Each split breaks and invalidates once, the removal once.
    assert_eq!(bed.memory.invalidations(), 3);
    bed.finish();
}

#[test]
fn both_ends_of_a_range_are_split() {
    for (start, bytes, splits) in [
        (GIB + KIB4, MIB2 - 2 * KIB4, 2),
        (GIB + KIB4, 3 * MIB2, 3),
        (GIB - KIB4, 2 * KIB4, 4),
        (GIB - KIB4, GIB + 2 * KIB4, 4),
        (GIB + MIB2, GIB - 2 * MIB2, 1),
        (GIB + MIB2, 2 * MIB2 + KIB4, 2),
        (GIB, GIB, 0),
    ] {
        let mut bed = Bed::new(IpaSize::Bits39);
        bed.map(0, 4 * GIB, 0, Granule::Blocks).expect("mapped");
        bed.tables
            .set_state(&mut bed.memory, range(start, bytes), Ownership::Shared)
            .expect("changed");
        assert_eq!(bed.tables.table_count(), 1 + splits, "{start:x} {bytes:x}");
        assert_eq!(bed.memory.allocations(), 1 + splits);
        let runs = bed.runs(0, 4 * GIB);
        assert_eq!(runs.len(), 3);
        assert_eq!(runs[1].range, range(start, bytes));
        bed.finish();
    }
}

#[test]
fn unmapping_much_frees_whole_tables() {
    let mut bed = Bed::new(IpaSize::Bits48);
    bed.map(GIB - MIB2, 2 * GIB, KIB4, Granule::Pages).expect("mapped");
    assert_eq!(bed.tables.table_count(), 1 + 1 + 3 + 1024);
    let invalidations = bed.memory.invalidations();
    bed.unmap(0, 4 * GIB);
    assert_eq!(bed.memory.invalidations(), invalidations + 1);
    assert_eq!(bed.tables.table_count(), 1);
    bed.finish();
}

#[test]
fn one_emptied_table_is_kept_and_the_one_before_goes() {
    let mut bed = Bed::new(IpaSize::Bits39);
    for gib in 1..4 {
        bed.map(gib * GIB, KIB4, 0, Granule::Blocks).expect("mapped");
    }
    assert_eq!(bed.tables.table_count(), 1 + 3 * 2);
    bed.unmap(GIB, KIB4);
    assert_eq!(bed.tables.table_count(), 7);
    let allocations = bed.memory.allocations();
    for _ in 0..10 {
        bed.map(GIB, KIB4, 0, Granule::Blocks).expect("mapped");
        bed.unmap(GIB, KIB4);
    }
    assert_eq!(bed.memory.allocations(), allocations);
    bed.unmap(2 * GIB, KIB4);
    assert_eq!(bed.tables.table_count(), 5);
    bed.unmap(3 * GIB, KIB4);
    assert_eq!(bed.tables.table_count(), 3);
    let token = bed.tables.release(&mut bed.memory, everything(IpaSize::Bits39));
    token.complete(&mut bed.memory);
    assert_eq!(bed.tables.table_count(), 1);
    bed.finish();
}

#[test]
fn remap_replaces_blocks_pages_and_holes() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, GIB, 0, Granule::Blocks).expect("mapped");
    bed.map(GIB + KIB4, 3 * KIB4, 0, Granule::Blocks).expect("mapped");
    let remap = |bed: &mut Bed, start, bytes, output| {
        bed.tables.remap(
            &mut bed.memory,
            range(start, bytes),
            OutputAddress(output),
            data(),
            Granule::Blocks,
        )
    };
    remap(&mut bed, GIB - MIB2, 2 * MIB2, 0x8000_0000).expect("remapped");
    assert_eq!(bed.at(GIB - MIB2), Some((2, 0x8000_0000)));
    assert_eq!(bed.at(GIB + MIB2 - KIB4), Some((3, 0x8000_0000 + 2 * MIB2 - KIB4)));
    assert_eq!(bed.at(0), Some((2, 0)));
    assert_eq!(bed.runs(0, GIB + MIB2).len(), 2);
    remap(&mut bed, 5 * KIB4, KIB4, 0x9000_0000).expect("remapped");
    assert_eq!(bed.at(5 * KIB4), Some((3, 0x9000_0000)));
    assert_eq!(bed.at(6 * KIB4), Some((3, 6 * KIB4)));
    remap(&mut bed, 0, GIB, KIB4).expect("remapped");
    assert_eq!(bed.runs(0, GIB).len(), 1);
    bed.finish();
}

#[test]
fn walk_merges_across_tables_and_levels_and_can_be_stopped() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(MIB2 - KIB4, MIB2 + 2 * KIB4, MIB2 - KIB4, Granule::Blocks)
        .expect("mapped");
    bed.map(2 * MIB2 + KIB4, KIB4, 2 * MIB2 + KIB4, Granule::Blocks)
        .expect("mapped");
    bed.map(2 * MIB2 + 2 * KIB4, KIB4, 0, Granule::Blocks).expect("mapped");
    let runs = bed.runs(0, GIB);
    let expected = [
        (range(0, MIB2 - KIB4), Entry::Empty(Ownership::None)),
        (
            range(MIB2 - KIB4, MIB2 + 3 * KIB4),
            Entry::Mapped(OutputAddress(MIB2 - KIB4), data()),
        ),
        (
            range(2 * MIB2 + 2 * KIB4, KIB4),
            Entry::Mapped(OutputAddress(0), data()),
        ),
        (
            range(2 * MIB2 + 3 * KIB4, GIB - 2 * MIB2 - 3 * KIB4),
            Entry::Empty(Ownership::None),
        ),
    ];
    assert_eq!(
        runs.iter()
            .map(|run| (run.range, run.entry))
            .collect::<std::vec::Vec<_>>(),
        expected
    );
    // A walk that begins within a block sees the output of its own first page.
    let inner = bed.runs(MIB2 + 3 * KIB4, KIB4);
    assert_eq!(inner[0].entry, Entry::Mapped(OutputAddress(MIB2 + 3 * KIB4), data()));
    let mut seen = 0;
    let flow = bed.tables.walk(&bed.memory, range(0, GIB), |_| {
        seen += 1;
        if seen == 2 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!((flow, seen), (Ok(ControlFlow::Break(())), 2));
    bed.finish();
}

#[test]
fn failed_maps_leave_no_table() {
    for granule in [Granule::Blocks, Granule::Pages] {
        for budget in 0..6 {
            let mut bed = Bed::new(IpaSize::Bits48);
            bed.memory.set_budget(Some(budget));
            assert_eq!(
                bed.map(GIB - MIB2 - KIB4, 2 * MIB2, 0, granule),
                Err(Error::OutOfTables)
            );
            assert_eq!((bed.memory.live(), bed.tables.table_count()), (1, 1));
            assert_eq!(bed.memory.writes(), bed.memory.allocations().saturating_sub(1) * 2);
            bed.finish();
        }
    }
    let mut bed = Bed::new(IpaSize::Bits48);
    bed.memory.set_budget(Some(6));
    bed.map(GIB - MIB2 - KIB4, 2 * MIB2, 0, Granule::Pages)
        .expect("six are enough");
    bed.finish();
}

#[test]
fn prepared_maps_cannot_run_out() {
    let mut bed = Bed::new(IpaSize::Bits48);
    let (start, bytes) = (GIB - MIB2 - KIB4, GIB + 4 * MIB2);
    let output = OutputAddress(start + MIB2);
    bed.tables
        .prepare_map(&mut bed.memory, range(start, bytes), output, Granule::Blocks)
        .expect("prepared");
    bed.check();
    assert_eq!(bed.runs(0, 4 * GIB).len(), 1);
    let tables = bed.tables.table_count();
    bed.memory.set_budget(Some(0));
    bed.map(start, bytes, output.0, Granule::Blocks).expect("prepared");
    assert_eq!(bed.tables.table_count(), tables);
    bed.finish();
}

#[test]
fn what_was_prepared_in_vain_is_released() {
    let mut bed = Bed::new(IpaSize::Bits48);
    bed.map(7 * GIB, KIB4, 0, Granule::Blocks).expect("mapped");
    let before = bed.tables.table_count();
    let vain = range(GIB - KIB4, 8 * MIB2);
    bed.tables
        .prepare_map(&mut bed.memory, vain, OutputAddress(0), Granule::Pages)
        .expect("prepared");
    assert!(bed.tables.table_count() > before);
    let token = bed.tables.release(&mut bed.memory, vain);
    token.complete(&mut bed.memory);
    assert_eq!(bed.tables.table_count(), before);
    bed.finish();
}

#[test]
fn prepared_changes_cannot_run_out() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, 4 * GIB, 0, Granule::Blocks).expect("mapped");
    let part = range(GIB + KIB4, GIB + MIB2);
    bed.memory.set_budget(Some(3));
    assert_eq!(
        bed.tables.prepare_change(&mut bed.memory, part),
        Err(Error::OutOfTables)
    );
    assert_eq!(bed.tables.table_count(), 1);
    bed.memory.set_budget(Some(4));
    bed.tables.prepare_change(&mut bed.memory, part).expect("prepared");
    assert_eq!(bed.runs(0, 4 * GIB).len(), 1);
    let token = bed
        .tables
        .suspend(&mut bed.memory, part, Ownership::Lent)
        .expect("prepared");
    token.complete(&mut bed.memory);
    bed.tables
        .resume(&mut bed.memory, part, Ownership::Owned)
        .expect("prepared");
    assert_eq!(bed.runs(0, 4 * GIB).len(), 1);
    bed.finish();
}

#[test]
fn emptying_another_table_does_not_undo_a_preparation() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, KIB4, 0, Granule::Pages).expect("mapped");
    bed.map(2 * GIB, KIB4, 0, Granule::Pages).expect("mapped");
    bed.unmap(GIB, KIB4);
    bed.tables
        .prepare_map(&mut bed.memory, range(GIB, KIB4), OutputAddress(0), Granule::Pages)
        .expect("prepared");
    bed.unmap(2 * GIB, KIB4);
    bed.memory.set_budget(Some(0));
    bed.map(GIB, KIB4, 0, Granule::Pages).expect("prepared");
    bed.finish();
}
