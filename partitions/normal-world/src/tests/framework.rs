//! Framework messages: of the SPM to partitions about the power of cores, of the hypervisor about virtual machines.

use tantalum_agent::{Command, ECHO, FORWARD, RELAY};
use tantalum_partition::ffa::{FfaError, Partition, ids};

use super::tests;
use crate::{
    buffers::Pair,
    cores,
    report::{Outcome, check, expect_eq},
    talk::{
        BITMAP_CREATE, BITMAP_DESTROY, DIRECT_REQ, DIRECT_REQ64, DIRECT_RESP, NORMAL_WORLD, NOTIFICATION_SET,
        RX_ACQUIRE, call_from, command, expect_alive, expect_error, expect_success, finish, smc, to,
    },
    world::World,
};

tests! { "framework":
    core_that_goes_off_is_announced_to_its_context,
    core_goes_off_whatever_the_partition_answers,
    virtual_machine_is_announced,
    virtual_machine_that_is_destroyed_leaves_nothing,
    partition_that_has_not_subscribed_denies,
    messages_that_cannot_be,
}

const FRAMEWORK: u64 = 1 << 31;
const CREATED: u64 = FRAMEWORK | 4;
const DESTROYED: u64 = FRAMEWORK | 6;
const CPU_OFF: u64 = 0x8400_0002;

/// How many framework messages the context of the core that this runs on has got, and in the upper half w3 of the last one: a job for a core. The
/// argument is echo's id, and in the upper half the status to answer from here on.
fn power_messages(_: usize, argument: u64) -> u64 {
    let words = Command::Framework.five_words(&[argument >> 32]);
    let answer = tantalum_partition::ffa::SMC.direct_req64(NORMAL_WORLD, (argument & 0xffff) as u16, words);
    match finish(answer, "asking for framework messages") {
        Ok(response) => {
            let [_, count, w2, w3, ..] = *response.payload() else {
                return u64::MAX;
            };
            if count > 0 && w2 != FRAMEWORK {
                return u64::MAX;
            }
            count | w3 << 32
        }
        Err(_) => u64::MAX,
    }
}

fn ask_on(core: usize, argument: u64) -> Outcome<(u64, u64)> {
    cores::run_on(core, power_messages, argument)?;
    let answer = cores::wait_for(core, 10_000)?;
    Ok((answer & 0xffff_ffff, answer >> 32))
}

fn core_that_goes_off_is_announced_to_its_context(world: &World) -> Outcome {
    world.need_two_cores()?;
    let echo = world.need(ECHO)?;
    let last = world.cores - 1;
    let (before, _) = ask_on(last, u64::from(echo.id))?;
    let others = power_messages(0, u64::from(echo.id));
    for times in 1..=2 {
        check!(
            cores::turn_off(last) && cores::turn_on(last),
            "core {last} to go off and come on"
        );
        expect_eq!(
            ask_on(last, u64::from(echo.id))?,
            (before + times, CPU_OFF),
            "messages about power that the core's context has got, and w3 of the last"
        );
    }
    expect_eq!(
        power_messages(0, u64::from(echo.id)),
        others,
        "messages that another context has got"
    );
    Ok(())
}

fn core_goes_off_whatever_the_partition_answers(world: &World) -> Outcome {
    world.need_two_cores()?;
    let echo = world.need(ECHO)?;
    let id = u64::from(echo.id);
    const DENIED: u64 = 0xffff_fffd;
    let (before, _) = ask_on(1, id | DENIED << 32)?;
    let cycled = cores::turn_off(1) && cores::turn_on(1);
    check!(cycled, "core 1 to go off and come on");
    expect_eq!(ask_on(1, id)?.0, before + 1, "messages about power");
    expect_alive(echo)
}

/// Sends a framework message of the hypervisor; returns x0-x7 of the answer.
fn announce(partition: Partition, what: u64, vm: u64) -> [u64; 8] {
    let answer = smc(&[DIRECT_REQ, to(partition), what, 0x1111_2222, 0x3333_4444, vm]);
    core::array::from_fn(|index| answer[index])
}

fn accepted(partition: Partition, what: u64) -> [u64; 8] {
    [DIRECT_RESP, ids(partition.id, NORMAL_WORLD), what + 1, 0, 0, 0, 0, 0]
}

fn virtual_machine_is_announced(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for what in [CREATED, DESTROYED] {
        let before = command(forward, Command::Framework, &[0])?[0];
        expect_eq!(
            announce(forward, what, 7),
            accepted(forward, what),
            "x0-x7 of the answer"
        );
        expect_eq!(
            command(forward, Command::Framework, &[0])?[..7],
            [before + 1, what, 0x1111_2222, 0x3333_4444, 7, 0, 0],
            "how many messages, and w2-w7 of the last one"
        );
    }
    // The partition may refuse, and the hypervisor learns it.
    let _ = command(forward, Command::Framework, &[0xffff_fffd])?;
    let answer = announce(forward, CREATED, 7);
    let _ = command(forward, Command::Framework, &[0])?;
    let mut refused = accepted(forward, CREATED);
    refused[3] = 0xffff_fffd;
    expect_eq!(answer, refused, "x0-x7 of the answer of a partition that refuses");
    expect_alive(forward)
}

