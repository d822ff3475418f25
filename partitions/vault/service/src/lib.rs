//! What the vault partition does, apart from the machine: pure functions of messages, tested on the host.
//!
//! The vault has a key, made of random numbers when it starts, and a counter that only goes up. A *stamp* is the next value of the counter and
//! HMAC-SHA-256, under that key, over it and 32 bytes of the caller's, usually a digest. Who has the stamp can have it verified by the vault, which is
//! the only one that can: the key is in no answer. A stamp proves that those bytes were known when the counter had that value, and which of two came
//! first. Key and counter live as long as the partition.
//!
//! # Messages
//!
//! Words of 64 bits. The first says what is asked, and what the answer is; those that are not named must be zero in a request and are zero in an answer.
//!
//! | request | words | may | answer |
//! | --- | --- | --- | --- |
//! | [`Operation::Read`] | 1 | anybody | [`Status::Done`], the counter, 1 if the caller may stamp or 0 |
//! | [`Operation::Stamp`] | 5: 4 of data | those that the manifest names | [`Status::Done`], the counter, 4 of the stamp |
//! | [`Operation::Verify`] | 10: the counter, 4 of data, 4 of the stamp | anybody | [`Status::Done`] or [`Status::Mismatch`] |
//!
//! A message by `FFA_MSG_SEND_DIRECT_REQ` has five words, which is enough for [`Operation::Read`] only: an answer with a stamp does not fit. By
//! `FFA_MSG_SEND_DIRECT_REQ2` it has fourteen, enough for all.
#![no_std]
#![forbid(unsafe_code)]

use core::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Words of the longest message.
pub const MESSAGE: usize = 14;
/// Words of 32 bytes: of the data that is stamped, and of the stamp over it.
pub const DIGEST: usize = 4;
/// Bytes of the key.
pub const KEY: usize = 32;
/// The most partitions that may stamp.
pub const MAX_STAMPERS: usize = 4;

/// Tells these stamps from anything else that might ever be computed with the key.
const LABEL: &[u8] = b"tantalum vault stamp 1";

/// What can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Operation {
    /// What the counter is.
    Read = 1,
    /// Count on, and stamp some data with the result.
    Stamp = 2,
    /// Whether a stamp is genuine.
    Verify = 3,
}

/// The first word of an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Status {
    /// It was done.
    Done = 0,
    /// There is no such operation.
    Unknown = 1,
    /// The caller may not do this.
    Denied = 2,
    /// The message, or its answer, does not fit into the kind of message that was sent.
    TooShort = 3,
    /// A word that must be zero is not.
    Reserved = 4,
    /// This stamp was not made by this vault since it started.
    Mismatch = 5,
    /// The counter can't go on.
    Exhausted = 6,
}

impl Operation {
    /// The operation that the first word of a request stands for.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        [Self::Read, Self::Stamp, Self::Verify]
            .into_iter()
            .find(|operation| *operation as u64 == word)
    }

    /// The words of the request: the operation and its arguments. Those beyond the longest message are left out.
    #[must_use]
    pub fn words(self, arguments: &[u64]) -> [u64; MESSAGE] {
        let mut words = [0; MESSAGE];
        words[0] = self as u64;
        words[1..]
            .iter_mut()
            .zip(arguments)
            .for_each(|(word, argument)| *word = *argument);
        words
    }

    /// How many words the request has, and how many at most its answer.
    const fn sizes(self) -> (usize, usize) {
        match self {
            Self::Read => (1, 3),
            Self::Stamp => (1 + DIGEST, 2 + DIGEST),
            Self::Verify => (2 + 2 * DIGEST, 1),
        }
    }
}

/// The partitions that may stamp.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Stampers {
    ids: [u16; MAX_STAMPERS],
    count: usize,
}

impl Stampers {
    /// Adds a partition. Returns whether there was room for it.
    #[must_use]
    pub fn add(&mut self, id: u16) -> bool {
        let slot = self.ids.get_mut(self.count);
        let Some(slot) = slot else { return false };
        *slot = id;
        self.count += 1;
        true
    }

