//! A partition at S-EL0: messages, interruption, registers, and the faults that stop it alone. It is started afresh each time.

use tantalum_agent::{
    Alarm, CLOCK_DEVICE, Command, DONE, Death, ECHO, FORWARD, Probe, USER, USER_CONSTANTS, USER_DATA,
};
use tantalum_partition::{
    arch,
    ffa::{
        Error, FfaError, Outcome as Answer, Partition, SMC,
        memory::{Layout, NEVER_EXECUTE, NORMAL, READ_WRITE, Transaction, relinquish},
    },
    normal_world::{gic, timer},
    probe::{self, sysreg},
};

use super::tests;
use crate::{
    buffers::{ECHO_BASE, FREE, NORMAL_WORLD, PAGE, Pair, USER_BASE},
    clock::{CLEAR, fire},
    cores,
    report::{Outcome, check, expect_eq, fail},
    talk::{
        Conduit, FEATURES, MEM_LEND, MEM_RECLAIM, MEM_RELINQUISH, MEM_RETRIEVE_REQ, MEM_RETRIEVE_RESP, MEM_SHARE,
        SUCCESS, call_from, command, expect_alive, expect_error, expect_success, finish, send, smc,
    },
    world::World,
};

tests! { "s_el0":
    takes_messages_from_every_core,
    sends_messages,
    is_preempted_and_run_again,
    is_run_again_on_another_core,
    simd_registers_are_its_own,
    counter_can_be_read,
    device_interrupt_is_the_result_of_a_call,
    device_interrupt_that_comes_while_it_runs,
    permissions_are_for_initialisation,
    permissions_are_for_s_el0,
    has_no_secondary_contexts,
    faults_of_data_accesses_stop_it,
    faults_of_fetches_stop_it,
    instructions_of_higher_levels_stop_it,
    gives_up_by_itself,
    memory_of_the_normal_world_comes_and_goes,
    memory_of_a_partition_comes_and_goes,
    own_memory_is_lent_and_reclaimed,
    others_live_on,
}

/// Has the partition make its clock quiet when that interrupts. Returns the partition, with nothing to report yet.
fn owner_of_the_clock(world: &World) -> Outcome<Partition> {
    let user = world.need(USER)?;
    let _ = command(user, Command::Listen, &[0, 0, CLOCK_DEVICE.0 + CLEAR, 1])?;
    let _ = heard(user)?;
    Ok(user)
}

/// How often it was run for an interrupt, the last that it was told of, and that it took.
fn heard(user: Partition) -> Outcome<[u64; 3]> {
    let [runs, told, taken, ..] = command(user, Command::Alarm, &[Alarm::Report as u64])?;
    Ok([runs, told, taken])
}

fn device_interrupt_is_the_result_of_a_call(world: &World) -> Outcome {
    let user = owner_of_the_clock(world)?;
    let interrupt = u64::from(CLOCK_DEVICE.1);
    for _ in 0..50 {
        fire(0)?;
        arch::wait_a_little();
    }
    expect_eq!(
        heard(user)?,
        [50, interrupt, interrupt],
        "how often it was run for its device, the interrupt that it was told of, and took"
    );
    expect_alive(user)
}

fn device_interrupt_that_comes_while_it_runs(world: &World) -> Outcome {
    let user = owner_of_the_clock(world)?;
    fire(1)?;
    let _ = command(user, Command::Spin, &[1300])?;
    let interrupt = u64::from(CLOCK_DEVICE.1);
    expect_eq!(
        heard(user)?,
        [1, interrupt, interrupt],
        "how often it was run when it waited again, the interrupt that it was told of, and took"
    );
    expect_alive(user)
}

const MEM_PERM_GET: u64 = 0xc400_0088;
const MEM_PERM_SET: u64 = 0xc400_0089;
const SECONDARY_EP_REGISTER: u64 = 0xc400_0087;

/// Where the partition is loaded.
const BASE: u64 = USER_BASE;
const CODE: u64 = BASE + 0x4000;

fn takes_messages_from_every_core(world: &World) -> Outcome {
    let user = world.need(USER)?;
    expect_eq!(
        command(user, Command::Status, &[])?[6],
        0,
        "the exception level of the partition"
    );
    cores::run_on_all(
        world.cores,
        |core, id| {
            let words = [1, 2, 3, 4, core as u64];
            loop {
                match SMC.direct_req64(0, (id & 0xffff) as u16, words) {
                    Ok(Answer::Response(response)) => return u64::from(response.payload() == words),
                    // It has one context.
                    Err(Error::Ffa(FfaError::Busy)) => {}
                    _ => return 2,
                }
            }
        },
        u64::from(user.id),
        10_000,
        |core, result| {
            expect_eq!(result, 1, "core {core}: whether the partition answers");
            Ok(())
        },
    )?;
    expect_alive(user)
}

