//! The partition's side of FF-A.
//!
//! [`SMC`] and [`HVC`] are the two ways to call the SPM, and answer alike. Their methods are the calls that a partition makes; [`Client::call`] makes
//! any other, register by register. [`serve`] is the message loop.

mod discovery;
pub mod memory;
mod message;
mod svc;

use core::{fmt, ops::Range};

pub use arm_ffa::{FfaError, FuncId, UuidHelper, Version, partition_info::PartitionProperties};
use arm_ffa::{
    interface::Interface,
    interface_args::{
        SecondaryEpRegisterAddr, SuccessArgs, SuccessArgsFeatures, SuccessArgsIdGet, SuccessArgsSpmIdGet, TargetInfo,
    },
};
pub use discovery::{Partition, Partitions};
pub use message::{Kind, Request, Response, serve, serve_with};
pub use uuid::{Uuid, uuid};

use crate::{arch, context};

/// x0 to x17, as a call passes and returns them.
pub type Registers = [u64; 18];

/// The version of FF-A that this library speaks.
pub const VERSION: Version = Version(1, 2);
/// `FFA_ABORT`: FF-A 1.3 gave it this number, the `arm-ffa` crate does not know it yet.
pub const ABORT: u64 = 0x8400_0090;
/// The answer to a call that nobody knows, in w0.
const UNKNOWN_CALL: u64 = 0xffff_ffff;

/// Why a call failed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub enum Error {
    /// The SPM answered `FFA_ERROR` with this code.
    Ffa(FfaError),
    /// The answer makes no sense after this call. The first words of it.
    Unexpected([u64; 4]),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ffa(code) => write!(f, "FFA_ERROR({code:?})"),
            Self::Unexpected(words) => write!(f, "unexpected answer {words:#x?}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ffa(code) => write!(f, "{code}"),
            Self::Unexpected(words) => write!(f, "unexpected answer {words:x?}"),
        }
    }
}

/// What the SPM answered to a direct request or to `FFA_RUN`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The receiver responded.
    Response(Response),
    /// The receiver was interrupted: run this execution context again to go on.
    Interrupted {
        /// The partition.
        partition: u16,
        /// Its execution context.
        context: u16,
    },
    /// The receiver yielded: run this execution context again to go on.
    Yielded {
        /// The partition.
        partition: u16,
        /// Its execution context.
        context: u16,
    },
    /// The receiver, run without a message, waits for one.
    Waiting,
}

/// What a partition at S-EL0 may do with a page, as `FFA_MEM_PERM_SET` has it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Permissions(pub u32);

impl Permissions {
    /// Read.
    pub const READ_ONLY: Self = Self(0b111);
    /// Read and write.
    pub const READ_WRITE: Self = Self(0b101);
    /// Read and execute.
    pub const CODE: Self = Self(0b011);
}

/// Bytes of a page.
const PAGE_SIZE: usize = 4096;

/// A way to call the SPM.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Client {
    /// By secure monitor call; at S-EL0, which has none, by supervisor call.
    Smc,
    /// By hypervisor call.
    Hvc,
}

/// Calls the SPM by secure monitor call; at S-EL0, which has none, by supervisor call.
pub const SMC: Client = Client::Smc;
/// Calls the SPM by hypervisor call.
pub const HVC: Client = Client::Hvc;

/// The low half of a register.
pub(crate) const fn low(register: u64) -> u32 {
    (register & 0xffff_ffff) as u32
}

/// Bits 31:16 and 15:0 of a register, as identifiers.
pub(crate) const fn pair(register: u64) -> (u16, u16) {
    (((register >> 16) & 0xffff) as u16, (register & 0xffff) as u16)
}

/// Builds a register set: function and arguments, the rest zero.
#[must_use]
pub fn registers(values: &[u64]) -> Registers {
    let mut all = [0; 18];
    all.iter_mut()
        .zip(values)
        .for_each(|(register, value)| *register = *value);
    all
}

/// The code of an `FFA_ERROR`, if that is what `registers` hold.
#[must_use]
pub fn error_code(registers: &Registers) -> Option<FfaError> {
    if low(registers[0]) == FuncId::Error32 as u32 || low(registers[0]) == FuncId::Error64 as u32 {
        FfaError::try_from(low(registers[2]).cast_signed()).ok()
    } else if low(registers[0]) == low(UNKNOWN_CALL) {
        Some(FfaError::NotSupported)
    } else {
        None
    }
}

impl Client {
    /// Makes a call with all of x0-x17 and returns what they hold afterwards.
    #[must_use]
    pub fn call(self, registers: &Registers) -> Registers {
        let mut arguments = [0; 17];
        arguments.copy_from_slice(&registers[1..]);
        match self {
            Self::Smc if arch::exception_level() == 0 => svc::call(registers),
            Self::Smc => smccc::smc64(low(registers[0]), arguments),
            Self::Hvc => smccc::hvc64(low(registers[0]), arguments),
        }
    }

