//! A guided tour: what the partitions do for the normal world and each other, and what becomes of one that misbehaves.

mod interrupt;
mod memory;
mod notification;

use tantalum_agent::{ATTACK, Command, DONE, Death, ECHO, FORWARD, Probe, USER};
use tantalum_partition::{
    ffa::{Error, FfaError, Outcome as Answer, SMC},
    normal_world::{gic, timer},
    println,
};

use crate::{
    cores,
    report::{Outcome, Score, check, expect_eq, fail},
    talk::{ask, command, expect_alive, finish, send},
    world::World,
};

/// Name, title and action of a scene.
type Scene = (&'static str, &'static str, fn(&World) -> Outcome);

/// The scenes, in order.
const SCENES: [Scene; 10] = [
    (
        "demo::every_core_gets_an_echo",
        "Every core sends a message to the partition echo, all at once.",
        echo_everywhere,
    ),
    (
        "demo::partition_asks_partition",
        "The partition forward finds echo by its UUID, and passes a message on to it.",
        chain,
    ),
    (
        "demo::interrupt_preempts_a_partition",
        "The partition forward computes for long; the normal world's timer fires.",
        preempt,
    ),
    (
        "demo::device_of_a_partition_interrupts",
        "The partition forward has set its clock; it rings while the normal world runs.",
        interrupt::ring,
    ),
    (
        "demo::page_is_shared_and_taken_back",
        "The normal world shares a page with the partition echo, and takes it back.",
        memory::lend,
    ),
    (
        "demo::partition_raises_a_notification",
        "The partition forward has news for the normal world.",
        notification::notify,
    ),
    (
        "demo::stray_access_is_contained",
        "The partition attack reads and writes where it must not.",
        stray_accesses,
    ),
    (
        "demo::failing_partition_is_stopped",
        "The partition attack throws its exception vectors away and jumps into the void.",
        death,
    ),
    (
        "demo::partition_is_started_afresh",
        "The partition user, at S-EL0, follows a null pointer; its manifest has it started afresh.",
        restart,
    ),
    ("demo::others_live_on", "The others never noticed.", others),
];

/// Plays all scenes.
pub fn run(world: &World, score: &mut Score) {
    for (number, (name, title, scene)) in SCENES.into_iter().enumerate() {
        println!("\n--- {}. {title}", number + 1);
        let outcome = scene(world);
        score.record(name, outcome);
    }
    println!("");
}

fn echo_everywhere(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    let job = |core: usize, id: u64| {
        let words = [0x5e55_a6e0_0000_0000 + core as u64, 2, 3, 4, 5];
        match SMC.direct_req64(0, (id & 0xffff) as u16, words) {
            Ok(Answer::Response(response)) if response.payload() == words => words[0],
            _ => 0,
        }
    };
    cores::run_on_all(world.cores, job, u64::from(echo.id), 10_000, |core, word| {
        check!(word != 0, "core {core} to get its message back");
        println!("    core {core}: sent {word:#x}, got it back");
        Ok(())
    })
}

fn chain(world: &World) -> Outcome {
    let (forward, echo) = (world.need(FORWARD)?, world.need(ECHO)?);
    let [low, high] = tantalum_partition::ffa::UuidHelper::to_u64_regs(ECHO);
    let found = command(forward, Command::Discover, &[low, high])?;
    expect_eq!(
        found[..2],
        [1, u64::from(echo.id)],
        "how many partitions forward finds, and the id of the first"
    );
    println!(
        "    forward ({:#x}) finds echo: {:#x}, {} contexts",
        forward.id, found[1], found[2]
    );
    let answer = ask(forward, Command::Forward.words(&[found[1], 0x1234, 0x5678]))?;
    expect_eq!(answer[..2], [0x1234, 0x5678], "what came back by way of two partitions");
    println!(
        "    normal world -> forward -> echo -> forward -> normal world: {:#x} {:#x}",
        answer[0], answer[1]
    );
    Ok(())
}

fn preempt(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    gic::enable(timer::INTERRUPT);
    let mut answer = Ok(Answer::Waiting);
    // A simulated machine on a busy host may have its interrupts late.
    for milliseconds in [40, 400, 4000] {
        timer::start(10);
        answer = send(forward, Command::Spin.words(&[milliseconds]));
        let _ = gic::take();
        timer::stop();
        if matches!(answer, Ok(Answer::Interrupted { .. })) {
            break;
        }
    }
    gic::disable(timer::INTERRUPT);
    let Ok(Answer::Interrupted { partition, context }) = answer else {
        fail!("expected FFA_INTERRUPT, got {answer:?}");
    };
    println!(
        "    FFA_INTERRUPT: context {context} of {partition:#x} was preempted, the normal world has its interrupt"
    );
    let response = finish(SMC.run(partition, context), "running it again")?;
    expect_eq!(response.payload()[0], DONE, "the first word of its answer");
    println!("    FFA_RUN: it went on where it was and has answered");
    Ok(())
}

fn stray_accesses(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    let targets = [
        (0x0e20_4000, "echo's code"),
        (0x0e10_0000, "the SPMC"),
        (0x0e00_0000, "the secure monitor's memory"),
        (0x4400_0000, "the normal world's memory"),
        (0x0900_0000, "the normal world's UART"),
        (0x0800_0000, "the interrupt controller"),
    ];
    for access in [Command::Read32, Command::Write32] {
        for (address, what) in targets {
            let words = ask(attack, access.words(&[address, 0xbad]))?;
            let Some(Probe::Faulted { esr, far, .. }) = Probe::from_words(&words) else {
                fail!("{access:?} at {address:#x} ({what}) was not stopped: {words:x?}");
            };
            if access == Command::Read32 {
                println!("    {what} ({address:#010x}): aborted, ESR_EL1 {esr:#x}, FAR_EL1 {far:#x}");
            }
        }
    }
    expect_alive(attack)?;
    println!("    attack took {} exceptions and still answers", targets.len() * 2);
    Ok(())
}

fn death(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    gic::enable(timer::INTERRUPT);
    timer::start(2000);
    let answer = send(attack, Command::Die.words(&[Death::JumpAway as u64]));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    match answer {
        Err(Error::Ffa(FfaError::Aborted)) => println!("    FFA_ERROR(ABORTED): attack was stopped"),
        other => fail!("expected FFA_ERROR(ABORTED), got {other:?}"),
    }
    match send(attack, [0; 14]) {
        Err(Error::Ffa(FfaError::Aborted)) => println!("    FFA_ERROR(ABORTED): and it stays so"),
        other => fail!("expected FFA_ERROR(ABORTED) again, got {other:?}"),
    }
    Ok(())
}

fn restart(world: &World) -> Outcome {
    let user = world.need(USER)?;
    let level = command(user, Command::Status, &[])?[6];
    expect_eq!(level, 0, "the exception level of user");
    match send(user, Command::Read.words(&[0])) {
        Err(Error::Ffa(FfaError::Aborted)) => println!("    FFA_ERROR(ABORTED): user could not answer"),
        other => fail!("expected FFA_ERROR(ABORTED), got {other:?}"),
    }
    expect_alive(user)?;
    println!("    user answers again, with its memory as it was loaded");
    Ok(())
}

fn others(world: &World) -> Outcome {
    echo_everywhere(world)?;
    chain(world)
}
