//! The vault's answers, request by request.

use std::{collections::HashSet, thread};

use tantalum_vault_service::{KEY, MAX_STAMPERS, MESSAGE, Operation, Stampers, Status, Vault};

const OWNER: u16 = 0x8001;
const OTHER: u16 = 0x8002;
const NORMAL_WORLD: u16 = 0;
const DATA: [u64; 4] = [0x1111, u64::MAX, 0, 1 << 63];

fn stampers() -> Stampers {
    let mut stampers = Stampers::default();
    assert!(stampers.add(OWNER), "there is room for one");
    stampers
}

fn vault() -> Vault {
    Vault::new(&[7; KEY], stampers())
}

fn refusal(status: Status) -> [u64; MESSAGE] {
    let mut answer = [0; MESSAGE];
    answer[0] = status as u64;
    answer
}

fn done(words: &[u64]) -> [u64; MESSAGE] {
    let mut answer = [0; MESSAGE];
    answer[1..=words.len()].copy_from_slice(words);
    answer
}

fn read(vault: &Vault) -> u64 {
    vault.answer(NORMAL_WORLD, &Operation::Read.words(&[]))[1]
}

/// A stamp over `data`: the counter and the four words.
fn stamp(vault: &Vault, data: &[u64; 4]) -> (u64, [u64; 4]) {
    let answer = vault.answer(OWNER, &Operation::Stamp.words(data));
    assert_eq!(answer[0], Status::Done as u64, "a stamp for one who may");
    assert_eq!(answer[6..], [0; 8], "nothing follows the stamp");
    (answer[1], [answer[2], answer[3], answer[4], answer[5]])
}

fn verify(vault: &Vault, sender: u16, counter: u64, data: &[u64; 4], stamp: &[u64; 4]) -> [u64; MESSAGE] {
    let mut arguments = vec![counter];
    arguments.extend_from_slice(data);
    arguments.extend_from_slice(stamp);
    vault.answer(sender, &Operation::Verify.words(&arguments))
}

#[test]
fn read_tells_anybody_the_counter_and_what_he_may() {
    let vault = vault();
    let request = Operation::Read.words(&[]);
    assert_eq!(vault.answer(NORMAL_WORLD, &request), done(&[0, 0]));
    assert_eq!(vault.answer(OTHER, &request), done(&[0, 0]));
    assert_eq!(vault.answer(OWNER, &request), done(&[0, 1]));
    stamp(&vault, &DATA);
    assert_eq!(vault.answer(NORMAL_WORLD, &request), done(&[1, 0]));
}

#[test]
fn read_fits_into_five_words() {
    assert_eq!(
        vault().answer(OWNER, &[Operation::Read as u64, 0, 0, 0, 0]),
        done(&[0, 1])
    );
}

#[test]
fn stamp_counts_up_by_one() {
    let vault = vault();
    for expected in 1..=5 {
        assert_eq!(stamp(&vault, &DATA).0, expected);
        assert_eq!(read(&vault), expected);
    }
}

#[test]
fn stamp_is_hmac_sha_256_of_label_counter_and_data() {
    // From another implementation (Python's hmac and hashlib).
    let expected = [
        0x0b87_728e_242d_9291,
        0xdeea_92ee_beb0_8978,
        0x2dc3_8a0d_1e31_e187,
        0x3027_2aae_7095_55fc,
    ];
    assert_eq!(stamp(&vault(), &DATA).1, expected);
}

#[test]
fn stamp_is_denied_to_all_others() {
    let vault = vault();
    let request = Operation::Stamp.words(&DATA);
    for sender in [NORMAL_WORLD, 1, OTHER, 0x8000, u16::MAX] {
        assert_eq!(vault.answer(sender, &request), refusal(Status::Denied), "{sender:#x}");
        // Whatever else is wrong with it.
        assert_eq!(
            vault.answer(sender, &request[..1]),
            refusal(Status::Denied),
            "{sender:#x}"
        );
    }
    assert_eq!(read(&vault), 0, "the counter has not moved");
}

#[test]
fn stamp_is_denied_to_everybody_when_nobody_is_named() {
    let vault = Vault::new(&[7; KEY], Stampers::default());
    for sender in [NORMAL_WORLD, OWNER] {
        assert_eq!(
            vault.answer(sender, &Operation::Stamp.words(&DATA)),
            refusal(Status::Denied)
        );
    }
}

