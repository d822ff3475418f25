//! `FFA_NOTIFICATION_*`: bits that endpoints raise for each other, and the interrupt that tells the normal world of them.

use tantalum_agent::{ECHO, FORWARD, RELAY, USER};
use tantalum_partition::{
    ffa::{FfaError, Outcome as Answer, Partition, SMC},
    normal_world::gic,
};

use super::tests;
use crate::{
    cores,
    report::{Outcome, check, expect_eq},
    talk::{
        BITMAP_CREATE, BITMAP_DESTROY, Conduit, FEATURES, NORMAL_WORLD, NOTIFICATION_BIND, NOTIFICATION_GET,
        NOTIFICATION_INFO_GET, NOTIFICATION_INFO_GET64, NOTIFICATION_SET, NOTIFICATION_UNBIND, SUCCESS, SUCCESS64,
        call_from, call_words, expect_error, expect_success, finish, send, smc,
    },
    world::World,
};

tests! { "notification":
    features_tell_of_the_calls_and_the_interrupt,
    bitmap_is_created_once_and_destroyed_once,
    global_one_of_a_partition_reaches_the_normal_world,
    global_one_of_the_normal_world_reaches_a_partition,
    global_one_reaches_another_partition,
    one_for_a_vcpu_reaches_that_one_only,
    one_for_a_vcpu_of_a_vm_is_told_with_the_vcpu,
    interrupt_comes_at_once_or_when_the_partition_is_done,
    interrupt_comes_on_the_core_of_the_sender,
    list_that_is_longer_than_an_answer_goes_on_in_the_next,
}

/// The schedule receiver interrupt, a feature of `FFA_FEATURES`.
const SRI_FEATURE: u64 = 2;
/// Flags.
pub(super) const PER_VCPU: u64 = 1;
pub(super) const DELAY: u64 = 2;
const FROM_PARTITIONS: u64 = 1;
const FROM_VMS: u64 = 2;
pub(super) const ALL: u64 = 0xf;
/// Some bits in both halves of the bitmap, and others.
pub(super) const BITS: u64 = 0x8000_0001_0000_0010;
pub(super) const OTHER_BITS: u64 = 0x0000_0000_8000_0001;

/// Bits 15:0.
const fn low(value: u64) -> u16 {
    (value & 0xffff) as u16
}

/// w1 of a call with two ids.
pub(super) fn ids(high: u16, low: u16) -> u64 {
    u64::from(high) << 16 | u64::from(low)
}

/// Who makes a call.
#[derive(Clone, Copy)]
pub(super) enum Caller {
    NormalWorld,
    Partition(Partition),
}
pub(super) use Caller::{NormalWorld, Partition as Secure};

impl Caller {
    pub(super) fn call(self, values: &[u64]) -> Outcome<[u64; 14]> {
        match self {
            Secure(partition) => call_from(partition, Conduit::Smc, values),
            NormalWorld => {
                let mut answer = [0; 14];
                answer.copy_from_slice(&smc(values)[..14]);
                Ok(answer)
            }
        }
    }

    pub(super) fn id(self) -> u16 {
        match self {
            NormalWorld => NORMAL_WORLD,
            Secure(partition) => partition.id,
        }
    }

    /// Makes a call about a bitmap: the function, w1, w2 and the bits.
    pub(super) fn bits(self, [function, w1, w2, bits]: [u64; 4]) -> Outcome<[u64; 14]> {
        self.call(&[function, w1, w2, bits & 0xffff_ffff, bits >> 32])
    }

    /// The bits that are pending for one of the caller's vCPUs: from partitions, from VMs, of the framework.
    pub(super) fn take(self, vcpu: u16, flags: u64) -> Outcome<[u64; 3]> {
        let answer = self.call(&[NOTIFICATION_GET, ids(vcpu, self.id()), flags])?;
        expect_eq!(answer[..2], [SUCCESS, 0], "x0 and x1 after FFA_NOTIFICATION_GET");
        let halves = &answer[2..8];
        check!(
            halves.iter().all(|half| half >> 32 == 0),
            "halves of bitmaps, got {halves:x?}"
        );
        Ok([
            halves[0] | halves[1] << 32,
            halves[2] | halves[3] << 32,
            halves[4] | halves[5] << 32,
        ])
    }
}

/// A bitmap of a VM that is gone at the end of the test, whatever is pending in it.
#[derive(Debug)]
pub(super) struct Bitmap(u16);

