//! Power: other cores on, this core off, everything off.

pub use smccc::psci::{Error, LowestAffinityLevel};
use smccc::{
    Smc,
    psci::{self, AffinityState},
};

use crate::{arch, entry};

/// Starts the core with this `MPIDR`; it reaches `main` as context `index`.
///
/// # Errors
///
/// What the firmware answers.
pub fn cpu_on(mpidr: u64, index: usize) -> Result<(), Error> {
    psci::cpu_on::<Smc>(mpidr, entry::secondary_entry(), index as u64)
}

/// Turns the calling core off.
///
/// # Errors
///
/// What the firmware answers: if it obeys, there is no return.
pub fn cpu_off() -> Result<(), Error> {
    psci::cpu_off::<Smc>()
}

/// Whether the core with this `MPIDR` is off.
#[must_use]
pub fn is_off(mpidr: u64) -> bool {
    matches!(
        psci::affinity_info::<Smc>(mpidr, LowestAffinityLevel::All),
        Ok(AffinityState::Off)
    )
}

/// Turns the machine off.
pub fn system_off() -> ! {
    let _ = psci::system_off::<Smc>();
    arch::halt()
}
