//! Every state that two PEs and two partitions can reach.

use std::{
    collections::{HashSet, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::{Duration, Instant},
};

use tantalum_core::{
    abi::Form,
    machine::fake::{Builder, FakeMachine, System},
    spmc::Spmc,
};

use crate::{
    effort,
    operation::{Operation, perform, registers},
    reference::{Kind, Reference},
};

const PES: usize = 2;
const SECONDS: u64 = 60;

/// What the alphabet has for a PE in the state that it is in.
fn alphabet(reference: &Reference, pe: usize) -> Vec<Operation> {
    if !reference.is_on(pe) {
        // TF-A starts no other PE before the first one has booted.
        let may = pe == 0 || reference.has_booted();
        return if may { vec![Operation::Online] } else { Vec::new() };
    }
    let partitions = [0x8001, 0x8002];
    let runs = partitions.into_iter().flat_map(|partition| {
        let vcpu = u16::try_from(pe).expect("few");
        [0, vcpu].map(|vcpu| Operation::Run { partition, vcpu })
    });
    let mut operations: Vec<_> = runs.collect();
    match reference.running(pe) {
        None => {
            let form = Form::Direct32;
            operations.extend(partitions.map(|destination| Operation::Request {
                form,
                source: 0,
                destination,
            }));
            operations.push(Operation::Offline);
        }
        Some((me, owes)) => {
            let destination = me ^ 3;
            operations.push(Operation::Request {
                form: Form::Direct2,
                source: me,
                destination,
            });
            if let Some((requester, wide)) = owes {
                let form = if wide { Form::Direct2 } else { Form::Direct32 };
                operations.push(Operation::Response {
                    form,
                    source: me,
                    destination: requester,
                });
            }
            operations.extend([Operation::Wait, Operation::Yield, Operation::Fiq, Operation::Abort]);
        }
    }
    operations.dedup();
    operations
}

type Path = Vec<(usize, Operation)>;

fn hash(system: &System<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    system.fingerprint().hash(&mut hasher);
    hasher.finish()
}

fn build(kinds: [Kind; 2]) -> (Spmc, FakeMachine) {
    kinds
        .iter()
        .fold(Builder::new(PES), |builder, kind| {
            builder.partition_with("p", |partition| {
                let partition = if kind.pinned { partition } else { partition.migratable() };
                if kind.queued { partition.queued() } else { partition }
            })
        })
        .build()
}

/// The system after `path`. Nothing is checked: every prefix was.
fn replay<'s>(spmc: &'s Spmc, machine: FakeMachine, path: &Path) -> System<'s> {
    let mut system = System::new(spmc, machine);
    system.set_checking(false);
    for &(pe, operation) in path {
        perform(&mut system, pe, operation, &registers(operation, |n| n as u64));
    }
    system.set_checking(true);
    system
}

fn compare(system: &System<'_>, reference: &Reference, path: &Path, last: (usize, Operation)) {
    for pe in 0..PES {
        let (owner, expected) = reference.expected(pe);
        assert_eq!(system.owner(pe), owner, "PE {pe} after {path:x?} {last:x?}");
        if reference.is_on(pe) {
            assert_eq!(system.all(pe), expected, "PE {pe} after {path:x?} {last:x?}");
        }
    }
}

/// Visits all states of two partitions of these kinds, breadth first, for some time; says how many, how far from the
/// start, and whether all.
fn explore(kinds: [Kind; 2], limit: Duration) -> (usize, usize, bool) {
    let begin = Instant::now();
    let mut seen = HashSet::new();
    let mut queue: VecDeque<(Path, Reference)> = VecDeque::from([(Vec::new(), Reference::new(PES, &kinds))]);
    let mut depth = 0;
    while let Some((path, reference)) = queue.pop_front() {
        if begin.elapsed() > limit {
            return (seen.len(), depth, false);
        }
        depth = path.len();
        // A call that changes nothing leaves the system in the state to expand; else it is made anew.
        let mut operations = (0..PES)
            .flat_map(|pe| {
                alphabet(&reference, pe)
                    .into_iter()
                    .map(move |operation| (pe, operation))
            })
            .peekable();
        while operations.peek().is_some() {
            let (spmc, machine) = build(kinds);
            let mut system = replay(&spmc, machine, &path);
            let mut judge = reference.clone();
            let before = hash(&system);
            for (pe, operation) in operations.by_ref() {
                let x = registers(operation, |n| n as u64);
                perform(&mut system, pe, operation, &x);
                judge.step(pe, operation, &x);
                compare(&system, &judge, &path, (pe, operation));
                let after = hash(&system);
                if after == before {
                    continue;
                }
                if seen.insert(after) {
                    let mut next = reference.clone();
                    next.step(pe, operation, &x);
                    let mut path = path.clone();
                    path.push((pe, operation));
                    queue.push_back((path, next));
                }
                break;
            }
        }
    }
    (seen.len(), depth, true)
}

fn all(kinds: [Kind; 2]) {
    let limit = Duration::from_secs(SECONDS * effort());
    let (states, depth, complete) = explore(kinds, limit);
    let what = if complete { "all states" } else { "states, not all" };
    println!("{kinds:?}: {states} {what}, up to {depth} steps from the start");
    assert!(states > 100);
}

const PINNED: Kind = Kind {
    pinned: true,
    queued: false,
};
const MIGRATABLE: Kind = Kind {
    pinned: false,
    queued: false,
};

#[test]
fn two_pinned_partitions() {
    all([PINNED, PINNED]);
}

#[test]
fn a_pinned_and_a_migratable_partition() {
    all([PINNED, MIGRATABLE]);
}

#[test]
fn a_pinned_partition_and_one_that_is_not_interrupted() {
    all([
        PINNED,
        Kind {
            pinned: false,
            queued: true,
        },
    ]);
}

#[test]
fn two_migratable_partitions() {
    all([MIGRATABLE, MIGRATABLE]);
}
