//! What may be asked for and what is granted: permissions, attributes, flags (FF-A 1.2, "Data access permissions usage",
//! "Instruction access permissions usage", "Memory region attributes usage", "Flags usage").
//!
//! | | donate | lend, one borrower | lend, several | share |
//! | --- | --- | --- | --- | --- |
//! | sender: data access | none, RO or RW | RO or RW | RO or RW | RO or RW |
//! | sender: instruction access | none | none | none | none |
//! | sender: attributes | none | none | Normal WB ISH | Normal WB ISH |
//! | borrower: data access | up to the sender's | up to the sender's | up to the sender's | up to the sender's |
//! | borrower: instruction access | X or NX | X or NX | none or NX | none or NX |
//! | borrower: attributes | none or those of the memory | the same | the same | the same |
//! | borrowers | one | one | any number | any number |
//! | device memory | no | yes | no | no |
//! | zeroed for the borrower | may be | may be | may be | no |
//!
//! "None" is the value "not specified". Memory of the normal world and devices are never executable. WB: inner and outer
//! write-back, ISH: inner shareable; no other kind of Normal memory is passed on, so that two endpoints never access the
//! same memory with attributes that do not match.

use tantalum_stage2::{Access, Execute};

use crate::{abi::FfaError, addr::World};

/// Which of the three calls started a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// FFA_MEM_SHARE: owner and borrowers have access.
    Share,
    /// FFA_MEM_LEND: the borrowers have access, the owner has not.
    Lend,
    /// FFA_MEM_DONATE: the borrower becomes the owner.
    Donate,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Share, Self::Lend, Self::Donate];

    /// The transaction type in the flags (bits 4:3).
    #[must_use]
    pub const fn type_flag(self) -> u32 {
        match self {
            Self::Share => 1 << 3,
            Self::Lend => 2 << 3,
            Self::Donate => 3 << 3,
        }
    }
}

/// Flag: zero the memory before the borrower gets it.
pub const FLAG_CLEAR: u32 = 1 << 0;
/// Flag: the operation may be split in time. Nobody needs that here, and the caller is told so.
pub const FLAG_TIME_SLICE: u32 = 1 << 1;
/// Flag of a retrieve request: zero the memory when it was relinquished.
pub const FLAG_CLEAR_RELINQUISH: u32 = 1 << 2;
/// Transaction type.
pub const FLAG_TYPE: u32 = 0b11 << 3;
/// Flag of a retrieve request: log2 of an alignment in pages.
const FLAG_HINT: u32 = 0xf << 5;
/// Flag of a retrieve request: the alignment is given.
const FLAG_HINT_VALID: u32 = 1 << 9;
/// Flag of a retrieve request: the other borrowers are not named.
pub const FLAG_BYPASS: u32 = 1 << 10;
const RETRIEVE_FLAGS: u32 = FLAG_CLEAR | FLAG_CLEAR_RELINQUISH | FLAG_TYPE | FLAG_HINT | FLAG_HINT_VALID | FLAG_BYPASS;

/// Flag of FFA_MEM_RELINQUISH and FFA_MEM_RECLAIM: zero the memory then.
pub const FLAG_CLEAR_AFTER: u32 = 1 << 0;

/// Flag of an EMAD in a retrieve request: it is not this borrower that retrieves.
pub const EMAD_OTHER: u8 = 1 << 0;

/// Attribute: the memory is non-secure. Only ever in what the SPMC writes.
pub const ATTRIBUTE_NON_SECURE: u16 = 1 << 6;
/// Attributes: Normal memory, write-back, inner shareable.
pub const ATTRIBUTES_NORMAL: u16 = 0b10_11_11;
/// Attributes: Device-nGnRnE.
pub const ATTRIBUTES_DEVICE: u16 = 0b01_00_00;
/// Where attributes have the memory type.
const ATTRIBUTE_TYPE: u16 = 0b11 << 4;
const ATTRIBUTE_BITS: u16 = 0x3f;

/// What is being passed on, as its owner has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// In which physical address space.
    pub world: World,
    /// A device, not RAM.
    pub device: bool,
    /// The owner may write all of it.
    pub writable: bool,
    /// The owner may execute all of it.
    pub executable: bool,
}

impl Memory {
    /// What holds of both, or `None` when one transaction can't have both.
    #[must_use]
    pub fn and(self, other: Self) -> Option<Self> {
        (self.world == other.world && self.device == other.device).then_some(Self {
            writable: self.writable && other.writable,
            executable: self.executable && other.executable,
            ..self
        })
    }

    /// The attributes of a RETRIEVE_RESP.
    #[must_use]
    pub const fn attributes(self) -> u16 {
        let non_secure = match self.world {
            World::Secure => 0,
            World::NonSecure => ATTRIBUTE_NON_SECURE,
        };
        non_secure
            | if self.device {
                ATTRIBUTES_DEVICE
            } else {
                ATTRIBUTES_NORMAL
            }
    }
}

