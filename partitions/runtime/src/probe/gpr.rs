//! A call with a pattern in the registers that it must preserve.

use core::arch::{asm, naked_asm};

use crate::{
    arch,
    ffa::{Client, Registers},
};

/// The mask bit of x18; x19 has the next, up to x30.
const FIRST: u32 = 18;

/// Makes a call with all of x0-x17, while x18-x30 hold values made from `seed`. Returns x0-x17, and a mask with bit N set if xN was not preserved.
#[must_use]
pub fn call_checking_gprs(client: Client, registers: &Registers, seed: u64) -> (Registers, u32) {
    let mut result = *registers;
    let changed: u64;
    let call = match client {
        Client::Smc if arch::exception_level() == 0 => checked_svc,
        Client::Smc => checked_smc,
        Client::Hvc => checked_hvc,
    };
    // SAFETY: both functions read and write the 18 registers that the pointer leads to, and follow the calling convention otherwise.
    unsafe {
        asm!(
            "blr {call}",
            call = in(reg) call,
            inout("x0") result.as_mut_ptr() => _,
            inout("x1") seed => changed,
            clobber_abi("C"),
        );
    }
    (result, (changed & 0x7fff_ffff) as u32)
}

/// A function that makes a call with patterns in the registers.
macro_rules! checked_call {
    ($name:ident, $instruction:literal) => {
        /// x0: address of the registers, x1: seed. Register xN holds seed + N during the call. Returns the mask in x1.
        #[unsafe(naked)]
        unsafe extern "C" fn $name() {
            naked_asm!(
                "stp x29, x30, [sp, #-112]!",
                "stp x27, x28, [sp, #16]",
                "stp x25, x26, [sp, #32]",
                "stp x23, x24, [sp, #48]",
                "stp x21, x22, [sp, #64]",
                "stp x19, x20, [sp, #80]",
                "stp x0, x1, [sp, #96]",
                "mov x17, x1",
                "add x18, x17, #18",
                "add x19, x17, #19",
                "add x20, x17, #20",
                "add x21, x17, #21",
                "add x22, x17, #22",
                "add x23, x17, #23",
                "add x24, x17, #24",
                "add x25, x17, #25",
                "add x26, x17, #26",
                "add x27, x17, #27",
                "add x28, x17, #28",
                "add x29, x17, #29",
                "add x30, x17, #30",
                "mov x17, x0",
                "ldp x0, x1, [x17]",
                "ldp x2, x3, [x17, #16]",
                "ldp x4, x5, [x17, #32]",
                "ldp x6, x7, [x17, #48]",
                "ldp x8, x9, [x17, #64]",
                "ldp x10, x11, [x17, #80]",
                "ldp x12, x13, [x17, #96]",
                "ldp x14, x15, [x17, #112]",
                "ldp x16, x17, [x17, #128]",
                $instruction,
                // Free two registers, by way of the stack, before anything is checked.
                "stp x0, x1, [sp, #-16]!",
                "ldr x0, [sp, #112]",
                "stp x2, x3, [x0, #16]",
                "stp x4, x5, [x0, #32]",
                "stp x6, x7, [x0, #48]",
                "stp x8, x9, [x0, #64]",
                "stp x10, x11, [x0, #80]",
                "stp x12, x13, [x0, #96]",
                "stp x14, x15, [x0, #112]",
                "stp x16, x17, [x0, #128]",
                "ldp x2, x3, [sp], #16",
                "stp x2, x3, [x0]",
                "ldr x2, [sp, #104]",
                "mov x1, #0",
                "add x3, x2, #18",
                "cmp x18, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #18",
                "add x3, x2, #19",
                "cmp x19, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #19",
                "add x3, x2, #20",
                "cmp x20, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #20",
                "add x3, x2, #21",
                "cmp x21, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #21",
                "add x3, x2, #22",
                "cmp x22, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #22",
                "add x3, x2, #23",
                "cmp x23, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #23",
                "add x3, x2, #24",
                "cmp x24, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #24",
                "add x3, x2, #25",
                "cmp x25, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #25",
                "add x3, x2, #26",
                "cmp x26, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #26",
                "add x3, x2, #27",
                "cmp x27, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #27",
                "add x3, x2, #28",
                "cmp x28, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #28",
                "add x3, x2, #29",
                "cmp x29, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #29",
                "add x3, x2, #30",
                "cmp x30, x3",
                "cset x4, ne",
                "orr x1, x1, x4, lsl #30",
                "ldp x19, x20, [sp, #80]",
                "ldp x21, x22, [sp, #64]",
                "ldp x23, x24, [sp, #48]",
                "ldp x25, x26, [sp, #32]",
                "ldp x27, x28, [sp, #16]",
                "ldp x29, x30, [sp], #112",
                "ret",
            )
        }
    };
}

checked_call!(checked_smc, "smc #0");
checked_call!(checked_hvc, "hvc #0");
checked_call!(checked_svc, "svc #0");

const _: () = assert!(FIRST == 18, "the masks above are built from the register numbers");
