//! All cores at once, and cores that go and come back.

use tantalum_agent::{Command, DONE, ECHO, FAILED, FORWARD, RELAY};
use tantalum_partition::{
    arch,
    ffa::{Error, FfaError, Outcome as Answer, SMC},
    normal_world::{gic, timer},
    println,
};

use super::{Test, tests};
use crate::{
    cores,
    report::{Outcome, Verdict, check, expect_eq},
    talk::{expect_alive, finish},
    world::World,
};

tests! { "cores":
    all_are_on,
    each_has_its_own_context,
    messages_from_all_to_a_pinned_partition,
    messages_from_all_to_a_migrating_partition,
    migrating_partition_is_reached_from_each,
    messages_from_all_to_both,
    off_and_on_again,
    messages_and_interrupts_everywhere,
    off_and_on_while_others_work,
}

/// Those that need no partition but echo.
pub const PINNED: &[Test] = &[
    Test::new("cores::each_has_its_own_context", each_has_its_own_context),
    Test::new(
        "cores::messages_from_all_to_a_pinned_partition",
        messages_from_all_to_a_pinned_partition,
    ),
    Test::new("cores::off_and_on_again", off_and_on_again),
];

/// Messages that each core sends.
const MESSAGES: u64 = 500;

fn all_are_on(world: &World) -> Outcome {
    for index in 1..world.cores {
        check!(cores::is_on(index), "core {index} to be on");
    }
    Ok(())
}

/// Asks echo which context it is, and how it found its registers; the answer is 0 if it is that of this core, and they were clean.
fn check_context(core: usize, id: u64) -> u64 {
    let answer = SMC.direct_req2(0, (id & 0xffff) as u16, ECHO, Command::Status.words(&[]));
    let Ok(Answer::Response(response)) = answer else {
        return 8;
    };
    let words = response.payload();
    u64::from(words[0] != DONE)
        | u64::from(words[1] != core as u64) << 1
        | u64::from(words[2] & 0xff != core as u64) << 2
        | u64::from(words[10] != 0) << 4
        | u64::from(words[11] != 0) << 5
}

fn each_has_its_own_context(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    cores::run_on_all(
        world.cores,
        check_context,
        u64::from(echo.id),
        10_000,
        |core, result| {
            expect_eq!(
                result,
                0,
                "core {core}: 1 no answer, 2 wrong context, 4 wrong MPIDR_EL1, 8 refused, 10 x5-x30 or 20 SIMD registers not zero"
            );
            Ok(())
        },
    )
}

/// Sends messages; returns how many came back right, and in the upper half how many were refused as busy. Anything else makes it stop.
fn exchange(core: usize, id: u64) -> u64 {
    let mut right = 0;
    let mut busy = 0;
    for number in 0..MESSAGES {
        let words = [number, core as u64, number * 3, u64::MAX - number, arch::counter()];
        let answer = SMC.direct_req64(0, (id & 0xffff) as u16, words);
        match answer {
            Err(Error::Ffa(FfaError::Busy)) => busy += 1,
            other => match finish(other, "one of many messages") {
                Ok(response) if response.payload() == words => right += 1,
                _ => break,
            },
        }
    }
    right | busy << 32
}

fn messages_from_all_to_a_pinned_partition(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    cores::run_on_all(world.cores, exchange, u64::from(echo.id), 60_000, |core, result| {
        expect_eq!(
            result,
            MESSAGES,
            "core {core}: right answers, and in the upper half refusals"
        );
        Ok(())
    })
}

fn messages_from_all_to_a_migrating_partition(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let mut total = 0;
    cores::run_on_all(world.cores, exchange, u64::from(forward.id), 60_000, |core, result| {
        let (right, busy) = (result & 0xffff_ffff, result >> 32);
        total += right;
        expect_eq!(
            right + busy,
            MESSAGES,
            "core {core}: messages that came back or found the partition busy"
        );
        Ok(())
    })?;
    check!(total > 0, "some messages to come back");
    expect_alive(forward)
}

fn migrating_partition_is_reached_from_each(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for _ in 0..3 {
        for index in 1..world.cores {
            cores::run_on(index, exchange, u64::from(forward.id))?;
            expect_eq!(cores::wait_for(index, 60_000)?, MESSAGES, "core {index}: right answers");
        }
        expect_alive(forward)?;
    }
    Ok(())
}

fn messages_from_all_to_both(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    let both = u64::from(echo.id) << 16 | u64::from(forward.id);
    let job = |core: usize, both: u64| {
        let (echo, forward) = (both >> 16, both & 0xffff);
        let first = exchange(core, forward);
        let second = exchange(core, echo);
        u64::from((first & 0xffff_ffff) + (first >> 32) == MESSAGES && second == MESSAGES)
    };
    cores::run_on_all(world.cores, job, both, 60_000, |core, result| {
        expect_eq!(
            result,
            1,
            "core {core}: whether all messages to both partitions ended well"
        );
        Ok(())
    })
}