/// Data access in a permissions byte (bits 1:0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Data {
    /// Not specified.
    None,
    /// Read-only.
    ReadOnly,
    /// Read and write.
    ReadWrite,
}

/// Instruction access in a permissions byte (bits 3:2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// Not specified.
    None,
    /// Not executable.
    Never,
    /// Executable.
    Execute,
}

/// A permissions byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Data access.
    pub data: Data,
    /// Instruction access.
    pub instruction: Instruction,
}

impl Permissions {
    /// Decodes a permissions byte.
    ///
    /// # Errors
    /// `InvalidParameters` for reserved values and bits.
    pub const fn decode(byte: u8) -> Result<Self, FfaError> {
        let data = match byte & 0b11 {
            0b00 => Data::None,
            0b01 => Data::ReadOnly,
            0b10 => Data::ReadWrite,
            _ => return Err(FfaError::InvalidParameters),
        };
        let instruction = match byte >> 2 {
            0b00 => Instruction::None,
            0b01 => Instruction::Never,
            0b10 => Instruction::Execute,
            _ => return Err(FfaError::InvalidParameters),
        };
        Ok(Self { data, instruction })
    }
}

/// What a borrower got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// It may write.
    pub write: bool,
    /// It may execute.
    pub execute: bool,
}

impl Granted {
    /// As a permissions byte.
    #[must_use]
    pub const fn encode(self) -> u8 {
        (if self.write { 0b10 } else { 0b01 }) | (if self.execute { 0b10 << 2 } else { 0b01 << 2 })
    }

    /// Back from [`Granted::encode`].
    #[must_use]
    pub const fn of(byte: u8) -> Self {
        Self {
            write: byte & 0b11 == 0b10,
            execute: byte >> 2 == 0b10,
        }
    }

    /// As stage 2 says it.
    #[must_use]
    pub const fn stage2(self) -> (Access, Execute) {
        (
            if self.write {
                Access::ReadWrite
            } else {
                Access::ReadOnly
            },
            if self.execute { Execute::Always } else { Execute::Never },
        )
    }
}

/// Checks the attributes and flags in the header of what a sender sends, for a transaction with `borrowers` borrowers.
///
/// # Errors
/// `InvalidParameters`; `Denied` for attributes that are valid and not supported.
pub const fn check_send(kind: Kind, borrowers: u32, attributes: u16, flags: u32) -> Result<(), FfaError> {
    let several = borrowers > 1;
    let clear = if matches!(kind, Kind::Share) { 0 } else { FLAG_CLEAR };
    let type_is_right = flags & FLAG_TYPE == 0 || flags & FLAG_TYPE == kind.type_flag();
    if flags & !(clear | FLAG_TYPE) != 0 || !type_is_right || several && matches!(kind, Kind::Donate) {
        return Err(FfaError::InvalidParameters);
    }
    if attributes & !ATTRIBUTE_BITS != 0 {
        return Err(FfaError::InvalidParameters);
    }
    if matches!(kind, Kind::Share) || several {
        return check_normal(attributes);
    }
    if attributes == 0 {
        Ok(())
    } else {
        Err(FfaError::InvalidParameters)
    }
}

/// Checks attributes that must be those of Normal memory.
const fn check_normal(attributes: u16) -> Result<(), FfaError> {
    match (attributes & ATTRIBUTE_TYPE) >> 4 {
        0b10 if attributes == ATTRIBUTES_NORMAL => Ok(()),
        // Reserved: cacheability 0 and 2, shareability 1.
        0b10 if matches!((attributes >> 2) & 0b11, 0b00 | 0b10) || attributes & 0b11 == 0b01 => {
            Err(FfaError::InvalidParameters)
        }
        0b10 | 0b01 => Err(FfaError::Denied),
        _ => Err(FfaError::InvalidParameters),
    }
}

/// Checks the permissions and flags that a sender gives a borrower.
///
/// # Errors
/// `InvalidParameters`.
pub fn check_sent(kind: Kind, permissions: u8, emad_flags: u8) -> Result<(), FfaError> {
    let permissions = Permissions::decode(permissions)?;
    let data_is_right = permissions.data != Data::None || kind == Kind::Donate;
    if permissions.instruction == Instruction::None && data_is_right && emad_flags == 0 {
        Ok(())
    } else {
        Err(FfaError::InvalidParameters)
    }
}

