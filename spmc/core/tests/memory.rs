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
#[path = "memory/errors.rs"]
mod errors;
#[path = "memory/failures.rs"]
mod failures;
#[path = "memory/fragments.rs"]
mod fragments;
#[path = "memory/invariants.rs"]
mod invariants;
#[path = "memory/message.rs"]
mod message;
#[path = "memory/model.rs"]
mod model;
#[path = "memory/oracle.rs"]
mod oracle;
#[path = "memory/requests.rs"]
mod requests;
#[path = "memory/rules.rs"]
mod rules;
#[path = "memory/world.rs"]
mod world;
