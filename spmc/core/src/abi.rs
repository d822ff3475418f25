//! Registers <-> FF-A calls: the only place that knows which register holds what (FF-A 1.2, chapters 11-18).
//!
//! A call is decoded in two steps, so that the hot path pays for nothing that it does not use: [`Function`] says which
//! call it is, and [`Route`], [`Target`] and [`low`] read its fields, truncated to 32 bits where the calling convention says
//! so.

pub use arm_ffa::{FfaError, FuncId, Version};

use crate::id::{EndpointId, VcpuIndex};

/// The FF-A version that the SPMC implements.
pub const SPMC_VERSION: Version = Version(1, 2);

/// FF-A 1.2.
pub const V1_2: Version = Version(1, 2);
/// FF-A 1.1.
pub const V1_1: Version = Version(1, 1);

/// `FFA_INTERRUPT` (32-bit).
pub const FFA_INTERRUPT: u64 = 0x8400_0062;
/// `FFA_ERROR`.
pub const FFA_ERROR: u64 = 0x8400_0060;
/// `FFA_SUCCESS` (32-bit).
pub const FFA_SUCCESS_32: u64 = 0x8400_0061;
/// `FFA_SUCCESS` (64-bit).
pub const FFA_SUCCESS_64: u64 = 0xc400_0061;
/// `FFA_MSG_WAIT`.
pub const FFA_MSG_WAIT: u64 = 0x8400_006b;
/// `FFA_YIELD`.
pub const FFA_YIELD: u64 = 0x8400_006c;
/// `FFA_RUN`.
pub const FFA_RUN: u64 = 0x8400_006d;
/// `FFA_NORMAL_WORLD_RESUME`.
pub const FFA_NORMAL_WORLD_RESUME: u64 = 0x8400_007c;
/// `FFA_EL3_INTR_HANDLE`.
pub const FFA_EL3_INTR_HANDLE: u64 = 0x8400_008c;
/// `FFA_MSG_SEND_DIRECT_RESP` (32-bit).
pub const FFA_MSG_SEND_DIRECT_RESP_32: u64 = 0x8400_0070;
/// `FFA_ABORT` (32-bit, FF-A 1.3 ALP; used by partitions to end themselves).
pub const FFA_ABORT_32: u32 = 0x8400_0090;
/// `FFA_ABORT` (64-bit).
pub const FFA_ABORT_64: u32 = 0xc400_0090;
/// `SMCCC_VERSION`.
pub const SMCCC_VERSION: u32 = 0x8000_0000;
/// `SMCCC_ARCH_FEATURES`.
pub const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
/// What `SMCCC_VERSION` returns: 1.2, whose calls have up to 18 registers.
pub const SMCCC_VERSION_1_2: u64 = 0x1_0002;
/// SMCCC: unknown function identifier.
pub const SMCCC_UNKNOWN: u64 = u64::MAX;

/// Bit 31 of w2 in a direct message: the message is a framework message.
pub const FRAMEWORK_MESSAGE: u32 = 1 << 31;

/// SMCCC 1.3 hint in a function identifier: the caller has no live SVE state.
const SVE_HINT: u32 = 1 << 16;
/// Bits of a function identifier that name the owner and the type of call, for FF-A: fast, standard secure service.
const OWNER_MASK: u32 = 0xbffe_ff00;
const OWNER_FFA: u32 = 0x8400_0000;

/// What a function identifier asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function {
    /// A call that FF-A defines.
    Ffa(FuncId),
    /// `FFA_ABORT`, which is newer than the rest.
    Abort,
    /// Within the range that FF-A has reserved, and not known.
    UnknownFfa,
    /// Not an FF-A call.
    Other(u32),
}

impl Function {
    /// Decodes x0 of a call. The SVE hint bit is dropped, bits above 31 are ignored (SMCCC 1.2).
    #[inline(always)]
    #[must_use]
    pub fn decode(x0: u64) -> Self {
        // The calls that are made most often are found without a search.
        match low(x0) & !SVE_HINT {
            0x8400_006f => Self::Ffa(FuncId::MsgSendDirectReq32),
            0xc400_006f => Self::Ffa(FuncId::MsgSendDirectReq64),
            0x8400_0070 => Self::Ffa(FuncId::MsgSendDirectResp32),
            0xc400_0070 => Self::Ffa(FuncId::MsgSendDirectResp64),
            0xc400_008d => Self::Ffa(FuncId::MsgSendDirectReq64_2),
            0xc400_008e => Self::Ffa(FuncId::MsgSendDirectResp64_2),
            0x8400_0069 => Self::Ffa(FuncId::IdGet),
            0x8400_006b => Self::Ffa(FuncId::MsgWait32),
            0x8400_006d => Self::Ffa(FuncId::Run32),
            0x8400_0064 => Self::Ffa(FuncId::Features),
            _ => Self::decode_any(x0),
        }
    }

