//! FFA_NOTIFICATION_* (FF-A 1.2, chapters 10 and 16).

use tantalum_core::{machine::fake::FakeMachine, spmc::Spmc};

use crate::support::*;

const CREATE: u64 = 0x8400_007d;
const DESTROY: u64 = 0x8400_007e;
const BIND: u64 = 0x8400_007f;
const UNBIND: u64 = 0x8400_0080;
const SET: u64 = 0x8400_0081;
const GET: u64 = 0x8400_0082;
const INFO_GET: u64 = 0x8400_0083;
const INFO_GET_64: u64 = 0xc400_0083;
const NO_MEMORY: i32 = -3;
const NO_DATA: i32 = -9;

const PER_VCPU: u64 = 1;
const DELAY: u64 = 2;
const ALL: u64 = 0xf;
/// In both halves of a bitmap.
const BITS: u64 = 0x8000_0000_0000_0011;
/// A partition without notifications.
const D: u64 = 0x8004;
/// An id that nobody has.
const NOBODY: u64 = 0x8009;

/// a and b have a context on each of four PEs, c one; all have notifications, d has none.
fn system() -> (Spmc, FakeMachine) {
    Builder::new(4)
        .partition_with("a", PartitionBuilder::indirect)
        .partition_with("b", PartitionBuilder::indirect)
        .partition_with("c", |c| c.indirect().migratable())
        .partition("d")
        .build()
}

/// w1 to w4 of a call about a bitmap.
fn call(function: u64, w1: u64, w2: u64, bits: u64) -> [u64; 5] {
    [function, w1, w2, bits & 0xffff_ffff, bits >> 32]
}

/// What FFA_NOTIFICATION_GET returns.
fn pending(partitions: u64, vms: u64, framework: u64) -> [u64; 8] {
    let low = |bits: u64| bits & 0xffff_ffff;
    let [p, v] = [partitions, vms].map(|bits| (low(bits), bits >> 32));
    [SUCCESS, 0, p.0, p.1, v.0, v.1, framework, 0]
}

/// Makes a call that is answered at once: by the normal world (0), or by a partition on PE 0 that works for it.
fn by(system: &mut System<'_>, caller: u64, registers: &[u64]) -> [u64; 8] {
    if caller & 0x8000 == 0 {
        system.nwd(0, registers);
        assert_eq!(system.owner(0), NWD);
        return system.regs(0);
    }
    system.ask(0, caller);
    system.smc(0, registers);
    assert_eq!(system.owner(0), runs(caller, 0));
    let answer = system.regs(0);
    system.respond(0, caller, 0);
    answer
}

#[track_caller]
fn binds(system: &mut System<'_>, sender: u64, receiver: u64, flags: u64, bits: u64) {
    let answer = by(system, receiver, &call(BIND, route(sender, receiver), flags, bits));
    assert_eq!(answer, success(0));
}

#[track_caller]
fn sets(system: &mut System<'_>, sender: u64, receiver: u64, flags: u64, bits: u64) {
    let answer = by(system, sender, &call(SET, route(sender, receiver), flags, bits));
    assert_eq!(answer, success(0));
}

#[track_caller]
fn gets(system: &mut System<'_>, receiver: u64, vcpu: u64, flags: u64) -> [u64; 8] {
    by(system, receiver, &[GET, route(vcpu, receiver), flags])
}

/// What FFA_NOTIFICATION_INFO_GET of 64 bits tells: whether there is more, and each list.
fn told(system: &mut System<'_>) -> (bool, Vec<Vec<u64>>) {
    system.nwd(0, &[INFO_GET_64]);
    let [x0, x1, x2, ids @ ..] = system.regs(0);
    assert_eq!((x0, x1), (SUCCESS_64, 0), "{x2:#x}");
    let mut ids = ids
        .iter()
        .flat_map(|x| (0..4).map(move |place| x >> (16 * place) & 0xffff));
    let lists = (0..x2 >> 7 & 0x1f).map(|index| {
        let vcpus = x2 >> (12 + 2 * index) & 3;
        ids.by_ref().take(1 + usize::try_from(vcpus).expect("small")).collect()
    });
    let lists = lists.collect();
    assert!(ids.all(|id| id == 0), "what is not used is zero");
    assert_eq!(x2 & 0x7e, 0);
    (x2 & 1 != 0, lists)
}