fn sends_messages(world: &World) -> Outcome {
    let (user, echo) = (world.need(USER)?, world.need(ECHO)?);
    let words = [u64::from(echo.id), 11, 22, 33, 44, 55];
    let answer = crate::talk::ask(user, Command::Forward.words(&words))?;
    expect_eq!(
        answer[..5],
        [11, 22, 33, 44, 55],
        "the words that came back through a partition at S-EL0"
    );
    Ok(())
}

fn is_preempted_and_run_again(world: &World) -> Outcome {
    let user = world.need(USER)?;
    gic::enable(timer::INTERRUPT);
    timer::start(5);
    let answer = send(user, Command::Spin.words(&[100]));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    let interrupted = matches!(answer, Ok(Answer::Interrupted { partition, context: 0 }) if partition == user.id);
    let response = finish(answer, "running a partition at S-EL0 that was preempted")?;
    check!(interrupted, "FFA_INTERRUPT from a partition at S-EL0");
    expect_eq!(response.payload()[0], DONE, "the first word of its response");
    check!(
        response.payload()[1] >= arch::ticks(100),
        "the partition to spin for 100 ms, got {} ticks",
        response.payload()[1]
    );
    Ok(())
}

fn is_run_again_on_another_core(world: &World) -> Outcome {
    world.need_two_cores()?;
    let user = world.need(USER)?;
    command(user, Command::SimdFill, &[0x5003])?;
    gic::enable(timer::INTERRUPT);
    timer::start(5);
    let answer = send(user, Command::Spin.words(&[30]));
    let _ = gic::take();
    timer::stop();
    gic::disable(timer::INTERRUPT);
    let run = |_: usize, id: u64| {
        let answer = SMC.run((id & 0xffff) as u16, 0);
        let done = finish(answer, "running a partition at S-EL0 that was preempted elsewhere");
        u64::from(done.is_ok_and(|response| response.payload()[0] == DONE))
    };
    match answer {
        Ok(Answer::Interrupted { .. }) => cores::run_on(1, run, u64::from(user.id))?,
        other => fail!("FFA_INTERRUPT from a partition at S-EL0, got {other:?}"),
    }
    expect_eq!(cores::wait_for(1, 10_000)?, 1, "whether it ends on another core");
    let mask = command(user, Command::SimdCheck, &[0x5003])?[0];
    expect_eq!(mask, 0, "the mask of its SIMD registers that changed");
    Ok(())
}

fn simd_registers_are_its_own(world: &World) -> Outcome {
    let (user, forward) = (world.need(USER)?, world.need(FORWARD)?);
    command(user, Command::SimdFill, &[0x5001])?;
    command(forward, Command::SimdFill, &[0x5002])?;
    for (partition, seed) in [(user, 0x5001), (forward, 0x5002)] {
        let mask = command(partition, Command::SimdCheck, &[seed])?[0];
        expect_eq!(mask, 0, "the mask of registers of {:#x} that changed", partition.id);
    }
    Ok(())
}

fn counter_can_be_read(world: &World) -> Outcome {
    let user = world.need(USER)?;
    let spun = command(user, Command::Spin, &[1])?[0];
    check!(spun >= arch::ticks(1), "time to pass at S-EL0, got {spun} ticks");
    Ok(())
}

fn permissions_are_for_initialisation(world: &World) -> Outcome {
    let user = world.need(USER)?;
    for call in [[MEM_PERM_GET, CODE, 0, 0], [MEM_PERM_SET, CODE, 1, 0b011]] {
        let answer = call_from(user, Conduit::Smc, &call)?;
        expect_error(&answer, FfaError::Denied, "permissions after initialisation")?;
        let features = call_from(user, Conduit::Smc, &[FEATURES, call[0]])?;
        expect_eq!(features[0], SUCCESS, "w0 of FFA_FEATURES at S-EL0 for {:#x}", call[0]);
    }
    Ok(())
}

fn permissions_are_for_s_el0(world: &World) -> Outcome {
    let forward = world.need(FORWARD)?;
    for call in [[MEM_PERM_GET, 0x0e30_4000, 0, 0], [MEM_PERM_SET, 0x0e30_4000, 1, 0b011]] {
        let answer = call_from(forward, Conduit::Smc, &call)?;
        expect_error(&answer, FfaError::Denied, "permissions at S-EL1")?;
        let features = call_from(forward, Conduit::Smc, &[FEATURES, call[0]])?;
        expect_error(&features, FfaError::NotSupported, "FFA_FEATURES at S-EL1")?;
        expect_error(&smc(&call), FfaError::NotSupported, "permissions in the normal world")?;
    }
    Ok(())
}

