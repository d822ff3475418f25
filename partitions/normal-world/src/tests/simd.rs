//! Floating point, SIMD, SVE and SME: nobody's registers change or show while others run.

use spin::mutex::TicketMutex;
use tantalum_agent::{Command, DONE, ECHO, FORWARD, RELAY};
use tantalum_partition::{
    arch,
    ffa::SMC,
    normal_world::{gic, timer},
    probe::simd::{Simd, Streaming, Sve, longest_vector},
};

use super::tests;
use crate::{
    cores,
    report::{Outcome, Verdict, check, expect_eq},
    talk::{FEATURES, command, expect_alive, finish, send, smc},
    world::World,
};

tests! { "simd":
    normal_worlds_registers_survive_a_message,
    normal_worlds_registers_survive_a_partition_that_writes_them,
    normal_worlds_registers_survive_an_interruption,
    normal_worlds_values_do_not_show_in_partitions,
    partitions_keep_their_own,
    partitions_keep_their_own_when_the_normal_world_writes,
    each_core_and_context_has_its_own,
    migrating_partition_takes_its_own_along,
    sve_registers_survive_a_call_that_reaches_no_partition,
    sve_registers_survive_a_partition_that_writes_simd,
    sve_registers_survive_an_interruption,
    streaming_mode_survives_a_call_that_reaches_no_partition,
    streaming_mode_survives_a_partition_that_writes_simd,
}

/// Runs `body` with a pattern in the normal world's registers, which must be there afterwards.
fn kept(seed: u64, body: impl FnOnce() -> Outcome) -> Outcome {
    let pattern = Simd::pattern(seed);
    pattern.write();
    let outcome = body();
    let difference = Simd::read().difference(&pattern);
    outcome?;
    expect_eq!(
        difference,
        0,
        "the mask of registers that changed (bit 32: FPCR, bit 33: FPSR)"
    );
    Ok(())
}

fn normal_worlds_registers_survive_a_message(world: &World) -> Outcome {
    let echo = world.need(ECHO)?;
    kept(1, || expect_alive(echo))
}

