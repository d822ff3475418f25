//! Talking to partitions.

use tantalum_agent::{Command, DONE, FAILED};
use tantalum_partition::{
    ffa::{Error, FfaError, Outcome as Answer, Partition, Registers, Response, SMC, ids, registers},
    normal_world::{gic, timer},
};

use crate::report::{Outcome, expect_eq, fail};

/// The id of the normal world's hypervisor or only operating system.
pub const NORMAL_WORLD: u16 = 0;
/// The id of the SPMC.
pub const SPMC: u16 = 0x8000;

/// `FFA_ERROR`.
pub const ERROR: u64 = 0x8400_0060;
/// `FFA_SUCCESS`, 32-bit form.
pub const SUCCESS: u64 = 0x8400_0061;
/// `FFA_SUCCESS`, 64-bit form.
pub const SUCCESS64: u64 = 0xc400_0061;
/// `FFA_INTERRUPT`.
pub const INTERRUPT: u64 = 0x8400_0062;
/// `FFA_VERSION`.
pub const VERSION: u64 = 0x8400_0063;
/// `FFA_FEATURES`.
pub const FEATURES: u64 = 0x8400_0064;
/// `FFA_PARTITION_INFO_GET`.
pub const PARTITION_INFO_GET: u64 = 0x8400_0068;
/// `FFA_ID_GET`.
pub const ID_GET: u64 = 0x8400_0069;
/// `FFA_MSG_WAIT`.
pub const MSG_WAIT: u64 = 0x8400_006b;
/// `FFA_YIELD`.
pub const YIELD: u64 = 0x8400_006c;
/// `FFA_RUN`.
pub const RUN: u64 = 0x8400_006d;
/// `FFA_MSG_SEND_DIRECT_REQ`, 32-bit form.
pub const DIRECT_REQ: u64 = 0x8400_006f;
/// `FFA_MSG_SEND_DIRECT_REQ`, 64-bit form.
pub const DIRECT_REQ64: u64 = 0xc400_006f;
/// `FFA_MSG_SEND_DIRECT_RESP`, 32-bit form.
pub const DIRECT_RESP: u64 = 0x8400_0070;
/// `FFA_MSG_SEND_DIRECT_RESP`, 64-bit form.
pub const DIRECT_RESP64: u64 = 0xc400_0070;
/// `FFA_NORMAL_WORLD_RESUME`.
pub const NORMAL_WORLD_RESUME: u64 = 0x8400_007c;
/// `FFA_SPM_ID_GET`.
pub const SPM_ID_GET: u64 = 0x8400_0085;
/// `FFA_SECONDARY_EP_REGISTER`, 64-bit form.
pub const SECONDARY_EP_REGISTER: u64 = 0xc400_0087;
/// `FFA_CONSOLE_LOG`, 32-bit form.
pub const CONSOLE_LOG: u64 = 0x8400_008a;
/// `FFA_CONSOLE_LOG`, 64-bit form.
pub const CONSOLE_LOG64: u64 = 0xc400_008a;
/// `FFA_PARTITION_INFO_GET_REGS`.
pub const PARTITION_INFO_GET_REGS: u64 = 0xc400_008b;
/// `FFA_EL3_INTR_HANDLE`.
pub const EL3_INTR_HANDLE: u64 = 0x8400_008c;
/// `FFA_MSG_SEND_DIRECT_REQ2`.
pub const DIRECT_REQ2: u64 = 0xc400_008d;
/// `FFA_MSG_SEND_DIRECT_RESP2`.
pub const DIRECT_RESP2: u64 = 0xc400_008e;