    /// Makes a call that the `arm-ffa` crate can encode.
    fn interface(self, interface: &Interface) -> Registers {
        let mut registers = [0; 18];
        interface.to_regs(VERSION, &mut registers);
        self.call(&registers)
    }

    /// Makes a call that is answered by `FFA_SUCCESS` or `FFA_ERROR`.
    fn request(self, interface: &Interface) -> Result<SuccessArgs, Error> {
        let answer = self.interface(interface);
        if let Some(code) = error_code(&answer) {
            return Err(Error::Ffa(code));
        }
        match Interface::from_regs(VERSION, &answer) {
            Ok(Interface::Success { args, .. }) => Ok(args),
            _ => Err(unexpected(&answer)),
        }
    }

    /// `FFA_VERSION`: says which version the caller speaks; returns the SPM's.
    ///
    /// # Errors
    ///
    /// `NOT_SUPPORTED` when the SPM can't speak to that version, or another was agreed on before.
    pub fn version(self, version: Version) -> Result<Version, Error> {
        // Not through `Interface`: the answer has no function number.
        let answer = self.call(&registers(&[FuncId::Version as u64, u64::from(u32::from(version))]));
        Version::try_from(low(answer[0])).map_err(|_| Error::Ffa(FfaError::NotSupported))
    }

    /// `FFA_FEATURES`: what the SPM says about a function or feature, as w2 and w3.
    ///
    /// # Errors
    ///
    /// `NOT_SUPPORTED` when the SPM does not have it.
    pub fn features(self, id: u32, input_properties: u32) -> Result<[u32; 2], Error> {
        // Not through `Interface`: its decoding of feature numbers truncates them.
        let answer = self.call(&registers(&[
            FuncId::Features as u64,
            u64::from(id),
            u64::from(input_properties),
        ]));
        if let Some(code) = error_code(&answer) {
            return Err(Error::Ffa(code));
        }
        match Interface::from_regs(VERSION, &answer) {
            Ok(Interface::Success { args, .. }) => SuccessArgsFeatures::try_from(args)
                .map(|args| args.properties)
                .map_err(|_| unexpected(&answer)),
            _ => Err(unexpected(&answer)),
        }
    }