fn has_no_secondary_contexts(world: &World) -> Outcome {
    let user = world.need(USER)?;
    expect_eq!(user.contexts, 1, "the execution contexts of a partition at S-EL0");
    let answer = call_from(user, Conduit::Smc, &[SECONDARY_EP_REGISTER, CODE])?;
    expect_error(&answer, FfaError::NotSupported, "a secondary entry point at S-EL0")
}

/// The partition fails when it obeys; it was started afresh then, and nobody else has noticed.
fn stops(user: Partition, command: Command, arguments: &[u64]) -> Outcome {
    match send(user, command.words(arguments)) {
        Err(Error::Ffa(FfaError::Aborted)) => {}
        other => fail!("{command:?} {arguments:x?} at S-EL0: expected FFA_ERROR(ABORTED), got {other:?}"),
    }
    let status = crate::talk::command(user, Command::Status, &[])?;
    expect_eq!(
        status[2],
        1,
        "the messages of a partition that was started afresh after {command:?}"
    );
    expect_eq!(status[9..11], [0, 0], "what it finds in general and in SIMD registers");
    Ok(())
}

fn faults_of_data_accesses_stop_it(world: &World) -> Outcome {
    let user = world.need(USER)?;
    // Nothing there, the SPMC's, another's, the normal world's, in the upper half, beyond all tables.
    for address in [0, 0x0e10_0000, 0x0e20_4000, 0x4000_0000, u64::MAX - 0xfff, 1 << 45] {
        stops(user, Command::Read, &[address])?;
    }
    for address in [CODE, BASE + USER_CONSTANTS, BASE + USER_CONSTANTS + 0x1000] {
        stops(user, Command::Write, &[address, 0])?;
    }
    Ok(())
}

fn faults_of_fetches_stop_it(world: &World) -> Outcome {
    let user = world.need(USER)?;
    for address in [0, BASE + USER_DATA, BASE + USER_CONSTANTS, 0x0e20_4000, BASE + 0x4002] {
        stops(user, Command::Execute, &[address])?;
    }
    Ok(())
}

fn instructions_of_higher_levels_stop_it(world: &World) -> Outcome {
    let user = world.need(USER)?;
    // A hypervisor call, a secure monitor call, some system registers.
    stops(user, Command::Call, &[Conduit::Hvc as u64, 0x8400_0069])?;
    stops(user, Command::Die, &[Death::MonitorCall as u64])?;
    // All registers that have a meaning at EL0, since each can be read or written at most, and some of the others. The
    // physical timer is a virtual one of its own.
    for (index, target) in sysreg::all().enumerate() {
        let own = target.name.starts_with("CNTP_");
        if !own && (target.name.contains("_EL0") || index % 12 == 0) {
            stops(user, Command::SystemRegister, &[index as u64])?;
        }
    }
    Ok(())
}

fn gives_up_by_itself(world: &World) -> Outcome {
    let user = world.need(USER)?;
    stops(user, Command::Die, &[Death::Abort as u64])?;
    stops(user, Command::Die, &[Death::Panic as u64])
}

/// Sends one page: the owner's descriptor, in TX. Returns the handle.
fn pass_on(owner: &Pair, call: u64, borrower: &Pair, page: u64) -> Outcome<u64> {
    let transaction = Transaction {
        layout: Layout::V1_2,
        sender: (owner.id() & 0xffff) as u16,
        attributes: if call == MEM_SHARE { NORMAL } else { 0 },
        flags: 0,
        handle: 0,
        tag: 0,
        borrowers: &[((borrower.id() & 0xffff) as u16, READ_WRITE)],
        ranges: Some((1, 1)),
    };
    let mut words = [0; 16];
    let head = transaction.head();
    let length = head.words().len();
    words[..length].copy_from_slice(head.words());
    words[length..length + 2].copy_from_slice(&[page, 1]);
    owner.send(&words[..length + 2])?;
    let bytes = 8 * (length as u64 + 2);
    let answer = owner.call(&[call, bytes, bytes])?;
    expect_eq!(answer[..2], [SUCCESS, 0], "x0 and x1 after {call:#x}");
    Ok(answer[2] | answer[3] << 32)
}

/// Retrieves it.
fn retrieve(borrower: &Pair, owner: &Pair, handle: u64) -> Outcome {
    let transaction = Transaction {
        layout: Layout::V1_2,
        sender: (owner.id() & 0xffff) as u16,
        attributes: 0,
        flags: 0,
        handle,
        tag: 0,
        borrowers: &[((borrower.id() & 0xffff) as u16, READ_WRITE | NEVER_EXECUTE)],
        ranges: None,
    };
    let head = transaction.head();
    borrower.send(head.words())?;
    let bytes = 8 * head.words().len() as u64;
    let answer = borrower.call(&[MEM_RETRIEVE_REQ, bytes, bytes])?;
    expect_eq!(
        (answer[0], answer[2]),
        (MEM_RETRIEVE_RESP, answer[1]),
        "x0 and x2 after FFA_MEM_RETRIEVE_REQ"
    );
    borrower.release()
}

