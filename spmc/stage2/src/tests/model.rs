//! Random sequences of operations against a model that knows each page by itself, with allocations failing anywhere.

use std::{collections::BTreeMap, vec::Vec};

use proptest::{collection::vec, prelude::*};

use super::{Bed, GIB, KIB4, MIB2, everything};
use crate::{
    Access, Attributes, Entry, Error, Execute, Granule, Invalidate, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress,
    Ownership, Run, descriptor,
};

/// What the model says of a page. Pages that it does not have are empty and remember nothing.
type Pages = BTreeMap<u64, Entry>;

#[derive(Clone, Copy, Debug)]
enum Change {
    Map(u64, Attributes, Granule),
    Remap(u64, Attributes, Granule),
    PrepareMap(u64, Granule),
    PrepareEdges,
    Unmap(Ownership),
    Suspend(Ownership),
    Resume(Ownership),
    Protect(Access, Execute),
    SetState(Ownership),
    Release,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    start: u64,
    pages: u64,
    change: Change,
    /// Allocations that succeed.
    budget: Option<usize>,
}

/// Page numbers around boundaries of all levels, so that operations meet each other.
fn any_start(size: IpaSize) -> impl Strategy<Value = u64> {
    let near = prop_oneof![
        3 => Just(0),
        3 => Just(GIB - MIB2),
        2 => Just(GIB),
        2 => Just(GIB + MIB2),
        1 => Just((1 << 39) - MIB2),
        1 => Just(size.limit().0 - MIB2),
    ];
    (near, prop_oneof![Just(0), Just(510), 0_u64..512]).prop_map(|(base, page)| base / KIB4 + page)
}

fn any_pages() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 1_u64..5,
        2 => 1_u64..600,
        2 => Just(512),
        1 => 512_u64..1600,
        1 => Just(1024),
    ]
}

fn any_ownership() -> impl Strategy<Value = Ownership> {
    prop_oneof![3 => Just(Ownership::None), 2 => Just(Ownership::Lent), 1 => Just(Ownership::Donated)]
}

fn any_permissions() -> impl Strategy<Value = (Access, Execute)> {
    prop_oneof![
        Just((Access::ReadWrite, Execute::Never)),
        Just((Access::ReadOnly, Execute::Never)),
        Just((Access::ReadOnly, Execute::El1))
    ]
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let memory = prop_oneof![Just(MemoryType::NormalWriteBack), Just(MemoryType::DeviceNGnRE)];
    (memory, any_permissions(), any_ownership())
        .prop_map(|(memory, (access, execute), ownership)| Attributes::new(memory, access, execute, ownership))
}

fn any_change() -> impl Strategy<Value = Change> {
    let granule = || prop_oneof![3 => Just(Granule::Blocks), 1 => Just(Granule::Pages)];
    // Outputs that allow blocks (the range's own address) in most cases, and others.
    let distance = || prop_oneof![3 => Just(0_u64), 1 => Just(MIB2), 1 => Just(KIB4)];
    prop_oneof![
        6 => (distance(), any_attributes(), granule()).prop_map(|(d, a, g)| Change::Map(d, a, g)),
        2 => (distance(), any_attributes(), granule()).prop_map(|(d, a, g)| Change::Remap(d, a, g)),
        1 => (distance(), granule()).prop_map(|(d, g)| Change::PrepareMap(d, g)),
        1 => Just(Change::PrepareEdges),
        4 => any_ownership().prop_map(Change::Unmap),
        2 => any_ownership().prop_map(Change::Suspend),
        2 => any_ownership().prop_map(Change::Resume),
        2 => any_permissions().prop_map(|(a, e)| Change::Protect(a, e)),
        2 => any_ownership().prop_map(Change::SetState),
        1 => Just(Change::Release),
    ]
}

fn any_step(size: IpaSize) -> impl Strategy<Value = Step> {
    let budget = prop_oneof![2 => Just(None), 1 => (0_usize..5).prop_map(Some)];
    (any_start(size), any_pages(), any_change(), budget).prop_map(|(start, pages, change, budget)| Step {
        start,
        pages,
        change,
        budget,
    })
}

