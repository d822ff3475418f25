//! What can be said.

use spin::mutex::TicketMutex;
use tantalum_agent::{Command as Told, DONE};
use tantalum_partition::{
    ffa::{Registers, SMC, UuidHelper, ids, registers},
    normal_world::{cores, gic, psci, timer},
    print, println, probe,
};

use crate::{
    answer,
    editor::LENGTH,
    memory, names, notify, peers,
    words::{Wrong, number, number32, numbers, peer, split, uuid, wrong},
};

/// The id of the normal world's hypervisor or only operating system.
const NORMAL_WORLD: u16 = 0;

const FEATURES: u64 = 0x8400_0064;
const RUN: u64 = 0x8400_006d;
const DIRECT_REQ32: u64 = 0x8400_006f;
const DIRECT_REQ64: u64 = 0xc400_006f;
const DIRECT_REQ2: u64 = 0xc400_008d;

/// How long another core may take, in milliseconds.
const PATIENCE: u64 = 60_000;

/// What a command returns.
pub type Result = core::result::Result<(), Wrong>;

/// One of them.
struct Command {
    name: &'static str,
    arguments: &'static str,
    what: &'static str,
    run: fn(&[&str]) -> Result,
}

const fn command(
    name: &'static str,
    arguments: &'static str,
    what: &'static str,
    run: fn(&[&str]) -> Result,
) -> Command {
    Command {
        name,
        arguments,
        what,
        run,
    }
}

static COMMANDS: [Command; 24] = [
    command("help", "", "this list", help),
    command("partitions", "", "which there are, and what they can do", partitions),
    command(
        "send",
        "WHO WORD...",
        "a direct request of up to five 64-bit words",
        send,
    ),
    command("send32", "WHO WORD...", "the same with 32-bit words", send32),
    command(
        "send2",
        "WHO [UUID|nil] WORD...",
        "FFA_MSG_SEND_DIRECT_REQ2, up to 14 words",
        send2,
    ),
    command(
        "run",
        "WHO CONTEXT",
        "FFA_RUN: go on with one that was preempted or has yielded",
        run,
    ),
    command(
        "call",
        "FUNCTION [X1]...",
        "any call, by number or name: call id_get",
        call,
    ),
    command(
        "features",
        "FUNCTION|FEATURE [W2]",
        "FFA_FEATURES: features partition_info_get, features sri",
        features,
    ),
    command(
        "tell",
        "WHO WHAT [NUMBER]...",
        "have one of the test partitions do something; tell alone lists what",
        tell,
    ),
    command(
        "from",
        "WHO FUNCTION [X1]...",
        "have a test partition make a call",
        from,
    ),
    command(
        "ask",
        "WHO WHOM WORD...",
        "have a test partition send a request to another",
        ask,
    ),
    command(
        "share",
        "WHO [PAGES] [ro]",
        "FFA_MEM_SHARE: pages of ours that both can use",
        memory::share,
    ),
    command(
        "lend",
        "WHO [PAGES] [ro]",
        "FFA_MEM_LEND: pages of ours, only for it until they are reclaimed",
        memory::lend,
    ),
    command(
        "donate",
        "WHO [PAGES]",
        "FFA_MEM_DONATE: pages of ours, for good",
        memory::donate,
    ),
    command(
        "retrieve",
        "WHO HANDLE",
        "have a test partition take what it was given",
        memory::retrieve,
    ),
    command(
        "relinquish",
        "WHO HANDLE",
        "have a test partition give it back",
        memory::relinquish,
    ),
    command(
        "reclaim",
        "[HANDLE]",
        "FFA_MEM_RECLAIM; without a handle the latest, as for the others",
        memory::reclaim,
    ),
    command(
        "message",
        "WHO TEXT...",
        "FFA_MSG_SEND2: by the buffers in memory",
        memory::message,
    ),
    command(
        "notify",
        "FROM TO BITS",
        "a notification with all its calls; 0 is the normal world: notify 0 echo 0x10",
        notify::notify,
    ),
    command("read", "ADDRESS", "8 bytes of memory, from here", read),
    command("write", "ADDRESS VALUE", "the same, to write", write),
    command(
        "timer",
        "MILLISECONDS",
        "the normal world's timer: timer 10; tell forward spin 40",
        set_timer,
    ),
    command(
        "core",
        "N on|off|COMMAND",
        "another core: on, off, or to do something; core alone lists them",
        core,
    ),
    command("off", "", "power the machine off", off),
];

