//! Numbers, UUIDs and names in a line.

use tantalum_partition::{ffa::Uuid, println};

use crate::peers::{self, Peer};

/// As many words as a line has.
pub const MOST: usize = 24;

/// Why a command was not carried out.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// It can't be said like that.
    Usage,
    /// What has been printed.
    Said,
}

/// Prints what is wrong.
macro_rules! wrong {
    ($($arguments:tt)*) => {{
        ::tantalum_partition::println!("{}", format_args!($($arguments)*));
        $crate::words::Wrong::Said
    }};
}
pub(crate) use wrong;

/// Splits a line at spaces.
pub fn split(line: &str) -> ([&str; MOST], usize) {
    let mut words = [""; MOST];
    let mut count = 0;
    for (slot, word) in words.iter_mut().zip(line.split_ascii_whitespace()) {
        *slot = word;
        count += 1;
    }
    (words, count)
}

fn parse(word: &str) -> Option<u64> {
    if let Some(digits) = word.strip_prefix("0x") {
        u64::from_str_radix(digits, 16).ok()
    } else if let Some(digits) = word.strip_prefix('-') {
        digits.parse::<u64>().ok().map(u64::wrapping_neg)
    } else {
        word.parse().ok()
    }
}

/// A number: decimal, or hexadecimal after 0x.
pub fn number(word: &str) -> Result<u64, Wrong> {
    parse(word).ok_or_else(|| wrong!("{word} is no number; 12, -1 and 0x1f are"))
}

/// A number of at most 32 bits.
pub fn number32(word: &str) -> Result<u32, Wrong> {
    u32::try_from(number(word)?).map_err(|_| wrong!("{word} has more than 32 bits"))
}

/// The numbers in `words`, into `numbers`, the rest of which stays as it is; returns how many there are.
pub fn numbers(words: &[&str], numbers: &mut [u64]) -> Result<usize, Wrong> {
    if words.len() > numbers.len() {
        return Err(wrong!(
            "that is {} words, and there is room for {}",
            words.len(),
            numbers.len()
        ));
    }
    for (slot, word) in numbers.iter_mut().zip(words) {
        *slot = number(word)?;
    }
    Ok(words.len())
}

/// A UUID, if it is one: canonical, or `nil`.
pub fn uuid(word: &str) -> Option<Uuid> {
    if word == "nil" {
        return Some(Uuid::nil());
    }
    (word.len() == 36).then(|| Uuid::try_parse(word).ok()).flatten()
}

/// Whom a word names: an id, a name, or the beginning of a UUID.
pub fn peer(word: &str) -> Result<Peer, Wrong> {
    if let Some(peer) = peers::by_name(word) {
        return Ok(peer);
    }
    if let Some(id) = parse(word).and_then(|id| u16::try_from(id).ok()) {
        return Ok(peers::by_id(id));
    }
    println!("{word} is no partition: say its name, its id or the beginning of its UUID; there are");
    peers::print();
    Err(Wrong::Said)
}