    fn decode_any(x0: u64) -> Self {
        let id = low(x0);
        if id & OWNER_MASK != OWNER_FFA || !matches!(id & 0xff, 0x60..=0xef) {
            return Self::Other(id);
        }
        let id = id & !SVE_HINT;
        match FuncId::try_from(id) {
            Ok(function) => Self::Ffa(function),
            Err(_) if id == FFA_ABORT_32 || id == FFA_ABORT_64 => Self::Abort,
            Err(_) => Self::UnknownFfa,
        }
    }
}

/// Whether a call is an SMC64 one.
pub(crate) const fn is_wide(registers: &[u64; 18]) -> bool {
    let [x0, ..] = *registers;
    x0 & (1 << 30) != 0
}

/// The low 32 bits of a register.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper half of an SMC32 argument is to be ignored"
)]
#[inline(always)]
#[must_use]
pub const fn low(register: u64) -> u32 {
    register as u32
}

#[inline(always)]
const fn high_half(register: u64) -> u16 {
    (low(register) >> 16) as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are wanted")]
#[inline(always)]
const fn low_half(register: u64) -> u16 {
    register as u16
}

/// The FF-A version that a caller needs for a call. FFA_CONSOLE_LOG is one of FF-A 1.2; partitions of 1.1 that were written
/// for other SPMCs use it, so it is there for them too.
#[must_use]
pub fn introduced(function: FuncId) -> Version {
    match function {
        FuncId::ConsoleLog32 | FuncId::ConsoleLog64 => V1_1,
        _ => function.minimum_ffa_version(),
    }
}

/// Source and destination of a message (w1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Bits 31:16.
    pub source: EndpointId,
    /// Bits 15:0.
    pub destination: EndpointId,
}

impl Route {
    /// Decodes w1.
    #[inline(always)]
    #[must_use]
    pub const fn decode(w1: u64) -> Self {
        Self {
            source: EndpointId::new(high_half(w1)),
            destination: EndpointId::new(low_half(w1)),
        }
    }

    /// Encodes w1.
    #[inline(always)]
    #[must_use]
    pub const fn encode(self) -> u64 {
        ((self.source.as_u16() as u64) << 16) | self.destination.as_u16() as u64
    }
}

/// An execution context as FFA_RUN, FFA_INTERRUPT, FFA_YIELD and FFA_MSG_WAIT name it (w1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Bits 31:16.
    pub endpoint: EndpointId,
    /// Bits 15:0.
    pub vcpu: VcpuIndex,
}

impl Target {
    /// The normal world, as one that resumes contexts.
    pub const NORMAL_WORLD: Self = Self {
        endpoint: EndpointId::NWD,
        vcpu: VcpuIndex::new(0),
    };

    /// Decodes w1.
    #[must_use]
    pub const fn decode(w1: u64) -> Self {
        Self {
            endpoint: EndpointId::new(high_half(w1)),
            vcpu: VcpuIndex::new(low_half(w1)),
        }
    }

    /// Encodes w1.
    #[must_use]
    pub const fn encode(self) -> u64 {
        ((self.endpoint.as_u16() as u64) << 16) | self.vcpu.as_u16() as u64
    }
}

/// The three shapes of a direct message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// FFA_MSG_SEND_DIRECT_REQ/RESP, 32 bits: w3-w7.
    Direct32,
    /// FFA_MSG_SEND_DIRECT_REQ/RESP, 64 bits: x3-x7.
    Direct64,
    /// FFA_MSG_SEND_DIRECT_REQ2/RESP2: x4-x17.
    Direct2,
}

impl Form {
    /// Function identifier of the request.
    #[inline(always)]
    #[must_use]
    pub const fn request_id(self) -> u64 {
        match self {
            Self::Direct32 => 0x8400_006f,
            Self::Direct64 => 0xc400_006f,
            Self::Direct2 => 0xc400_008d,
        }
    }

    /// Function identifier of the response.
    #[inline(always)]
    #[must_use]
    pub const fn response_id(self) -> u64 {
        match self {
            Self::Direct32 => 0x8400_0070,
            Self::Direct64 => 0xc400_0070,
            Self::Direct2 => 0xc400_008e,
        }
    }
}

/// Writes an eight-register result; the registers above x7 are left as they are.
#[inline(always)]
pub fn put(registers: &mut [u64], result: [u64; 8]) {
    if let Some(first) = registers.first_chunk_mut() {
        *first = result;
    }
}

/// Writes `FFA_ERROR` with `error` in w2 (zero-extended) and everything else zero.
pub fn put_error(registers: &mut [u64], error: FfaError) {
    put(registers, [FFA_ERROR, 0, error_code(error), 0, 0, 0, 0, 0]);
}

/// An error code as a register holds it: 32 bits, zero-extended.
#[expect(clippy::cast_sign_loss, reason = "the encoding is two's complement in 32 bits")]
#[must_use]
pub fn error_code(error: FfaError) -> u64 {
    u64::from(i32::from(error) as u32)
}
