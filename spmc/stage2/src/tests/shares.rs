//! Ownership: what sharing, lending and donating leave in the tables.

use super::{Bed, GIB, KIB4, MIB2, data, range};
use crate::{Access, Entry, Error, Execute, Granule, Ipa, IpaSize, OutputAddress, Ownership};

#[test]
fn ownership_changes_without_invalidation() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, 8 * KIB4, 0, Granule::Blocks).expect("mapped");
    let part = range(GIB + KIB4, 2 * KIB4);
    bed.tables
        .set_state(&mut bed.memory, part, Ownership::Shared)
        .expect("changed");
    let expected = Entry::Mapped(OutputAddress(KIB4), data().with_ownership(Ownership::Shared));
    assert_eq!(bed.tables.entry(&bed.memory, Ipa(GIB + KIB4)), expected);
    assert_eq!(bed.at(GIB + KIB4), Some((3, KIB4)));
    assert_eq!(bed.runs(GIB, 8 * KIB4).len(), 3);
    bed.tables
        .set_state(&mut bed.memory, part, Ownership::Owned)
        .expect("changed");
    assert_eq!(bed.runs(GIB, 8 * KIB4).len(), 1);
    assert_eq!(bed.memory.invalidations(), 0);
    bed.finish();
}

#[test]
fn ownership_of_blocks_changes_without_invalidation() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(GIB, 2 * MIB2, 0, Granule::Blocks).expect("mapped");
    let all = range(GIB, 2 * MIB2);
    for state in [Ownership::Shared, Ownership::Owned] {
        bed.tables.set_state(&mut bed.memory, all, state).expect("changed");
        let attributes = data().with_ownership(state);
        assert_eq!(
            bed.tables.entry(&bed.memory, Ipa(GIB + MIB2)),
            Entry::Mapped(OutputAddress(MIB2), attributes)
        );
        assert_eq!((bed.at(GIB), bed.memory.invalidations()), (Some((2, 0)), 0));
    }
    bed.finish();
}

#[test]
fn lent_pages_remember_what_they_were() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, GIB, 4 * GIB, Granule::Blocks).expect("mapped");
    let part = range(3 * MIB2 - KIB4, MIB2 + 2 * KIB4);
    let token = bed
        .tables
        .suspend(&mut bed.memory, part, Ownership::Lent)
        .expect("lent");
    assert_eq!(token.range(), Some(part));
    token.complete(&mut bed.memory);
    assert_eq!(bed.at(3 * MIB2), None);
    let lent = data().with_ownership(Ownership::Lent);
    let run = bed.runs(part.start().0, part.bytes());
    assert_eq!(run.len(), 1);
    assert_eq!(
        run[0].entry,
        Entry::Suspended(OutputAddress(4 * GIB + 3 * MIB2 - KIB4), lent)
    );
    // Suspended pages are neither mapped over nor suspended again.
    let refused = bed.map(3 * MIB2, KIB4, 0, Granule::Blocks);
    assert_eq!(refused, Err(Error::AlreadyMapped { at: Ipa(3 * MIB2) }));
    let again = bed.tables.suspend(&mut bed.memory, part, Ownership::Lent);
    assert_eq!(again.err(), Some(Error::NotMapped { at: part.start() }));
    // A page out of a suspended block.
    bed.tables
        .resume(&mut bed.memory, range(3 * MIB2 + KIB4, KIB4), Ownership::Owned)
        .expect("resumed");
    assert_eq!(bed.at(3 * MIB2 + KIB4), Some((3, 4 * GIB + 3 * MIB2 + KIB4)));
    let partly = bed.tables.resume(&mut bed.memory, part, Ownership::Owned);
    assert_eq!(
        partly,
        Err(Error::NotMapped {
            at: Ipa(3 * MIB2 + KIB4)
        })
    );
    for rest in [
        range(3 * MIB2 - KIB4, 2 * KIB4),
        range(3 * MIB2 + 2 * KIB4, MIB2 - KIB4),
    ] {
        bed.tables
            .resume(&mut bed.memory, rest, Ownership::Owned)
            .expect("resumed");
    }
    assert_eq!(bed.runs(0, GIB).len(), 1);
    bed.finish();
}

