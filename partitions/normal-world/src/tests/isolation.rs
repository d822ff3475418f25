//! Memory: each partition reaches its own, as its manifest says, and nothing else.

use tantalum_agent::{ATTACK, Command, ECHO, FORWARD, Probe};
use tantalum_partition::{
    ffa::Partition,
    probe::{self, EC_DATA_ABORT, EC_INSTRUCTION_ABORT, Fault, RETURN_INSTRUCTION},
};

use super::tests;
use crate::{
    report::{Outcome, check, expect_eq, fail},
    talk::{ask, command, expect_alive},
    world::World,
};

tests! { "isolation":
    memory_of_another_partition,
    memory_of_the_spmc,
    memory_of_el3,
    secure_memory_of_nobody,
    memory_of_the_normal_world,
    normal_world_addresses_as_secure,
    devices_of_others,
    boot_flash,
    fetch_from_memory_of_another,
    own_read_only_region_can_be_read_not_written,
    own_data_region_can_be_written_not_executed,
    own_normal_world_region_is_shared_with_it,
    own_device_region_reaches_the_device,
    normal_world_cannot_read_secure_memory,
}

/// Where the manifests put the attacking partition, and its regions.
const ATTACK_BASE: u64 = 0x0e60_0000;
const READ_ONLY: u64 = ATTACK_BASE + 0xc_0000;
const NO_EXECUTE: u64 = ATTACK_BASE + 0xc_1000;
const ECHO_BASE: u64 = 0x0e20_0000;
const NORMAL_WORLD_REGION: u64 = 0x5000_0000;
const SECURE_UART: u64 = 0x0904_0000;

/// Attributes of [`Command::Map`].
const MEMORY: u64 = 0;
const DEVICE: u64 = 3;

/// Fault status codes without the level. The SPM may report a fault of stage 2 as what it would be in stage 1, or as an external abort.
const EXTERNAL: u64 = 0x10;
const TRANSLATION: u64 = 0x04;
const PERMISSION: u64 = 0x0c;

fn tell(partition: Partition, what: Command, arguments: &[u64]) -> Outcome<Probe> {
    let words = ask(partition, what.words(arguments))?;
    match Probe::from_words(&words) {
        Some(probe) => Ok(probe),
        None => fail!("{what:?} {arguments:x?}: the answer makes no sense: {words:x?}"),
    }
}

/// Fails unless an access was stopped by stage 2 as the architecture says: an abort at the partition's own level, with the address of the access, and
/// that of the instruction. `status` is the fault status code without its level.
fn expect_abort(probe: Probe, class: u64, address: u64, status: u64, write: bool, what: &str) -> Outcome {
    let Probe::Faulted { esr, far, elr } = probe else {
        fail!("{what} at {address:#x}: expected an abort, but it went through: {probe:x?}");
    };
    let fault = Fault { esr, far, elr, at: 0 };
    expect_eq!(
        fault.class(),
        class,
        "{what} at {address:#x}: the exception class in ESR_EL1 ({esr:#x})"
    );
    expect_eq!(far, address, "{what}: FAR_EL1");
    let expected = if class == EC_INSTRUCTION_ABORT { address } else { 0 };
    expect_eq!(
        elr,
        expected,
        "{what} at {address:#x}: ELR_EL1, for a data abort relative to the instruction"
    );
    if class == EC_DATA_ABORT {
        expect_eq!(
            fault.is_write(),
            write,
            "{what} at {address:#x}: whether ESR_EL1 ({esr:#x}) says write"
        );
    }
    check!(
        [EXTERNAL, status].contains(&(fault.status() & !3)),
        "{what} at {address:#x}: a fault status of {status:#x} or {EXTERNAL:#x} in ESR_EL1 ({esr:#x})"
    );
    check!(
        esr & (1 << 7) == 0,
        "{what} at {address:#x}: no sign of stage 2 in ESR_EL1 ({esr:#x})"
    );
    Ok(())
}