/// `FFA_MEM_SHARE`.
pub const MEM_SHARE: u64 = 0x8400_0073;
/// `FFA_MEM_LEND`.
pub const MEM_LEND: u64 = 0x8400_0072;
/// `FFA_MEM_RETRIEVE_REQ`.
pub const MEM_RETRIEVE_REQ: u64 = 0x8400_0074;
/// `FFA_MEM_RETRIEVE_RESP`.
pub const MEM_RETRIEVE_RESP: u64 = 0x8400_0075;
/// `FFA_MEM_RELINQUISH`.
pub const MEM_RELINQUISH: u64 = 0x8400_0076;
/// `FFA_MEM_RECLAIM`.
pub const MEM_RECLAIM: u64 = 0x8400_0077;
/// `FFA_MEM_FRAG_RX`.
pub const MEM_FRAG_RX: u64 = 0x8400_007a;
/// `FFA_MEM_FRAG_TX`.
pub const MEM_FRAG_TX: u64 = 0x8400_007b;

/// `FFA_RX_RELEASE`.
pub const RX_RELEASE: u64 = 0x8400_0065;

/// `FFA_RXTX_MAP`, 32-bit form.
pub const RXTX_MAP: u64 = 0x8400_0066;

/// `FFA_RXTX_MAP`, 64-bit form.
pub const RXTX_MAP64: u64 = 0xc400_0066;

/// `FFA_RXTX_UNMAP`.
pub const RXTX_UNMAP: u64 = 0x8400_0067;

/// `FFA_RX_ACQUIRE`.
pub const RX_ACQUIRE: u64 = 0x8400_0084;
/// `FFA_MSG_SEND2`.
pub const MSG_SEND2: u64 = 0x8400_0086;
/// `FFA_NOTIFICATION_BITMAP_CREATE`.
pub const BITMAP_CREATE: u64 = 0x8400_007d;
/// `FFA_NOTIFICATION_BITMAP_DESTROY`.
pub const BITMAP_DESTROY: u64 = 0x8400_007e;
/// `FFA_NOTIFICATION_BIND`.
pub const NOTIFICATION_BIND: u64 = 0x8400_007f;
/// `FFA_NOTIFICATION_UNBIND`.
pub const NOTIFICATION_UNBIND: u64 = 0x8400_0080;
/// `FFA_NOTIFICATION_SET`.
pub const NOTIFICATION_SET: u64 = 0x8400_0081;
/// `FFA_NOTIFICATION_GET`.
pub const NOTIFICATION_GET: u64 = 0x8400_0082;
/// `FFA_NOTIFICATION_INFO_GET`, 32-bit form.
pub const NOTIFICATION_INFO_GET: u64 = 0x8400_0083;
/// `FFA_NOTIFICATION_INFO_GET`, 64-bit form.
pub const NOTIFICATION_INFO_GET64: u64 = 0xc400_0083;

/// Makes a call; the registers that are not given are zero.
pub fn smc(values: &[u64]) -> Registers {
    SMC.call(&registers(values))
}

/// `FFA_ERROR` with this code and nothing else.
pub fn error(code: FfaError) -> Registers {
    registers(&[ERROR, 0, word(code)])
}

/// An error code as w2 has it.
pub fn word(code: FfaError) -> u64 {
    u64::from(i32::from(code).cast_unsigned())
}

/// Fails unless a call was answered with one of these errors, in a register set that holds nothing else in x0-x7.
pub fn expect_error_in(answer: &[u64], codes: &[FfaError], what: &str) -> Outcome {
    let allowed = codes.iter().any(|code| answer[..8] == error(*code)[..8]);
    if !allowed {
        fail!(
            "{what}: expected FFA_ERROR with one of {codes:?} and zeros, got {:x?}",
            &answer[..8]
        );
    }
    Ok(())
}

/// Fails unless a call was answered with this error.
pub fn expect_error(answer: &[u64], code: FfaError, what: &str) -> Outcome {
    expect_error_in(answer, &[code], what)
}

/// Runs a partition that was interrupted or has yielded until it responds.
pub fn finish(mut answer: Result<Answer, Error>, what: &str) -> Outcome<Response> {
    for _ in 0..1000 {
        match answer {
            Ok(Answer::Response(response)) => return Ok(response),
            Ok(Answer::Interrupted { partition, context } | Answer::Yielded { partition, context }) => {
                while gic::take().is_some() {}
                answer = SMC.run(partition, context);
            }
            Ok(Answer::Waiting) => fail!("{what}: the partition waits for a message instead of responding"),
            Err(error) => fail!("{what}: {error:?}"),
        }
    }
    fail!("{what}: no response after 1000 interruptions")
}