/// What the step makes of the model, or why it is refused (but for want of tables).
fn expected(model: &Pages, size: IpaSize, step: Step) -> Result<Pages, Error> {
    if matches!(step.change, Change::Release) {
        return Ok(model.clone());
    }
    if (step.start + step.pages) * KIB4 > size.limit().0 {
        return Err(Error::OutsideIpaSpace);
    }
    let mut next = model.clone();
    for page in step.start..step.start + step.pages {
        let old = model.get(&page).copied().unwrap_or(Entry::Empty(Ownership::None));
        let output = |distance: u64| OutputAddress((step.start % (1 << 30) + page - step.start) * KIB4 + distance);
        let new = match (step.change, old) {
            (Change::Map(distance, attributes, _), Entry::Empty(_)) | (Change::Remap(distance, attributes, _), _) => {
                Entry::Mapped(output(distance), attributes)
            }
            (Change::Map(..) | Change::PrepareMap(..), Entry::Mapped(..) | Entry::Suspended(..)) => {
                return Err(Error::AlreadyMapped { at: Ipa(page * KIB4) });
            }
            (Change::Unmap(remember), _) => Entry::Empty(remember),
            (Change::Suspend(state), Entry::Mapped(output, attributes)) => {
                Entry::Suspended(output, attributes.with_ownership(state))
            }
            (Change::Resume(state), Entry::Suspended(output, attributes))
            | (Change::SetState(state), Entry::Mapped(output, attributes)) => {
                Entry::Mapped(output, attributes.with_ownership(state))
            }
            (Change::SetState(state), Entry::Suspended(output, attributes)) => {
                Entry::Suspended(output, attributes.with_ownership(state))
            }
            (Change::SetState(state), Entry::Empty(_)) => Entry::Empty(state),
            (Change::Protect(access, execute), Entry::Mapped(output, attributes)) => {
                Entry::Mapped(output, attributes.with_permissions(access, execute))
            }
            (Change::Suspend(_) | Change::Resume(_) | Change::Protect(..), _) => {
                return Err(Error::NotMapped { at: Ipa(page * KIB4) });
            }
            (Change::PrepareMap(..) | Change::PrepareEdges | Change::Release, old) => old,
        };
        next.insert(page, new);
    }
    Ok(next)
}

fn output_of(step: Step, distance: u64) -> OutputAddress {
    OutputAddress(step.start % (1 << 30) * KIB4 + distance)
}

/// Carries the step out, its token included.
fn carry_out(bed: &mut Bed, step: Step, range: IpaRange) -> Result<(), Error> {
    let (memory, tables) = (&mut bed.memory, &mut bed.tables);
    let mut token = Invalidate::nothing();
    match step.change {
        Change::Map(distance, attributes, granule) => {
            tables.map(memory, range, output_of(step, distance), attributes, granule)?;
        }
        Change::Remap(distance, attributes, granule) => {
            tables.remap(memory, range, output_of(step, distance), attributes, granule)?;
        }
        Change::PrepareMap(distance, granule) => {
            tables.prepare_map(memory, range, output_of(step, distance), granule)?;
        }
        Change::PrepareEdges => tables.prepare_change(memory, range)?,
        Change::Unmap(remember) => token = tables.unmap(memory, range, remember)?,
        Change::Suspend(state) => token = tables.suspend(memory, range, state)?,
        Change::Resume(state) => tables.resume(memory, range, state)?,
        Change::Protect(access, execute) => token = tables.protect(memory, range, access, execute)?,
        Change::SetState(state) => tables.set_state(memory, range, state)?,
        Change::Release => token = tables.release(memory, range),
    }
    token.complete(memory);
    Ok(())
}

/// The longest runs of pages in the same state that the model has in `start..end` (page numbers).
fn model_runs(model: &Pages, start: u64, end: u64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let run = |start: u64, end: u64, entry| Run {
        range: IpaRange::cut(start * KIB4, end * KIB4),
        entry,
    };
    let empty = Entry::Empty(Ownership::None);
    let mut at = start;
    let ends = model.range(start..end).map(|(&page, &entry)| (page, page + 1, entry));
    for (first, next, entry) in ends.chain([(end, end, empty)]) {
        for (from, to, entry) in [(at, first, empty), (first, next, entry)] {
            if from == to {
                continue;
            }
            match runs.last_mut() {
                Some(last) if continued(last, entry) => *last = run(last.range.start().0 / KIB4, to, last.entry),
                _ => runs.push(run(from, to, entry)),
            }
        }
        at = next;
    }
    runs
}