/// Reads and writes of 4 and 8 bytes at these addresses must abort, and the partition must live on.
fn expect_out_of_reach(world: &World, addresses: &[u64]) -> Outcome {
    let attack = world.need(ATTACK)?;
    for &address in addresses {
        for what in [Command::Read, Command::Read32] {
            expect_abort(
                tell(attack, what, &[address])?,
                EC_DATA_ABORT,
                address,
                TRANSLATION,
                false,
                "a read",
            )?;
        }
        for what in [Command::Write, Command::Write32] {
            expect_abort(
                tell(attack, what, &[address, 0x6261_6400])?,
                EC_DATA_ABORT,
                address,
                TRANSLATION,
                true,
                "a write",
            )?;
        }
    }
    expect_alive(attack)?;
    expect_alive(world.need(ECHO)?)
}

fn memory_of_another_partition(world: &World) -> Outcome {
    expect_out_of_reach(
        world,
        &[
            ECHO_BASE,
            ECHO_BASE + 0x4000,
            ECHO_BASE + 0xf_f000,
            0x0e30_8000,
            ATTACK_BASE - 8,
        ],
    )
}

fn memory_of_the_spmc(world: &World) -> Outcome {
    expect_out_of_reach(world, &[0x0e10_0000, 0x0e10_1000, 0x0e14_0000, 0x0e1f_f000])
}

fn memory_of_el3(world: &World) -> Outcome {
    expect_out_of_reach(
        world,
        &[0x0e00_0000, 0x0e00_1000, 0x0e00_2000, 0x0e05_0000, 0x0e0f_f000],
    )
}

fn secure_memory_of_nobody(world: &World) -> Outcome {
    expect_out_of_reach(world, &[ATTACK_BASE + 0x10_0000, 0x0eff_f000])
}

fn memory_of_the_normal_world(world: &World) -> Outcome {
    // Stage 1 of the partition maps these as non-secure.
    expect_out_of_reach(
        world,
        &[
            0x4000_0000,
            0x4400_0000,
            NORMAL_WORLD_REGION - 8,
            NORMAL_WORLD_REGION + 0x2000,
            0x6000_0000,
        ],
    )
}

fn normal_world_addresses_as_secure(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    // The same addresses in the secure address space, by way of other virtual addresses.
    for (alias, address) in [
        (0x10_0000_0000, 0x4400_0000),
        (0x10_0020_0000, NORMAL_WORLD_REGION),
        (0x10_0040_0000, 0x0900_0000),
    ] {
        command(attack, Command::Map, &[alias, address, 0x1000, DEVICE])?;
        expect_abort(
            tell(attack, Command::Read, &[alias])?,
            EC_DATA_ABORT,
            alias,
            TRANSLATION,
            false,
            "a read",
        )?;
        expect_abort(
            tell(attack, Command::Write, &[alias, 1])?,
            EC_DATA_ABORT,
            alias,
            TRANSLATION,
            true,
            "a write",
        )?;
    }
    expect_alive(attack)
}

fn devices_of_others(world: &World) -> Outcome {
    // The normal world's UART, the GIC's distributor and a redistributor, the clock, the secure UART, the power-off GPIO.
    expect_out_of_reach(
        world,
        &[
            0x0900_0000,
            0x0800_0000,
            0x080a_0000,
            0x0901_0000,
            SECURE_UART,
            0x090b_0000,
        ],
    )
}

fn boot_flash(world: &World) -> Outcome {
    expect_out_of_reach(world, &[0, 0x4_0000])
}

fn fetch_from_memory_of_another(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    for (alias, address) in [(0x10_0060_0000, ECHO_BASE + 0x4000), (0x10_0080_0000, 0x0e10_0000)] {
        command(attack, Command::Map, &[alias, address, 0x1000, MEMORY])?;
        let probe = tell(attack, Command::Execute, &[alias])?;
        expect_abort(probe, EC_INSTRUCTION_ABORT, alias, TRANSLATION, false, "a fetch")?;
    }
    expect_alive(attack)
}