#[track_caller]
fn nothing_is_told(system: &mut System<'_>) {
    for call in [INFO_GET, INFO_GET_64] {
        system.nwd_fails(0, &[call], NO_DATA);
    }
}

#[test]
fn bitmap_is_created_once_and_destroyed_once() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for vm in [0, 1, 0x7fff] {
        assert_eq!(by(&mut system, 0, &[CREATE, vm, 4]), success(0));
        system.nwd_fails(0, &[CREATE, vm, 4], DENIED);
        assert_eq!(by(&mut system, 0, &[DESTROY, vm]), success(0));
        system.nwd_fails(0, &[DESTROY, vm], DENIED);
    }
}

#[test]
fn bitmaps_that_cannot_be() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for [vm, vcpus] in [[0x8000, 1], [A, 1], [0x1_0001, 1], [1, 0]] {
        system.nwd_fails(0, &[CREATE, vm, vcpus], INVALID_PARAMETERS);
        system.nwd_fails(0, &[DESTROY, vm], if vm == 1 { DENIED } else { INVALID_PARAMETERS });
    }
    // 16 vCPUs fit where there are fewer PEs, and 16 VMs.
    system.nwd_fails(0, &[CREATE, 1, 17], NO_MEMORY);
    system.nwd_fails(0, &[CREATE, 1, 0xffff_ffff], NO_MEMORY);
    for vm in 0..16 {
        assert_eq!(by(&mut system, 0, &[CREATE, vm, 16]), success(0));
    }
    system.nwd_fails(0, &[CREATE, 16, 1], NO_MEMORY);
    assert_eq!(by(&mut system, 0, &[DESTROY, 7]), success(0));
    assert_eq!(by(&mut system, 0, &[CREATE, 16, 1]), success(0));
}

#[test]
fn bitmap_with_something_pending_is_not_destroyed() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    by(&mut system, 0, &[CREATE, 1, 2]);
    for (flags, vcpu) in [(0, 0), (PER_VCPU | 1 << 16, 1)] {
        assert_eq!(by(&mut system, 0, &call(BIND, route(A, 1), flags & 1, 1)), success(0));
        sets(&mut system, A, 1, flags, 1);
        system.nwd_fails(0, &[DESTROY, 1], DENIED);
        assert_eq!(by(&mut system, 0, &[GET, route(vcpu, 1), ALL]), pending(1, 0, 0));
        assert_eq!(by(&mut system, 0, &call(UNBIND, route(A, 1), 0, 1)), success(0));
    }
    // What the VM had bound is gone with it, so that another one of that id begins with nothing.
    assert_eq!(by(&mut system, 0, &call(BIND, route(A, 1), 0, 1)), success(0));
    binds(&mut system, 1, B, 0, 1);
    assert_eq!(by(&mut system, 0, &[DESTROY, 1]), success(0));
    by(&mut system, 0, &[CREATE, 1, 2]);
    assert_eq!(by(&mut system, A, &call(SET, route(A, 1), 0, 1)), error(DENIED));
    assert_eq!(by(&mut system, 0, &call(SET, route(1, B), 0, 1)), error(DENIED));
}

#[test]
fn global_ones_are_taken_by_any_vcpu_once() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    by(&mut system, 0, &[CREATE, 0, 4]);
    for (sender, receiver) in [(A, 0), (0, A), (A, B), (B, C), (C, B), (D, A)] {
        let got = |bits| {
            if sender & 0x8000 == 0 {
                pending(0, bits, 0)
            } else {
                pending(bits, 0, 0)
            }
        };
        let (own, other) = if sender & 0x8000 == 0 { (2, 1) } else { (1, 2) };
        binds(&mut system, sender, receiver, 0, BITS);
        let before = system.machine.schedule_receiver_raised;
        sets(&mut system, sender, receiver, 0, 1);
        sets(&mut system, sender, receiver, DELAY, 0x10 | 1 << 63);
        assert_eq!(system.machine.schedule_receiver_raised, before + 2);
        assert_eq!(told(&mut system), (false, vec![vec![receiver]]));
        nothing_is_told(&mut system);
        let last = if receiver == C { 0 } else { 3 };
        assert_eq!(gets(&mut system, receiver, last, other | 4 | 8), pending(0, 0, 0));
        assert_eq!(gets(&mut system, receiver, last, own), got(BITS));
        assert_eq!(gets(&mut system, receiver, 0, ALL), pending(0, 0, 0));
        let unbind = call(UNBIND, route(sender, receiver), 0, BITS);
        assert_eq!(by(&mut system, receiver, &unbind), success(0));
    }
}

