//! EL3's logical partitions in the list of partitions (FF-A 1.2, section 13.9), and the order of the list.

use tantalum_core::{
    id::EndpointId,
    logical::Logical,
    machine::{SmcRegisters, fake::FakeMachine},
    spmc::Spmc,
};

use crate::{manifests, support::*};

const FIRST: u64 = 0xffc0;

/// One logical partition: sends requests of both kinds.
fn descriptor(id: u64) -> [u64; 3] {
    [(1 << 10 | 1 << 8 | 1 << 1) << 32 | 1 << 16 | id, id, !id]
}

/// An answer of the SPMD with descriptors of `words` registers each.
fn answer(words: usize, current: u64, last: u64, ids: &[u64]) -> SmcRegisters {
    let mut registers = [0; 18];
    registers[0] = SUCCESS_64;
    registers[2] = (words as u64 * 8) << 48 | current << 16 | last;
    for (to, id) in registers[3..].chunks_exact_mut(words.max(1)).zip(ids) {
        to.fill(0xdead);
        for (to, word) in to.iter_mut().zip(descriptor(*id)) {
            *to = word;
        }
    }
    registers
}

/// Boots with these answers of the SPMD; ids of the logical partitions that partitions see.
fn listed(answers: &[SmcRegisters]) -> Vec<u64> {
    let mut machine = manifests::loaded();
    machine.pe(0).el3_answers.extend(answers.iter().copied());
    let spmc = manifests::start(&mut machine, 0, manifests::PAGES).expect("it starts");
    let left = machine.pe(0).el3_answers.len();
    machine.pe(0).el3_answers.clear();
    assert_eq!(left, 0, "answers that were not asked for");
    ids(&spmc, machine)
}

fn ids(spmc: &Spmc, machine: FakeMachine) -> Vec<u64> {
    let mut system = System::booted(spmc, machine);
    let mut all = Vec::new();
    loop {
        system.nwd(0, &[PARTITION_INFO_GET_REGS, 0, 0, all.len() as u64]);
        let registers = system.all(0);
        assert_eq!(registers[0], SUCCESS_64);
        let (current, last) = (registers[2] >> 16 & 0xffff, registers[2] & 0xffff);
        let count = usize::try_from(current + 1).expect("few") - all.len();
        all.extend(
            registers[3..]
                .chunks(3)
                .take(count)
                .map(|descriptor| descriptor[0] & 0xffff),
        );
        if current == last {
            assert!(all.is_sorted(), "{all:x?}");
            return all.into_iter().filter(|id| *id >= FIRST).collect();
        }
    }
}

#[test]
fn are_listed_whatever_the_size_of_their_descriptors() {
    assert_eq!(listed(&[answer(3, 1, 1, &[FIRST + 1, FIRST])]), [FIRST, FIRST + 1]);
    assert_eq!(
        listed(&[answer(6, 1, 2, &[FIRST, FIRST + 1]), answer(6, 2, 2, &[FIRST + 2])]),
        [FIRST, FIRST + 1, FIRST + 2]
    );
    assert_eq!(listed(&[answer(15, 0, 0, &[FIRST])]), [FIRST]);
}

#[test]
fn there_may_be_none() {
    let mut error = [0; 18];
    error[..8].copy_from_slice(&crate::support::error(NOT_SUPPORTED));
    assert_eq!(listed(&[error]), []);
    assert_eq!(listed(&[[u64::MAX; 18]]), []);
    assert_eq!(listed(&[[0; 18]]), []);
}

#[test]
fn answers_that_cannot_be_are_dropped() {
    // Too small, odd, larger than an answer, backwards; ids that are not EL3's; the same one twice.
    assert_eq!(listed(&[answer(2, 0, 0, &[FIRST])]), []);
    let mut odd = answer(3, 0, 0, &[FIRST]);
    odd[2] |= 4 << 48;
    assert_eq!(listed(&[odd]), []);
    assert_eq!(listed(&[answer(16, 0, 0, &[])]), []);
    assert_eq!(listed(&[answer(3, 1, 0, &[FIRST])]), []);
    assert_eq!(
        listed(&[answer(3, 0, 1, &[FIRST]), answer(3, 0, 1, &[FIRST + 1])]),
        [FIRST]
    );
    assert_eq!(listed(&[answer(3, 4, 4, &[A, 0, 0xffff, 0xffbf, FIRST])]), [FIRST]);
    assert_eq!(listed(&[answer(3, 1, 1, &[FIRST, FIRST])]), [FIRST]);
}

#[test]
fn endless_list_comes_to_an_end() {
    let answers: Vec<_> = (0..63).map(|n| answer(3, n, 0xffff, &[FIRST + n])).collect();
    assert_eq!(listed(&answers).len(), 63);
}

#[test]
fn both_worlds_see_what_they_may_use() {
    let (spmc, machine) = three();
    let logical = Logical {
        id: EndpointId::new(0xffc0),
        contexts: 1,
        properties: 1 << 10 | 1 << 8 | 1 << 1,
        uuid: Builder::uuid(0xffc0),
    };
    let spmc = spmc.with_logical_partitions(vec![logical]);
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS, 0, 0, 3]);
    assert_eq!(system.all(0)[3], 1 << 8 << 32 | 1 << 16 | FIRST);
    system.ask(0, A);
    let bytes = *Builder::uuid(0xffc0).as_bytes();
    let half = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    system.smc(0, &[PARTITION_INFO_GET_REGS, half(0), half(8)]);
    assert_eq!(
        system.all(0)[2..6],
        [24 << 48, (1 << 10 | 1 << 8 | 1 << 1) << 32 | 1 << 16 | FIRST, 0, 0]
    );
}

#[test]
fn older_callers_see_no_newer_properties() {
    let (spmc, machine) = Builder::new(1).partition_with("a", PartitionBuilder::indirect).build();
    let mut system = System::booted(&spmc, machine);
    system.nwd(0, &[PARTITION_INFO_GET_REGS]);
    assert_eq!(system.all(0)[3] >> 32, 1 << 9 | 1 << 8 | 1 << 3 | 1 << 2 | 1);
    assert_eq!(spmc.partitions().len(), 1);
}