/// What test partitions can be told to do: what it is called, and the numbers it takes.
const TOLD: [(&str, Told, &str); 16] = [
    ("status", Told::Status, ""),
    ("spin", Told::Spin, "MILLISECONDS"),
    ("print", Told::Print, "NUMBER"),
    ("read", Told::Read, "ADDRESS"),
    ("write", Told::Write, "ADDRESS VALUE"),
    ("read32", Told::Read32, "ADDRESS"),
    ("write32", Told::Write32, "ADDRESS VALUE"),
    ("execute", Told::Execute, "ADDRESS"),
    (
        "map",
        Told::Map,
        "VIRTUAL PHYSICAL BYTES KIND: 0 memory, 1 read-only, 2 non-secure, 3 device",
    ),
    ("sleep", Told::Sleep, ""),
    ("measure", Told::Measure, "ID"),
    (
        "listen",
        Told::Listen,
        "INTERRUPT AS_FIQ ADDRESS VALUE: the last two are what makes the device quiet",
    ),
    ("heard", Told::Heard, ""),
    ("simd-fill", Told::SimdFill, "SEED"),
    ("simd-check", Told::SimdCheck, "SEED"),
    (
        "die",
        Told::Die,
        "HOW: 0 abort, 1 panic, 2 jump away, 3 fault in handler, 4 loop, 7 no stack",
    ),
];

/// Carries out a line: commands with semicolons between them. What follows a # is a remark.
pub fn run_line(line: &str) {
    let line = line.split('#').next().unwrap_or_default();
    for command in line.split(';') {
        run_command(command);
    }
}

fn run_command(line: &str) {
    let (words, count) = split(line);
    let Some((name, arguments)) = words[..count].split_first() else {
        return;
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
        println!("{name} is no command; help lists them");
        return;
    };
    if let Err(Wrong::Usage) = (command.run)(arguments) {
        println!("{} {}: {}", command.name, command.arguments, command.what);
    }
}

fn help(_: &[&str]) -> Result {
    for command in &COMMANDS {
        print!("  {:11}", command.name);
        println!("{:24} {}", command.arguments, command.what);
    }
    println!("Numbers are decimal, or hexadecimal after 0x. WHO is a name, an id or the beginning of a UUID.");
    println!("Several commands in a line have ; between them; what follows # is a remark.");
    Ok(())
}

fn partitions(_: &[&str]) -> Result {
    peers::discover();
    peers::print();
    Ok(())
}

/// Makes a call, prints what came of it.
pub fn make(values: &[u64]) -> Registers {
    let answer = SMC.call(&registers(values));
    answer::print(&answer);
    answer
}

fn direct(function: u64, arguments: &[&str]) -> Result {
    let (who, words) = arguments.split_first().ok_or(Wrong::Usage)?;
    let mut all = registers(&[function, ids(NORMAL_WORLD, peer(who)?.id)]);
    numbers(words, &mut all[3..8])?;
    make(&all);
    Ok(())
}

fn send(arguments: &[&str]) -> Result {
    direct(DIRECT_REQ64, arguments)
}

fn send32(arguments: &[&str]) -> Result {
    direct(DIRECT_REQ32, arguments)
}

fn send2(arguments: &[&str]) -> Result {
    let (who, mut words) = arguments.split_first().ok_or(Wrong::Usage)?;
    let peer = peer(who)?;
    let mut service = peer.uuid;
    if let Some((uuid, rest)) = words.split_first().and_then(|(word, rest)| Some((uuid(word)?, rest))) {
        (service, words) = (uuid, rest);
    }
    let [low, high] = UuidHelper::to_u64_regs(service);
    let mut all = registers(&[DIRECT_REQ2, ids(NORMAL_WORLD, peer.id), low, high]);
    numbers(words, &mut all[4..])?;
    make(&all);
    Ok(())
}

fn run(arguments: &[&str]) -> Result {
    let [who, context] = arguments else {
        return Err(Wrong::Usage);
    };
    make(&[RUN, u64::from(peer(who)?.id) << 16 | number(context)?]);
    Ok(())
}

/// A function and its arguments, as x0 and up.
fn function_and_arguments(arguments: &[&str]) -> core::result::Result<Registers, Wrong> {
    let (function, rest) = arguments.split_first().ok_or(Wrong::Usage)?;
    let id = match names::function(function) {
        Some(id) => id,
        None if function.starts_with(|first: char| first.is_ascii_digit()) => number32(function)?,
        None => {
            return Err(wrong!(
                "{function} is no function that is known here by name; its number will do"
            ));
        }
    };
    let mut all = registers(&[u64::from(id)]);
    numbers(rest, &mut all[1..])?;
    println!("{}:", names::Function(id));
    Ok(all)
}

fn call(arguments: &[&str]) -> Result {
    make(&function_and_arguments(arguments)?);
    Ok(())
}

fn features(arguments: &[&str]) -> Result {
    let (what, rest) = arguments.split_first().ok_or(Wrong::Usage)?;
    let id = match names::function(what).or_else(|| names::feature(what)) {
        Some(id) => id,
        None => number32(what)?,
    };
    let mut all = registers(&[FEATURES, u64::from(id)]);
    numbers(rest, &mut all[2..3])?;
    make(&all);
    Ok(())
}

