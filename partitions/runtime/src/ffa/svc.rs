//! The call of a partition at S-EL0.

#![expect(unsafe_code, reason = "calls are made with an instruction of their own")]

use core::arch::asm;

use super::Registers;

/// Makes a call by `svc #0` with all of x0-x17 and returns what they hold afterwards.
pub(super) fn call(registers: &Registers) -> Registers {
    let mut answer = [0; 18];
    // SAFETY: a call by the SMC calling convention, which changes x0-x17 only. What it has the SPM do with this program's
    // memory is for whoever asks for the call to vouch for, as with those by other instructions.
    unsafe {
        asm!(
            "svc #0",
            inout("x0") registers[0] => answer[0],
            inout("x1") registers[1] => answer[1],
            inout("x2") registers[2] => answer[2],
            inout("x3") registers[3] => answer[3],
            inout("x4") registers[4] => answer[4],
            inout("x5") registers[5] => answer[5],
            inout("x6") registers[6] => answer[6],
            inout("x7") registers[7] => answer[7],
            inout("x8") registers[8] => answer[8],
            inout("x9") registers[9] => answer[9],
            inout("x10") registers[10] => answer[10],
            inout("x11") registers[11] => answer[11],
            inout("x12") registers[12] => answer[12],
            inout("x13") registers[13] => answer[13],
            inout("x14") registers[14] => answer[14],
            inout("x15") registers[15] => answer[15],
            inout("x16") registers[16] => answer[16],
            inout("x17") registers[17] => answer[17],
            options(nostack)
        );
    }
    answer
}
