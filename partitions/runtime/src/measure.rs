//! Counting the instructions of a call.
//!
//! Under `qemu -icount shift=0` with a counter of 1 GHz, one tick is one executed instruction.

#![expect(
    unsafe_code,
    reason = "the calls are made with nothing around them that would be counted too"
)]

use core::arch::asm;

use arm_ffa::FuncId;

use crate::ffa::Registers;

/// Makes a call with x0-x7 between two readings of the counter `$counter`.
macro_rules! timed {
    ($registers:ident, $counter:literal, $instruction:literal) => {{
        let mut answer = [0; 18];
        let (before, after): (u64, u64);
        // SAFETY: a call by the SMC calling convention, which preserves x18-x30; x8-x17 are declared as changed.
        unsafe {
            asm!(
                "isb",
                concat!("mrs {before}, ", $counter),
                $instruction,
                "isb",
                concat!("mrs {after}, ", $counter),
                before = out(reg) before, after = lateout(reg) after,
                inout("x0") $registers[0] => answer[0], inout("x1") $registers[1] => answer[1],
                inout("x2") $registers[2] => answer[2], inout("x3") $registers[3] => answer[3],
                inout("x4") $registers[4] => answer[4], inout("x5") $registers[5] => answer[5],
                inout("x6") $registers[6] => answer[6], inout("x7") $registers[7] => answer[7],
                out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
                out("x14") _, out("x15") _, out("x16") _, out("x17") _, options(nostack)
            );
        }
        (after.wrapping_sub(before), answer)
    }};
}

/// Makes the call in x0-x7 from the normal world; returns the ticks that it takes, the `smc` included, and x0-x7.
#[must_use]
pub fn normal_world_call(registers: &Registers) -> (u64, Registers) {
    let (overhead, _): (u64, Registers) = timed!(registers, "cntpct_el0", "");
    let (ticks, answer) = timed!(registers, "cntpct_el0", "smc #0");
    (ticks.saturating_sub(overhead), answer)
}

/// Makes the call in x0-x7 from a partition; returns the ticks that it takes, the `smc` included, and x0-x7.
#[must_use]
pub fn partition_call(registers: &Registers) -> (u64, Registers) {
    let (overhead, _): (u64, Registers) = timed!(registers, "cntvct_el0", "");
    let (ticks, answer) = timed!(registers, "cntvct_el0", "smc #0");
    (ticks.saturating_sub(overhead), answer)
}

/// Answers direct requests of the 32-bit kind as fast as a partition can, as long as their first word (w3) is 0. `response` is what to send first,
/// or `FFA_MSG_WAIT`. Returns the first event that is something else, such as a request with a command in w3.
#[must_use]
pub fn answer_until_command(response: &Registers) -> Registers {
    let mut event = [0; 18];
    // SAFETY: calls by the SMC calling convention, which preserves x18-x30; x8-x17 are declared as changed.
    unsafe {
        asm!(
            "2:",
            "smc #0",
            // A request with nothing in w3 is answered with the words it brought; sender and receiver change places.
            "cmp w0, {request:w}",
            "b.ne 3f",
            "cbnz w3, 3f",
            "mov w0, {answer:w}",
            "ror w1, w1, #16",
            "mov w2, wzr",
            "b 2b",
            "3:",
            request = in(reg) FuncId::MsgSendDirectReq32 as u32, answer = in(reg) FuncId::MsgSendDirectResp32 as u32,
            inout("x0") response[0] => event[0], inout("x1") response[1] => event[1],
            inout("x2") response[2] => event[2], inout("x3") response[3] => event[3],
            inout("x4") response[4] => event[4], inout("x5") response[5] => event[5],
            inout("x6") response[6] => event[6], inout("x7") response[7] => event[7],
            out("x8") _, out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _, options(nostack)
        );
    }
    event
}
