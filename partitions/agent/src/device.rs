//! What a context does with its interrupts.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use tantalum_partition::{
    arch,
    context::{self, MAX_CONTEXTS},
    interrupts::{self, Kind, MANAGED_EXIT},
    probe,
};

use crate::DONE;

/// What a context has heard.
#[derive(Debug)]
struct Heard {
    count: AtomicU64,
    last: AtomicU64,
    at: AtomicU64,
    exits: AtomicU64,
    wrong: AtomicU64,
    device: AtomicU64,
    /// The normal world wants the processor.
    leave: AtomicBool,
}

impl Heard {
    const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            last: AtomicU64::new(0),
            at: AtomicU64::new(0),
            exits: AtomicU64::new(0),
            wrong: AtomicU64::new(0),
            device: AtomicU64::new(0),
            leave: AtomicBool::new(false),
        }
    }
}

static HEARD: [Heard; MAX_CONTEXTS] = [const { Heard::new() }; MAX_CONTEXTS];

/// What makes the device quiet: address, value, and the interrupt that is not one of the SPM's, with its kind.
static QUENCH: (AtomicU64, AtomicU32) = (AtomicU64::new(0), AtomicU32::new(0));
/// No interrupt is ever handled to the end.
static STUCK: AtomicBool = AtomicBool::new(false);
static AS_FIQ: AtomicU64 = AtomicU64::new(0);

/// Makes a device quiet: writes a word of 32 bits at an address, unless that is 0.
pub fn quench(address: u64, value: u32) {
    if address != 0 {
        let _ = probe::write32(address, value);
    }
}

/// Makes the device quiet that [`listen`] was told of.
pub fn hush() {
    quench(QUENCH.0.load(Ordering::Relaxed), QUENCH.1.load(Ordering::Relaxed));
}

fn handle(kind: Kind) {
    let heard = &HEARD[context::index()];
    while let Some(id) = interrupts::take() {
        heard.count.fetch_add(1, Ordering::Relaxed);
        heard.last.store(u64::from(id), Ordering::Relaxed);
        heard.at.store(arch::counter(), Ordering::Relaxed);
        if id == MANAGED_EXIT {
            heard.exits.fetch_add(1, Ordering::Relaxed);
            heard.leave.store(true, Ordering::Relaxed);
        } else {
            let fiq = AS_FIQ.load(Ordering::Relaxed) >> (id % 64) & 1 != 0;
            heard
                .wrong
                .fetch_add(u64::from(fiq != (kind == Kind::Fiq)), Ordering::Relaxed);
            hush();
        }
        if STUCK.load(Ordering::Relaxed) {
            probe::spin_forever();
        }
        interrupts::deactivate(id);
        if id != MANAGED_EXIT {
            // Last: the next one may come now.
            heard.device.fetch_add(1, Ordering::Release);
        }
    }
}

/// Carries out [`Command::Listen`](crate::Command::Listen).
pub fn listen(id: u64, fiq: bool, address: u64, value: u64, answer: &mut [u64; 14]) {
    QUENCH.0.store(address, Ordering::Relaxed);
    QUENCH
        .1
        .store(u32::try_from(value & 0xffff_ffff).unwrap_or(0), Ordering::Relaxed);
    let kind = if fiq { Kind::Fiq } else { Kind::Irq };
    AS_FIQ.store(u64::from(fiq) << (id % 64), Ordering::Relaxed);
    if arch::exception_level() == 0 {
        // The SPM tells of them.
        return;
    }
    interrupts::listen(handle);
    if let Ok(id @ 1..) = u32::try_from(id)
        && !interrupts::enable(id, true, kind)
    {
        answer[0] = crate::FAILED;
    }
}

/// Carries out [`Command::Stick`](crate::Command::Stick) for interrupts.
pub fn stick() {
    STUCK.store(true, Ordering::Relaxed);
}

/// Carries out [`Command::Heard`](crate::Command::Heard).
pub fn heard(answer: &mut [u64; 14]) {
    let heard = &HEARD[context::index()];
    let words = [&heard.count, &heard.last, &heard.at, &heard.exits, &heard.wrong];
    answer[0] = DONE;
    answer[6] = HEARD.iter().map(|heard| heard.device.load(Ordering::Relaxed)).sum();
    answer[1..6]
        .iter_mut()
        .zip(words)
        .for_each(|(slot, word)| *slot = word.load(Ordering::Relaxed));
}

/// Whether the normal world wants the processor; asked once.
pub fn is_to_leave() -> bool {
    HEARD[context::index()].leave.swap(false, Ordering::Relaxed)
}