#[test]
fn those_for_a_vcpu_are_taken_by_that_one() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    by(&mut system, 0, &[CREATE, 5, 4]);
    for (sender, receiver) in [(A, B), (0, B), (A, 5)] {
        let got = |bits| {
            if sender & 0x8000 == 0 {
                pending(0, bits, 0)
            } else {
                pending(bits, 0, 0)
            }
        };
        let caller = receiver & 0x8000 | if receiver & 0x8000 == 0 { 0 } else { receiver };
        let bind = call(BIND, route(sender, receiver), PER_VCPU, BITS);
        assert_eq!(by(&mut system, caller, &bind), success(0));
        sets(&mut system, sender, receiver, PER_VCPU | 2 << 16, BITS);
        sets(&mut system, sender, receiver, PER_VCPU, 1);
        assert_eq!(told(&mut system), (false, vec![vec![receiver, 0, 2]]));
        for (vcpu, bits) in [(1, 0), (3, 0), (2, BITS), (0, 1), (2, 0)] {
            let answer = by(&mut system, caller, &[GET, route(vcpu, receiver), ALL]);
            assert_eq!(answer, got(bits), "vCPU {vcpu}");
        }
        let answer = by(&mut system, caller, &[GET, route(4, receiver), ALL]);
        assert_eq!(answer, error(INVALID_PARAMETERS));
        let set = call(SET, route(sender, receiver), PER_VCPU | 4 << 16, BITS);
        assert_eq!(by(&mut system, sender, &set), error(INVALID_PARAMETERS));
    }
}

#[test]
fn interrupt_waits_until_the_partition_is_done_if_it_says_so() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    binds(&mut system, A, B, 0, 3);
    let before = system.machine.schedule_receiver_raised;
    let raised = |system: &mut System<'_>| system.machine.schedule_receiver_raised - before;
    system.ask(0, A);
    system.smc(0, &call(SET, route(A, B), DELAY, 1));
    assert_eq!(raised(&mut system), 0);
    system.respond(0, A, 0);
    assert_eq!(raised(&mut system), 1);
    system.ask(0, A);
    system.smc(0, &call(SET, route(A, B), 0, 2));
    assert_eq!(raised(&mut system), 2);
    system.respond(0, A, 0);
    assert_eq!(raised(&mut system), 2);
    // One that was refused raises none.
    assert_eq!(by(&mut system, A, &call(SET, route(A, B), 0, 4)), error(DENIED));
    assert_eq!(raised(&mut system), 2);
}

#[test]
fn what_was_told_is_told_again_when_there_is_more() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    binds(&mut system, A, B, 0, BITS);
    sets(&mut system, A, B, 0, 1);
    assert_eq!(told(&mut system).1, [[B]]);
    sets(&mut system, A, B, 0, 1);
    nothing_is_told(&mut system);
    sets(&mut system, A, B, 0, 0x10);
    assert_eq!(told(&mut system).1, [[B]]);
    assert_eq!(gets(&mut system, B, 0, ALL), pending(0x11, 0, 0));
    sets(&mut system, A, B, 0, 1);
    assert_eq!(told(&mut system).1, [[B]]);
}

#[test]
fn list_that_does_not_fit_goes_on_in_the_next_answer() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for vm in 1..=12 {
        by(&mut system, 0, &[CREATE, vm, 4]);
        assert_eq!(by(&mut system, 0, &call(BIND, route(A, vm), PER_VCPU, 1)), success(0));
        for vcpu in 0..3 {
            sets(&mut system, A, vm, PER_VCPU | vcpu << 16, 1);
        }
    }
    let mut seen = Vec::new();
    for (more, lists) in [(true, 5), (true, 5), (false, 2)] {
        let (got, told) = told(&mut system);
        assert_eq!((got, told.len()), (more, lists));
        assert!(told.iter().all(|list| list[1..] == [0, 1, 2]));
        seen.extend(told.iter().map(|list| list[0]));
    }
    nothing_is_told(&mut system);
    seen.sort_unstable();
    assert_eq!(seen, (1..=12).collect::<Vec<_>>());
}