impl Bitmap {
    pub(super) fn new(vm: u16, vcpus: u64) -> Outcome<Self> {
        expect_success(
            &smc(&[BITMAP_CREATE, u64::from(vm), vcpus]),
            "FFA_NOTIFICATION_BITMAP_CREATE",
        )?;
        Ok(Self(vm))
    }
}

impl Drop for Bitmap {
    fn drop(&mut self) {
        for vcpu in 0..4 {
            let _ = smc(&[NOTIFICATION_GET, ids(vcpu, self.0), ALL]);
        }
        let _ = smc(&[BITMAP_DESTROY, u64::from(self.0)]);
    }
}

/// Bits that are bound until the end of the test.
pub(super) struct Bound {
    receiver: Caller,
    route: u64,
    bits: u64,
}

impl Bound {
    pub(super) fn new(sender: Caller, receiver: Caller, flags: u64, bits: u64) -> Outcome<Self> {
        let route = ids(sender.id(), receiver.id());
        let answer = receiver.bits([NOTIFICATION_BIND, route, flags, bits])?;
        expect_success(&answer, "FFA_NOTIFICATION_BIND")?;
        Ok(Self { receiver, route, bits })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        for vcpu in 0..4 {
            let get = [NOTIFICATION_GET, ids(vcpu, self.receiver.id()), ALL];
            let _ = self.receiver.call(&get);
        }
        let _ = self.receiver.bits([NOTIFICATION_UNBIND, self.route, 0, self.bits]);
        gic::disable(interrupt());
        while gic::take().is_some() {}
    }
}

/// The number of the schedule receiver interrupt.
fn interrupt() -> u32 {
    u32::from(low(smc(&[FEATURES, SRI_FEATURE])[2]))
}

/// Sets bits; the schedule receiver interrupt is to be pending in the normal world when it is back.
pub(super) fn set(sender: Caller, receiver: Caller, flags: u64, bits: u64) -> Outcome {
    gic::enable(interrupt());
    let what = "FFA_NOTIFICATION_SET";
    let values = [
        NOTIFICATION_SET,
        ids(sender.id(), receiver.id()),
        flags,
        bits & 0xffff_ffff,
        bits >> 32,
    ];
    let mut taken = false;
    let answer = match sender {
        NormalWorld => sender.call(&values)?,
        Secure(partition) => {
            // The interrupt may preempt the partition: whether it does is for another test.
            let mut answer = send(partition, call_words(Conduit::Smc, &values));
            while let Ok(Answer::Interrupted { partition, context }) = answer {
                taken |= gic::take() == Some(interrupt());
                answer = SMC.run(partition, context);
            }
            let response = finish(answer, what)?;
            let mut words = [0; 14];
            words.copy_from_slice(response.payload());
            words
        }
    };
    expect_success(&answer, what)?;
    taken |= gic::take() == Some(interrupt());
    check!(taken, "the schedule receiver interrupt");
    Ok(())
}

/// What `FFA_NOTIFICATION_INFO_GET` tells: lists of an endpoint and up to three of its vCPUs, one behind the other.
#[derive(Debug)]
struct Lists {
    more: bool,
    count: usize,
    sizes: u64,
    ids: [u16; 20],
}

impl Lists {
    fn get() -> Outcome<Self> {
        let answer = smc(&[NOTIFICATION_INFO_GET64]);
        expect_eq!(
            answer[..2],
            [SUCCESS64, 0],
            "x0 and x1 after FFA_NOTIFICATION_INFO_GET, x2 {:#x}",
            answer[2]
        );
        let mut ids = [0; 20];
        for (place, id) in ids.iter_mut().enumerate() {
            *id = low(answer[3 + place / 4] >> (place % 4 * 16));
        }
        Ok(Self {
            more: answer[2] & 1 != 0,
            count: usize::from(low(answer[2] >> 7 & 0x1f)),
            sizes: answer[2] >> 12,
            ids,
        })
    }

    /// The endpoint and the vCPUs of each list.
    fn each(&self) -> impl Iterator<Item = (u16, &[u16])> {
        let mut place = 0;
        (0..self.count).map(move |index| {
            let size = usize::from(low(self.sizes >> (2 * index) & 3));
            let list = &self.ids[place..=place + size];
            place += size + 1;
            (list[0], &list[1..])
        })
    }

    /// Fails unless this is told, and nothing else.
    fn expect(what: &[(u16, &[u16])]) -> Outcome {
        let lists = Self::get()?;
        check!(
            !lists.more && lists.each().eq(what.iter().copied()),
            "the lists {what:x?}, got {lists:x?}"
        );
        Self::expect_none()
    }