/// Sends a command of the agents', and returns the words of the answer.
pub fn command_to(who: &str, words: &[u64; 14]) -> core::result::Result<[u64; 14], Wrong> {
    let peer = peer(who)?;
    let [low, high] = UuidHelper::to_u64_regs(peer.uuid);
    let mut all = registers(&[DIRECT_REQ2, ids(NORMAL_WORLD, peer.id), low, high]);
    all[4..].copy_from_slice(words);
    let answer = SMC.call(&all);
    if let Some(words) = answer::payload(&answer).and_then(|words| words.try_into().ok()) {
        return Ok(words);
    }
    answer::print(&answer);
    Err(Wrong::Said)
}

/// Fails for a partition that is not one of the test partitions: what it answers to their commands means something else.
pub fn need_agent(who: &str) -> Result {
    match command_to(who, &Told::Status.words(&[]))? {
        [DONE, ..] => Ok(()),
        _ => Err(wrong!(
            "{who} is none of the test partitions, which do what they are told"
        )),
    }
}

fn tell(arguments: &[&str]) -> Result {
    let [who, what, rest @ ..] = arguments else {
        for (name, _, arguments) in TOLD {
            println!("  tell WHO {name} {arguments}");
        }
        return Ok(());
    };
    let Some((_, told, _)) = TOLD.iter().find(|(name, _, _)| name == what) else {
        return Err(wrong!(
            "a partition can't be told to {what}; tell alone lists what it can be told"
        ));
    };
    let mut given = [0; 13];
    numbers(rest, &mut given)?;
    answer::agent(&command_to(who, &told.words(&given))?);
    Ok(())
}

fn from(arguments: &[&str]) -> Result {
    let (who, rest) = arguments.split_first().ok_or(Wrong::Usage)?;
    need_agent(who)?;
    let all = function_and_arguments(rest)?;
    let mut words = Told::Call.words(&[0]);
    words[2..].copy_from_slice(&all[..12]);
    let answer = command_to(who, &words)?;
    let mut all = [0; 18];
    all[..14].copy_from_slice(&answer);
    answer::print(&all);
    Ok(())
}

fn ask(arguments: &[&str]) -> Result {
    let [who, whom, rest @ ..] = arguments else {
        return Err(Wrong::Usage);
    };
    need_agent(who)?;
    let mut given = [0; 13];
    given[0] = u64::from(peer(whom)?.id);
    numbers(rest, &mut given[1..6])?;
    let answer = command_to(who, &Told::Forward.words(&given))?;
    answer::forwarded(who, whom, &answer);
    Ok(())
}

fn read(arguments: &[&str]) -> Result {
    let [address] = arguments else {
        return Err(Wrong::Usage);
    };
    match probe::read64(number(address)?) {
        Ok(value) => println!("{value:#x}"),
        Err(fault) => println!("{fault}"),
    }
    Ok(())
}

fn write(arguments: &[&str]) -> Result {
    let [address, value] = arguments else {
        return Err(Wrong::Usage);
    };
    if let Err(fault) = probe::write64(number(address)?, number(value)?) {
        println!("{fault}");
    }
    Ok(())
}

fn set_timer(arguments: &[&str]) -> Result {
    let [milliseconds] = arguments else {
        return Err(Wrong::Usage);
    };
    gic::enable(timer::INTERRUPT);
    timer::start(number(milliseconds)?);
    Ok(())
}

/// What a core is to do.
static JOB: TicketMutex<([u8; LENGTH], usize)> = TicketMutex::new(([0; LENGTH], 0));

fn core(arguments: &[&str]) -> Result {
    let Some((index, what)) = arguments.split_first() else {
        for (index, (_, mpidr)) in gic::cores().enumerate() {
            println!(
                "  {index}  MPIDR {mpidr:#x}  {}",
                if index == 0 || cores::is_on(index) { "on" } else { "off" }
            );
        }
        return Ok(());
    };
    let index = usize::try_from(number(index)?).unwrap_or(usize::MAX);
    let done = match what {
        [] => return Err(Wrong::Usage),
        ["on"] => cores::turn_on(index),
        ["off"] => cores::turn_off(index),
        words => return core_command(index, words),
    };
    println!("{}", if done { "done" } else { "that did not work" });
    Ok(())
}

fn core_command(index: usize, words: &[&str]) -> Result {
    {
        let mut job = JOB.lock();
        job.1 = 0;
        for byte in words.iter().flat_map(|word| word.bytes().chain([b' '])).take(LENGTH) {
            let end = job.1;
            job.0[end] = byte;
            job.1 += 1;
        }
    }
    let job = |_: usize, _: u64| {
        let (bytes, length) = *JOB.lock();
        run_command(str::from_utf8(&bytes[..length]).unwrap_or_default());
        // A core without work must have no interrupt that nobody ends.
        timer::stop();
        gic::disable(timer::INTERRUPT);
        0
    };
    if !cores::run_on(index, job, 0) {
        return Err(wrong!(
            "core {index} is not there, or off, or this one: core alone lists them"
        ));
    }
    if cores::wait_for(index, PATIENCE).is_none() {
        println!("core {index} is still at it");
    }
    Ok(())
}

fn off(_: &[&str]) -> Result {
    println!("tantalum: the shell ends");
    psci::system_off()
}
