//! What a partition must not do.

use tantalum_partition::{
    arch,
    ffa::SMC,
    mmu::{self, Attributes},
    println, probe,
    probe::{Fault, sysreg},
};

use crate::{DONE, Probe};

/// Ways to end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Death {
    /// `FFA_ABORT`.
    Abort = 0,
    /// A panic, which ends in `FFA_ABORT`.
    Panic = 1,
    /// A jump to an address where nothing is, with no vectors to take the fault.
    JumpAway = 2,
    /// A fault, and another one in the handler, for it is not mapped.
    FaultInHandler = 3,
    /// An endless loop, which only an interrupt of the normal world's ends.
    Loop = 4,
    /// A jump to an address where nothing is, with vectors that report it and panic.
    JumpAwayWithVectors = 5,
    /// Sleep until an interrupt comes, again and again.
    Sleep = 6,
    /// A stack pointer that points nowhere when a fault comes.
    NoStack = 7,
    /// An endless chain of exceptions that the SPM sees nothing of.
    Storm = 8,
    /// A secure monitor call from S-EL0.
    MonitorCall = 9,
}

/// An address that stage 1 does not map.
const NOWHERE: u64 = 0x70_0000_0000;
/// An address that stage 2 does not map: just beyond secure memory. [`die`] has stage 1 map it, so that an access gets as far as stage 2: one that
/// stage 1 stops never reaches the SPM, and an exception whose vector stage 1 does not map is only another endless loop.
const UNMAPPED: u64 = 0x0f00_0000;
/// How much of it is mapped in stage 1.
const UNMAPPED_SIZE: usize = 0x1000;
/// Vectors and a stack there.
const UNMAPPED_VECTORS: u64 = UNMAPPED + 0x800;

pub(crate) fn die(how: u64, name: &str) -> ! {
    println!("{name}: about to fail on purpose ({how})");
    if how == Death::MonitorCall as u64 {
        probe::monitor_call();
    }
    if let Ok(address) = usize::try_from(UNMAPPED)
        && arch::exception_level() != 0
    {
        let mapped = mmu::map(address, address, UNMAPPED_SIZE, Attributes::Memory);
        assert!(mapped.is_ok(), "stage 1 has no room for one more page");
    }
    match how {
        0 => {
            let answer = SMC.abort();
            panic!("FFA_ABORT returned {:#x}", answer[0]);
        }
        2 => {
            probe::break_vectors(UNMAPPED_VECTORS);
            probe::jump(UNMAPPED)
        }
        3 => {
            probe::break_vectors(UNMAPPED_VECTORS);
            loop {
                let _ = probe::read64(UNMAPPED);
            }
        }
        4 => probe::spin_forever(),
        5 => probe::jump(NOWHERE),
        8 => probe::exception_storm(NOWHERE),
        6 => loop {
            arch::wait_for_interrupt();
        },
        7 => probe::fault_without_stack(UNMAPPED, UNMAPPED_VECTORS),
        _ => panic!("told to panic ({how})"),
    }
}

fn outcome(result: Result<u64, Fault>) -> Probe {
    match result {
        Ok(value) => Probe::Passed(value),
        Err(fault) => Probe::Faulted {
            esr: fault.esr,
            far: fault.far,
            elr: fault.elr.wrapping_sub(fault.at),
        },
    }
}

pub(crate) fn read(address: u64) -> Probe {
    outcome(probe::read64(address))
}

pub(crate) fn read32(address: u64) -> Probe {
    outcome(probe::read32(address).map(u64::from))
}

pub(crate) fn write(address: u64, value: u64) -> Probe {
    outcome(probe::write64(address, value).map(|()| 0))
}

pub(crate) fn write32(address: u64, value: u64) -> Probe {
    outcome(probe::write32(address, (value & 0xffff_ffff) as u32).map(|()| 0))
}

pub(crate) fn execute(address: u64) -> Probe {
    match probe::execute(address) {
        Ok(()) => Probe::Passed(0),
        Err(fault) => Probe::Faulted {
            esr: fault.esr,
            far: fault.far,
            elr: fault.elr,
        },
    }
}

/// Reads target `index`, and writes back what was read, or 0 if it could not be read.
pub(crate) fn system_register(index: u64, answer: &mut [u64; 14]) {
    let target = usize::try_from(index).ok().and_then(|index| sysreg::all().nth(index));
    let Some(target) = target else {
        answer[0] = 0;
        return;
    };
    answer[0] = DONE;
    let read = target.read();
    match read {
        Ok(value) => answer[2] = value,
        Err(fault) => answer[1..3].copy_from_slice(&[1, fault.esr]),
    }
    if let Err(fault) = target.write(read.unwrap_or(0)) {
        answer[3..5].copy_from_slice(&[1, fault.esr]);
    }
}
