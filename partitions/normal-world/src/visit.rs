//! Partitions that this program does not know, new ones for instance: each is sent a message, and its answer shown.

use tantalum_agent::ECHO;
use tantalum_partition::{
    ffa::{Error, Outcome as Answer, Partition, SMC, Uuid},
    normal_world::{fw_cfg, gic, timer},
    println,
};

use crate::{
    cores,
    report::{Outcome, Score, Verdict, check, fail},
    talk::{NORMAL_WORLD, expect_alive},
    world::World,
};

/// What is sent: the first words, the others are 0.
const MESSAGE: [u64; 2] = [20, 22];

/// How long a partition may take to answer, in milliseconds.
const PATIENCE: u64 = 2000;

/// The file with lines of a UUID and a name: the partitions of the scenario.
pub const FILE: &str = "opt/tantalum/partitions";

/// Visits all of them.
pub fn run(world: &World, score: &mut Score) {
    let mut file = [0; 2048];
    let names = fw_cfg::read(FILE, &mut file).and_then(|names| str::from_utf8(names).ok());
    let names = names.unwrap_or_default();
    println!("");
    score.record("visit::all_partitions_are_there", all_there(world, names));
    for &stranger in world.strangers() {
        println!(
            "\n--- {:#x}, {}",
            stranger.id,
            name(names, stranger.uuid).unwrap_or("a service")
        );
        score.record("visit::partition_answers", visit(world, stranger));
    }
    if let Some(echo) = world.find(ECHO) {
        println!("\n--- {:#x}, echo", echo.id);
        score.record("visit::echo_answers", expect_alive(echo));
    }
    println!("");
}

/// The partitions of the scenario.
fn scenario(names: &str) -> impl Iterator<Item = (Uuid, &str)> {
    names
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter_map(|(uuid, name)| Some((Uuid::try_parse(uuid).ok()?, name)))
}

fn name(names: &str, uuid: Uuid) -> Option<&str> {
    scenario(names).find(|(known, _)| *known == uuid).map(|(_, name)| name)
}

fn all_there(world: &World, names: &str) -> Outcome {
    let mut outcome = Ok(());
    for (uuid, name) in scenario(names) {
        if world.find(uuid).is_none() {
            println!("    {name} is not there: what the SPMC has said of it above says why");
            outcome = Err(Verdict::Failed);
        }
    }
    outcome
}

fn visit(world: &World, stranger: Partition) -> Outcome {
    if !stranger.receives_direct && !stranger.receives_direct2 {
        return Err(Verdict::Skipped("its manifest takes no direct messages"));
    }
    let [first, second] = MESSAGE;
    match request(stranger.id, stranger.receives_direct2, stranger.uuid) {
        Ok(Answer::Response(response)) => {
            let words = &response.payload()[..4];
            println!("    sent {first} {second}, it answers {words:?} and so on");
        }
        Ok(other) => fail!("no answer within {PATIENCE} ms: {other:x?}"),
        Err(error) => fail!("{error:?}"),
    }
    // With a context for each core, the others are to answer too.
    for core in 1..world.cores.min(usize::from(stranger.contexts)) {
        let argument = u64::from(stranger.id) | u64::from(stranger.receives_direct2) << 16;
        cores::run_on(core, answers, argument)?;
        let answered = cores::wait_for(core, 2 * PATIENCE)?;
        check!(answered == 1, "an answer on core {core}");
        println!("    and on core {core}");
    }
    Ok(())
}

/// Whether partition `argument` (bits 15:0; bit 16: by `FFA_MSG_SEND_DIRECT_REQ2`) answers on this core.
fn answers(_core: usize, argument: u64) -> u64 {
    let answer = request((argument & 0xffff) as u16, argument >> 16 != 0, Uuid::nil());
    u64::from(matches!(answer, Ok(Answer::Response(_))))
}

/// Sends the message, and waits for the answer as long as there is patience.
fn request(id: u16, direct2: bool, service: Uuid) -> Result<Answer, Error> {
    gic::enable(timer::INTERRUPT);
    timer::start(PATIENCE);
    let [first, second] = MESSAGE;
    let answer = if direct2 {
        let mut words = [0; 14];
        words[..2].copy_from_slice(&MESSAGE);
        SMC.direct_req2(NORMAL_WORLD, id, service, words)
    } else {
        SMC.direct_req64(NORMAL_WORLD, id, [first, second, 0, 0, 0])
    };
    timer::stop();
    while gic::take().is_some() {}
    gic::disable(timer::INTERRUPT);
    answer
}
