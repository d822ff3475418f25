//! Things to try that may fault, without dying of it.
//!
//! Each function runs one instruction with a note to the vectors where to go on; a synchronous exception is caught and returned as a [`Fault`].

#![expect(
    unsafe_code,
    reason = "the accesses are to addresses that may not be there: that is the point"
)]

mod gpr;
pub mod simd;
pub mod state;
pub mod sysreg;

use core::{
    arch::{asm, naked_asm},
    fmt,
    mem::offset_of,
    sync::atomic::Ordering,
};

pub use gpr::call_checking_gprs;

use crate::context::{self, Context};

/// Exception class: an instruction that is undefined, or made so for this exception level.
pub const EC_UNKNOWN: u64 = 0;
/// Exception class: an instruction abort of this exception level.
pub const EC_INSTRUCTION_ABORT: u64 = 0x21;
/// Exception class: a data abort of this exception level.
pub const EC_DATA_ABORT: u64 = 0x25;

/// A value of `ESR_ELx` that no exception has: nothing was caught.
const NONE: u64 = u64::MAX;

/// A synchronous exception that a probe caught.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fault {
    /// `ESR_ELx`.
    pub esr: u64,
    /// `FAR_ELx`.
    pub far: u64,
    /// `ELR_ELx`.
    pub elr: u64,
    /// Where the instruction is that was tried: what `elr` must be, except for an instruction abort.
    pub at: u64,
}

impl Fault {
    /// The exception class.
    #[must_use]
    pub fn class(&self) -> u64 {
        (self.esr >> 26) & 0x3f
    }

    /// The fault status code of an abort: 0x04-0x07 translation, 0x0c-0x0f permission, 0x10 external; the low bits are the level.
    #[must_use]
    pub fn status(&self) -> u64 {
        self.esr & 0x3f
    }

    /// Whether an abort was caused by a write.
    #[must_use]
    pub fn is_write(&self) -> bool {
        self.esr & (1 << 6) != 0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.class() {
            EC_UNKNOWN => "undefined instruction",
            0x07 => "access to SVE, SIMD or floating point",
            0x18 => "trapped system register access",
            EC_INSTRUCTION_ABORT => "instruction abort",
            EC_DATA_ABORT => "data abort",
            0x26 => "SP alignment fault",
            _ => "exception",
        };
        write!(
            f,
            "{what}, ESR {:#x}, FAR {:#x}, ELR {:#x}",
            self.esr, self.far, self.elr
        )
    }
}

/// Runs the instructions between the two notes to the vectors. `at` is an output operand that takes the address of the first of them.
macro_rules! guarded {
    ($record:ident, $at:ident, [$($instruction:expr),+], $($operands:tt)*) => {
        asm!(
            "adr {at}, 3f",
            "str {at}, [{record}, #{resume}]",
            "adr {at}, 2f",
            "2:",
            $($instruction,)+
            "3:",
            "str xzr, [{record}, #{resume}]",
            record = in(reg) core::ptr::from_ref($record),
            at = out(reg) $at,
            resume = const offset_of!(Context, resume),
            $($operands)*
        )
    };
}
pub(crate) use guarded;

/// Gets ready to catch a fault.
pub(crate) fn arm() -> &'static Context {
    let record = context::current();
    record.esr.store(NONE, Ordering::Relaxed);
    record
}

/// What was caught since [`arm`].
pub(crate) fn caught(record: &Context, at: u64) -> Result<(), Fault> {
    let esr = record.esr.load(Ordering::Relaxed);
    if esr == NONE {
        return Ok(());
    }
    Err(Fault {
        esr,
        far: record.far.load(Ordering::Relaxed),
        elr: record.elr.load(Ordering::Relaxed),
        at,
    })
}

/// Reads 8 bytes.
///
/// # Errors
///
/// The fault that the access takes.
pub fn read64(address: u64) -> Result<u64, Fault> {
    let record = arm();
    let value: u64;
    let at: u64;
    // SAFETY: a load; if the address is not readable, the vectors go on after it.
    unsafe {
        guarded!(record, at, ["ldr {value}, [{address}]"], address = in(reg) address,
            value = inout(reg) 0_u64 => value, options(nostack, preserves_flags));
    }
    caught(record, at).map(|()| value)
}

/// Reads 4 bytes, as devices want to be read.
///
/// # Errors
///
/// The fault that the access takes.
pub fn read32(address: u64) -> Result<u32, Fault> {
    let record = arm();
    let value: u32;
    let at: u64;
    // SAFETY: a load; if the address is not readable, the vectors go on after it.
    unsafe {
        guarded!(record, at, ["ldr {value:w}, [{address}]"], address = in(reg) address,
            value = inout(reg) 0_u32 => value, options(nostack, preserves_flags));
    }
    caught(record, at).map(|()| value)
}