    /// `FFA_ID_GET`: the caller's own id.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn id_get(self) -> Result<u16, Error> {
        let args = self.request(&Interface::IdGet)?;
        SuccessArgsIdGet::try_from(args)
            .map(|args| args.id)
            .map_err(|_| Error::Unexpected([0; 4]))
    }

    /// `FFA_SPM_ID_GET`: the id of the SPM that the caller talks to.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn spm_id_get(self) -> Result<u16, Error> {
        let args = self.request(&Interface::SpmIdGet)?;
        SuccessArgsSpmIdGet::try_from(args)
            .map(|args| args.id)
            .map_err(|_| Error::Unexpected([0; 4]))
    }

    /// `FFA_PARTITION_INFO_GET_REGS`: the partitions that offer `uuid`, or all with the nil UUID.
    #[must_use]
    pub fn partitions(self, uuid: Uuid) -> Partitions {
        Partitions::new(self, uuid)
    }

    /// `FFA_MSG_WAIT`: gives the processor back until there is a message; returns it.
    #[must_use]
    pub fn msg_wait(self) -> Registers {
        context::set_initialised();
        self.call(&registers(&[FuncId::MsgWait32 as u64]))
    }

    /// `FFA_YIELD`: gives the processor back to whoever runs this partition, until it is run again.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn r#yield(self) -> Result<(), Error> {
        self.request(&Interface::Yield { is_32bit: true }).map(|_| ())
    }

    /// `FFA_RUN`: goes on with an execution context that was interrupted or has yielded.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn run(self, partition: u16, context: u16) -> Result<Outcome, Error> {
        let target_info = TargetInfo {
            endpoint_id: partition,
            vcpu_id: context,
        };
        outcome(&self.interface(&Interface::Run {
            target_info,
            is_32bit: true,
        }))
    }

    /// `FFA_MSG_SEND_DIRECT_REQ` with 32-bit arguments.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn direct_req32(self, from: u16, to: u16, payload: [u32; 5]) -> Result<Outcome, Error> {
        let payload = payload.map(u64::from);
        let mut all = registers(&[FuncId::MsgSendDirectReq32 as u64, ids(from, to), 0]);
        all[3..8].copy_from_slice(&payload);
        outcome(&self.call(&all))
    }

    /// `FFA_MSG_SEND_DIRECT_REQ` with 64-bit arguments. Five of them: what FF-A 1.0 to 1.2 define, and not the 15 of FF-A 1.3.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn direct_req64(self, from: u16, to: u16, payload: [u64; 5]) -> Result<Outcome, Error> {
        let mut all = registers(&[FuncId::MsgSendDirectReq64 as u64, ids(from, to), 0]);
        all[3..8].copy_from_slice(&payload);
        outcome(&self.call(&all))
    }

    /// `FFA_MSG_SEND_DIRECT_REQ2`: a message to the service `uuid` of a partition; with the nil UUID to the partition itself.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn direct_req2(self, from: u16, to: u16, uuid: Uuid, payload: [u64; 14]) -> Result<Outcome, Error> {
        let [low, high] = UuidHelper::to_u64_regs(uuid);
        let mut all = registers(&[FuncId::MsgSendDirectReq64_2 as u64, ids(from, to), low, high]);
        all[4..].copy_from_slice(&payload);
        outcome(&self.call(&all))
    }

    /// `FFA_CONSOLE_LOG` with 64-bit registers: up to 128 characters. Returns how many were taken.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn console_log64(self, text: &[u8]) -> Result<usize, Error> {
        self.console_log(FuncId::ConsoleLog64, text, 16, 8)
    }

    /// `FFA_CONSOLE_LOG` with 32-bit registers: up to 24 characters. Returns how many were taken.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn console_log32(self, text: &[u8]) -> Result<usize, Error> {
        self.console_log(FuncId::ConsoleLog32, text, 6, 4)
    }

    fn console_log(self, function: FuncId, text: &[u8], words: usize, bytes_a_word: usize) -> Result<usize, Error> {
        let taken = text.len().min(words * bytes_a_word);
        let mut all = registers(&[function as u64, taken as u64]);
        for (register, chunk) in all[2..].iter_mut().zip(text[..taken].chunks(bytes_a_word)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            *register = u64::from_le_bytes(bytes);
        }
        match error_code(&self.call(&all)) {
            None => Ok(taken),
            Some(code) => Err(Error::Ffa(code)),
        }
    }

    /// `FFA_SECONDARY_EP_REGISTER`: where further execution contexts of this partition start.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn secondary_ep_register(self, address: u64) -> Result<(), Error> {
        let entrypoint = SecondaryEpRegisterAddr::Addr64(address);
        self.request(&Interface::SecondaryEpRegister { entrypoint }).map(|_| ())
    }

    /// `FFA_MEM_PERM_SET`: what this partition, which is at S-EL0 and initialises, may do with memory of its own, in whole pages.
    ///
    /// # Errors
    ///
    /// What the SPM answers.
    pub fn mem_perm_set(self, memory: Range<usize>, permissions: Permissions) -> Result<(), Error> {
        let pages = memory.len().div_ceil(PAGE_SIZE) as u64;
        let call = [
            FuncId::MemPermSet64 as u64,
            memory.start as u64,
            pages,
            u64::from(permissions.0),
        ];
        match error_code(&self.call(&registers(&call))) {
            None => Ok(()),
            Some(code) => Err(Error::Ffa(code)),
        }
    }

    /// `FFA_ERROR`: tells the SPM that this partition can't go on with its initialisation. Returns what the SPM answers, if it does.
    pub fn error(self, code: FfaError) -> Registers {
        let target_info = TargetInfo::default();
        self.interface(&Interface::Error {
            target_info,
            error_code: code,
            error_arg: 0,
            is_32bit: true,
        })
    }

    /// `FFA_ABORT`: stops this partition. Returns what the SPM answers, if it does not know the call.
    pub fn abort(self) -> Registers {
        self.call(&registers(&[ABORT]))
    }
}

/// Sender and receiver, as a direct message has them in w1.
#[must_use]
pub const fn ids(from: u16, to: u16) -> u64 {
    (from as u64) << 16 | to as u64
}

fn unexpected(answer: &Registers) -> Error {
    Error::Unexpected([answer[0], answer[1], answer[2], answer[3]])
}

/// Decodes the answer to a direct request or to `FFA_RUN`.
///
/// # Errors
///
/// The code of an `FFA_ERROR`, or that the answer makes no sense.
pub fn outcome(answer: &Registers) -> Result<Outcome, Error> {
    if let Some(code) = error_code(answer) {
        return Err(Error::Ffa(code));
    }
    let (partition, context) = pair(answer[1]);
    match FuncId::try_from(low(answer[0])) {
        Ok(FuncId::MsgSendDirectResp32 | FuncId::MsgSendDirectResp64 | FuncId::MsgSendDirectResp64_2) => {
            Ok(Outcome::Response(Response::from_registers(answer)))
        }
        Ok(FuncId::Interrupt32) => Ok(Outcome::Interrupted { partition, context }),
        Ok(FuncId::Yield32) => Ok(Outcome::Yielded { partition, context }),
        Ok(FuncId::MsgWait32) => Ok(Outcome::Waiting),
        _ => Err(unexpected(answer)),
    }
}

/// Agrees on a version, or on what the SPM has if that is older: the first thing that a partition does.
pub(crate) fn negotiate_version(mut version: Version) {
    while let Err(Error::Ffa(FfaError::NotSupported)) = SMC.version(version) {
        let Some(minor) = version.1.checked_sub(1) else { return };
        version = Version(version.0, minor);
    }
}
