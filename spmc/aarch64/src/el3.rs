//! Calls to EL3.

use tantalum_core::machine::SmcRegisters;

/// `FFA_ERROR`.
pub const FFA_ERROR: u64 = 0x8400_0060;
/// `FFA_SUCCESS` with 32-bit registers.
pub const FFA_SUCCESS: u64 = 0x8400_0061;
/// `FFA_SUCCESS` with 64-bit registers.
pub const FFA_SUCCESS_64: u64 = 0xc400_0061;
/// `FFA_INTERRUPT`.
pub const FFA_INTERRUPT: u64 = 0x8400_0062;
/// `FFA_YIELD`.
pub const FFA_YIELD: u64 = 0x8400_006c;
/// `FFA_MSG_SEND_DIRECT_REQ` with 32-bit registers.
pub const FFA_MSG_SEND_DIRECT_REQ: u64 = 0x8400_006f;
/// `FFA_MSG_SEND_DIRECT_RESP` with 32-bit registers.
pub const FFA_MSG_SEND_DIRECT_RESP: u64 = 0x8400_0070;
/// `FFA_NORMAL_WORLD_RESUME`.
pub const FFA_NORMAL_WORLD_RESUME: u64 = 0x8400_007c;
/// `FFA_SECONDARY_EP_REGISTER`.
pub const FFA_SECONDARY_EP_REGISTER: u64 = 0xc400_0087;

/// FF-A codes that the machine layer itself answers with, as 32 bits.
pub mod code {
    /// Something in the configuration is wrong.
    pub const INVALID_PARAMETERS: u64 = 0xffff_fffe;
    /// The SPMC has failed.
    pub const ABORTED: u64 = 0xffff_fff8;
}

/// Calls EL3 with x0-x17 and takes its answer. When the call leaves for the normal world, what returns is the normal
/// world's next request.
#[inline(never)]
pub fn call(registers: &mut SmcRegisters) {
    call_inline(registers);
}

/// The same for where every instruction counts.
#[inline(always)]
pub fn call_inline(registers: &mut SmcRegisters) {
    let [function, arguments @ ..] = *registers;
    // FF-A function identifiers and SMCCC error codes are 32 bits, bits above are not defined.
    *registers = smccc::smc64((function & 0xffff_ffff) as u32, arguments);
}

/// `FFA_ERROR` with `code`. When EL3 or the normal world comes back, so does this, with what it wants.
#[must_use]
pub fn error(code: u64) -> SmcRegisters {
    let mut registers = [0; 18];
    registers[0] = FFA_ERROR;
    registers[2] = code;
    call(&mut registers);
    registers
}