/// Whether `entry` goes on from `run`.
fn continued(run: &Run, entry: Entry) -> bool {
    let forward = |output: OutputAddress| OutputAddress(output.0 + run.range.bytes());
    entry
        == match run.entry {
            Entry::Empty(ownership) => Entry::Empty(ownership),
            Entry::Mapped(output, attributes) => Entry::Mapped(forward(output), attributes),
            Entry::Suspended(output, attributes) => Entry::Suspended(forward(output), attributes),
        }
}

/// That the tables say what the model says, and that no walk can find anything else any more.
fn compare(bed: &Bed, model: &Pages, size: IpaSize, step: Step) {
    bed.check();
    let all = everything(size);
    assert_eq!(
        bed.runs(all.start().0, all.bytes()),
        model_runs(model, 0, all.end().0 / KIB4)
    );
    let last = (all.end().0 / KIB4).min(step.start + step.pages);
    let around = [
        step.start.saturating_sub(1),
        step.start,
        last - 1,
        last.min(all.end().0 / KIB4 - 1),
    ];
    for page in around {
        let ipa = page * KIB4;
        let entry = model.get(&page).copied().unwrap_or(Entry::Empty(Ownership::None));
        assert_eq!(bed.tables.entry(&bed.memory, Ipa(ipa + 7)), entry);
        let translation = bed.tables.translate(&bed.memory, Ipa(ipa + 7));
        let walked: Vec<_> = bed.memory.possible(bed.tables.root(), ipa).into_iter().collect();
        if let Entry::Mapped(output, attributes) = entry {
            let found = translation.expect("mapped");
            assert_eq!((found.output.0, found.attributes), (output.0 + 7, attributes));
            // Ownership may be stale: the hardware ignores it.
            let found = walked.iter().map(|&found| descriptor::entry(found));
            assert!(!walked.is_empty());
            for one in found {
                let Entry::Mapped(at, old) = one else { panic!("{one:?}") };
                assert_eq!((at, old.with_ownership(attributes.ownership())), (output, attributes));
            }
        } else {
            assert_eq!(translation, None);
            assert_eq!(walked, [0], "stale");
        }
    }
}

fn play(size: IpaSize, steps: Vec<Step>) {
    let mut bed = Bed::new(size);
    let mut model = Pages::new();
    for step in steps {
        let range = IpaRange::new(Ipa(step.start * KIB4), step.pages).expect("a range");
        let tables = bed.tables.table_count();
        bed.memory.set_budget(step.budget);
        let done = carry_out(&mut bed, step, range);
        bed.memory.set_budget(None);
        match (expected(&model, size, step), done) {
            (Ok(next), Ok(())) => model = next,
            (Ok(_), Err(Error::OutOfTables)) => {
                assert!(step.budget.is_some());
                if !matches!(step.change, Change::Remap(..)) {
                    assert_eq!(bed.tables.table_count(), tables, "tables were left behind");
                }
            }
            (Err(expected), Err(found)) => {
                assert_eq!(found, expected);
                assert_eq!(bed.tables.table_count(), tables, "tables were left behind");
            }
            (expected, done) => panic!("{step:?}: {done:?}, expected {:?}", expected.map(|_| ())),
        }
        compare(&bed, &model, size, step);
    }
    bed.finish();
}

/// Plays `steps`, the last one with ever more allocations until it succeeds, each time as if for the first time.
fn fail_everywhere(size: IpaSize, mut steps: Vec<Step>) {
    for step in &mut steps {
        step.budget = None;
    }
    let Some(last) = steps.pop() else { return };
    for budget in 0..12 {
        let mut once = steps.clone();
        once.push(Step {
            budget: Some(budget),
            ..last
        });
        play(size, once);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tables_of_39_bits_do_what_the_model_does(steps in vec(any_step(IpaSize::Bits39), 1..24)) {
        play(IpaSize::Bits39, steps);
    }

    #[test]
    fn tables_of_48_bits_do_what_the_model_does(steps in vec(any_step(IpaSize::Bits48), 1..24)) {
        play(IpaSize::Bits48, steps);
    }

    #[test]
    fn any_allocation_may_fail(steps in vec(any_step(IpaSize::Bits48), 1..6)) {
        fail_everywhere(IpaSize::Bits48, steps);
    }
}
