//! What the test partitions can be told to do, and how the normal world tells them.
//!
//! A message whose first word is a [`Command`] makes the partition do something; any other message is returned as it came. The words of commands and
//! of their answers are documented with [`Command`]: five of them travel in a 64-bit direct request, fourteen in an `FFA_MSG_SEND_DIRECT_REQ2`.
//!
//! A partition uses [`Agent::serve`]; the driver encodes with [`Command::words`].
#![no_std]

mod alarm;
mod attack;
mod borrow;
mod device;
mod serve;

pub use alarm::Alarm;
pub use attack::Death;
pub use borrow::{Borrow, Borrower};
pub use device::quench;
pub use serve::{Agent, measure, measure_notification};
use tantalum_partition::ffa::{Uuid, uuid};

/// UUID of the echo partition.
pub const ECHO: Uuid = uuid!("3f2c1b8e-6a0d-4c57-9e41-5d0a7c3b9f10");
/// UUID of the forwarding partition.
pub const FORWARD: Uuid = uuid!("8c5e4a02-91d7-4e0b-b6a8-2f1c6e7d3a21");
/// UUID of a second forwarding partition.
pub const RELAY: Uuid = uuid!("b7d09f64-2c3e-4f81-8a15-90e3d1c4b532");
/// UUID of a second service of the second forwarding partition.
pub const RELAY_SERVICE: Uuid = uuid!("b7d09f64-2c3e-4f81-8a15-90e3d1c4b533");
/// UUID of a partition that receives no direct requests.
pub const SILENT: Uuid = uuid!("e1946d07-5b28-4a9c-b3f6-7c08a2e5d943");
/// UUID of a partition that speaks FF-A 1.0, by hypervisor calls.
pub const LEGACY: Uuid = uuid!("5d0e73a9-c41b-4f62-8b7d-19e6a04f2c85");
/// UUIDs of the attacking partitions: the first one's, the others differ in the last digit.
pub const ATTACK: Uuid = uuid!("d04a6f3b-7e15-4298-a0c9-61b5f8e2c750");
/// UUID of the partition with a key and a counter.
pub const VAULT: Uuid = uuid!("96d83ef0-eac1-4b57-b36d-028d19e4f750");
/// UUID of the partition at S-EL0.
pub const USER: Uuid = uuid!("61f8d2a7-3c90-4be5-8d14-7a2e95c0f6b3");
/// Offset from a partition's load address of pages that its program does not use: two for buffers.
pub const FREE: u64 = 0xd_0000;
/// Offset from the load address of the partition at S-EL0 of a page that it makes data, and of one that it makes constants.
/// The page after them stays code, as all is at first.
pub const USER_DATA: u64 = 0xf_0000;
/// See [`USER_DATA`].
pub const USER_CONSTANTS: u64 = 0xf_1000;
/// UUID of a partition with a context a core, which owns the clock.
pub const CLOCK: Uuid = uuid!("4ad2f6c1-97e3-4b08-a5d4-6c1e90b7f351");
/// UUID of a partition with one context, which owns the secure UART, and exits in its own way on a FIQ.
pub const LINE: Uuid = uuid!("4ad2f6c1-97e3-4b08-a5d4-6c1e90b7f352");
/// UUID of a partition that is interrupted by nobody.
pub const QUEUED: Uuid = uuid!("4ad2f6c1-97e3-4b08-a5d4-6c1e90b7f353");
/// UUID of a partition that everybody interrupts.
pub const PLAIN: Uuid = uuid!("4ad2f6c1-97e3-4b08-a5d4-6c1e90b7f354");
/// UUID of a partition that exits in its own way on an IRQ.
pub const EXITS: Uuid = uuid!("4ad2f6c1-97e3-4b08-a5d4-6c1e90b7f355");
/// Physical address of the clock, a PL031, and its interrupt.
pub const CLOCK_DEVICE: (u64, u32) = (0x0901_0000, 34);
/// Physical address of the secure UART, a PL011, and its interrupt.
pub const LINE_DEVICE: (u64, u32) = (0x0904_0000, 40);
/// UUIDs of the two small partitions for measuring.
pub const BENCH: [Uuid; 2] = [
    uuid!("27a9d5c1-0e4f-4b63-9d82-c5f7081e6ab1"),
    uuid!("27a9d5c1-0e4f-4b63-9d82-c5f7081e6ab2"),
];

