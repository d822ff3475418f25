//! The policy of Tantalum, a Secure Partition Manager Core for Arm's Firmware Framework (FF-A).
//!
//! Everything that decides lives here and nothing that touches the machine does: the crate is a step function,
//! [`Spmc::handle`](spmc::Spmc::handle), that takes an [`Event`](spmc::Event) of one processing element and answers
//! with the [`Action`](spmc::Action) to carry out. The effects it needs on the way (copying foreign memory, table
//! memory, the console, ...) are the methods of [`Machine`](machine::Machine), implemented by `tantalum-aarch64` for
//! the hardware and by the tests' fake for the host.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "fake")]
extern crate std;

pub mod abi;
pub mod addr;
pub mod boot;
pub mod console;
pub mod context;
pub mod discovery;
pub mod fault;
pub mod framework;
pub mod id;
pub mod id_registers;
pub mod indirect;
pub mod interrupt;
pub mod invariants;
pub mod lifecycle;
pub mod logical;
pub mod machine;
pub mod mailbox;
pub mod manifest;
pub mod memory;
pub mod messaging;
pub mod notification;
pub mod notifying;
pub mod partition;
pub mod power;
pub mod report;
pub mod restart;
pub mod s_el0;
pub mod scheduling;
mod sort;
pub mod spmc;
pub mod syndrome;
pub mod timer;
pub mod trap;
pub mod vcpu;
pub mod watch;
