//! Interrupts of the timer and of other contexts: what a partition has seen of them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tantalum_partition::{
    arch,
    context::{self, MAX_CONTEXTS},
    ffa::Registers,
    interrupts::{self, Kind},
    timer,
};

use crate::{DONE, FAILED, device};

/// Interrupts from here on are devices'.
const FIRST_SHARED: u32 = 32;

/// What [`Command::Alarm`](crate::Command::Alarm) may ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Alarm {
    /// Set the timer to so many microseconds from now, and respond; each time that the context is then run for it, again, so many times in all.
    Set = 0,
    /// Set the timer and spin until its interrupt is pending, 2 s longer at most. Answers [`DONE`], the interrupt that was taken, by how many
    /// ticks it was late, the timer's status, the interrupt that is taken next, without the timer having been touched, and what is pending when it is
    /// turned off.
    Spin = 1,
    /// Answers [`DONE`], how often the context was run for an interrupt, the last interrupt it was told of, the last that it took, by how many ticks
    /// the last alarm was late, and the number of alarms. Begins to count anew.
    Report = 2,
    /// Enable the interrupt of other contexts.
    Listen = 3,
    /// Send it to a context. Answers [`DONE`] and whether there is that context.
    Send = 4,
    /// Spin until some interrupt is pending, so many milliseconds at most. Answers [`DONE`] and the interrupt, 0 for none.
    Await = 5,
    /// Set the timer so that its time has come long since, at each alarm again, and respond.
    Storm = 6,
}

impl Alarm {
    const ALL: [Self; 7] = [
        Self::Set,
        Self::Spin,
        Self::Report,
        Self::Listen,
        Self::Send,
        Self::Await,
        Self::Storm,
    ];
}

#[derive(Debug)]
struct Seen {
    runs: AtomicU64,
    told: AtomicU64,
    taken: AtomicU64,
    late: AtomicU64,
    alarms: AtomicU64,
    /// Of the alarm that is set: when, how long in ticks, how many more.
    deadline: AtomicU64,
    period: AtomicU64,
    left: AtomicU64,
}

static SEEN: [Seen; MAX_CONTEXTS] = [const {
    Seen {
        runs: AtomicU64::new(0),
        told: AtomicU64::new(0),
        taken: AtomicU64::new(0),
        late: AtomicU64::new(0),
        alarms: AtomicU64::new(0),
        deadline: AtomicU64::new(0),
        period: AtomicU64::new(0),
        left: AtomicU64::new(0),
    }
}; MAX_CONTEXTS];

fn microseconds(count: u64) -> u64 {
    arch::counter_frequency().saturating_mul(count) / 1_000_000
}

/// Takes note of the interrupt that the result of a call tells of, and handles those that are pending.
pub fn note(event: &Registers) {
    let Some(told) = interrupts::told(event) else {
        return;
    };
    let seen = &SEEN[context::index()];
    seen.runs.fetch_add(1, Relaxed);
    seen.told.store(u64::from(told), Relaxed);
    // At S-EL0 it was taken with the result.
    let mut next = if arch::exception_level() == 0 {
        Some(told)
    } else {
        interrupts::take()
    };
    while let Some(interrupt) = next {
        seen.taken.store(u64::from(interrupt), Relaxed);
        if interrupt == interrupts::TIMER {
            alarm(seen);
        } else if interrupt >= FIRST_SHARED {
            device::hush();
        }
        interrupts::deactivate(interrupt);
        next = interrupts::take();
    }
}

fn alarm(seen: &Seen) {
    let now = arch::counter();
    seen.late.store(now.wrapping_sub(seen.deadline.load(Relaxed)), Relaxed);
    seen.alarms.fetch_add(1, Relaxed);
    let left = seen.left.load(Relaxed);
    if left == 0 {
        timer::stop();
        return;
    }
    seen.left.store(left - 1, Relaxed);
    set(seen);
}

fn set(seen: &Seen) {
    let period = seen.period.load(Relaxed);
    let deadline = if period == 0 { 0 } else { arch::counter() + period };
    seen.deadline.store(deadline, Relaxed);
    timer::set(deadline);
}

/// Carries out a command.
pub fn obey(what: u64, value: u64, count: u64, answer: &mut [u64; 14]) {
    let seen = &SEEN[context::index()];
    match Alarm::ALL.into_iter().find(|alarm| *alarm as u64 == what) {
        Some(Alarm::Set) => begin(seen, microseconds(value), count.saturating_sub(1)),
        Some(Alarm::Storm) => begin(seen, 0, count),
        Some(Alarm::Spin) => spin(microseconds(value), answer),
        Some(Alarm::Report) => {
            for (word, counter) in
                answer[1..]
                    .iter_mut()
                    .zip([&seen.runs, &seen.told, &seen.taken, &seen.late, &seen.alarms])
            {
                *word = counter.swap(0, Relaxed);
            }
        }
        Some(Alarm::Listen) => answer[1] = u64::from(interrupts::enable(interrupts::IPI, true, Kind::Irq)),
        Some(Alarm::Send) => answer[1] = u64::from(interrupts::send(usize::try_from(value).unwrap_or(usize::MAX))),
        Some(Alarm::Await) => {
            let end = arch::counter() + arch::ticks(value);
            while arch::counter() < end && answer[1] == 0 {
                if interrupts::is_pending() {
                    answer[1] = u64::from(take_and_end());
                }
            }
        }
        None => answer[0] = FAILED,
    }
}

/// Takes an interrupt that needs no handling, 0 for none.
fn take_and_end() -> u32 {
    let taken = interrupts::take();
    taken.inspect(|id| {
        interrupts::deactivate(*id);
    });
    taken.unwrap_or(0)
}

fn begin(seen: &Seen, period: u64, left: u64) {
    seen.period.store(period, Relaxed);
    seen.left.store(left, Relaxed);
    interrupts::enable(interrupts::TIMER, true, Kind::Irq);
    set(seen);
}

fn spin(ticks: u64, answer: &mut [u64; 14]) {
    interrupts::enable(interrupts::TIMER, true, Kind::Irq);
    let deadline = timer::set_in(ticks);
    let end = deadline + arch::ticks(2000);
    while arch::counter() < end {
        if arch::exception_level() != 0 && !interrupts::is_pending() {
            continue;
        }
        let Some(first) = interrupts::take() else { continue };
        let late = arch::counter().wrapping_sub(deadline);
        interrupts::deactivate(first);
        let [status, ..] = timer::read();
        let again = take_and_end();
        timer::stop();
        let rest = take_and_end();
        answer[..6].copy_from_slice(&[DONE, u64::from(first), late, status, u64::from(again), u64::from(rest)]);
        return;
    }
    timer::stop();
    answer[0] = FAILED;
}