#[test]
fn answer_of_32_bits_has_room_for_ten_ids() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    binds(&mut system, A, B, 0, 1);
    binds(&mut system, A, B, PER_VCPU, 2);
    sets(&mut system, A, B, 0, 1);
    for vcpu in 0..4 {
        sets(&mut system, A, B, PER_VCPU | vcpu << 16, 2);
    }
    system.nwd(0, &[INFO_GET]);
    // Three lists: b; b with vCPUs 0 to 2; b with vCPU 3.
    let header = 3 << 7 | 3 << 14 | 1 << 16;
    assert_eq!(
        system.regs(0),
        [SUCCESS, 0, header, B | B << 16, 1 << 16, 2 | B << 16, 3, 0]
    );
    // Five VMs with a vCPU each fill another one; the sixth has to wait.
    for vm in 1..=6 {
        by(&mut system, 0, &[CREATE, vm, 4]);
        assert_eq!(by(&mut system, 0, &call(BIND, route(A, vm), PER_VCPU, 1)), success(0));
        sets(&mut system, A, vm, PER_VCPU | 3 << 16, 1);
    }
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[2], 1 | 5 << 7 | 0x155 << 12);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[2], 1 << 7 | 1 << 12);
    nothing_is_told(&mut system);
}

#[test]
fn bits_are_bound_to_one_sender_only() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    binds(&mut system, A, B, 0, BITS);
    for (sender, flags, bits) in [(A, 0, BITS), (A, PER_VCPU, 1), (C, 0, 1 << 63), (C, 0, 2 | 0x10)] {
        let bind = call(BIND, route(sender, B), flags, bits);
        assert_eq!(by(&mut system, B, &bind), error(DENIED), "{bits:#x}");
    }
    // Nothing of a refused one is bound, and VMs have bits of their own.
    binds(&mut system, C, B, 0, 2);
    binds(&mut system, 0, B, 0, BITS);
    for (sender, flags, bits) in [
        (C, 0, 1),
        (A, PER_VCPU, 1),
        (A, 0, BITS | 2),
        (A, 0, 4),
        (0, 0, 2),
        (D, 0, 1),
    ] {
        let set = call(SET, route(sender, B), flags, bits);
        assert_eq!(by(&mut system, sender, &set), error(DENIED), "{bits:#x}");
    }
    for (sender, bits) in [(C, 1), (A, BITS | 2), (A, 4), (D, 1)] {
        let unbind = call(UNBIND, route(sender, B), 0, bits);
        assert_eq!(by(&mut system, B, &unbind), error(DENIED), "{bits:#x}");
    }
    assert_eq!(gets(&mut system, B, 0, ALL), pending(0, 0, 0));
    nothing_is_told(&mut system);
}

#[test]
fn pending_ones_are_not_unbound() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for (flags, vcpu) in [(0, 0), (PER_VCPU | 2 << 16, 2)] {
        binds(&mut system, A, B, flags & 1, BITS);
        sets(&mut system, A, B, flags, 0x10);
        let unbind = |bits| call(UNBIND, route(A, B), 0, bits);
        assert_eq!(by(&mut system, B, &unbind(BITS)), error(DENIED));
        assert_eq!(by(&mut system, B, &unbind(1)), success(0));
        assert_eq!(gets(&mut system, B, vcpu, ALL), pending(0x10, 0, 0));
        assert_eq!(by(&mut system, B, &unbind(BITS & !1)), success(0));
        assert_eq!(by(&mut system, A, &call(SET, route(A, B), flags, 0x10)), error(DENIED));
    }
    // Bits of both kinds are unbound together.
    binds(&mut system, A, B, 0, 1);
    binds(&mut system, A, B, PER_VCPU, 2);
    assert_eq!(by(&mut system, B, &call(UNBIND, route(A, B), 0, 3)), success(0));
}

