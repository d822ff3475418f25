//! The end of a PE: a bug of the SPMC. Nothing that a partition or the normal world does may lead here.
#![expect(unsafe_code, reason = "looks for the PE's Core by its address")]

use core::{
    arch::asm,
    fmt,
    panic::PanicInfo,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use tantalum_core::machine::SmcRegisters;

use crate::{
    console,
    el3::{
        self, FFA_ERROR, FFA_INTERRUPT, FFA_MSG_SEND_DIRECT_REQ, FFA_MSG_SEND_DIRECT_RESP, FFA_NORMAL_WORLD_RESUME,
        FFA_YIELD, code,
    },
    entry::AFFINITY,
    layout,
    pe::Core,
    sysreg,
};

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    stop(format_args!("{info}"))
}

/// An exception of the SPMC itself that nobody expects; `kind` is the vector's place in the table, 16 after a stack
/// overflow.
pub extern "C" fn unexpected(kind: u32, stack: u64) -> ! {
    let what = match kind {
        16 => "stack overflow",
        0 | 4 => "synchronous exception",
        1 | 5 => "IRQ",
        2 | 6 => "FIQ",
        _ => "SError",
    };
    stop(format_args!(
        "{what} in the SPMC: ESR {:#x} ELR {:#x} FAR {:#x} SP {stack:#x}",
        sysreg::esr_el2::read(),
        elr(),
        sysreg::far_el2::read(),
    ))
}

fn elr() -> u64 {
    let value: u64;
    // SAFETY: reads a system register.
    unsafe { asm!("mrs {}, elr_el2", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

/// Reports, and serves the PE no longer: whatever the normal world asks of it gets FFA_ERROR with ABORTED.
fn stop(what: fmt::Arguments<'_>) -> ! {
    let affinity = sysreg::mpidr_el1::read() & AFFINITY;
    console::print(format_args!(
        "\ntantalum: BUG on PE {affinity:#x}, which stops: {what}\n"
    ));
    let core: *mut Core = ptr::with_exposed_provenance_mut(layout::address(sysreg::tpidr_el2::read()));
    // SAFETY: TPIDR_EL2 is 0 or the address of this PE's Core, which lives for ever; whoever had a reference to it will
    // not run again.
    if let Some(core) = unsafe { core.as_mut() } {
        core.restore_normal_world();
    }
    fail(code::ABORTED)
}

/// The boot PE has told EL3 that the SPMC is ready.
pub static READY: AtomicBool = AtomicBool::new(false);

/// What a PE that serves nobody answers.
///
/// EL3's own requests (`FFA_VERSION`, a PE that goes off) get the response that they wait for: TF-A (2.12) forwards an
/// FFA_ERROR to the normal world in the midst of its own call, and then is lost. It also takes every FFA_ERROR of a boot
/// PE that never was ready for the end of an initialisation, and returns to a stack that is long gone: what it forwards
/// from the normal world gets FFA_YIELD then, which at least is no success.
fn answer(request: &SmcRegisters, code: u64) -> SmcRegisters {
    const EL3: u64 = 0xffff;
    const FRAMEWORK: u64 = 1 << 31;
    const VERSION_REQUEST: u64 = 8;
    const VERSION_RESPONSE: u64 = 9;
    const POWER_RESPONSE: u64 = 2;
    const NOT_SUPPORTED: u64 = 0xffff_ffff;
    let [function, endpoints, message, ..] = *request;
    let sender = endpoints >> 16 & 0xffff;
    let mut answer = [0; 18];
    if function == FFA_INTERRUPT {
        answer[0] = FFA_NORMAL_WORLD_RESUME;
    } else if function == FFA_MSG_SEND_DIRECT_REQ && sender == EL3 {
        answer[0] = FFA_MSG_SEND_DIRECT_RESP;
        answer[1] = (endpoints & 0xffff) << 16 | sender;
        (answer[2], answer[3]) = match message & 0xff {
            VERSION_REQUEST => (FRAMEWORK | VERSION_RESPONSE, NOT_SUPPORTED),
            _ => (FRAMEWORK | POWER_RESPONSE, 0),
        };
    } else if READY.load(Ordering::Relaxed) {
        answer[0] = FFA_ERROR;
        answer[2] = code;
    } else {
        answer[0] = FFA_YIELD;
    }
    answer
}

/// Reports failure to EL3, and then answers whatever comes.
pub fn fail(code: u64) -> ! {
    let mut registers = el3::error(code);
    loop {
        registers = answer(&registers, code);
        el3::call(&mut registers);
    }
}
