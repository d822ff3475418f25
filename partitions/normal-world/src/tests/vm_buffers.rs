//! Buffers that a hypervisor passes on for its virtual machines.

use tantalum_agent::{ECHO, FORWARD};
use tantalum_partition::ffa::{FfaError, Uuid};

use super::{
    indirect::{exchange, send, write},
    tests,
};
use crate::{
    buffers::{ECHO_BASE, FORWARD_BASE, NORMAL_WORLD, PAGE, Pair},
    report::{Outcome, check},
    talk::{RX_ACQUIRE, RX_RELEASE, RXTX_MAP64, RXTX_UNMAP, SUCCESS, expect_error, expect_success, smc},
    world::World,
};

tests! { "vm_buffers":
    are_mapped_once_and_unmapped_once,
    are_those_of_the_normal_world,
    descriptors_that_cannot_be,
    rx_is_acquired_and_released_in_turn,
    are_as_many_as_there_is_room_for,
    hypervisor_without_buffers_has_nothing_to_describe,
}

fn are_mapped_once_and_unmapped_once(_: &World) -> Outcome {
    let hypervisor = Pair::of_normal_world()?;
    let pair = Pair::of_vm(&hypervisor, 1)?;
    hypervisor.describe(1, NORMAL_WORLD + 8 * PAGE, NORMAL_WORLD + 9 * PAGE)?;
    expect_error(
        &smc(&[RXTX_MAP64]),
        FfaError::Denied,
        "FFA_RXTX_MAP of a second pair of a VM",
    )?;
    expect_success(&smc(&[RXTX_UNMAP, 1 << 16]), "FFA_RXTX_UNMAP for a VM")?;
    let what = "FFA_RXTX_UNMAP for a VM that has no pair";
    for vm in [1, 2, 0x8000] {
        expect_error(&smc(&[RXTX_UNMAP, vm << 16]), FfaError::InvalidParameters, what)?;
    }
    drop(pair);
    expect_success(
        &hypervisor.call(&[RXTX_UNMAP])?,
        "FFA_RXTX_UNMAP of the hypervisor's own",
    )
}

fn are_those_of_the_normal_world(world: &World) -> Outcome {
    let hypervisor = Pair::of_normal_world()?;
    let echo = world.need(ECHO)?;
    check!(echo.contexts > 0, "a partition whose memory to try");
    let own = NORMAL_WORLD + 4 * PAGE;
    for other in [ECHO_BASE, 0x0e00_2000, 0x0e10_0000, 0x0900_0000] {
        for (tx, rx) in [(own, other), (other, own)] {
            hypervisor.describe(1, tx, rx)?;
            expect_error(
                &smc(&[RXTX_MAP64]),
                FfaError::Denied,
                "FFA_RXTX_MAP of memory that is not a VM's",
            )?;
        }
    }
    Ok(())
}

fn descriptors_that_cannot_be(_: &World) -> Outcome {
    let hypervisor = Pair::of_normal_world()?;
    let (tx, rx) = (NORMAL_WORLD + 4 * PAGE, NORMAL_WORLD + 5 * PAGE);
    let good = [1 | 16 << 32, 48, 1 | 1 << 32, 0, rx, 1, 1 | 1 << 32, 0, tx, 1];
    for (index, word) in [
        (0, 16 << 32),
        (0, 0x8001 | 16 << 32),
        (0, 0x1_0001 | 16 << 32),
        (0, 1 | 20 << 32),
        (0, 1 | PAGE << 32),
        (1, 0xffff_ffff),
        (2, 2 | 1 << 32),
        (2, 1),
        (4, rx + 8),
        (4, tx),
        (5, 0),
        (5, 2),
        (9, 0x40),
    ] {
        let mut words = good;
        words[index] = word;
        hypervisor.send(&words)?;
        expect_error(
            &smc(&[RXTX_MAP64]),
            FfaError::InvalidParameters,
            "FFA_RXTX_MAP of a descriptor that cannot be",
        )?;
    }
    hypervisor.send(&good)?;
    expect_success(&smc(&[RXTX_MAP64]), "FFA_RXTX_MAP of a good descriptor")?;
    expect_success(&smc(&[RXTX_UNMAP, 1 << 16]), "FFA_RXTX_UNMAP for a VM")
}

fn rx_is_acquired_and_released_in_turn(world: &World) -> Outcome {
    let hypervisor = Pair::of_normal_world()?;
    let vm = Pair::of_vm(&hypervisor, 1)?;
    let forward = Pair::of_partition(world.need(FORWARD)?, FORWARD_BASE)?;
    for id in [0, 1] {
        expect_error(
            &smc(&[RX_RELEASE, id]),
            FfaError::Denied,
            "FFA_RX_RELEASE of an empty RX",
        )?;
        expect_success(&smc(&[RX_ACQUIRE, id]), "FFA_RX_ACQUIRE of an empty RX")?;
        expect_error(&smc(&[RX_ACQUIRE, id]), FfaError::Denied, "a second FFA_RX_ACQUIRE")?;
        write(&forward, id, Uuid::nil())?;
        expect_error(
            &send(&forward)?,
            FfaError::Busy,
            "FFA_MSG_SEND2 to an RX that the hypervisor has",
        )?;
        expect_success(&smc(&[RX_RELEASE, id]), "FFA_RX_RELEASE of an RX that was acquired")?;
    }
    exchange(&forward, &vm, Uuid::nil())?;
    for w1 in [2, forward.id(), 0x1_0000, 0x1_0001] {
        for call in [RX_ACQUIRE, RX_RELEASE] {
            expect_error(&smc(&[call, w1]), FfaError::InvalidParameters, "an RX that cannot be")?;
        }
    }
    expect_error(
        &forward.call(&[RX_ACQUIRE])?,
        FfaError::NotSupported,
        "FFA_RX_ACQUIRE by a partition",
    )
}

fn are_as_many_as_there_is_room_for(_: &World) -> Outcome {
    let hypervisor = Pair::of_normal_world()?;
    let mut made = 0;
    loop {
        let tx = NORMAL_WORLD + (made + 1) * 2 * PAGE;
        hypervisor.describe(made + 1, tx, tx + PAGE)?;
        let answer = smc(&[RXTX_MAP64]);
        if answer[0] != SUCCESS || made == 100 {
            expect_error(&answer, FfaError::NoMemory, "FFA_RXTX_MAP for one VM too many")?;
            break;
        }
        made += 1;
    }
    check!((16..100).contains(&made), "room for 16 VMs or some more, got {made}");
    for vm in 1..=made {
        expect_success(&smc(&[RXTX_UNMAP, vm << 16]), "FFA_RXTX_UNMAP for a VM")?;
    }
    Ok(())
}

fn hypervisor_without_buffers_has_nothing_to_describe(_: &World) -> Outcome {
    expect_error(
        &smc(&[RXTX_MAP64]),
        FfaError::InvalidParameters,
        "FFA_RXTX_MAP for a VM without own buffers",
    )
}