/// Sends messages to echo, to forward, and through forward to relay, while this core's timer fires at odd moments. `ids` holds the three ids.
/// Returns how many ended as they should: with the right answer, or refused because another core was first; and in the upper half how many
/// interruptions there were.
fn exchange_under_fire(core: usize, ids: u64) -> u64 {
    let [echo, forward, relay] = [ids & 0xffff, ids >> 16 & 0xffff, ids >> 32 & 0xffff];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(core as u64 + 1);
    gic::enable(timer::INTERRUPT);
    let (mut right, mut interruptions) = (0, 0);
    for number in 0..MESSAGES {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let words = [number, core as u64, random];
        let (to, message, expected) = match random >> 60 {
            0..8 => (echo, [words[0], words[1], words[2], 4, 5], words),
            8..12 => (forward, [words[0], words[1], words[2], 4, 5], words),
            _ => (
                forward,
                Command::Forward.five_words(&[relay, words[0], words[1], words[2]]),
                words,
            ),
        };
        // Up to a tenth of a millisecond: often in the middle of it.
        timer::start_in(arch::counter_frequency() / 10_000 * (random >> 40 & 0xff) / 256);
        let mut answer = SMC.direct_req64(0, (to & 0xffff) as u16, message);
        while let Ok(Answer::Interrupted { partition, context }) = answer {
            let _ = gic::take();
            timer::stop();
            interruptions += 1;
            answer = SMC.run(partition, context);
        }
        timer::stop();
        let _ = gic::take();
        right += u64::from(match answer {
            Ok(Answer::Response(response)) => {
                let payload = response.payload();
                // The way through forward may have found relay busy.
                payload[..3] == expected || payload[0] == FAILED && random >> 60 >= 12
            }
            Err(Error::Ffa(FfaError::Busy)) => to == forward,
            _ => false,
        });
    }
    gic::disable(timer::INTERRUPT);
    right | interruptions << 32
}

fn messages_and_interrupts_everywhere(world: &World) -> Outcome {
    let (echo, forward, relay) = (world.need(ECHO)?, world.need(FORWARD)?, world.need(RELAY)?);
    let ids = u64::from(echo.id) | u64::from(forward.id) << 16 | u64::from(relay.id) << 32;
    let mut interruptions = 0;
    cores::run_on_all(world.cores, exchange_under_fire, ids, 60_000, |core, result| {
        expect_eq!(
            result & 0xffff_ffff,
            MESSAGES,
            "core {core}: messages that ended as they should"
        );
        interruptions += result >> 32;
        Ok(())
    })?;
    check!(interruptions > 0, "some messages to be interrupted");
    println!("    {interruptions} interruptions");
    for partition in [echo, forward, relay] {
        expect_alive(partition)?;
    }
    Ok(())
}

fn off_and_on_while_others_work(world: &World) -> Outcome {
    if world.cores < 3 {
        return Err(Verdict::Skipped("needs three cores"));
    }
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    let comes_and_goes = world.cores - 1;
    for _ in 0..5 {
        for index in 1..comes_and_goes {
            cores::run_on(
                index,
                exchange,
                u64::from(if index == 1 { echo.id } else { forward.id }),
            )?;
        }
        check!(cores::turn_off(comes_and_goes), "core {comes_and_goes} to go off");
        let _ = exchange(0, u64::from(forward.id));
        check!(cores::turn_on(comes_and_goes), "core {comes_and_goes} to come on again");
        for index in 1..comes_and_goes {
            let result = cores::wait_for(index, 60_000)?;
            expect_eq!(
                (result & 0xffff_ffff) + (result >> 32),
                MESSAGES,
                "core {index}: messages that ended well"
            );
        }
        cores::run_on(comes_and_goes, check_context, u64::from(echo.id))?;
        expect_eq!(
            cores::wait_for(comes_and_goes, 10_000)?,
            0,
            "core {comes_and_goes}: whether echo answers there again"
        );
    }
    Ok(())
}

fn off_and_on_again(world: &World) -> Outcome {
    world.need_two_cores()?;
    let echo = world.need(ECHO)?;
    for _ in 0..3 {
        for index in 1..world.cores {
            check!(cores::turn_off(index), "core {index} to go off");
            expect_alive(echo)?;
            check!(cores::turn_on(index), "core {index} to come on again");
            cores::run_on(index, check_context, u64::from(echo.id))?;
            expect_eq!(
                cores::wait_for(index, 10_000)?,
                0,
                "core {index}: whether echo answers there again"
            );
        }
    }
    Ok(())
}