    /// Whether the partition may stamp.
    #[must_use]
    pub fn contain(&self, id: u16) -> bool {
        self.ids[..self.count].contains(&id)
    }
}

/// The vault. Execution contexts on several cores may use it at the same time: the key never changes, and the counter is one atomic word.
pub struct Vault {
    keyed: Hmac<Sha256>,
    counter: AtomicU64,
    stampers: Stampers,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("counter", &self.counter)
            .field("stampers", &self.stampers)
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// A vault with this key, which those partitions may use to the full.
    #[must_use]
    pub fn new(key: &[u8; KEY], stampers: Stampers) -> Self {
        Self::counting_from(key, stampers, 0)
    }

    /// The same, where the counter has got to `counter` already.
    #[must_use]
    pub fn counting_from(key: &[u8; KEY], stampers: Stampers, counter: u64) -> Self {
        let mut block = [0; 64];
        block[..KEY].copy_from_slice(key);
        Self {
            // A key as long as a block of the hash is taken as it is; HMAC fills a shorter one up with zeros in the same way.
            keyed: Hmac::new(&block.into()),
            counter: AtomicU64::new(counter),
            stampers,
        }
    }

    /// Answers a request of `sender`, an id that the SPM vouches for. The answer has as many words as the request.
    ///
    /// Does not change anything unless the answer is [`Status::Done`].
    #[must_use]
    pub fn answer(&self, sender: u16, request: &[u64]) -> [u64; MESSAGE] {
        let mut answer = [0; MESSAGE];
        if let Err(status) = self.carry_out(sender, request, &mut answer) {
            answer = [0; MESSAGE];
            answer[0] = status as u64;
        }
        answer
    }

    fn carry_out(&self, sender: u16, request: &[u64], answer: &mut [u64; MESSAGE]) -> Result<(), Status> {
        let operation = request
            .first()
            .and_then(|word| Operation::from_word(*word))
            .ok_or(Status::Unknown)?;
        if operation == Operation::Stamp && !self.stampers.contain(sender) {
            return Err(Status::Denied);
        }
        let (asks, answers) = operation.sizes();
        if request.len() < asks.max(answers) {
            return Err(Status::TooShort);
        }
        let (arguments, rest) = request[1..].split_at(asks - 1);
        if rest.iter().any(|word| *word != 0) {
            return Err(Status::Reserved);
        }
        match operation {
            Operation::Read => {
                answer[1] = self.counter.load(Ordering::Relaxed);
                answer[2] = u64::from(self.stampers.contain(sender));
            }
            Operation::Stamp => {
                let counter = self.count()?;
                answer[1] = counter;
                answer[2..2 + DIGEST].copy_from_slice(&self.stamp(counter, arguments));
            }
            Operation::Verify => self.verify(arguments)?,
        }
        Ok(())
    }

    /// The next value of the counter, which nobody else gets.
    fn count(&self) -> Result<u64, Status> {
        let next = |counter: u64| counter.checked_add(1);
        let before = self.counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        before.map(|before| before + 1).map_err(|_| Status::Exhausted)
    }

    fn mac(&self, counter: u64, data: &[u64]) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        mac.update(LABEL);
        mac.update(&counter.to_le_bytes());
        data.iter().for_each(|word| mac.update(&word.to_le_bytes()));
        mac
    }

    fn stamp(&self, counter: u64, data: &[u64]) -> [u64; DIGEST] {
        let bytes = self.mac(counter, data).finalize().into_bytes();
        let mut words = [0; DIGEST];
        for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        words
    }

    /// Compares in constant time: how long it takes must not tell how much of a guess was right.
    fn verify(&self, arguments: &[u64]) -> Result<(), Status> {
        let (counter, rest) = arguments.split_first().ok_or(Status::TooShort)?;
        let (data, stamp) = rest.split_at(DIGEST);
        let mut bytes = [0; 8 * DIGEST];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(stamp) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.mac(*counter, data)
            .verify(&bytes.into())
            .map_err(|_| Status::Mismatch)
    }
}
