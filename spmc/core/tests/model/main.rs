//! The policy against a reference model of who runs, who waits for whom, and what is in whose registers.
//!
//! [`random`] drives both through random sequences of calls, exits, interrupts and PEs that go off and on, on several
//! PEs in any interleaving, and compares all registers after each step; [`exhaustive`] visits every state that two PEs
//! and two partitions can reach with an alphabet of calls; [`garbage`] makes arbitrary calls, with nothing but the
//! invariants to judge them; [`memory`] passes memory on, with the invariants of whose each page is.
//!
//! `TANTALUM_MODEL` multiplies how long they take (1 by default, some seconds each).

mod exhaustive;
mod garbage;
mod memory;
#[path = "../memory/message.rs"]
#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "as where it is at home"
)]
mod message;
mod operation;
mod random;
mod reference;

/// By how much the tests are to be longer than usual.
fn effort() -> u64 {
    std::env::var("TANTALUM_MODEL")
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(1)
}

/// A small generator of random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).expect("it is below a usize")
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
