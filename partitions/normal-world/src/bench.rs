//! Measures calls, in instructions: to be run under `-icount shift=0,sleep=off -smp 1`, where one tick of the counter is one instruction.

mod memory;

use tantalum_agent::{BENCH, Command, DONE};
use tantalum_partition::{
    arch,
    ffa::{Partition, Registers, SMC, registers},
    measure,
    normal_world::{gic, timer},
    println,
};

use crate::{
    clock,
    report::{Outcome, Score, expect_eq},
    talk::{self, DIRECT_REQ, DIRECT_REQ64, DIRECT_RESP, FEATURES, INTERRUPT, SPM_ID_GET, SUCCESS},
    world::World,
};

/// Calls before the ones that count.
const WARM_UP: usize = 8;
/// Calls of which the median counts.
const REPEATS: usize = 9;

/// Measures everything.
pub fn run(world: &World, score: &mut Score) {
    score.record("bench::normal_world", normal_world(world));
    if world.find(BENCH[1]).is_some() {
        score.record("bench::partitions", partitions(world));
        score.record("bench::notifications", notifications(world));
    }
    score.record("bench::interrupt", interrupt(world));
    if world.find(BENCH[1]).is_some() {
        score.record("bench::secure_interrupt", secure_interrupt(world));
    }
    // Last: it leaves shares open.
    score.record("bench::memory", memory::run(world));
}

/// From the moment that the clock interrupts the normal world, for a partition that waits, to the moment that the normal world goes on: the write that
/// makes it do so is counted with it.
fn secure_interrupt(world: &World) -> Outcome {
    let partition = world.need(BENCH[0])?;
    let listen = SMC.direct_req64(0, partition.id, Command::Listen.five_words(&[]));
    let listens = talk::finish(listen, "listening to the clock")?;
    expect_eq!(listens.payload()[0], DONE, "that it listens");
    let mut ticks = [0; REPEATS];
    for slot in &mut ticks {
        let start = arch::counter();
        clock::fire(2)?;
        let overhead = arch::counter().saturating_sub(start);
        let start = arch::counter();
        clock::fire(0)?;
        *slot = arch::counter().saturating_sub(start).saturating_sub(overhead);
    }
    ticks.sort_unstable();
    println!("bench secure_interrupt {}", ticks[REPEATS / 2]);
    Ok(())
}

/// How long the timer and the partition run, in milliseconds of the counter's time.
const TIMER: u64 = 1;
const SPIN: u64 = 2;

/// From the moment that the timer's interrupt comes in a partition to the moment that the normal world goes on.
fn interrupt(world: &World) -> Outcome {
    let partition = world.need(BENCH[0])?;
    let [a, b, c, d, e] = Command::Spin.five_words(&[SPIN]);
    let call = registers(&[DIRECT_REQ64, talk::to(partition), 0, a, b, c, d, e]);
    let mut ticks = [0; REPEATS];
    gic::enable(timer::INTERRUPT);
    for slot in &mut ticks {
        let deadline = timer::start(TIMER);
        let answer = measure::normal_world_call(&call).1;
        *slot = arch::counter().saturating_sub(deadline);
        let _ = gic::take();
        timer::stop();
        expect_eq!(
            answer[..2],
            [INTERRUPT, u64::from(partition.id) << 16],
            "x0 and x1 of the interruption"
        );
        let _ = talk::finish(SMC.run(partition.id, 0), "running the partition again")?;
    }
    gic::disable(timer::INTERRUPT);
    ticks.sort_unstable();
    println!("bench ns_interrupt {}", ticks[REPEATS / 2]);
    Ok(())
}

/// The median of several measurements of one call, and what it returned.
fn median(call: &Registers) -> (u64, Registers) {
    let mut ticks = [0; REPEATS];
    let mut answer = [0; 18];
    for _ in 0..WARM_UP {
        answer = measure::normal_world_call(call).1;
    }
    ticks
        .iter_mut()
        .for_each(|slot| *slot = measure::normal_world_call(call).0);
    ticks.sort_unstable();
    (ticks[REPEATS / 2], answer)
}

fn normal_world(world: &World) -> Outcome {
    let partition = world.need(BENCH[0])?;
    let (ticks, answer) = median(&registers(&[SPM_ID_GET]));
    expect_eq!(answer[0], SUCCESS, "x0 after FFA_SPM_ID_GET");
    println!("bench spm_id_get_nwd {ticks}");
    let (ticks, answer) = median(&registers(&[FEATURES, FEATURES]));
    expect_eq!(answer[0], SUCCESS, "x0 after FFA_FEATURES");
    println!("bench features_nwd {ticks}");
    let (ticks, answer) = median(&registers(&[DIRECT_REQ, talk::to(partition)]));
    expect_eq!(answer[0], DIRECT_RESP, "x0 after FFA_MSG_SEND_DIRECT_REQ");
    println!("bench direct_message_nwd_sp {ticks}");
    Ok(())
}

/// Has a partition make a call on notifications with another; returns the instructions that it takes, and x2 of its answer.
fn notification(partition: Partition, peer: Partition, step: u64) -> Outcome<(u64, u64)> {
    let words = Command::MeasureNotification.five_words(&[u64::from(peer.id), step]);
    let response = talk::finish(SMC.direct_req64(0, partition.id, words), "a measurement in a partition")?;
    let [done, ticks, function, value, ..] = *response.payload() else {
        unreachable!("a message has five words")
    };
    expect_eq!(
        (done, function),
        (DONE, SUCCESS),
        "that it was done, and x0 after the call on notifications"
    );
    Ok((ticks, value))
}

/// One partition sets a notification, the other gets it.
fn notifications(world: &World) -> Outcome {
    let (sender, receiver) = (world.need(BENCH[0])?, world.need(BENCH[1])?);
    let (bind, set, get) = (0, 1, 2);
    let _ = notification(receiver, sender, bind)?;
    let mut ticks = [0; REPEATS];
    for slot in &mut ticks {
        let (sent, _) = notification(sender, receiver, set)?;
        let (got, bits) = notification(receiver, sender, get)?;
        expect_eq!(bits, 1, "the notifications that are pending");
        *slot = sent + got;
    }
    ticks.sort_unstable();
    println!("bench notification_sp_sp {}", ticks[REPEATS / 2]);
    Ok(())
}

fn partitions(world: &World) -> Outcome {
    let (from, to) = (world.need(BENCH[0])?, world.need(BENCH[1])?);
    let words = Command::Measure.five_words(&[u64::from(to.id)]);
    let response = talk::finish(SMC.direct_req64(0, from.id, words), "a measurement in a partition")?;
    let [done, message, id_get, function, ..] = *response.payload() else {
        unreachable!("a message has five words")
    };
    expect_eq!(
        (done, function),
        (DONE, DIRECT_RESP),
        "that it was done, and x0 after FFA_MSG_SEND_DIRECT_REQ"
    );
    println!("bench direct_message_sp_sp {message}");
    println!("bench id_get_sp {id_get}");
    Ok(())
}