fn virtual_machine_that_is_destroyed_leaves_nothing(world: &World) -> Outcome {
    const VM: u64 = 3;
    let forward = world.need(FORWARD)?;
    let hypervisor = Pair::of_normal_world()?;
    let vm = Pair::of_vm(&hypervisor, VM)?;
    expect_success(&smc(&[BITMAP_CREATE, VM, 1]), "FFA_NOTIFICATION_BITMAP_CREATE")?;
    let route = VM << 16 | u64::from(forward.id);
    let conduit = crate::talk::Conduit::Smc;
    let bind = [crate::talk::NOTIFICATION_BIND, route, 0, 1, 0];
    expect_success(&call_from(forward, conduit, &bind)?, "FFA_NOTIFICATION_BIND of a VM's")?;
    expect_success(
        &smc(&[NOTIFICATION_SET, route, 0, 1, 0]),
        "FFA_NOTIFICATION_SET by the VM",
    )?;
    while tantalum_partition::normal_world::gic::take().is_some() {}
    expect_eq!(
        announce(forward, DESTROYED, VM),
        accepted(forward, DESTROYED),
        "x0-x7 of the answer"
    );
    expect_error(
        &smc(&[RX_ACQUIRE, VM]),
        FfaError::InvalidParameters,
        "FFA_RX_ACQUIRE for a VM that is gone",
    )?;
    expect_error(
        &smc(&[BITMAP_DESTROY, VM]),
        FfaError::Denied,
        "FFA_NOTIFICATION_BITMAP_DESTROY of a VM that is gone",
    )?;
    expect_error(
        &smc(&[NOTIFICATION_SET, route, 0, 1, 0]),
        FfaError::Denied,
        "FFA_NOTIFICATION_SET of what a VM that is gone had bound",
    )?;
    drop(vm);
    expect_alive(forward)
}

fn partition_that_has_not_subscribed_denies(world: &World) -> Outcome {
    for uuid in [ECHO, RELAY] {
        let partition = world.need(uuid)?;
        for what in [CREATED, DESTROYED] {
            expect_error(
                &announce(partition, what, 7),
                FfaError::Denied,
                "a message about a VM to one that does not want it",
            )?;
        }
    }
    Ok(())
}

fn messages_that_cannot_be(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let w1 = to(forward);
    let from_vm = ids(5, forward.id);
    let before = command(forward, Command::Framework, &[0])?[0];
    for call in [
        [DIRECT_REQ64, w1, CREATED, 0, 0, 7, 0, 0],
        [DIRECT_REQ, w1, CREATED, 0, 0, 0, 0, 0],
        [DIRECT_REQ, w1, CREATED, 0, 0, 0x8001, 0, 0],
        [DIRECT_REQ, w1, CREATED, 0, 0, 0x1_0007, 0, 0],
        [DIRECT_REQ, w1, CREATED, 0, 0, 7, 1, 0],
        [DIRECT_REQ, w1, CREATED, 0, 0, 7, 0, 1],
        [DIRECT_REQ, w1, CREATED | 0x100, 0, 0, 7, 0, 0],
        [DIRECT_REQ, w1, CREATED + 1, 0, 0, 7, 0, 0],
        [DIRECT_REQ, w1, FRAMEWORK, CPU_OFF, 0, 0, 0, 0],
        [DIRECT_REQ, w1, FRAMEWORK | 8, 0x1_0002, 0, 0, 0, 0],
        [DIRECT_REQ, from_vm, CREATED, 0, 0, 7, 0, 0],
        [DIRECT_REQ, ids(NORMAL_WORLD, 0x8fff), CREATED, 0, 0, 7, 0, 0],
        [DIRECT_REQ, ids(NORMAL_WORLD, 0x8000), CREATED, 0, 0, 7, 0, 0],
        [DIRECT_REQ, ids(NORMAL_WORLD, 0x8000), FRAMEWORK, CPU_OFF, 0, 0, 0, 0],
    ] {
        expect_error(
            &smc(&call),
            FfaError::InvalidParameters,
            "a framework message that cannot be",
        )?;
    }
    expect_eq!(
        command(forward, Command::Framework, &[0])?[0],
        before,
        "how many messages have come"
    );
    // A partition is nobody to send them.
    let echo = world.need(ECHO)?;
    let call = [DIRECT_REQ, ids(echo.id, forward.id), CREATED, 0, 0, 7];
    let answer = call_from(echo, crate::talk::Conduit::Smc, &call)?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "a framework message by a partition",
    )
}
