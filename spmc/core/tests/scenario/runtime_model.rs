//! What a context may do in each runtime model, and where it leads (FF-A 1.2, chapter 8): the table of
//! `spmc/docs/architecture.md`, every cell of it.

use tantalum_core::{
    machine::fake::FakeMachine,
    manifest::partition::{PowerManagement, Trigger, VmAvailability},
    spmc::Spmc,
    vcpu::{Model, State, Suspension},
};

use crate::support::*;

/// EL3's logical partition.
const LOGICAL: u64 = 0xffc0;
const DEVICE: u32 = 40;
const CPU_SUSPEND: u64 = 0x8400_0001;
/// w2 of a framework message: power; a VM was created; and of the responses.
const PSCI: u64 = 0x8000_0000;
const PSCI_DONE: u64 = 0x8000_0002;
const CREATED: u64 = 0x8000_0004;
const CREATED_DONE: u64 = 0x8000_0005;

/// How the context of b on PE 0 got its cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Given {
    Init,
    Run,
    Request,
    Request2,
    RequestOfPartition,
    RequestOfEl3,
    Interrupt,
    Power,
    VmCreated,
}

const ALL: [Given; 9] = [
    Given::Init,
    Given::Run,
    Given::Request,
    Given::Request2,
    Given::RequestOfPartition,
    Given::RequestOfEl3,
    Given::Interrupt,
    Given::Power,
    Given::VmCreated,
];

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Waits,
    Yields,
    /// It is blocked on a.
    Calls,
    Ends,
    /// It goes on.
    Refused(i32),
}
use Outcome::{Calls, Ends, Refused, Waits, Yields};

fn three_that_want_all() -> (Spmc, FakeMachine) {
    Builder::new(1)
        .partition("a")
        .partition_with("b", |b| {
            b.power(PowerManagement::all())
                .vm_availability(VmAvailability::all())
                .device_interrupt(DEVICE, Trigger::Edge)
        })
        .partition("c")
        .build()
}

/// b runs on PE 0 in a model; a has yielded while it worked for b.
fn enter<'s>(spmc: &'s Spmc, machine: FakeMachine, given: Given) -> System<'s> {
    let mut system = System::new(spmc, machine);
    system.online(0);
    system.smc(0, &[MSG_WAIT]);
    if given != Given::Init {
        system.hvc(0, &[0xff03, u64::from(DEVICE), 1, 0]);
        system.smc(0, &[MSG_WAIT]);
        system.smc(0, &[MSG_WAIT]);
        assert_eq!(system.owner(0), NWD);
    }
    match given {
        Given::Init => system.owner(0),
        Given::Run => system.nwd(0, &[RUN, target(B, 0)]),
        Given::Request => system.nwd(0, &request(0, B)),
        Given::Request2 => system.nwd(0, &message(REQ2, 0, B)),
        Given::RequestOfPartition => {
            system.ask(0, C);
            system.smc(0, &request(C, B))
        }
        Given::RequestOfEl3 => system.nwd(0, &request(LOGICAL, B)),
        Given::Interrupt => {
            system.machine.raise(DEVICE);
            system.nwd(0, &[INTERRUPT])
        }
        Given::Power => system.nwd(0, &[REQ, route(SPMD, SPMC), PSCI, CPU_SUSPEND]),
        Given::VmCreated => system.nwd(0, &[REQ, route(0, B), CREATED, 0, 0, 1]),
    };
    assert_eq!(system.owner(0), runs(B, 0), "{given:?}: {:x?}", system.regs(0));
    system.forward(0, B, A);
    system.smc(0, &[YIELD]);
    assert_eq!((system.owner(0), system.regs(0)[0]), (runs(B, 0), YIELD));
    system
}

/// The registers of a call; what is left out is 0.
fn call(registers: &[u64]) -> [u64; 18] {
    std::array::from_fn(|n| registers.get(n).copied().unwrap_or(0))
}

/// A message of nothing but zeroes.
fn message(id: u64, from: u64, to: u64) -> [u64; 18] {
    call(&[id, route(from, to)])
}

/// The response that fits what b was given.
fn response_to(given: Given) -> [u64; 18] {
    let [to, w2] = match given {
        Given::Init | Given::Run | Given::Request | Given::Interrupt => [0, 0],
        Given::Request2 => return message(RESP2, B, 0),
        Given::RequestOfPartition => [C, 0],
        Given::RequestOfEl3 => [LOGICAL, 0],
        Given::Power => [SPMC, PSCI_DONE],
        Given::VmCreated => [0, CREATED_DONE],
    };
    call(&[RESP, route(B, to), w2])
}

