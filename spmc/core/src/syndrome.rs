//! Exception syndromes: `ESR_EL2` decoded (Arm ARM, ESR_ELx; exception class and ISS encodings).

use crate::machine::SystemRegister;

/// What a synchronous exception from a partition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syndrome {
    /// SMC from AArch64, trapped: the return address is that of the instruction.
    Smc,
    /// HVC from AArch64: the return address is past the instruction.
    Hvc {
        /// The instruction's immediate.
        immediate: u64,
    },
    /// WFI, WFE, WFIT or WFET.
    Wait,
    /// MSR, MRS or a system instruction.
    SystemRegister(SystemRegisterAccess),
    /// Instruction or data abort.
    Abort(Abort),
    /// Anything else that a partition may not do.
    Other {
        /// Exception class.
        class: u8,
    },
}

/// A trapped access to a system register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemRegisterAccess {
    /// Which.
    pub register: SystemRegister,
    /// The general-purpose register, 31 for xzr.
    pub rt: u8,
    /// Whether it is a read (MRS).
    pub read: bool,
}

/// A stage-2 abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Whether it is an instruction fetch.
    pub fetch: bool,
    /// Whether it is a write. A cache maintenance instruction counts as one.
    pub write: bool,
    /// Whether it happened on a translation table walk of stage 1.
    pub on_walk: bool,
    /// Fault status code.
    pub status: u8,
    /// Whether the faulting virtual address is known.
    pub far_valid: bool,
    /// 32-bit instruction length bit.
    pub il: bool,
    /// The load or store, if the syndrome says which.
    pub access: Option<MemoryAccess>,
}

/// A load or store of one general-purpose register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAccess {
    /// How many bytes: 1, 2, 4 or 8.
    pub bytes: u8,
    /// The register, 31 for xzr.
    pub rt: u8,
    /// A load extends the sign.
    pub signed: bool,
    /// The register has 64 bits, else 32.
    pub wide: bool,
}

impl Abort {
    /// Kind of fault, without its level.
    #[must_use]
    pub const fn kind(&self) -> FaultKind {
        match self.status {
            0x00..=0x03 => FaultKind::AddressSize,
            0x04..=0x07 => FaultKind::Translation,
            0x08..=0x0b => FaultKind::AccessFlag,
            0x0c..=0x0f => FaultKind::Permission,
            0x10..=0x1f => FaultKind::External,
            0x21 => FaultKind::Alignment,
            _ => FaultKind::Other,
        }
    }
}

/// Kinds of fault that a fault status code tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The address is beyond what the tables translate.
    AddressSize,
    /// Nothing is mapped.
    Translation,
    /// Access flag.
    AccessFlag,
    /// Something is mapped, and may not be used this way.
    Permission,
    /// The bus has refused it.
    External,
    /// Unaligned.
    Alignment,
    /// Any other.
    Other,
}

#[inline(always)]
const fn bit(esr: u64, number: u32) -> bool {
    (esr >> number) & 1 != 0
}

#[expect(clippy::cast_possible_truncation, reason = "masked to at most 8 bits")]
#[inline(always)]
const fn field(esr: u64, shift: u32, bits: u32) -> u8 {
    ((esr >> shift) & ((1 << bits) - 1)) as u8
}

/// The exception class of an HVC from AArch64.
pub const HVC: u8 = 0x16;
/// The exception class of an SMC from AArch64.
pub const SMC: u8 = 0x17;

impl Syndrome {
    /// Decodes `ESR_EL2`.
    #[must_use]
    pub const fn decode(esr: u64) -> Self {
        let class = class(esr);
        match class {
            SMC => Self::Smc,
            HVC => Self::Hvc {
                immediate: esr & 0xffff,
            },
            0x01 => Self::Wait,
            0x18 => Self::SystemRegister(SystemRegisterAccess {
                register: SystemRegister {
                    op0: field(esr, 20, 2),
                    op1: field(esr, 14, 3),
                    crn: field(esr, 10, 4),
                    crm: field(esr, 1, 4),
                    op2: field(esr, 17, 3),
                },
                rt: field(esr, 5, 5),
                read: bit(esr, 0),
            }),
            0x20 | 0x24 => Self::Abort(Abort {
                fetch: class == 0x20,
                write: class == 0x24 && bit(esr, 6),
                on_walk: bit(esr, 7),
                status: field(esr, 0, 6),
                far_valid: !bit(esr, 10),
                il: bit(esr, 25),
                access: if class == 0x24 && bit(esr, 24) && !bit(esr, 7) && !bit(esr, 10) {
                    Some(MemoryAccess {
                        bytes: 1 << field(esr, 22, 2),
                        rt: field(esr, 16, 5),
                        signed: bit(esr, 21),
                        wide: bit(esr, 15),
                    })
                } else {
                    None
                },
            }),
            _ => Self::Other { class },
        }
    }
}

/// The exception class of a syndrome.
#[inline(always)]
#[must_use]
pub const fn class(esr: u64) -> u8 {
    field(esr, 26, 6)
}

/// The intermediate physical address of `HPFAR_EL2` and `FAR_EL2`, and whether it is a non-secure one.
#[must_use]
pub const fn fault_ipa(hpfar: u64, far: u64) -> (u64, bool) {
    (((hpfar & 0x0000_ffff_ffff_fff0) << 8) | (far & 0xfff), hpfar >> 63 != 0)
}