fn own_read_only_region_can_be_read_not_written(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    command(attack, Command::Map, &[READ_ONLY, READ_ONLY, 0x1000, MEMORY])?;
    let read = tell(attack, Command::Read, &[READ_ONLY])?;
    check!(
        matches!(read, Probe::Passed(_)),
        "a read of the partition's read-only region to pass, got {read:x?}"
    );
    let write = tell(attack, Command::Write, &[READ_ONLY, 1])?;
    expect_abort(
        write,
        EC_DATA_ABORT,
        READ_ONLY,
        PERMISSION,
        true,
        "a write to a read-only region",
    )?;
    let execute = tell(attack, Command::Execute, &[READ_ONLY])?;
    expect_abort(
        execute,
        EC_INSTRUCTION_ABORT,
        READ_ONLY,
        PERMISSION,
        false,
        "a fetch from a read-only region",
    )
}

fn own_data_region_can_be_written_not_executed(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    command(attack, Command::Map, &[NO_EXECUTE, NO_EXECUTE, 0x1000, MEMORY])?;
    let value = u64::from(RETURN_INSTRUCTION);
    expect_eq!(
        tell(attack, Command::Write, &[NO_EXECUTE, value])?,
        Probe::Passed(0),
        "a write to a data region"
    );
    expect_eq!(
        tell(attack, Command::Read, &[NO_EXECUTE])?,
        Probe::Passed(value),
        "reading it back"
    );
    let execute = tell(attack, Command::Execute, &[NO_EXECUTE])?;
    expect_abort(
        execute,
        EC_INSTRUCTION_ABORT,
        NO_EXECUTE,
        PERMISSION,
        false,
        "a fetch from a data region",
    )?;
    expect_alive(attack)
}

fn own_normal_world_region_is_shared_with_it(world: &World) -> Outcome {
    let attack = world.need(ATTACK)?;
    let (first, second) = (0x1234_5678_9abc_def0, 0x0fed_cba9_8765_4321);
    if let Err(fault) = probe::write64(NORMAL_WORLD_REGION, first) {
        fail!("the normal world can't write its own memory: {fault}");
    }
    expect_eq!(
        tell(attack, Command::Read, &[NORMAL_WORLD_REGION])?,
        Probe::Passed(first),
        "what the partition reads"
    );
    let last = NORMAL_WORLD_REGION + 0x1ff8;
    expect_eq!(
        tell(attack, Command::Write, &[last, second])?,
        Probe::Passed(0),
        "a write of the partition"
    );
    expect_eq!(probe::read64(last).ok(), Some(second), "what the normal world reads");
    Ok(())
}

fn own_device_region_reaches_the_device(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    // The first byte of a PL011's part number.
    let id = tell(forward, Command::Read32, &[SECURE_UART + 0xfe0])?;
    expect_eq!(
        id,
        Probe::Passed(0x11),
        "UARTPeriphID0 of the secure UART, read by the partition that has it"
    );
    for byte in *b"Hello from a secure partition\n" {
        let write = tell(forward, Command::Write32, &[SECURE_UART, u64::from(byte)])?;
        expect_eq!(write, Probe::Passed(0), "a write to the secure UART");
    }
    Ok(())
}

fn normal_world_cannot_read_secure_memory(_: &World) -> Outcome {
    for address in [0x0e10_0000, ECHO_BASE, ATTACK_BASE, 0x0e00_2000, SECURE_UART] {
        match probe::read32(address) {
            Ok(value) => fail!("the normal world reads {value:#x} at {address:#x}, which is secure"),
            Err(fault) => expect_eq!(
                fault.class(),
                EC_DATA_ABORT,
                "the class of the exception at {address:#x}"
            ),
        }
    }
    Ok(())
}
