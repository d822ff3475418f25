//! Notifications: all calls that one takes, step by step.

use core::sync::atomic::{AtomicBool, Ordering};

use tantalum_agent::Command as Told;
use tantalum_partition::{
    ffa::{Registers, SMC, ids, registers},
    normal_world::gic,
    print, println,
};

use crate::{
    answer,
    commands::{Result, command_to, need_agent},
    peers::Peer,
    words::{Wrong, number, peer, wrong},
};

const BITMAP_CREATE: u64 = 0x8400_007d;
const BIND: u64 = 0x8400_007f;
const UNBIND: u64 = 0x8400_0080;
const SET: u64 = 0x8400_0081;
const GET: u64 = 0x8400_0082;
const ERROR: u64 = 0x8400_0060;

/// Of `GET`: those of partitions, and those of the normal world's machines.
const ALL: u64 = 3;

/// Makes a call for somebody: the normal world itself, or a test partition that is told to.
fn call(word: &str, who: &Peer, values: &[u64]) -> core::result::Result<Registers, Wrong> {
    let mut all = [0; 18];
    if who.id == 0 {
        all = SMC.call(&registers(values));
    } else {
        let mut words = Told::Call.words(&[0]);
        words[2..]
            .iter_mut()
            .zip(values)
            .for_each(|(slot, value)| *slot = *value);
        all[..14].copy_from_slice(&command_to(word, &words)?);
    }
    print!("  {who}: ");
    Ok(all)
}

/// Carries a call out and prints what came of it; ends the command when it failed.
fn step(word: &str, who: &Peer, what: &str, values: &[u64]) -> core::result::Result<Registers, Wrong> {
    let answer = call(word, who, values)?;
    print!("{what}: ");
    answer::summary(&answer);
    if answer[0] == ERROR {
        Err(Wrong::Said)
    } else {
        Ok(answer)
    }
}

/// `notify FROM TO BITS`: the receiver binds, the sender sets, the receiver gets.
pub fn notify(arguments: &[&str]) -> Result {
    static CREATED: AtomicBool = AtomicBool::new(false);

    let [from, to, bits] = arguments else {
        return Err(Wrong::Usage);
    };
    let (sender, receiver, bits) = (peer(from)?, peer(to)?, number(bits)?);
    if bits == 0 {
        return Err(wrong!("which ones? A bit each, for instance 0x10"));
    }
    let halves = [bits & 0xffff_ffff, bits >> 32];
    for (word, peer) in [(from, &sender), (to, &receiver)] {
        if peer.id != 0 {
            need_agent(word)?;
        }
    }
    if receiver.id == 0 && !CREATED.swap(true, Ordering::Relaxed) {
        let cores = gic::cores().count() as u64;
        step(
            to,
            &receiver,
            "FFA_NOTIFICATION_BITMAP_CREATE",
            &[BITMAP_CREATE, 0, cores],
        )?;
    }
    let pair = ids(sender.id, receiver.id);
    step(
        to,
        &receiver,
        "FFA_NOTIFICATION_BIND",
        &[BIND, pair, 0, halves[0], halves[1]],
    )?;
    let set = step(
        from,
        &sender,
        "FFA_NOTIFICATION_SET",
        &[SET, pair, 0, halves[0], halves[1]],
    );
    if set.is_ok() {
        let got = step(
            to,
            &receiver,
            "FFA_NOTIFICATION_GET",
            &[GET, u64::from(receiver.id), ALL],
        )?;
        let [partitions, machines] = [got[2] | got[3] << 32, got[4] | got[5] << 32];
        println!("    from partitions {partitions:#x}, from the normal world {machines:#x}");
    }
    step(
        to,
        &receiver,
        "FFA_NOTIFICATION_UNBIND",
        &[UNBIND, pair, 0, halves[0], halves[1]],
    )?;
    answer::acknowledge();
    Ok(())
}