/// Writes 8 bytes.
///
/// Memory that is the program's own must not be written with this, but for what it has set aside to be probed: the compiler does not know of it.
///
/// # Errors
///
/// The fault that the access takes.
pub fn write64(address: u64, value: u64) -> Result<(), Fault> {
    let record = arm();
    let at: u64;
    // SAFETY: callers pass addresses outside the program's image (see above), so no Rust object changes behind the compiler's back.
    unsafe {
        guarded!(record, at, ["str {value}, [{address}]"], address = in(reg) address, value = in(reg) value,
            options(nostack, preserves_flags));
    }
    caught(record, at)
}

/// Writes 4 bytes, as devices want to be written.
///
/// # Errors
///
/// The fault that the access takes.
pub fn write32(address: u64, value: u32) -> Result<(), Fault> {
    let record = arm();
    let at: u64;
    // SAFETY: as for `write64`.
    unsafe {
        guarded!(record, at, ["str {value:w}, [{address}]"], address = in(reg) address, value = in(reg) value,
            options(nostack, preserves_flags));
    }
    caught(record, at)
}

/// Calls the code at `address`, which must return at once or fault.
///
/// # Errors
///
/// The fault that the fetch takes; its `elr` is then `address`.
pub fn execute(address: u64) -> Result<(), Fault> {
    let record = arm();
    let at: u64;
    // SAFETY: the caller has put a return instruction there, or expects a fault, after which the vectors go on here.
    unsafe {
        asm!(
            "adr x9, 3f",
            "str x9, [{record}, #{resume}]",
            "adr x20, 2f",
            "2: blr {address}",
            "3:",
            "str xzr, [{record}, #{resume}]",
            record = in(reg) core::ptr::from_ref(record),
            resume = const offset_of!(Context, resume),
            address = in(reg) address,
            out("x9") _,
            out("x20") at,
            clobber_abi("C"),
        );
    }
    caught(record, at)
}

/// The encoding of `ret`: what to write to memory that [`execute`] is to call.
pub const RETURN_INSTRUCTION: u32 = 0xd65f_03c0;

/// Makes this context unable to take exceptions: its vectors are then at an address where nothing is. For programs that are meant to die.
pub fn break_vectors(address: u64) {
    // SAFETY: the partition that calls this wants to fail; nothing of Rust's runs after the next exception.
    unsafe { asm!("msr vbar_el1, {}", "isb", in(reg) address, options(nostack, preserves_flags)) };
}

/// Jumps to an address, for good. For programs that are meant to die.
pub fn jump(address: u64) -> ! {
    // SAFETY: nothing of Rust's runs after the jump.
    unsafe { asm!("br {}", in(reg) address, options(noreturn, nostack)) }
}

/// Makes a secure monitor call, whatever the exception level. For programs that are meant to die.
pub fn monitor_call() {
    // SAFETY: FFA_ID_GET, by the SMC calling convention.
    unsafe { asm!("smc #0", inout("x0") 0x8400_0069_u64 => _, clobber_abi("C"), options(nostack)) };
}

/// Does nothing, forever, without ever asking the SPM anything. For programs that are meant to hang.
pub fn spin_forever() -> ! {
    loop {
        // SAFETY: an instruction without effect, which keeps the loop from being optimised away.
        unsafe { asm!("nop", options(nomem, nostack, preserves_flags)) };
    }
}

/// Faults while the stack pointer points to where nothing is, so that the handler faults too, and so on. For programs that are meant to die.
pub fn fault_without_stack(address: u64, stack: u64) -> ! {
    // SAFETY: nothing of Rust's runs after the stack pointer is gone.
    unsafe { asm!("mov sp, {}", "ldr xzr, [{}]", "b .", in(reg) stack, in(reg) address, options(noreturn)) }
}

/// Vectors whose handler of synchronous exceptions takes one itself, after a few instructions, so that time passes where instructions are what counts.
#[unsafe(naked)]
#[unsafe(link_section = ".text.vectors.storm")]
unsafe extern "C" fn storm_vectors() -> ! {
    naked_asm!(
        ".balign 0x800",
        ".space 0x200",
        "nop",
        "nop",
        "nop",
        "ldr xzr, [x1]",
        "b ."
    )
}

/// Takes exceptions for ever, none of which stage 2 has a part in. `address` is one that stage 1 does not map. For programs that are meant to hang.
pub fn exception_storm(address: u64) -> ! {
    // SAFETY: nothing of Rust's runs after the first exception.
    unsafe {
        asm!("msr vbar_el1, {vectors}", "isb", "ldr xzr, [x1]", "b .", vectors = in(reg) storm_vectors as *const () as usize,
            in("x1") address, options(noreturn))
    }
}
