//! The end of a PE: a bug of the SPMC. Nothing that a partition or the normal world does may lead here.
#![expect(unsafe_code, reason = "looks for the PE's Core by its address")]

use core::{arch::asm, fmt, panic::PanicInfo, ptr};

use crate::{
    console,
    el3::{self, FFA_INTERRUPT, FFA_NORMAL_WORLD_RESUME, code},
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

/// Answers everything that comes with FFA_ERROR.
pub fn fail(code: u64) -> ! {
    let mut registers = el3::error(code);
    loop {
        if registers[0] == FFA_INTERRUPT {
            registers = [0; 18];
            registers[0] = FFA_NORMAL_WORLD_RESUME;
            el3::call(&mut registers);
        } else {
            registers = el3::error(code);
        }
    }
}
