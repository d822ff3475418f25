//! What a call returned, in words.

use core::fmt;

use tantalum_agent::{DONE, FAILED, Probe};
use tantalum_partition::{
    normal_world::{gic, timer},
    println,
};

use crate::{
    names::{Code, Function},
    peers,
};

const ERROR: u32 = 0x60;
const SUCCESS: u32 = 0x61;
const INTERRUPT: u32 = 0x62;
const MSG_WAIT: u32 = 0x6b;
const YIELD: u32 = 0x6c;
const DIRECT_RESP: u32 = 0x70;
const DIRECT_RESP2: u32 = 0x8e;

const fn low(register: u64) -> u32 {
    (register & 0xffff_ffff) as u32
}

const fn halves(register: u64) -> (u16, u16) {
    ((register >> 16 & 0xffff) as u16, (register & 0xffff) as u16)
}

/// Words in hexadecimal, without the zeros at the end.
struct Words<'a>(&'a [u64]);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(words) = *self;
        let last = words.iter().rposition(|word| *word != 0).unwrap_or(0);
        for (index, word) in words.iter().take(last + 1).enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{word:#x}")?;
        }
        Ok(())
    }
}

/// Registers by name, those that are not zero.
struct Registers<'a>(&'a [u64]);

impl fmt::Display for Registers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self
            .0
            .iter()
            .enumerate()
            .filter(|(index, value)| *index == 0 || **value != 0)
        {
            write!(f, "  x{index} {value:#x}")?;
        }
        Ok(())
    }
}

/// The function that an answer is, if it is one of FF-A's: the low byte of its number.
fn kind(answer: &[u64]) -> Option<u32> {
    let function = low(answer[0]);
    matches!(function & !0xff, 0x8400_0000 | 0xc400_0000).then_some(function & 0xff)
}

/// Prints what a call of the normal world returned.
pub fn print(answer: &[u64]) {
    summary(answer);
    println!("   {}", Registers(answer));
    acknowledge();
}

/// Prints the words that a partition answered, if it did: five or fourteen.
pub fn payload(answer: &[u64]) -> Option<&[u64]> {
    match kind(answer)? {
        DIRECT_RESP => Some(&answer[3..8]),
        DIRECT_RESP2 => Some(&answer[4..18]),
        _ => None,
    }
}

/// Prints what a call returned, without the registers.
pub fn summary(answer: &[u64]) {
    let function = Function(low(answer[0]));
    let (first, second) = halves(answer[1]);
    match kind(answer) {
        Some(ERROR) => println!("{function}({})", Code(low(answer[2]))),
        Some(SUCCESS) => println!("{function}"),
        Some(DIRECT_RESP | DIRECT_RESP2) => {
            let words = payload(answer).unwrap_or_default();
            println!("{function} from {}: {}", peers::by_id(first), Words(words));
        }
        Some(INTERRUPT) => println!(
            "{function}: context {second} of {} was preempted; to go on: run {first:#x} {second}",
            peers::by_id(first)
        ),
        Some(YIELD) => println!(
            "{function}: context {second} of {} has yielded; to go on: run {first:#x} {second}",
            peers::by_id(first)
        ),
        Some(MSG_WAIT) => println!("{function}: it waits for a message"),
        None if low(answer[0]) == u32::MAX => println!("-1: nobody knows this call"),
        _ => println!("{function}"),
    }
}

/// Prints what a partition says about a command of ours: the words of its answer.
pub fn agent(words: &[u64]) {
    match (Probe::from_words(words), words[0]) {
        (Some(Probe::Faulted { esr, far, .. }), _) => println!("it faulted there: ESR_EL1 {esr:#x}, FAR_EL1 {far:#x}"),
        (_, DONE) => println!("done: {}", Words(&words[1..])),
        (_, FAILED) => println!("it could not: {}", Code(low(words[1]))),
        _ => println!("it does not know such commands, and answers {}", Words(words)),
    }
}

/// Prints what one partition got from another.
pub fn forwarded(who: &str, whom: &str, words: &[u64]) {
    if words[0] == FAILED {
        println!("{who} asked {whom}, and got {}", Code(low(words[1])));
    } else {
        println!("{who} asked {whom}, and got {}", Words(words));
    }
}

/// Takes the interrupts of the normal world that are pending on this core: they would interrupt the next partition at once.
pub fn acknowledge() {
    while let Some(interrupt) = gic::take() {
        if interrupt == timer::INTERRUPT {
            timer::stop();
            gic::disable(interrupt);
        }
        println!("    the normal world takes its interrupt {interrupt}");
    }
}