/// UUID of the attacking partition number `index`, from 0.
#[must_use]
pub const fn attack_uuid(index: u8) -> Uuid {
    Uuid::from_u128(ATTACK.as_u128() + index as u128)
}

/// The upper half of the first word of a command.
const MAGIC: u64 = 0x7a6e_7461 << 32;

/// What a partition can be told to do. The words of a message after the first are the arguments; unless something else is said, the first word of the
/// answer is [`DONE`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Command {
    /// Make a call: conduit (0 SMC, 1 HVC), then x0 and up, as many as the message has room for. The answer is x0 and up of the result.
    Call = 1,
    /// Spin for so many milliseconds, or until the normal world wants the processor (managed exit). Answers [`DONE`], by how many ticks time had moved
    /// in the end, and when that was.
    Spin = 2,
    /// Answers [`DONE`], context, `MPIDR_EL1`, messages that this context has got, mask of the general registers that a response has changed, size of
    /// the boot information, own id, exception level, size of the manifest, whether secondary contexts are registered, what x5-x30 held at entry, mask
    /// of SIMD registers that were not zero at the start.
    Status = 3,
    /// Fill the SIMD registers with the pattern of a seed.
    SimdFill = 4,
    /// Answers [`DONE`] and a mask of the SIMD registers that do not hold the pattern of a seed.
    SimdCheck = 5,
    /// Fill system registers of EL1 with the pattern of a seed.
    StateFill = 6,
    /// Answers [`DONE`] and a mask of the registers that differ from what was filled in.
    StateCheck = 7,
    /// Read 8 bytes at an address. Answers with the words of [`Probe`].
    Read = 8,
    /// Write 8 bytes: address, value. Answers with the words of [`Probe`].
    Write = 9,
    /// Call an address. Answers with the words of [`Probe`].
    Execute = 10,
    /// Read and write back target number N of [`tantalum_partition::probe::sysreg::all`]. Answers 0 for "went through" or 1 for "faulted" and the
    /// syndrome for the read, and the same for the write.
    SystemRegister = 11,
    /// Be a problem: see [`Death`].
    Die = 12,
    /// Discover the partition with a UUID (two words). Answers [`DONE`], how many there are and the id of the first.
    Discover = 13,
    /// Send the words after the id to another partition, as a 64-bit request. Answers with the words of its answer, or with [`FAILED`] and the code.
    Forward = 14,
    /// Map memory: address, physical address, bytes, attributes (0 memory, 1 read-only, 2 non-secure, 3 device).
    Map = 15,
    /// Measure: the id of a partition. Answers [`DONE`], instructions of a message to it, and of `FFA_ID_GET`.
    Measure = 16,
    /// Print a line that has the argument in it.
    Print = 17,
    /// Read 4 bytes at an address. Answers with the words of [`Probe`].
    Read32 = 18,
    /// Write 4 bytes: address, value. Answers with the words of [`Probe`].
    Write32 = 19,
    /// Wait for an interrupt, once.
    Sleep = 20,
    /// Answers [`DONE`], how many framework messages this context has got, and w2-w7 of the last one. The argument is the status with which it is to
    /// answer those that come, 0 for agreement.
    Framework = 21,
    /// Measure a call on notifications: the id of another partition, and which call: 0 `FFA_NOTIFICATION_BIND` of its notifications, 1
    /// `FFA_NOTIFICATION_SET` for it, 2 `FFA_NOTIFICATION_GET`. Answers [`DONE`], the instructions, and x0 and x2 of the call's answer.
    MeasureNotification = 22,
    /// Borrow memory that somebody shares: what to do (see [`Borrow`]), handle, permissions for a retrieval (0: read and write) and, in bits
    /// 31:16, who shares it. Answers
    /// [`DONE`], instructions of the calls, for a retrieval bytes of the response (0 if it failed), else x0 of the answer or the address of TX, and the
    /// error code. Not at S-EL0.
    Borrow = 23,
    /// Handle interrupts from now on: the interrupt to enable (0 none), whether as a FIQ, and what makes the device quiet, an address and a word of 32
    /// bits (or 0). Interrupt 4 (managed exit) ends what the partition is doing.
    Listen = 24,
    /// Answers [`DONE`], how many interrupts this context has handled, the last one, when that was, how many of them were managed exits, and how many
    /// came by a kind of exception that they were not enabled for, and how many of devices all contexts have handled.
    Heard = 25,
    /// Have an interrupt come to the context on another core: the interrupt, the index of the core.
    Route = 26,
    /// Interrupts: what to do (see [`Alarm`]), two arguments.
    Alarm = 27,
    /// Never end what comes next: 0 the handling of an interrupt, 1 the answer to a framework message.
    Stick = 28,
}

