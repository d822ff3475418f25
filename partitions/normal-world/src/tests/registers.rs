//! System registers of EL1, which worlds and partitions share by turns.

use tantalum_agent::{Command, ECHO, FORWARD, RELAY};
use tantalum_partition::{
    normal_world::{gic, timer},
    probe::state::{NORMAL_WORLD, PARTITION, Register},
};

use super::tests;
use crate::{
    report::{Outcome, expect_eq, fail},
    talk::{command, finish, send},
    world::World,
};

tests! { "registers":
    normal_worlds_survive_a_message,
    normal_worlds_survive_partitions_that_write_them,
    normal_worlds_survive_an_interruption,
    partitions_are_their_own,
}

/// Fills registers, and returns what the processor kept.
fn fill(registers: &[Register], seed: u64) -> [u64; 40] {
    registers
        .iter()
        .enumerate()
        .for_each(|(index, register)| register.write(register.pattern(seed, index)));
    read(registers)
}

fn read(registers: &[Register]) -> [u64; 40] {
    let mut values = [0; 40];
    values
        .iter_mut()
        .zip(registers)
        .for_each(|(value, register)| *value = register.read());
    values
}

/// Runs `body` with patterns in the registers; they must be there afterwards.
pub fn kept(seed: u64, body: impl FnOnce() -> Outcome) -> Outcome {
    let original = read(NORMAL_WORLD);
    let before = fill(NORMAL_WORLD, seed);
    let outcome = body();
    let after = read(NORMAL_WORLD);
    NORMAL_WORLD
        .iter()
        .zip(original)
        .for_each(|(register, value)| register.write(value));
    outcome?;
    let mut changed = 0;
    for (register, (before, after)) in NORMAL_WORLD.iter().zip(before.into_iter().zip(after)) {
        if before != after {
            tantalum_partition::println!("    {}: was {before:#x}, is {after:#x}", register.name);
            changed += 1;
        }
    }
    expect_eq!(changed, 0, "how many registers of the normal world changed");
    Ok(())
}

fn normal_worlds_survive_a_message(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    for seed in [1, u64::MAX / 3] {
        kept(seed, || {
            crate::talk::expect_alive(echo)?;
            crate::talk::expect_alive(forward)
        })?;
    }
    Ok(())
}

fn normal_worlds_survive_partitions_that_write_them(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    kept(7, || {
        command(echo, Command::StateFill, &[0xaaaa])?;
        command(forward, Command::StateFill, &[0x5555])?;
        Ok(())
    })
}

fn normal_worlds_survive_an_interruption(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    kept(11, || {
        gic::enable(timer::INTERRUPT);
        timer::start(5);
        let answer = send(forward, Command::Spin.words(&[20]));
        let _ = gic::take();
        timer::stop();
        gic::disable(timer::INTERRUPT);
        finish(answer, "a partition that is interrupted").map(|_| ())
    })
}

fn partitions_are_their_own(world: &World) -> Outcome {
    let partitions = [world.need(ECHO)?, world.need(FORWARD)?, world.need(RELAY)?];
    for (index, partition) in partitions.iter().enumerate() {
        command(*partition, Command::StateFill, &[0x1111 * (index as u64 + 1)])?;
    }
    for partition in partitions {
        let mask = command(partition, Command::StateCheck, &[])?[0];
        if mask != 0 {
            let names = PARTITION.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 != 0);
            names.for_each(|(_, register)| tantalum_partition::println!("    {} changed", register.name));
            fail!("registers of partition {:#x} changed while others ran", partition.id);
        }
    }
    Ok(())
}