#[test]
fn stamp_verifies_for_anybody() {
    let vault = vault();
    let (counter, tag) = stamp(&vault, &DATA);
    for sender in [NORMAL_WORLD, OTHER, OWNER] {
        assert_eq!(verify(&vault, sender, counter, &DATA, &tag), refusal(Status::Done));
    }
    stamp(&vault, &DATA);
    assert_eq!(
        verify(&vault, OTHER, counter, &DATA, &tag),
        refusal(Status::Done),
        "after further stamps"
    );
}

#[test]
fn verify_finds_any_flipped_bit() {
    let vault = vault();
    let (counter, tag) = stamp(&vault, &DATA);
    let mismatch = refusal(Status::Mismatch);
    for bit in 0..64 {
        assert_eq!(verify(&vault, OTHER, counter ^ 1 << bit, &DATA, &tag), mismatch);
        for word in 0..4 {
            let (mut data, mut forged) = (DATA, tag);
            data[word] ^= 1 << bit;
            forged[word] ^= 1 << bit;
            assert_eq!(verify(&vault, OTHER, counter, &data, &tag), mismatch);
            assert_eq!(verify(&vault, OTHER, counter, &DATA, &forged), mismatch);
        }
    }
}

#[test]
fn verify_knows_no_other_vaults_stamps() {
    let (counter, tag) = stamp(&vault(), &DATA);
    let other = Vault::new(&[8; KEY], stampers());
    stamp(&other, &DATA);
    assert_eq!(verify(&other, OTHER, counter, &DATA, &tag), refusal(Status::Mismatch));
}

#[test]
fn messages_that_are_too_short_change_nothing() {
    let vault = vault();
    for (operation, needed) in [(Operation::Read, 3), (Operation::Stamp, 6), (Operation::Verify, 10)] {
        let request = operation.words(&[]);
        for words in 1..needed {
            assert_eq!(
                vault.answer(OWNER, &request[..words]),
                refusal(Status::TooShort),
                "{operation:?} in {words}"
            );
        }
        assert_ne!(vault.answer(OWNER, &request[..needed])[0], Status::TooShort as u64);
    }
    assert_eq!(read(&vault), 1, "the one that was long enough");
}

#[test]
fn words_that_must_be_zero_are_checked() {
    let vault = vault();
    for (operation, used) in [(Operation::Read, 1), (Operation::Stamp, 5), (Operation::Verify, 10)] {
        for word in used..MESSAGE {
            let mut request = operation.words(&[]);
            request[word] = 1 << 63;
            assert_eq!(
                vault.answer(OWNER, &request),
                refusal(Status::Reserved),
                "{operation:?}, word {word}"
            );
        }
    }
    assert_eq!(read(&vault), 0);
}

#[test]
fn unknown_operations_are_refused() {
    let vault = vault();
    for word in [0, 4, 0x1_0000_0001, u64::MAX] {
        assert_eq!(vault.answer(OWNER, &[word; MESSAGE]), refusal(Status::Unknown));
    }
    assert_eq!(vault.answer(OWNER, &[]), refusal(Status::Unknown), "an empty message");
}

#[test]
fn counter_ends_rather_than_going_round() {
    let vault = Vault::counting_from(&[7; KEY], stampers(), u64::MAX - 1);
    assert_eq!(stamp(&vault, &DATA).0, u64::MAX);
    for _ in 0..2 {
        assert_eq!(
            vault.answer(OWNER, &Operation::Stamp.words(&DATA)),
            refusal(Status::Exhausted)
        );
        assert_eq!(read(&vault), u64::MAX);
    }
}

#[test]
fn no_counter_is_given_twice_to_many_at_once() {
    let vault = vault();
    let counters: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| (0..250).map(|_| stamp(&vault, &DATA).0).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("it does not panic"))
            .collect()
    });
    assert_eq!(counters.iter().collect::<HashSet<_>>().len(), 1000);
    assert_eq!(read(&vault), 1000);
}

#[test]
fn list_of_stampers_is_bounded() {
    let mut stampers = Stampers::default();
    for id in 0..MAX_STAMPERS {
        assert!(stampers.add(0x8001 + u16::try_from(id).expect("few")));
    }
    assert!(!stampers.add(0x9000));
    assert!(!stampers.contain(0x9000));
    assert!(!stampers.contain(0), "slots that are not used name nobody");
    assert!(stampers.contain(0x8004));
}

#[test]
fn debug_output_has_no_key() {
    let text = format!("{:?}", Vault::new(&[0xab; KEY], stampers()));
    assert!(
        !text.contains("ab") && !text.contains("171") && text.contains("counter"),
        "{text}"
    );
}
