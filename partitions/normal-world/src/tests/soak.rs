//! Random calls and interrupts on all cores at once, for as long as QEMU's `opt/tantalum/soak` says, in seconds.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tantalum_agent::{CLOCK, CLOCK_DEVICE, Command, DONE, EXITS, FAILED, LINE, PLAIN, QUEUED};
use tantalum_partition::{
    arch,
    ffa::{Error, FfaError, Outcome as Answer, SMC},
    normal_world::{fw_cfg, gic, timer},
    println,
};

use super::tests;
use crate::{
    clock::{CLEAR, fire},
    cores::{self, Deadline},
    report::{Outcome, Verdict, check, expect_eq},
    talk::{command, expect_alive},
    world::World,
};

tests! { "soak":
    random_calls_and_interrupts_lose_nothing,
}

/// When to stop, by the counter, and the partitions to talk to.
static END: AtomicU64 = AtomicU64::new(0);
static PARTITIONS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
/// Calls that were made.
static CALLS: AtomicU64 = AtomicU64::new(0);

/// A generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// For how many seconds; `None` when nobody wants it.
fn seconds() -> Option<u64> {
    let mut text = [0; 8];
    let text = fw_cfg::read("opt/tantalum/soak", &mut text)?;
    core::str::from_utf8(text).ok()?.trim_matches('\0').parse().ok()
}

fn random_calls_and_interrupts_lose_nothing(world: &World) -> Outcome {
    let Some(seconds) = seconds() else {
        return Err(Verdict::Skipped("make soak does it"));
    };
    let clock = world.need(CLOCK)?;
    for (slot, uuid) in PARTITIONS.iter().zip([CLOCK, LINE, QUEUED, PLAIN, EXITS]) {
        let partition = world.need(uuid)?;
        slot.store(u64::from(partition.id), Relaxed);
        if uuid != CLOCK {
            let _ = command(partition, Command::Listen, &[])?;
        }
    }
    END.store(arch::counter() + arch::ticks(seconds * 1000), Relaxed);
    for core in 1..world.cores {
        cores::run_on(core, hammer, core as u64)?;
    }
    let (fired, heard) = rings(world, clock.id)?;
    let mut failed = 0;
    for core in 1..world.cores {
        failed += cores::wait_for(core, 60_000)?;
    }
    println!(
        "soak: {} calls, {fired} interrupts of the clock in {seconds} s",
        CALLS.load(Relaxed)
    );
    expect_eq!(failed, 0, "answers that nobody can explain");
    expect_eq!(heard, fired, "interrupts that the clock's owner has heard");
    for uuid in [CLOCK, LINE, QUEUED, PLAIN, EXITS] {
        expect_alive(world.need(uuid)?)?;
    }
    Ok(())
}

/// Has the clock ring again and again, its interrupt on one core after the other; returns how often, and how often it was heard.
fn rings(world: &World, id: u16) -> Outcome<(u64, u64)> {
    let clock = world.need(CLOCK)?;
    let (base, interrupt) = CLOCK_DEVICE;
    let _ = command(clock, Command::Listen, &[u64::from(interrupt), 0, base + CLEAR, 1])?;
    let all = || command(clock, Command::Heard, &[]).map_or(0, |words| words[5]);
    let mut random = Random(u64::from(id) | 1 << 40);
    let start = all();
    let mut fired = 0;
    while arch::counter() < END.load(Relaxed) {
        if random.below(8) == 0 {
            let core = random.below(world.cores as u64);
            let _ = command(clock, Command::Route, &[u64::from(interrupt), core])?;
        }
        fire(0)?;
        fired += 1;
        // One is taken before the next one comes: they would be one.
        let heard = Deadline::after(10_000).wait_until(|| all() >= start + fired);
        check!(heard, "interrupt {fired} of the clock to be heard within 10 s");
    }
    let _ = command(clock, Command::Route, &[u64::from(interrupt), 0])?;
    Ok((fired, all() - start))
}

/// Any of the partitions.
fn any(random: &mut Random) -> u64 {
    let place = usize::try_from(random.below(5)).unwrap_or(0);
    PARTITIONS.get(place).map_or(0, |id| id.load(Relaxed))
}

/// Random calls of a core, until it is time to stop; returns how many answers were wrong.
fn hammer(_: usize, core: u64) -> u64 {
    let mut random = Random(core << 32 | 0x9e37_79b9);
    let (base, interrupt) = CLOCK_DEVICE;
    let clock = PARTITIONS[0].load(Relaxed);
    let listen = Command::Listen.five_words(&[u64::from(interrupt), 0, base + CLEAR, 1]);
    let mut failed = u64::from(!call(core, clock, listen, |words| words[0] == DONE));
    gic::enable(timer::INTERRUPT);
    while arch::counter() < END.load(Relaxed) {
        if random.below(3) == 0 {
            timer::start_in(random.below(arch::ticks(3)));
        }
        let to = any(&mut random);
        let echo = [1, random.below(1 << 60), 3, 4, core];
        let right = match random.below(4) {
            0 => call(core, to, Command::Spin.five_words(&[random.below(3)]), |words| {
                words[0] == DONE
            }),
            1 => {
                let other = any(&mut random);
                let words = [Command::Forward.word(), other, 1, 2, 3];
                call(core, to, words, |words| words[..3] == [1, 2, 3] || words[0] == FAILED)
            }
            _ => call(core, to, echo, |words| *words == echo),
        };
        failed += u64::from(!right);
        CALLS.fetch_add(1, Relaxed);
    }
    timer::stop();
    gic::disable(timer::INTERRUPT);
    while gic::take().is_some() {}
    failed
}

/// A message from a core, and whether its answer is right. One that is busy with another message does not count: perhaps it was given up by who
/// had sent that, then it is brought to its end.
fn call(core: u64, id: u64, words: [u64; 5], is_right: impl Fn(&[u64; 5]) -> bool) -> bool {
    let id = (id & 0xffff) as u16;
    let mut answer = SMC.direct_req64(0, id, words);
    let is_pinned = u64::from(id) == PARTITIONS[0].load(Relaxed);
    // Somebody else's message is being run to its end; or perhaps ours, by another core that found it preempted.
    let mut given_up = false;
    loop {
        match answer {
            Ok(Answer::Response(response)) if !given_up => {
                return response.payload().first_chunk().is_some_and(&is_right);
            }
            Ok(Answer::Interrupted { partition, context } | Answer::Yielded { partition, context }) => {
                given_up |= !is_pinned;
                timer::stop();
                while gic::take().is_some() {}
                answer = SMC.run(partition, context);
            }
            Err(Error::Ffa(FfaError::Busy)) if !given_up => {
                given_up = true;
                let context = if is_pinned { core } else { 0 };
                answer = SMC.run(id, (context & 7) as u16);
            }
            _ => return given_up,
        }
    }
}