fn give_back(borrower: &Pair, owner: &Pair, handle: u64) -> Outcome {
    borrower.send(&relinquish(handle, 0, (borrower.id() & 0xffff) as u16))?;
    expect_success(&borrower.call(&[MEM_RELINQUISH])?, "FFA_MEM_RELINQUISH")?;
    let answer = owner.call(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32, 0])?;
    expect_success(&answer, "FFA_MEM_RECLAIM")
}

/// Has a partition read and write a page.
fn uses(partition: Partition, page: u64, expected: u64, value: u64) -> Outcome {
    let read = Probe::from_words(&crate::talk::ask(partition, Command::Read.words(&[page]))?);
    expect_eq!(read, Some(Probe::Passed(expected)), "what {:#x} reads", partition.id);
    let written = Probe::from_words(&crate::talk::ask(partition, Command::Write.words(&[page, value]))?);
    expect_eq!(written, Some(Probe::Passed(0)), "what {:#x} writes", partition.id);
    Ok(())
}

fn memory_of_the_normal_world_comes_and_goes(world: &World) -> Outcome {
    let user = world.need(USER)?;
    let page = NORMAL_WORLD + 0x10_0000;
    let own = Pair::of_normal_world()?;
    for (call, value) in [(MEM_SHARE, 0x1111), (MEM_LEND, 0x2222)] {
        let pair = Pair::of_partition(user, USER_BASE)?;
        check!(probe::write64(page, value).is_ok(), "own memory to be writable");
        let handle = pass_on(&own, call, &pair, page)?;
        retrieve(&pair, &own, handle)?;
        uses(user, page, value, value + 1)?;
        give_back(&pair, &own, handle)?;
        expect_eq!(probe::read64(page), Ok(value + 1), "what the partition has written");
        drop(pair);
        stops(user, Command::Read, &[page])?;
    }
    // A borrower that dies gives back what it has.
    let pair = Pair::of_partition(user, USER_BASE)?;
    let handle = pass_on(&own, MEM_SHARE, &pair, page)?;
    retrieve(&pair, &own, handle)?;
    stops(user, Command::Read, &[0])?;
    let answer = own.call(&[MEM_RECLAIM, handle & 0xffff_ffff, handle >> 32, 0])?;
    expect_success(&answer, "FFA_MEM_RECLAIM from a borrower that died")?;
    stops(user, Command::Write, &[page, 0])
}

fn memory_of_a_partition_comes_and_goes(world: &World) -> Outcome {
    let (user, echo) = (world.need(USER)?, world.need(ECHO)?);
    let page = ECHO_BASE + FREE + 4 * PAGE;
    command(echo, Command::Map, &[page, page, PAGE, 0])?;
    let owner = Pair::of_partition(echo, ECHO_BASE)?;
    let pair = Pair::of_partition(user, USER_BASE)?;
    command(echo, Command::Write, &[page, 0x3333])?;
    let handle = pass_on(&owner, MEM_SHARE, &pair, page)?;
    retrieve(&pair, &owner, handle)?;
    uses(user, page, 0x3333, 0x4444)?;
    uses(echo, page, 0x4444, 0x5555)?;
    uses(user, page, 0x5555, 0x6666)?;
    give_back(&pair, &owner, handle)?;
    drop(pair);
    stops(user, Command::Read, &[page])
}

fn own_memory_is_lent_and_reclaimed(world: &World) -> Outcome {
    let (user, echo) = (world.need(USER)?, world.need(ECHO)?);
    let page = BASE + USER_DATA;
    let owner = Pair::of_partition(user, USER_BASE)?;
    let pair = Pair::of_partition(echo, ECHO_BASE)?;
    command(echo, Command::Map, &[page, page, PAGE, 0])?;
    command(user, Command::Write, &[page, 0x7777])?;
    let handle = pass_on(&owner, MEM_LEND, &pair, page)?;
    retrieve(&pair, &owner, handle)?;
    uses(echo, page, 0x7777, 0x8888)?;
    give_back(&pair, &owner, handle)?;
    uses(user, page, 0x8888, 0x9999)?;
    // Lent, it is not accessible: the partition stops, and starts afresh once it has all of its memory.
    pass_on(&owner, MEM_LEND, &pair, page)?;
    drop(pair);
    drop(owner);
    stops(user, Command::Write, &[page, 0])
}

fn others_live_on(world: &World) -> Outcome {
    world.need(USER)?;
    expect_alive(world.need(ECHO)?)?;
    expect_alive(world.need(FORWARD)?)
}
