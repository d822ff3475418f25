//! Random sequences, with the reference model as the judge.

use std::fmt::Write as _;

use tantalum_core::{
    abi::Form,
    machine::fake::{Builder, Owner, System, taint},
};

use crate::{
    Random, effort,
    operation::{Operation, perform, registers},
    reference::{Kind, Reference},
};

const STEPS: usize = 300;
const CASES: u64 = 1500;

fn form(random: &mut Random) -> Form {
    random.pick(&[Form::Direct32, Form::Direct64, Form::Direct2])
}

/// An id that is mostly a partition's.
fn id(random: &mut Random, partitions: u16) -> u16 {
    if random.one_in(20) {
        random.pick(&[0, 1, 0x7fff, 0x8000, 0x8009, 0xffc0, 0xffff])
    } else {
        0x8001 + u16::try_from(random.below(usize::from(partitions))).expect("few")
    }
}

fn context(random: &mut Random, pe: usize, partitions: u16) -> Operation {
    let vcpu = if random.one_in(3) {
        random.below(5)
    } else {
        random.pick(&[pe, 0])
    };
    Operation::Run {
        partition: id(random, partitions),
        vcpu: u16::try_from(vcpu).expect("few"),
    }
}

/// Something that may happen on `pe`.
fn operation(random: &mut Random, reference: &Reference, pe: usize, partitions: u16) -> Operation {
    if !reference.is_on(pe) {
        return Operation::Online;
    }
    let Some((me, owes)) = reference.running(pe) else {
        return match random.below(40) {
            0 => Operation::Offline,
            1 => Operation::IdGet,
            2 => Operation::Response {
                form: form(random),
                source: id(random, partitions),
                destination: 0,
            },
            3..20 => context(random, pe, partitions),
            _ => {
                // EL3 has the ids from 0xffc0 on for itself, and 0xffff never reaches this far as a message.
                let source = random.pick(&[0, 0, 0, 1, 0x7fff, 0xffc0, 0x8000, 0x8002]);
                Operation::Request {
                    form: form(random),
                    source,
                    destination: id(random, partitions),
                }
            }
        };
    };
    match random.below(100) {
        0..40 => match owes {
            Some((requester, wide)) if !random.one_in(10) => {
                let form = if wide {
                    Form::Direct2
                } else {
                    random.pick(&[Form::Direct32, Form::Direct64])
                };
                Operation::Response {
                    form,
                    source: me,
                    destination: requester,
                }
            }
            None if !random.one_in(10) => Operation::Wait,
            _ => {
                let source = if random.one_in(2) { me } else { id(random, partitions) };
                Operation::Response {
                    form: form(random),
                    source,
                    destination: id(random, partitions),
                }
            }
        },
        40..65 => {
            let source = if random.one_in(20) { id(random, partitions) } else { me };
            Operation::Request {
                form: form(random),
                source,
                destination: id(random, partitions),
            }
        }
        65..78 => Operation::Fiq,
        78..84 => Operation::Yield,
        84..94 => context(random, pe, partitions),
        94 => Operation::Irq,
        95 => Operation::IdGet,
        96 => Operation::Wait,
        97 => Operation::Error,
        _ if random.one_in(8) => random.pick(&[Operation::Abort, Operation::SError]),
        _ => Operation::Fiq,
    }
}

fn run(seed: u64) -> usize {
    let mut random = Random(seed);
    let pes = 1 + random.below(4);
    let partitions = u16::try_from(3 + random.below(3)).expect("few");
    let kinds: Vec<Kind> = (0..partitions)
        .map(|_| Kind {
            pinned: !random.one_in(3) || pes == 1,
            queued: random.one_in(5),
        })
        .collect();
    let builder = kinds
        .iter()
        .enumerate()
        .fold(Builder::new(pes), |builder, (index, kind)| {
            builder.partition_with(&format!("p{index}"), |partition| {
                let partition = if kind.pinned { partition } else { partition.migratable() };
                if kind.queued { partition.queued() } else { partition }
            })
        });
    let (spmc, machine) = builder.build();
    let mut system = System::new(&spmc, machine);
    let mut reference = Reference::new(pes, &kinds);
    let mut log = format!("seed {seed}, {pes} PEs, {kinds:?}\n");
    // The other PEs come up when the first one has booted: TF-A starts no other before.
    let mut others = false;
    for step in 0..STEPS {
        let pe = if others { random.below(pes) } else { 0 };
        let operation = operation(&mut random, &reference, pe, partitions);
        // Payloads that are nobody's mark: what is sent may be seen. All else bears the mark of whoever has the PE.
        let owner = match system.owner(pe) {
            Owner::Partition(id, _) => id,
            Owner::NormalWorld | Owner::Off => 0,
        };
        let sends = matches!(operation, Operation::Request { .. } | Operation::Response { .. });
        let wide = matches!(
            operation,
            Operation::Request {
                form: Form::Direct2,
                ..
            } | Operation::Response {
                form: Form::Direct2,
                ..
            }
        );
        let unique = (seed << 32 | step as u64) << 8;
        let x = registers(operation, |n| {
            let sent = sends && (n < 8 || wide);
            if sent {
                0x0100_0000_0000_0000 | unique | n as u64
            } else {
                taint(owner, n)
            }
        });
        writeln!(log, "{step}: PE {pe} {:x?} {operation:x?}", system.owner(pe)).expect("a string");
        reference.step(pe, operation, &x);
        let result = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| {
            perform(&mut system, pe, operation, &x);
            let (owner, expected) = reference.expected(pe);
            assert_eq!(system.owner(pe), owner);
            if owner != Owner::Off {
                assert_eq!(system.all(pe), expected, "x0-x17 {:x?}", system.all(pe));
            }
        }));
        if let Err(panic) = result {
            println!("{log}");
            std::panic::resume_unwind(panic);
        }
        others = others || reference.in_normal_world(0);
    }
    system.steps()
}

#[test]
fn random_sequences_agree_with_the_reference() {
    let cases = CASES * effort();
    let steps: usize = (0..cases).map(run).sum();
    println!("{cases} sequences, {steps} steps");
}