/// b makes a call: what comes of it, and what it reads if it goes on.
fn perform(given: Given, call: &[u64]) -> (Outcome, [u64; 8]) {
    let (spmc, machine) = three_that_want_all();
    let mut system = enter(&spmc, machine, given);
    let before: Option<Model> = system.model(0);
    system.smc(0, call);
    let b = &spmc.partitions()[1];
    let outcome = match &*b.slots[0].lock() {
        State::Waiting(_) => Waits,
        State::Suspended { why, .. } => {
            assert_eq!(*why, Suspension::Yielded);
            Yields
        }
        State::Stopped(_) => Ends,
        State::OnPe(_) if system.owner(0) == runs(A, 0) => Calls,
        State::OnPe(_) => {
            assert_eq!((system.owner(0), system.model(0)), (runs(B, 0), before), "{given:?}");
            let code = u32::try_from(system.regs(0)[2]).unwrap_or(0);
            Refused(code.cast_signed())
        }
        State::Off(_) => panic!("{given:?}: it is off"),
    };
    (outcome, system.regs(0))
}

#[test]
fn each_call_that_gives_the_pe_away_does_what_the_table_says() {
    const NO: Outcome = Refused(DENIED);
    const ONLY_AT_START: Outcome = Refused(NOT_SUPPORTED);
    type Call = fn(Given) -> [u64; 18];
    let wait: Call = |_| call(&[MSG_WAIT]);
    let give: Call = |_| call(&[YIELD]);
    let run: Call = |_| call(&[RUN, target(A, 0)]);
    let fail: Call = |_| call(&[ERROR, 0, 0xffff_fffd]);
    // In the order of ALL.
    let table: [(&str, Call, [Outcome; 9]); 5] = [
        ("MSG_WAIT", wait, [Waits, Waits, NO, NO, NO, NO, Waits, NO, NO]),
        (
            "RESP",
            response_to,
            [NO, NO, Waits, Waits, Waits, Waits, NO, Waits, Waits],
        ),
        ("YIELD", give, [NO, Yields, Yields, Yields, Yields, NO, NO, NO, Yields]),
        ("RUN", run, [NO, Calls, Calls, Calls, Calls, Calls, Calls, Calls, Calls]),
        (
            "ERROR",
            fail,
            [
                Ends,
                ONLY_AT_START,
                ONLY_AT_START,
                ONLY_AT_START,
                ONLY_AT_START,
                ONLY_AT_START,
                ONLY_AT_START,
                ONLY_AT_START,
                ONLY_AT_START,
            ],
        ),
    ];
    for (name, call, row) in table {
        for (given, expected) in ALL.into_iter().zip(row) {
            let (outcome, _) = perform(given, &call(given));
            assert_eq!(outcome, expected, "{name} in {given:?}");
        }
    }
}

/// The sixth row: a request, while nobody works for b already.
#[test]
fn request_is_allowed_in_every_model() {
    for given in ALL {
        for id in [REQ, REQ_64, REQ2] {
            let (spmc, machine) = three_that_want_all();
            let mut system = enter(&spmc, machine, given);
            system.smc(0, &[RUN, target(A, 0)]);
            if system.owner(0) == runs(B, 0) {
                // It may not give cycles while it starts: c, then, which has not started either.
                system.smc_fails(0, &message(id, B, C), BUSY);
                continue;
            }
            system.respond(0, A, B);
            assert_eq!(system.smc(0, &message(id, B, A)), runs(A, 0), "{id:x} in {given:?}");
            assert!(matches!(*spmc.partitions()[1].slots[0].lock(), State::OnPe(_)));
        }
    }
}

/// What a context may do besides does not depend on the model, but for what belongs to its start.
#[test]
fn every_other_call_does_the_same_in_every_model() {
    const MOVES: [u64; 10] = [ERROR, MSG_WAIT, YIELD, RUN, REQ, REQ_64, RESP, RESP_64, REQ2, RESP2];
    let calls = (0x8400_0060..0x8400_00a0).chain(0xc400_0060..0xc400_00a0);
    for id in calls.filter(|id| !MOVES.contains(id)) {
        let expected = perform(Given::Run, &[id]);
        for given in ALL {
            let (outcome, registers) = perform(given, &[id]);
            if given == Given::Init && [SECONDARY_EP_REGISTER, SECONDARY_EP_REGISTER & !(1 << 30)].contains(&id) {
                assert_eq!((outcome, expected.0), (Refused(INVALID_PARAMETERS), Refused(DENIED)));
            } else if id & !(1 << 30) == ABORT {
                assert_eq!((outcome, expected.0), (Ends, Ends));
            } else {
                assert_eq!((outcome, registers), expected, "{id:x} in {given:?}");
            }
        }
    }
}