    fn expect_none() -> Outcome {
        for call in [NOTIFICATION_INFO_GET, NOTIFICATION_INFO_GET64] {
            expect_error(
                &smc(&[call]),
                FfaError::NoData,
                "FFA_NOTIFICATION_INFO_GET without news",
            )?;
        }
        Ok(())
    }
}

fn features_tell_of_the_calls_and_the_interrupt(world: &World) -> Outcome {
    for call in [
        NOTIFICATION_BIND,
        NOTIFICATION_UNBIND,
        NOTIFICATION_SET,
        NOTIFICATION_GET,
    ] {
        for caller in [NormalWorld, Secure(world.need(ECHO)?)] {
            expect_success(
                &caller.call(&[FEATURES, call])?,
                "FFA_FEATURES of a call on notifications",
            )?;
        }
    }
    for call in [
        BITMAP_CREATE,
        BITMAP_DESTROY,
        NOTIFICATION_INFO_GET,
        NOTIFICATION_INFO_GET64,
    ] {
        expect_success(&smc(&[FEATURES, call]), "FFA_FEATURES of a scheduler's call")?;
    }
    let answer = smc(&[FEATURES, SRI_FEATURE]);
    expect_eq!(
        answer[..2],
        [SUCCESS, 0],
        "x0 and x1 for the schedule receiver interrupt"
    );
    check!(
        answer[2] < 16,
        "an interrupt that software generates, got {:#x}",
        answer[2]
    );
    check!(
        gic::is_own(interrupt()),
        "an interrupt that the normal world can enable"
    );
    Ok(())
}

fn bitmap_is_created_once_and_destroyed_once(_: &World) -> Outcome {
    for vm in [0, 1, 0x7fff] {
        expect_success(&smc(&[BITMAP_CREATE, vm, 4]), "FFA_NOTIFICATION_BITMAP_CREATE")?;
        expect_error(
            &smc(&[BITMAP_CREATE, vm, 4]),
            FfaError::Denied,
            "a second FFA_NOTIFICATION_BITMAP_CREATE",
        )?;
        expect_success(&smc(&[BITMAP_DESTROY, vm]), "FFA_NOTIFICATION_BITMAP_DESTROY")?;
        expect_error(
            &smc(&[BITMAP_DESTROY, vm]),
            FfaError::Denied,
            "a second FFA_NOTIFICATION_BITMAP_DESTROY",
        )?;
    }
    Ok(())
}

fn global_one_of_a_partition_reaches_the_normal_world(world: &World) -> Outcome {
    let forward = Secure(world.need(FORWARD)?);
    let _bitmap = Bitmap::new(NORMAL_WORLD, 1)?;
    let _bound = Bound::new(forward, NormalWorld, 0, BITS)?;
    Lists::expect_none()?;
    for flags in [0, DELAY] {
        set(forward, NormalWorld, flags, BITS)?;
        Lists::expect(&[(NORMAL_WORLD, &[])])?;
        expect_eq!(NormalWorld.take(0, FROM_VMS)?, [0, 0, 0], "what is pending from VMs");
        expect_eq!(NormalWorld.take(0, FROM_PARTITIONS)?, [BITS, 0, 0], "what is pending");
        expect_eq!(NormalWorld.take(0, ALL)?, [0; 3], "what is pending after that");
    }
    // What was told and not taken is told again only when there is more.
    set(forward, NormalWorld, 0, 0x10)?;
    Lists::expect(&[(NORMAL_WORLD, &[])])?;
    set(forward, NormalWorld, 0, 1 << 63)?;
    Lists::expect(&[(NORMAL_WORLD, &[])])?;
    expect_eq!(NormalWorld.take(0, ALL)?, [0x10 | 1 << 63, 0, 0], "what is pending");
    Ok(())
}

fn global_one_of_the_normal_world_reaches_a_partition(world: &World) -> Outcome {
    for partition in [world.need(FORWARD)?, world.need(ECHO)?, world.need(USER)?] {
        let receiver = Secure(partition);
        let _bound = Bound::new(NormalWorld, receiver, 0, BITS)?;
        for flags in [0, DELAY] {
            set(NormalWorld, receiver, flags, BITS)?;
            Lists::expect(&[(partition.id, &[])])?;
            expect_eq!(
                receiver.take(0, FROM_PARTITIONS)?,
                [0; 3],
                "what is pending from partitions"
            );
            expect_eq!(receiver.take(0, FROM_VMS)?, [0, BITS, 0], "what is pending from VMs");
        }
    }
    Lists::expect_none()
}

