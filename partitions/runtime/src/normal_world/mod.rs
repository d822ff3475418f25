//! What the normal-world driver has and a partition has not: a UART, PSCI, the GIC, a timer and other cores of its own.

mod board;
pub mod cores;
pub mod fw_cfg;
pub mod gic;
pub mod pmu;
pub mod psci;
pub mod timer;
pub mod uart;

pub use board::spare_memory;
