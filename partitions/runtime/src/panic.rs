//! The end of a program that can't go on.

use core::{
    panic::PanicInfo,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{arch, boot, context, ffa, normal_world::psci, println};

/// Prints why, and leaves: a partition by `FFA_ABORT`, or by `FFA_ERROR` while it initialises; the normal world by turning the machine off.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    static PANICKING: AtomicBool = AtomicBool::new(false);

    // A panic while printing the first one's message would go on forever.
    if !PANICKING.load(Ordering::Relaxed) {
        PANICKING.store(true, Ordering::Relaxed);
        println!("{info}");
    }
    if arch::is_normal_world() {
        println!("tantalum: the normal world panicked");
        psci::system_off();
    }
    if context::is_initialised() {
        let _ = ffa::SMC.abort();
    } else {
        boot::initialisation_failed();
    }
    // The SPM does not know the call: the best that is left is to do no more harm.
    arch::halt()
}