/// Checks what is to be passed on against what its owner may do with it; `sent` are the permissions of one borrower.
///
/// # Errors
/// `Denied`.
pub const fn check_memory(kind: Kind, borrowers: u32, flags: u32, memory: Memory, sent: u8) -> Result<(), FfaError> {
    let writes = sent & 0b11 == 0b10 || flags & FLAG_CLEAR != 0;
    let lent_to_one = matches!(kind, Kind::Lend) && borrowers == 1;
    let device_is_right = !memory.device || lent_to_one && flags & FLAG_CLEAR == 0;
    if device_is_right && (memory.writable || !writes) {
        Ok(())
    } else {
        Err(FfaError::Denied)
    }
}

/// What a retrieve request is about.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    /// Its kind.
    pub kind: Kind,
    /// Number of borrowers.
    pub borrowers: u32,
    /// The sender's flags.
    pub flags: u32,
    /// The memory.
    pub memory: Memory,
    /// What the sender permits this borrower.
    pub sent: u8,
    /// This borrower has had the memory before.
    pub again: bool,
}

impl Transaction {
    /// What a borrower gets that asks for `permissions`.
    ///
    /// # Errors
    /// `InvalidParameters` for what must not be asked for, `Denied` for more than there is to get.
    pub fn grant(&self, permissions: u8) -> Result<Granted, FfaError> {
        let asked = Permissions::decode(permissions)?;
        let sent = Permissions::decode(self.sent)?;
        let may_write = match sent.data {
            Data::None => self.memory.writable,
            Data::ReadOnly => false,
            Data::ReadWrite => true,
        };
        let write = match asked.data {
            Data::None => may_write,
            Data::ReadOnly => false,
            Data::ReadWrite if may_write => true,
            Data::ReadWrite => return Err(FfaError::Denied),
        };
        let alone = self.kind != Kind::Share && self.borrowers == 1;
        let execute = match asked.instruction {
            Instruction::Never => false,
            Instruction::None if !alone => false,
            Instruction::Execute if alone => {
                let executable = self.memory.executable && !self.memory.device && self.memory.world == World::Secure;
                if !executable {
                    return Err(FfaError::Denied);
                }
                true
            }
            Instruction::None | Instruction::Execute => return Err(FfaError::InvalidParameters),
        };
        Ok(Granted { write, execute })
    }

    /// Checks the flags of a retrieve request by a borrower that is granted `granted`.
    ///
    /// # Errors
    /// `InvalidParameters`, `Denied`.
    pub fn check_flags(&self, flags: u32, granted: Granted) -> Result<(), FfaError> {
        let clears = flags & (FLAG_CLEAR | FLAG_CLEAR_RELINQUISH);
        let type_is_right = flags & FLAG_TYPE == 0 || flags & FLAG_TYPE == self.kind.type_flag();
        let hint_is_right = flags & FLAG_HINT_VALID != 0 || flags & FLAG_HINT == 0;
        if flags & !RETRIEVE_FLAGS != 0 || !type_is_right || !hint_is_right || self.kind == Kind::Share && clears != 0 {
            return Err(FfaError::InvalidParameters);
        }
        if flags & FLAG_CLEAR != 0 {
            if self.again {
                return Err(FfaError::InvalidParameters);
            }
            if self.flags & FLAG_CLEAR == 0 {
                return Err(FfaError::Denied);
            }
        }
        if flags & FLAG_CLEAR_RELINQUISH != 0 {
            // Nobody relinquishes what was given for good.
            if self.kind == Kind::Donate {
                return Err(FfaError::InvalidParameters);
            }
            if !granted.write || self.memory.device {
                return Err(FfaError::Denied);
            }
        }
        Ok(())
    }

    /// Checks the attributes of a retrieve request.
    ///
    /// # Errors
    /// `InvalidParameters` for reserved bits, the NS bit included; `Denied` for those of another kind of memory.
    pub const fn check_attributes(&self, attributes: u16) -> Result<(), FfaError> {
        if attributes & !ATTRIBUTE_BITS != 0 {
            return Err(FfaError::InvalidParameters);
        }
        match (attributes & ATTRIBUTE_TYPE) >> 4 {
            0b00 if attributes == 0 => Ok(()),
            // Shareability of a device is not looked at by the architecture.
            0b01 if self.memory.device && attributes & 0b1100 == 0 => Ok(()),
            0b01 => Err(FfaError::Denied),
            0b10 if !self.memory.device => check_normal(attributes),
            0b10 => Err(FfaError::Denied),
            _ => Err(FfaError::InvalidParameters),
        }
    }
}

/// The alignment in bytes that a retrieve request asks for, less one; 0 when it asks for none.
#[must_use]
pub const fn alignment_mask(flags: u32) -> u64 {
    if flags & FLAG_HINT_VALID == 0 {
        return 0;
    }
    let pages = 1_u64.wrapping_shl((flags & FLAG_HINT) >> 5);
    pages.saturating_mul(crate::addr::PAGE_SIZE).wrapping_sub(1)
}

#[cfg(test)]
#[path = "permission_tests.rs"]
mod tests;