/// The first word of an answer when what was asked has been done.
pub const DONE: u64 = MAGIC | 0xd02e;
/// The first word of an answer when it has not; the second says why.
pub const FAILED: u64 = MAGIC | 0xfa11;

impl Command {
    const ALL: [Self; 28] = [
        Self::Call,
        Self::Spin,
        Self::Status,
        Self::SimdFill,
        Self::SimdCheck,
        Self::StateFill,
        Self::StateCheck,
        Self::Read,
        Self::Write,
        Self::Execute,
        Self::SystemRegister,
        Self::Die,
        Self::Discover,
        Self::Forward,
        Self::Map,
        Self::Measure,
        Self::Print,
        Self::Read32,
        Self::Write32,
        Self::Sleep,
        Self::Framework,
        Self::MeasureNotification,
        Self::Borrow,
        Self::Listen,
        Self::Heard,
        Self::Route,
        Self::Alarm,
        Self::Stick,
    ];

    /// The command that the first word of a message stands for.
    #[must_use]
    pub fn from_word(word: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|command| command.word() == word)
    }

    /// The first word of the message.
    #[must_use]
    pub const fn word(self) -> u64 {
        MAGIC | self as u64
    }

    /// The words of the message: the command and up to thirteen arguments.
    #[must_use]
    pub fn words(self, arguments: &[u64]) -> [u64; 14] {
        let mut words = [0; 14];
        words[0] = self.word();
        words[1..]
            .iter_mut()
            .zip(arguments)
            .for_each(|(word, argument)| *word = *argument);
        words
    }

    /// The words of the message when it is to travel in a 64-bit direct request: the command and up to four arguments.
    #[must_use]
    pub fn five_words(self, arguments: &[u64]) -> [u64; 5] {
        let words = self.words(arguments);
        [words[0], words[1], words[2], words[3], words[4]]
    }
}

/// How an access went that might fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Probe {
    /// It went through. The value that was read, or 0.
    Passed(u64),
    /// It faulted: `ESR`, `FAR`, and `ELR` relative to the instruction that was tried.
    Faulted {
        /// `ESR_EL1`.
        esr: u64,
        /// `FAR_EL1`.
        far: u64,
        /// `ELR_EL1` minus the address of the instruction; for a call of an address, `ELR_EL1` itself.
        elr: u64,
    },
}

impl Probe {
    /// The words of the answer.
    #[must_use]
    pub fn words(self) -> [u64; 5] {
        match self {
            Self::Passed(value) => [DONE, 0, value, 0, 0],
            Self::Faulted { esr, far, elr } => [DONE, 1, esr, far, elr],
        }
    }

    /// What the words of an answer say.
    #[must_use]
    pub fn from_words(words: &[u64]) -> Option<Self> {
        match *words {
            [DONE, 0, value, ..] => Some(Self::Passed(value)),
            [DONE, 1, esr, far, elr, ..] => Some(Self::Faulted { esr, far, elr }),
            _ => None,
        }
    }
}
