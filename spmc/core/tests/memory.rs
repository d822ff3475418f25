//! Memory management: transactions between partitions and the normal world, through the public interface.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]

#[path = "memory/basic.rs"]
mod basic;
#[path = "memory/message.rs"]
mod message;
#[path = "memory/world.rs"]
mod world;