fn global_one_reaches_another_partition(world: &World) -> Outcome {
    let (echo, forward) = (world.need(ECHO)?, world.need(FORWARD)?);
    // The sender needs no notifications of its own.
    for sender in [forward, world.need(RELAY)?, world.need(USER)?] {
        let _bound = Bound::new(Secure(sender), Secure(echo), 0, BITS)?;
        set(Secure(sender), Secure(echo), DELAY, BITS)?;
        Lists::expect(&[(echo.id, &[])])?;
        expect_eq!(Secure(echo).take(0, ALL)?, [BITS, 0, 0], "what is pending");
    }
    Lists::expect_none()
}

/// What is pending for the vCPU of the core that this runs on: a job for a core. The argument is the receiver.
fn take_here(core: usize, receiver: u64) -> u64 {
    let get = [NOTIFICATION_GET, (core as u64) << 16 | receiver, FROM_VMS];
    let words = tantalum_agent::Command::Call.words(&[0, get[0], get[1], get[2]]);
    let answer = SMC.direct_req2(NORMAL_WORLD, low(receiver), ECHO, words);
    match finish(answer, "FFA_NOTIFICATION_GET on its core") {
        Ok(response) => response.payload()[4] | response.payload()[5] << 32,
        Err(_) => u64::MAX,
    }
}

fn one_for_a_vcpu_reaches_that_one_only(world: &World) -> Outcome {
    let partition = world.need(ECHO)?;
    let echo = Secure(partition);
    let _bound = Bound::new(NormalWorld, echo, PER_VCPU, BITS)?;
    let _global = Bound::new(NormalWorld, echo, 0, OTHER_BITS)?;
    let last = low(world.cores as u64 - 1);
    set(NormalWorld, echo, PER_VCPU | u64::from(last) << 16, 0x10)?;
    Lists::expect(&[(partition.id, &[last])])?;
    // All vCPUs, and something global: the endpoint on its own, and its vCPUs, three in a list.
    for vcpu in 0..4 {
        set(NormalWorld, echo, PER_VCPU | vcpu << 16, 1 << 63)?;
    }
    set(NormalWorld, echo, 0, OTHER_BITS)?;
    Lists::expect(&[(partition.id, &[]), (partition.id, &[0, 1, 2]), (partition.id, &[3])])?;
    for core in 0..world.cores {
        let mut expected = 1 << 63;
        if core == 0 {
            expected |= OTHER_BITS;
        }
        if core == usize::from(last) {
            expected |= 0x10;
        }
        let id = u64::from(partition.id);
        let pending = if core == 0 {
            take_here(0, id)
        } else {
            cores::run_on(core, take_here, id)?;
            cores::wait_for(core, 10_000)?
        };
        expect_eq!(pending, expected, "what is pending for vCPU {core}");
    }
    Ok(())
}

fn one_for_a_vcpu_of_a_vm_is_told_with_the_vcpu(world: &World) -> Outcome {
    let forward = Secure(world.need(FORWARD)?);
    let _bitmap = Bitmap::new(NORMAL_WORLD, 4)?;
    let _bound = Bound::new(forward, NormalWorld, PER_VCPU, BITS)?;
    for vcpu in [2, 0] {
        set(forward, NormalWorld, PER_VCPU | DELAY | vcpu << 16, BITS)?;
    }
    Lists::expect(&[(NORMAL_WORLD, &[0, 2])])?;
    for (vcpu, bits) in [(1, 0), (2, BITS), (3, 0), (0, BITS)] {
        expect_eq!(
            NormalWorld.take(vcpu, ALL)?,
            [bits, 0, 0],
            "what is pending for vCPU {vcpu}"
        );
    }
    for (call, w1) in [
        (NOTIFICATION_GET, ids(4, NORMAL_WORLD)),
        (NOTIFICATION_GET, ids(0xffff, 0)),
    ] {
        expect_error(
            &smc(&[call, w1, ALL]),
            FfaError::InvalidParameters,
            "FFA_NOTIFICATION_GET of a vCPU that the VM has not",
        )?;
    }
    let answer = forward.bits([NOTIFICATION_SET, ids(forward.id(), 0), PER_VCPU | 4 << 16, BITS])?;
    expect_error(
        &answer,
        FfaError::InvalidParameters,
        "FFA_NOTIFICATION_SET for a vCPU that the VM has not",
    )
}

