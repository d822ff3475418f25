//! Registers in, registers out: each module holds the tests of one interface, each test one behaviour.
//!
//! The system under test is the whole policy, on the fake machine. [`System`](support::System) checks after each step
//! that invariants hold, that nobody sees registers of another, and that a context finds the registers that a call does
//! not define as it left them.

mod abi;
mod abort;
mod boot;
mod console_log;
mod conventions;
mod direct_req;
mod direct_req2;
mod direct_resp;
mod distributor;
mod error;
mod features;
mod framework;
mod id_get;
mod id_registers;
mod indirect;
mod interrupt;
mod logical;
mod mailbox;
mod manifests;
mod memory;
mod msg_wait;
mod notification;
mod notification_model;
mod paravirtual;
mod partition_info_get_regs;
mod psci;
mod restart;
mod run;
mod runtime_model;
mod s_el0;
mod secondary_ep_register;
mod secure_interrupt;
mod spm_id_get;
mod support;
mod time_limits;
mod timer;
mod trap;
mod version;
mod virtual_gic;
mod yield_;