fn normal_worlds_registers_survive_a_partition_that_writes_them(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    // FPCR and FPSR hold few bits: of several patterns some differ from what a partition leaves there.
    for seed in 0x20..0x26 {
        kept(seed, || {
            command(echo, Command::SimdFill, &[0x1001])?;
            command(forward, Command::SimdFill, &[0x1002])?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Has forward spin until the timer interrupts it, and then to the end.
fn interrupted(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    gic::enable(timer::INTERRUPT);
    timer::start(5);
    let answer = send(forward, Command::Spin.words(&[20]));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    finish(answer, "a partition that is interrupted").map(|_| ())
}

fn normal_worlds_registers_survive_an_interruption(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    command(forward, Command::SimdFill, &[0x2002])?;
    kept(3, || interrupted(world))?;
    let mask = command(forward, Command::SimdCheck, &[0x2002])?[0];
    expect_eq!(
        mask,
        0,
        "the mask of the partition's registers that changed while it was preempted"
    );
    Ok(())
}

fn normal_worlds_values_do_not_show_in_partitions(world: &World) -> Outcome {
    // FPCR and FPSR hold few bits: they may be equal by chance.
    const VECTORS: u64 = 0xffff_ffff;
    for partition in [world.need(ECHO)?, world.need(FORWARD)?, world.need(RELAY)?] {
        command(partition, Command::SimdFill, &[0x3000])?;
        Simd::pattern(4).write();
        let mask = command(partition, Command::SimdCheck, &[4])?[0];
        expect_eq!(
            mask & VECTORS,
            VECTORS,
            "the mask of registers of {:#x} that differ from the normal world's",
            partition.id
        );
    }
    Ok(())
}

fn partitions_keep_their_own(world: &World) -> Outcome {
    let partitions = [world.need(ECHO)?, world.need(FORWARD)?, world.need(RELAY)?];
    for (index, partition) in partitions.iter().enumerate() {
        command(*partition, Command::SimdFill, &[0x4000 + index as u64])?;
    }
    for (index, partition) in partitions.iter().enumerate() {
        let mask = command(*partition, Command::SimdCheck, &[0x4000 + index as u64])?[0];
        expect_eq!(mask, 0, "the mask of registers of {:#x} that changed", partition.id);
    }
    Ok(())
}

fn partitions_keep_their_own_when_the_normal_world_writes(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    for partition in [echo, forward] {
        command(partition, Command::SimdFill, &[0x5000 + u64::from(partition.id)])?;
        Simd::pattern(5).write();
        let mask = command(partition, Command::SimdCheck, &[0x5000 + u64::from(partition.id)])?[0];
        expect_eq!(mask, 0, "the mask of registers of {:#x} that changed", partition.id);
    }
    Ok(())
}

/// Fills or checks the registers of echo's context on this core, with those of the normal world full of something else. 0 is right.
fn on_each_core(core: usize, id: u64, what: Command) -> u64 {
    let pattern = Simd::pattern(0x7000 + core as u64);
    pattern.write();
    let words = what.five_words(&[0x7100 + core as u64]);
    let answer = finish(
        SMC.direct_req64(0, (id & 0xffff) as u16, words),
        "a message on each core",
    );
    let kept = Simd::read().difference(&pattern);
    match answer {
        Ok(response) if response.payload()[0] == DONE => kept | response.payload()[1],
        _ => u64::MAX,
    }
}

fn each_core_and_context_has_its_own(world: &World) -> Outcome {
    let echo = u64::from(world.need(ECHO)?.id);
    let fill: cores::Job = |core, id| on_each_core(core, id, Command::SimdFill);
    let check: cores::Job = |core, id| on_each_core(core, id, Command::SimdCheck);
    for job in [fill, check] {
        cores::run_on_all(world.cores, job, echo, 10_000, |core, mask| {
            expect_eq!(mask, 0, "core {core}: the mask of registers that changed");
            Ok(())
        })?;
    }
    Ok(())
}

fn migrating_partition_takes_its_own_along(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = world.need(FORWARD)?;
    let check = |core: usize, id: u64| {
        Simd::pattern(0x7200 + core as u64).write();
        let words = Command::SimdCheck.five_words(&[0x7300]);
        let answer = finish(
            SMC.direct_req64(0, (id & 0xffff) as u16, words),
            "a message to a partition that moved",
        );
        answer.map_or(u64::MAX, |response| response.payload()[1])
    };
    command(forward, Command::SimdFill, &[0x7300])?;
    for core in 1..world.cores {
        cores::run_on(core, check, u64::from(forward.id))?;
        expect_eq!(
            cores::wait_for(core, 10_000)?,
            0,
            "core {core}: the mask of the partition's registers that changed"
        );
    }
    expect_eq!(
        check(0, u64::from(forward.id)),
        0,
        "back on core 0: the mask of the partition's registers that changed"
    );
    Ok(())
}

/// Too large for the stack.
static SVE: TicketMutex<[Sve; 2]> = TicketMutex::new([Sve::ZERO; 2]);

/// Runs `body` with a pattern in the SVE registers, `length` bytes of each, which must be there afterwards.
fn sve_kept(seed: u64, length: usize, with_ffr: bool, body: impl FnOnce() -> Outcome) -> Outcome {
    let mut states = SVE.lock();
    let [pattern, after] = &mut *states;
    pattern.set_pattern(seed, length);
    pattern.write(with_ffr);
    let outcome = body();
    after.read(with_ffr);
    outcome?;
    let mask = if with_ffr { u64::MAX } else { !(1 << 48) };
    let difference = after.difference(pattern) & mask;
    expect_eq!(
        difference,
        0,
        "the mask of registers that changed: Z0-31, P0-15 (bits 32-47), FFR (bit 48)"
    );
    Ok(())
}

/// A call that the SPMC answers by itself.
fn short_call() -> Outcome {
    let _ = smc(&[FEATURES, FEATURES]);
    Ok(())
}

/// The longest vector, in bytes, or no SVE.
fn sve_length() -> Outcome<usize> {
    if !arch::has_sve() {
        return Err(Verdict::Skipped("no SVE"));
    }
    let length = longest_vector();
    check!(length >= 16, "vectors of 16 bytes or more, got {length}");
    Ok(length)
}

fn sve_registers_survive_a_call_that_reaches_no_partition(_: &World) -> Outcome {
    sve_kept(5, sve_length()?, true, short_call)
}

fn sve_registers_survive_a_partition_that_writes_simd(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    sve_kept(6, sve_length()?, true, || {
        command(echo, Command::SimdFill, &[0x6001])?;
        command(forward, Command::SimdFill, &[0x6002])?;
        Ok(())
    })?;
    let mask = command(echo, Command::SimdCheck, &[0x6001])?[0];
    expect_eq!(mask, 0, "the mask of the partition's registers that changed");
    Ok(())
}

fn sve_registers_survive_an_interruption(world: &World) -> Outcome {
    sve_kept(7, sve_length()?, true, || interrupted(world))
}

/// Runs `body` in streaming mode, with patterns in Z, P and ZA that must be there afterwards.
fn streaming_kept(seed: u64, body: impl FnOnce() -> Outcome) -> Outcome {
    if !arch::has_sme() {
        return Err(Verdict::Skipped("no SME"));
    }
    let length = Streaming::start();
    Streaming::fill_array(seed, length);
    let outcome = sve_kept(seed, length, false, body);
    let svcr = Streaming::svcr();
    let damaged = if svcr & 2 == 0 {
        length
    } else {
        Streaming::damaged_rows(seed, length)
    };
    Streaming::stop();
    outcome?;
    expect_eq!(svcr, 3, "SVCR, streaming mode and ZA on");
    expect_eq!(damaged, 0, "how many rows of ZA changed");
    Ok(())
}

fn streaming_mode_survives_a_call_that_reaches_no_partition(_: &World) -> Outcome {
    streaming_kept(9, short_call)
}

fn streaming_mode_survives_a_partition_that_writes_simd(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    streaming_kept(8, || {
        command(echo, Command::SimdFill, &[0x8001])?;
        command(forward, Command::SimdFill, &[0x8002])?;
        Ok(())
    })?;
    let mask = command(echo, Command::SimdCheck, &[0x8001])?[0];
    expect_eq!(mask, 0, "the mask of the partition's registers that changed");
    Ok(())
}
