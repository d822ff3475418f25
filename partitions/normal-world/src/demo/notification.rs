//! A partition has news for the normal world.

use tantalum_agent::FORWARD;
use tantalum_partition::{
    ffa::{Outcome as Answer, SMC, ids},
    normal_world::gic,
    println,
};

use crate::{
    report::{Outcome, check, expect_eq, fail},
    talk::{
        BITMAP_CREATE, BITMAP_DESTROY, Conduit, FEATURES, NORMAL_WORLD, NOTIFICATION_BIND, NOTIFICATION_GET,
        NOTIFICATION_INFO_GET, NOTIFICATION_SET, NOTIFICATION_UNBIND, SUCCESS, call_words, expect_success, finish,
        send, smc,
    },
    world::World,
};

/// The schedule receiver interrupt, a feature of `FFA_FEATURES`.
const SRI_FEATURE: u64 = 2;
/// The notification.
const BIT: u64 = 1 << 5;
/// Of `FFA_NOTIFICATION_GET`: those of partitions.
const FROM_PARTITIONS: u64 = 1;

/// The partition forward raises a notification, an interrupt tells the normal world, which gets it.
pub fn notify(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    let route = ids(forward.id, NORMAL_WORLD);
    expect_success(
        &smc(&[BITMAP_CREATE, 0, world.cores as u64]),
        "FFA_NOTIFICATION_BITMAP_CREATE",
    )?;
    expect_success(&smc(&[NOTIFICATION_BIND, route, 0, BIT, 0]), "FFA_NOTIFICATION_BIND")?;
    let interrupt = (smc(&[FEATURES, SRI_FEATURE])[2] & 0xff) as u32;
    gic::enable(interrupt);
    let mut answer = send(forward, call_words(Conduit::Smc, &[NOTIFICATION_SET, route, 0, BIT, 0]));
    let mut came = false;
    while let Ok(Answer::Interrupted { partition, context }) = answer {
        came |= gic::take() == Some(interrupt);
        answer = SMC.run(partition, context);
    }
    let response = finish(answer, "a partition that sets a notification")?;
    expect_eq!(
        response.payload()[0],
        SUCCESS,
        "x0 after forward's FFA_NOTIFICATION_SET"
    );
    came |= gic::take() == Some(interrupt);
    gic::disable(interrupt);
    check!(came || !gic::is_own(interrupt), "the schedule receiver interrupt");
    if came {
        println!(
            "    FFA_NOTIFICATION_SET by forward: interrupt {interrupt} tells the normal world that there is news"
        );
    } else {
        println!(
            "    FFA_NOTIFICATION_SET by forward (the firmware keeps interrupt {interrupt}, which would tell of it, for itself)"
        );
    }
    let news = smc(&[NOTIFICATION_INFO_GET]);
    if news[0] & 0xff != SUCCESS & 0xff {
        fail!("FFA_NOTIFICATION_INFO_GET: {:x?}", &news[..4]);
    }
    let got = smc(&[NOTIFICATION_GET, 0, FROM_PARTITIONS]);
    expect_eq!(got[2], BIT, "the notifications of partitions");
    println!("    FFA_NOTIFICATION_INFO_GET, FFA_NOTIFICATION_GET: it is {BIT:#x}, of a partition");
    expect_success(
        &smc(&[NOTIFICATION_UNBIND, route, 0, BIT, 0]),
        "FFA_NOTIFICATION_UNBIND",
    )?;
    expect_success(&smc(&[BITMAP_DESTROY, 0]), "FFA_NOTIFICATION_BITMAP_DESTROY")
}
