//! Other cores: on, at work, off.
//!
//! A core without work sleeps until it gets a software-generated interrupt, and takes up work only when it has taken that interrupt: none is left
//! pending that would preempt a partition later.

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use spin::mutex::TicketMutex;

use super::{gic, psci};
use crate::{arch, context::MAX_CONTEXTS, println};

/// The interrupt that wakes a core up for work.
const WAKE: u32 = 2;

/// How long a core may take to come or go, in milliseconds.
const PATIENCE: u64 = 10_000;

const OFF: u8 = 0;
const STARTING: u8 = 1;
const IDLE: u8 = 2;
const BUSY: u8 = 3;
const LEAVING: u8 = 4;

/// What a core can be asked to do: a function of its own number and an argument.
pub type Job = fn(usize, u64) -> u64;

#[derive(Debug)]
struct Core {
    state: AtomicU8,
    mpidr: AtomicU64,
    job: TicketMutex<Option<(Job, u64)>>,
    result: AtomicU64,
}

static CORES: [Core; MAX_CONTEXTS] = [const {
    Core {
        state: AtomicU8::new(OFF),
        mpidr: AtomicU64::new(0),
        job: TicketMutex::new(None),
        result: AtomicU64::new(0),
    }
}; MAX_CONTEXTS];

/// A moment after which to stop waiting.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(u64);

impl Deadline {
    /// So many milliseconds from now.
    #[must_use]
    pub fn after(milliseconds: u64) -> Self {
        Self(arch::counter() + arch::ticks(milliseconds))
    }

    /// Whether it has come.
    #[must_use]
    pub fn has_passed(self) -> bool {
        arch::counter() >= self.0
    }

    /// Waits until `condition` holds; `false` if it does not in time.
    #[must_use]
    pub fn wait_until(self, mut condition: impl FnMut() -> bool) -> bool {
        while !condition() {
            if self.has_passed() {
                return condition();
            }
            core::hint::spin_loop();
        }
        true
    }
}

/// Turns all other cores on; returns how many there are then, with this one, which is number 0.
#[must_use]
pub fn start() -> usize {
    CORES[0].mpidr.store(arch::mpidr(), Ordering::Relaxed);
    let mut count = 1;
    for (_, mpidr) in gic::cores().filter(|(_, mpidr)| *mpidr != arch::mpidr()) {
        if count == MAX_CONTEXTS {
            println!("tantalum: there are more cores than the {MAX_CONTEXTS} that this program can use");
            break;
        }
        CORES[count].mpidr.store(mpidr, Ordering::Relaxed);
        if !turn_on(count) {
            break;
        }
        count += 1;
    }
    count
}

/// Turns a core on and waits until it is there.
#[must_use]
pub fn turn_on(index: usize) -> bool {
    let Some(core) = CORES.get(index) else { return false };
    let mpidr = core.mpidr.load(Ordering::Relaxed);
    core.state.store(STARTING, Ordering::Release);
    if let Err(error) = psci::cpu_on(mpidr, index) {
        println!("tantalum: core {index} ({mpidr:#x}) does not come on: {error}");
        core.state.store(OFF, Ordering::Release);
        return false;
    }
    let came = Deadline::after(PATIENCE).wait_until(|| core.state.load(Ordering::Acquire) == IDLE);
    if !came {
        println!("tantalum: core {index} ({mpidr:#x}) was turned on and is not heard of");
    }
    came
}

/// Turns a core off and waits until the firmware says so.
#[must_use]
pub fn turn_off(index: usize) -> bool {
    let Some(core) = CORES.get(index) else { return false };
    if core
        .state
        .compare_exchange(IDLE, LEAVING, Ordering::AcqRel, Ordering::Relaxed)
        .is_err()
    {
        return false;
    }
    let mpidr = core.mpidr.load(Ordering::Relaxed);
    gic::send(WAKE, mpidr);
    let gone = Deadline::after(PATIENCE).wait_until(|| psci::is_off(mpidr));
    if gone {
        core.state.store(OFF, Ordering::Release);
    }
    gone
}

/// Gives a core something to do; `false` if it is off or at work.
#[must_use]
pub fn run_on(index: usize, job: Job, argument: u64) -> bool {
    let Some(core) = CORES
        .get(index)
        .filter(|core| core.state.load(Ordering::Acquire) == IDLE)
    else {
        return false;
    };
    *core.job.lock() = Some((job, argument));
    core.state.store(BUSY, Ordering::Release);
    gic::send(WAKE, core.mpidr.load(Ordering::Relaxed));
    true
}

/// Waits until a core has done what it was given; returns what the function returned, or `None` if it takes longer.
#[must_use]
pub fn wait_for(index: usize, milliseconds: u64) -> Option<u64> {
    let core = CORES.get(index)?;
    let done = Deadline::after(milliseconds).wait_until(|| core.state.load(Ordering::Acquire) == IDLE);
    done.then(|| core.result.load(Ordering::Relaxed))
}

/// Whether a core is on.
#[must_use]
pub fn is_on(index: usize) -> bool {
    CORES
        .get(index)
        .is_some_and(|core| core.state.load(Ordering::Acquire) != OFF)
}

/// Whether a core has done what it was given.
#[must_use]
pub fn is_idle(index: usize) -> bool {
    CORES[index].state.load(Ordering::Acquire) == IDLE
}

/// What a core does all its life.
pub fn work(index: usize) -> ! {
    let core = &CORES[index];
    gic::enable(WAKE);
    core.state.store(IDLE, Ordering::Release);
    loop {
        arch::wait_for_interrupt();
        if !core::iter::from_fn(gic::take).any(|id| id == WAKE) {
            continue;
        }
        if core.state.load(Ordering::Acquire) == LEAVING {
            let refusal = psci::cpu_off();
            println!("tantalum: core {index} can't be turned off: {refusal:?}");
            core.state.store(IDLE, Ordering::Release);
        }
        if let Some((job, argument)) = core.job.lock().take() {
            core.result.store(job(index, argument), Ordering::Relaxed);
            core.state.store(IDLE, Ordering::Release);
        }
    }
}
