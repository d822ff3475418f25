//! Measures calls, in instructions: to be run under `-icount shift=0,sleep=off -smp 1`, where one tick of the counter is one instruction.

use tantalum_agent::{BENCH, Command, DONE};
use tantalum_partition::{
    ffa::{Registers, SMC, registers},
    measure, println,
};

use crate::{
    report::{Outcome, Score, expect_eq},
    talk::{self, DIRECT_REQ, DIRECT_RESP, FEATURES, SPM_ID_GET, SUCCESS},
    world::World,
};

/// Calls before the ones that count.
const WARM_UP: usize = 8;
/// Calls of which the median counts.
const REPEATS: usize = 9;

/// Measures everything.
pub fn run(world: &World, score: &mut Score) {
    score.record("bench::normal_world", normal_world(world));
    score.record("bench::partitions", partitions(world));
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