/// Sends a message to a partition by `FFA_MSG_SEND_DIRECT_REQ2`.
pub fn send(to: Partition, words: [u64; 14]) -> Result<Answer, Error> {
    SMC.direct_req2(NORMAL_WORLD, to.id, to.uuid, words)
}

/// Sends a message and waits for the response.
pub fn ask(to: Partition, words: [u64; 14]) -> Outcome<[u64; 14]> {
    payload_of(send(to, words))
}

/// The same where the partition may be at work for an interrupt on another core: then it is asked again, for a while.
pub fn ask_patiently(to: Partition, words: [u64; 14]) -> Outcome<[u64; 14]> {
    payload_of(patiently(|| send(to, words)))
}

/// Makes a request again while the receiver is busy, for a second.
pub fn patiently(mut request: impl FnMut() -> Result<Answer, Error>) -> Result<Answer, Error> {
    for _ in 0..1000 {
        let answer = request();
        if !matches!(answer, Err(Error::Ffa(FfaError::Busy))) {
            return answer;
        }
        timer::delay(1);
    }
    request()
}

fn payload_of(answer: Result<Answer, Error>) -> Outcome<[u64; 14]> {
    let response = finish(answer, "a message to a partition")?;
    let mut payload = [0; 14];
    expect_eq!(
        response.payload().len(),
        14,
        "the words of the response to a request by FFA_MSG_SEND_DIRECT_REQ2"
    );
    payload.copy_from_slice(response.payload());
    Ok(payload)
}

/// Tells a partition to do something; returns the words of its answer after [`DONE`].
pub fn command(to: Partition, command: Command, arguments: &[u64]) -> Outcome<[u64; 13]> {
    done(to, command, arguments, ask(to, command.words(arguments))?)
}

/// What [`command`] makes of the answer.
pub fn done(to: Partition, command: Command, arguments: &[u64], answer: [u64; 14]) -> Outcome<[u64; 13]> {
    if answer[0] == FAILED {
        fail!(
            "partition {:#x} could not do {command:?} {arguments:x?}: {:#x}",
            to.id,
            answer[1]
        );
    }
    expect_eq!(
        answer[0],
        DONE,
        "the first word of the answer of partition {:#x} to {command:?}",
        to.id
    );
    let mut words = [0; 13];
    words.copy_from_slice(&answer[1..]);
    Ok(words)
}

/// How a partition makes a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conduit {
    /// Secure monitor call.
    Smc = 0,
    /// Hypervisor call.
    Hvc = 1,
}

/// The words of a message that has a partition make a call.
pub fn call_words(conduit: Conduit, values: &[u64]) -> [u64; 14] {
    let mut words = Command::Call.words(&[conduit as u64]);
    words[2..]
        .iter_mut()
        .zip(values)
        .for_each(|(word, value)| *word = *value);
    words
}

/// Has a partition make a call with x0-x11; returns its x0-x13 afterwards.
pub fn call_from(partition: Partition, conduit: Conduit, values: &[u64]) -> Outcome<[u64; 14]> {
    ask(partition, call_words(conduit, values))
}

/// Fails unless a call was answered with `FFA_SUCCESS` and nothing else in x0-x7.
pub fn expect_success(answer: &[u64], what: &str) -> Outcome {
    expect_eq!(answer[..8], [SUCCESS, 0, 0, 0, 0, 0, 0, 0], "x0-x7 after {what}");
    Ok(())
}

/// Fails unless the partition answers an ordinary message.
pub fn expect_alive(partition: Partition) -> Outcome {
    let words = core::array::from_fn(|i| 0x1000 + i as u64);
    let answer = ask(partition, words)?;
    expect_eq!(
        answer,
        words,
        "the echo of partition {:#x}, which is to be alive and well",
        partition.id
    );
    Ok(())
}

/// w1 of a message from the normal world to a partition.
pub fn to(partition: Partition) -> u64 {
    ids(NORMAL_WORLD, partition.id)
}