#[test]
fn ids_and_flags_that_cannot_be() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    by(&mut system, 0, &[CREATE, 0, 1]);
    binds(&mut system, A, B, 0, BITS);
    binds(&mut system, A, 0, 0, BITS);
    for (caller, registers) in [
        (B, call(BIND, route(A, B), 2, 2)),
        (B, call(BIND, route(A, B), 1 << 31, 2)),
        (B, call(BIND, route(A, B), 0, 0)),
        (B, call(BIND, route(B, B), 0, 2)),
        (B, call(BIND, route(NOBODY, B), 0, 2)),
        (B, call(BIND, route(A, C), 0, 2)),
        (B, call(BIND, route(A, 0), 0, 2)),
        (0, call(BIND, route(A, B), 0, 2)),
        (0, call(BIND, route(A, 9), 0, 2)),
        (0, call(BIND, route(1, 0), 0, 2)),
        (0, call(BIND, route(A, NOBODY), 0, 2)),
        (B, call(UNBIND, route(A, B), 1, BITS)),
        (B, call(UNBIND, route(A, B), 0, 0)),
        (B, call(UNBIND, route(NOBODY, B), 0, BITS)),
        (0, call(UNBIND, route(A, B), 0, BITS)),
        (A, call(SET, route(A, B), 4, BITS)),
        (A, call(SET, route(A, B), 1 << 15, BITS)),
        (A, call(SET, route(A, B), 1 << 16, BITS)),
        (A, call(SET, route(A, B), 0, 0)),
        (A, call(SET, route(A, A), 0, BITS)),
        (A, call(SET, route(A, NOBODY), 0, BITS)),
        (A, call(SET, route(A, 9), 0, BITS)),
        (C, call(SET, route(A, B), 0, BITS)),
        (0, call(SET, route(A, B), 0, BITS)),
        (A, call(SET, route(0, B), 0, BITS)),
        (B, [GET, route(0, B), 0x10, 0, 0]),
        (B, [GET, route(4, B), ALL, 0, 0]),
        (C, [GET, route(1, C), ALL, 0, 0]),
        (B, [GET, route(0, A), ALL, 0, 0]),
        (B, [GET, route(0, 0), ALL, 0, 0]),
        (0, [GET, route(0, A), ALL, 0, 0]),
        (0, [GET, route(0, 9), ALL, 0, 0]),
        (0, [GET, route(1, 0), ALL, 0, 0]),
    ] {
        let answer = by(&mut system, caller, &registers);
        assert_eq!(answer, error(INVALID_PARAMETERS), "{registers:x?} by {caller:#x}");
    }
}

#[test]
fn partition_without_notifications_is_denied() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    for (caller, registers) in [
        (D, call(BIND, route(A, D), 0, 1)),
        (D, call(UNBIND, route(A, D), 0, 1)),
        (D, [GET, route(0, D), ALL, 0, 0]),
        (A, call(SET, route(A, D), 0, 1)),
        (0, call(SET, route(0, D), 0, 1)),
    ] {
        assert_eq!(by(&mut system, caller, &registers), error(DENIED), "{registers:x?}");
    }
}

#[test]
fn calls_of_schedulers_are_not_for_partitions() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, A);
    for registers in [[CREATE, 1, 1], [DESTROY, 1, 0], [INFO_GET, 0, 0], [INFO_GET_64, 0, 0]] {
        system.smc_fails(0, &registers, NOT_SUPPORTED);
    }
}

#[test]
fn partition_that_was_stopped_has_none_and_has_set_none() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    by(&mut system, 0, &[CREATE, 0, 4]);
    binds(&mut system, A, B, PER_VCPU, 1);
    binds(&mut system, A, 0, 0, 1);
    binds(&mut system, C, B, 0, 2);
    binds(&mut system, B, A, 0, 1);
    sets(&mut system, A, B, PER_VCPU | 1 << 16, 1);
    sets(&mut system, A, 0, 0, 1);
    sets(&mut system, C, B, 0, 2);
    sets(&mut system, B, A, 0, 1);
    system.ask(0, A);
    system.smc(0, &[ABORT]);
    assert_eq!((system.owner(0), system.regs(0)), (NWD, error(ABORTED)));
    assert_eq!(told(&mut system), (false, vec![vec![B]]));
    assert_eq!(gets(&mut system, B, 1, ALL), pending(2, 0, 0));
    assert_eq!(gets(&mut system, 0, 0, ALL), pending(0, 0, 0));
    assert_eq!(by(&mut system, B, &call(SET, route(B, A), 0, 1)), error(ABORTED));
    // Its bits are free for others.
    binds(&mut system, C, B, 0, 1);
}

/// VMs from 1 on, each with something pending for these vCPUs, or globally when there are none.
fn vms_with_pending(system: &mut System<'_>, vms: &[&[u64]]) {
    for (vm, vcpus) in (1..).zip(vms) {
        by(system, 0, &[CREATE, vm, 4]);
        let flags = if vcpus.is_empty() { 0 } else { PER_VCPU };
        assert_eq!(by(system, 0, &call(BIND, route(A, vm), flags, 1)), success(0));
        if vcpus.is_empty() {
            sets(system, A, vm, 0, 1);
        }
        for vcpu in *vcpus {
            sets(system, A, vm, PER_VCPU | vcpu << 16, 1);
        }
    }
}

