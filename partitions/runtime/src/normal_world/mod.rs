//! What the normal-world driver has and a partition has not: a UART, PSCI, the GIC and a timer of its own.

pub mod gic;
pub mod psci;
pub mod timer;
pub mod uart;