fn interrupt_comes_at_once_or_when_the_partition_is_done(world: &World) -> Outcome {
    let partition = world.need(FORWARD)?;
    let forward = Secure(partition);
    let _bitmap = Bitmap::new(NORMAL_WORLD, 1)?;
    let _bound = Bound::new(forward, NormalWorld, 0, BITS)?;
    gic::enable(interrupt());
    for (flags, preempts) in [(0, true), (DELAY, false)] {
        let values = [
            NOTIFICATION_SET,
            ids(partition.id, 0),
            flags,
            BITS & 0xffff_ffff,
            BITS >> 32,
        ];
        let answer = send(partition, call_words(Conduit::Smc, &values));
        let preempted = matches!(answer, Ok(Answer::Interrupted { .. }));
        let taken = gic::take();
        let response = finish(answer, "FFA_NOTIFICATION_SET in a partition")?;
        expect_success(response.payload(), "FFA_NOTIFICATION_SET in a partition")?;
        expect_eq!(
            preempted,
            preempts,
            "whether flags {flags:#x} let the partition be preempted"
        );
        expect_eq!(taken, Some(interrupt()), "the interrupt that the normal world finds");
        expect_eq!(gic::take(), None, "the interrupt after that");
        let _ = NormalWorld.take(0, ALL)?;
    }
    Ok(())
}

/// Sets a notification from the core that this runs on: a job for a core. The argument is w1. Returns the interrupt that comes, or 0.
fn set_here(_: usize, route: u64) -> u64 {
    let interrupt = interrupt();
    gic::enable(interrupt);
    let answer = smc(&[NOTIFICATION_SET, route, 0, 1, 0]);
    let taken = gic::take().map_or(0, u64::from);
    gic::disable(interrupt);
    if answer[0] == SUCCESS { taken } else { u64::MAX }
}

fn interrupt_comes_on_the_core_of_the_sender(world: &World) -> Outcome {
    world.need_two_cores()?;
    let forward = Secure(world.need(FORWARD)?);
    let _bound = Bound::new(NormalWorld, forward, 0, 1)?;
    let last = world.cores - 1;
    for _ in 0..2 {
        gic::enable(interrupt());
        cores::run_on(last, set_here, ids(NORMAL_WORLD, forward.id()))?;
        expect_eq!(
            cores::wait_for(last, 10_000)?,
            u64::from(interrupt()),
            "the interrupt that core {last} finds"
        );
        expect_eq!(gic::take(), None, "the interrupt that this core finds");
        expect_eq!(forward.take(0, ALL)?, [0, 1, 0], "what is pending");
        // The firmware sets the interrupts of a core up anew when it comes on.
        check!(
            cores::turn_off(last) && cores::turn_on(last),
            "core {last} to go off and come on"
        );
    }
    Ok(())
}

fn list_that_is_longer_than_an_answer_goes_on_in_the_next(world: &World) -> Outcome {
    const VMS: u16 = 15;
    let forward = Secure(world.need(FORWARD)?);
    let mut bitmaps = [const { None }; VMS as usize];
    for (vm, slot) in (1..).zip(&mut bitmaps) {
        *slot = Some(Bitmap::new(vm, 4)?);
        let route = ids(forward.id(), vm);
        let bound = smc(&[NOTIFICATION_BIND, route, PER_VCPU, 1, 0]);
        expect_success(&bound, "FFA_NOTIFICATION_BIND for a VM")?;
        let answer = forward.bits([NOTIFICATION_SET, route, PER_VCPU | DELAY | 3 << 16, 1])?;
        expect_success(&answer, "FFA_NOTIFICATION_SET for a VM")?;
    }
    let first = Lists::get()?;
    check!(
        first.more && first.count == 10,
        "ten lists and more to come, got {first:x?}"
    );
    let second = Lists::get()?;
    check!(!second.more, "no more to come, got {second:x?}");
    let mut told = 0_u32;
    for (vm, vcpus) in first.each().chain(second.each()) {
        check!(
            vcpus == [3] && told & 1 << vm == 0,
            "each VM once with its vCPU, got {vm}: {vcpus:x?}"
        );
        told |= 1 << vm;
    }
    expect_eq!(told, (1 << (VMS + 1)) - 2, "the VMs that were told of, as a mask");
    Lists::expect_none()
}