/// All that is told until there is nothing more, in ascending order, each answer's "more" being right.
fn all_told(system: &mut System<'_>) -> Vec<Vec<u64>> {
    let mut all = Vec::new();
    loop {
        let (more, lists) = told(system);
        assert!(lists.iter().map(Vec::len).sum::<usize>() <= 20);
        all.extend(lists);
        if !more {
            break;
        }
    }
    nothing_is_told(system);
    all.sort_unstable();
    all
}

#[test]
fn all_is_told_once_however_it_fits() {
    let one: &[u64] = &[3];
    let two: &[u64] = &[0, 3];
    let three: &[u64] = &[1, 2, 3];
    for (vms, expected) in [
        // 20 ids, and a global one that has to wait.
        (vec![one; 10].into_iter().chain([&[][..]]).collect::<Vec<_>>(), 11),
        // 20 ids, and nothing more.
        (vec![one; 10], 10),
        // 19 ids, of which no list of vCPUs has room for the next; or 18, where one of three has.
        (vec![two; 6].into_iter().chain([&[][..], two]).collect(), 8),
        (vec![two; 6].into_iter().chain([three]).collect(), 8),
        (vec![two; 6].into_iter().chain([&[][..], &[][..], two]).collect(), 9),
    ] {
        let (spmc, machine) = system();
        let mut system = System::booted(&spmc, machine);
        vms_with_pending(&mut system, &vms);
        let all = all_told(&mut system);
        assert_eq!(all.len(), expected, "{all:?}");
        let mut vcpus: Vec<(u64, Option<u64>)> = Vec::new();
        for list in &all {
            match list.as_slice() {
                [vm] => vcpus.push((*vm, None)),
                [vm, rest @ ..] => vcpus.extend(rest.iter().map(|vcpu| (*vm, Some(*vcpu)))),
                [] => panic!("a list without an endpoint"),
            }
        }
        let wanted = (1..).zip(&vms).flat_map(|(vm, vcpus)| {
            let global = vcpus.is_empty().then_some((vm, None));
            global
                .into_iter()
                .chain(vcpus.iter().map(move |vcpu| (vm, Some(*vcpu))))
        });
        assert!(vcpus.into_iter().eq(wanted), "{all:?}");
    }
}

#[test]
fn answer_of_32_bits_that_is_full_leaves_a_global_one_for_the_next() {
    let (spmc, machine) = system();
    let mut system = System::booted(&spmc, machine);
    let one: &[u64] = &[3];
    vms_with_pending(&mut system, &[one, one, one, one, one, &[]]);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0)[2], 1 | 5 << 7 | 0x155 << 12);
    system.nwd(0, &[INFO_GET]);
    assert_eq!(system.regs(0), [SUCCESS, 0, 1 << 7, 6, 0, 0, 0, 0]);
    nothing_is_told(&mut system);
}

#[test]
fn set_while_a_pe_goes_off_is_told_on_another() {
    use tantalum_core::manifest::partition::PowerManagement;
    let (spmc, machine) = Builder::new(2)
        .partition_with("a", |a| a.indirect().power(PowerManagement::CPU_OFF))
        .partition_with("b", PartitionBuilder::indirect)
        .build();
    let mut system = System::booted(&spmc, machine);
    system.ask(0, B);
    system.smc(0, &[0x8400_007f, route(A, B), 0, 1]);
    assert_eq!(system.regs(0), success(0));
    system.respond(0, B, 0);
    system.nwd(1, &[REQ, route(SPMD, SPMC), 0x8000_0000, 0x8400_0002]);
    assert_eq!(system.owner(1), runs(A, 1));
    system.smc(1, &[0x8400_0081, route(A, B), 0, 1]);
    assert_eq!(system.regs(1), success(0));
    assert_eq!(system.machine.schedule_receiver_raised, 0);
    system.smc(1, &[RESP, route(A, SPMC), 0x8000_0002]);
    assert_eq!(
        (
            system.machine.schedule_receiver_raised,
            system.machine.schedule_receiver_pe
        ),
        (1, 0)
    );
}
