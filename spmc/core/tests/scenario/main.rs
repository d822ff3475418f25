//! Registers in, registers out: each module holds the tests of one interface, each test one behaviour.
//!
//! The system under test is the whole policy, on the fake machine. [`System`] checks after each step that invariants
//! hold, that nobody sees registers of another, and that a context finds the registers that a call does not define as
//! it left them.

mod direct_req;
mod support;