#[test]
fn donated_pages_leave_a_mark_that_is_overwritten_or_cleared() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, 2 * GIB, 0, Granule::Blocks).expect("mapped");
    for (start, bytes) in [(GIB, GIB), (MIB2, MIB2), (5 * MIB2, KIB4)] {
        let part = range(start, bytes);
        let token = bed
            .tables
            .unmap(&mut bed.memory, part, Ownership::Donated)
            .expect("unmapped");
        token.complete(&mut bed.memory);
        let runs = bed.runs(start, bytes);
        assert_eq!((runs.len(), runs[0].entry), (1, Entry::Empty(Ownership::Donated)));
        assert_eq!(bed.at(start), None);
    }
    bed.map(GIB + 7 * KIB4, KIB4, 0, Granule::Blocks).expect("over a mark");
    assert_eq!(bed.runs(GIB, GIB).len(), 3);
    assert_eq!(bed.runs(GIB, KIB4)[0].entry, Entry::Empty(Ownership::Donated));
    bed.tables
        .set_state(&mut bed.memory, range(MIB2, MIB2), Ownership::None)
        .expect("cleared");
    assert_eq!(bed.runs(MIB2, MIB2)[0].entry, Entry::Empty(Ownership::None));
    bed.finish();
}

#[test]
fn marks_on_empty_pages_take_tables_and_give_them_back() {
    let mut bed = Bed::new(IpaSize::Bits48);
    let page = range(7 * GIB + KIB4, KIB4);
    bed.memory.set_budget(Some(2));
    let refused = bed.tables.set_state(&mut bed.memory, page, Ownership::Borrowed);
    assert_eq!((refused, bed.tables.table_count()), (Err(Error::OutOfTables), 1));
    bed.memory.set_budget(None);
    bed.tables
        .set_state(&mut bed.memory, page, Ownership::Borrowed)
        .expect("marked");
    assert_eq!(
        bed.tables.entry(&bed.memory, Ipa(7 * GIB + KIB4)),
        Entry::Empty(Ownership::Borrowed)
    );
    assert_eq!(bed.tables.table_count(), 4);
    bed.tables
        .set_state(&mut bed.memory, page, Ownership::None)
        .expect("cleared");
    bed.map(0, KIB4, 0, Granule::Blocks).expect("mapped");
    bed.unmap(0, KIB4);
    // The first level 3 table went when the second was emptied, and level 2 with it.
    assert_eq!(bed.tables.table_count(), 4);
    bed.finish();
}

#[test]
fn protect_changes_permissions_only_of_what_is_mapped() {
    let mut bed = Bed::new(IpaSize::Bits39);
    bed.map(0, MIB2, 0, Granule::Blocks).expect("mapped");
    bed.map(GIB, 2 * KIB4, 0, Granule::Blocks).expect("mapped");
    let protect = |bed: &mut Bed, start, bytes| {
        bed.tables
            .protect(&mut bed.memory, range(start, bytes), Access::ReadOnly, Execute::Always)
    };
    let token = protect(&mut bed, 4 * KIB4, KIB4).expect("changed");
    assert_eq!(token.range(), Some(range(4 * KIB4, KIB4)));
    token.complete(&mut bed.memory);
    let expected = data().with_permissions(Access::ReadOnly, Execute::Always);
    let mapping = bed.tables.translate(&bed.memory, Ipa(4 * KIB4)).expect("mapped");
    assert_eq!((mapping.output.0, mapping.attributes), (4 * KIB4, expected));
    assert_eq!(bed.runs(0, MIB2).len(), 3);
    // The same again changes nothing.
    let again = protect(&mut bed, 4 * KIB4, KIB4).expect("unchanged");
    assert_eq!(again.range(), None);
    again.complete(&mut bed.memory);
    let hole = protect(&mut bed, GIB, 3 * KIB4);
    assert_eq!(
        hole.err(),
        Some(Error::NotMapped {
            at: Ipa(GIB + 2 * KIB4)
        })
    );
    assert_eq!(
        bed.runs(GIB, 2 * KIB4)[0].entry,
        Entry::Mapped(OutputAddress(0), data())
    );
    bed.finish();
}
