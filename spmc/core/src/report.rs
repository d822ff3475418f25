//! What people read on the console: the boot report, and why a partition was stopped.

use core::fmt;

use crate::{
    addr::{PhysAddr, World},
    fault::Undeliverable,
    id::PeIndex,
    machine::Machine,
    manifest::partition::Access,
    manifest::spmc::MemoryKind,
    partition::{Health, Multiplicity, Partition, Region},
    spmc::{Running, Spmc},
    syndrome::{Abort, FaultKind, SystemRegisterAccess},
    trap::why,
    watch::Holding,
};

/// What ended a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It called FFA_ABORT.
    Abort,
    /// It called FFA_ERROR while it was initialising.
    InitFailed {
        /// w2 of the call.
        code: u32,
    },
    /// An SError.
    SystemError {
        /// `ESR_EL2`.
        esr: u64,
    },
    /// It held back the normal world's interrupts for too long.
    TimeOut {
        /// Why they were held back.
        holding: Holding,
        /// How long it may do so.
        milliseconds: u64,
    },
    /// It could not take an exception.
    Undeliverable {
        /// Why.
        why: Undeliverable,
        /// What it was for.
        trap: Trap,
    },
}

/// What a partition did that it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trap {
    /// A stage-2 abort.
    Abort {
        /// What the syndrome says.
        abort: Abort,
        /// Virtual address.
        far: u64,
        /// Intermediate physical address; for a permission fault it may be unknown.
        address: u64,
        /// In the non-secure IPA space.
        non_secure: bool,
    },
    /// A system register that is not a partition's.
    SystemRegister(SystemRegisterAccess),
    /// Another instruction that is not a partition's.
    Undefined {
        /// Exception class.
        class: u8,
    },
}

/// Tells people that a partition was stopped, with everything that helps to find out why. Once a partition, a few times one
/// that is started afresh.
#[cold]
pub(crate) fn stopped<M: Machine>(spmc: &Spmc, machine: &mut M, pe: PeIndex, running: &Running<'_>, cause: &Cause) {
    let partition = running.partition;
    let ctx = &running.ctx;
    if partition.restart.as_ref().is_some_and(|restart| !restart.may_report()) {
        return;
    }
    machine.print(format_args!(
        "\nspmc: partition \"{}\" ({}) is stopped; the others and the normal world go on\n  \
         where    context {} on PE {}, {} at pc {:#012x}{}\n{}",
        partition.name,
        partition.id,
        running.vcpu,
        pe,
        level(ctx.pstate),
        ctx.pc,
        InImage(partition, ctx.pc),
        Explain { spmc, partition, cause },
    ));
    machine.print(format_args!(
        "  after    esr_el1 {:#x}, far_el1 {:#x}, elr_el1 {:#x}; x30 {:#x}, sp_el1 {:#x}, vbar_el1 {:#x}\n\n",
        ctx.el1.esr,
        ctx.el1.far,
        ctx.el1.elr,
        return_address(&ctx.x),
        ctx.el1.sp_el1,
        ctx.el1.vbar
    ));
}

/// Tells people, a few times a partition, that it was made to take an exception.
#[cold]
pub(crate) fn delivered<M: Machine>(
    spmc: &Spmc,
    machine: &mut M,
    pe: PeIndex,
    running: &Running<'_>,
    at: u64,
    trap: Trap,
) {
    let partition = running.partition;
    let Some(last) = partition.may_report() else { return };
    machine.print(format_args!(
        "spmc: \"{}\" ({}) context {} on PE {}, pc {:#x}: {}; it takes the exception{}\n",
        partition.name,
        partition.id,
        running.vcpu,
        pe,
        at,
        What { spmc, partition, trap },
        if last { " (no more of these will be shown)" } else { "" }
    ));
}

/// Tells people, a few times a partition, that it did not take part in a change of power.
#[cold]
pub(crate) fn no_power_message<M: Machine>(machine: &mut M, partition: &Partition, what: &str) {
    if partition.may_report().is_some() {
        machine.print(format_args!(
            "spmc: \"{}\" ({}) {what}, while its PE's power changes\n",
            partition.name, partition.id
        ));
    }
}

/// Tells people, a few times a partition, that an interrupt of one of its devices was disabled.
#[cold]
pub(crate) fn storm<M: Machine>(machine: &mut M, partition: &Partition, interrupt: u32, count: u32) {
    if partition.may_report().is_some() {
        machine.print(format_args!(
            "spmc: \"{}\" ({}): interrupt {} is disabled: it came {} times, and the normal world did not run in between\n",
            partition.name,
            partition.id,
            u64::from(interrupt),
            u64::from(count)
        ));
    }
}

fn return_address(x: &[u64; 31]) -> u64 {
    x.last().copied().unwrap_or(0)
}

const fn level(pstate: u64) -> &'static str {
    match pstate & 0x1c {
        0x4 => "S-EL1",
        0x0 => "S-EL0",
        _ => "AArch32",
    }
}

struct InImage<'s>(&'s Partition, u64);

impl fmt::Display for InImage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match PhysAddr::new(self.1).offset_from(self.0.memory.base()) {
            Some(offset) if self.0.memory.contains(PhysAddr::new(self.1)) => write!(f, " (load address + {offset:#x})"),
            _ => f.write_str(" (outside its image)"),
        }
    }
}

struct Explain<'s> {
    spmc: &'s Spmc,
    partition: &'s Partition,
    cause: &'s Cause,
}

impl fmt::Display for Explain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.cause {
            Cause::Abort => writeln!(
                f,
                "  cause    it called FFA_ABORT: it gave up by itself, its own log says why"
            ),
            Cause::InitFailed { code } => writeln!(
                f,
                "  cause    its initialisation failed: FFA_ERROR with code {}{} ({:#x})",
                if code.cast_signed() < 0 { "-" } else { "" },
                u64::from(code.cast_signed().unsigned_abs()),
                u64::from(code)
            ),
            Cause::SystemError { esr } => writeln!(
                f,
                "  cause    SError, esr_el2 {esr:#x}: the bus refused an access, often one to a device that is not there"
            ),
            Cause::TimeOut { holding, milliseconds } => writeln!(
                f,
                "  cause    {} for {milliseconds} ms, and the normal world's interrupts waited",
                match holding {
                    Holding::Start => "it has been starting",
                    Holding::Interrupt => "it has been handling an interrupt",
                    Holding::ManagedExit => "it was told to give up the PE (managed exit), and went on",
                    Holding::Queued => "it has been at a request, interrupts queued,",
                    Holding::Power => "it has been at a power message",
                    Holding::Firmware => "it has been at a request of EL3",
                }
            ),
            Cause::Undeliverable {
                why: undeliverable,
                trap,
            } => {
                writeln!(
                    f,
                    "  what     {}",
                    What {
                        spmc: self.spmc,
                        partition: self.partition,
                        trap
                    }
                )?;
                writeln!(f, "  cause    {}", why(undeliverable))?;
                writeln!(f, "  hint     {}", hint(undeliverable, trap))
            }
        }
    }
}

fn hint(undeliverable: Undeliverable, trap: Trap) -> &'static str {
    match (undeliverable, trap) {
        (_, Trap::SystemRegister(_)) => {
            "the register is not a secure partition's; read the ID registers before using a feature"
        }
        (_, Trap::Undefined { class: 0x22 | 0x26 }) => "a jump to a wild address, or a stack that was never set up",
        (_, Trap::Undefined { class: 0x19 | 0x1d }) => {
            "SVE and SME are the normal world's; partitions have FP and Advanced SIMD"
        }
        (Undeliverable::FaultInVector, _) => {
            "VBAR_EL1 or the handler's stack pointer points to memory that is not mapped"
        }
        (Undeliverable::AtEl0, Trap::Abort { abort, .. }) if abort.kind() == FaultKind::Permission => {
            "the manifest, or the partition itself by FFA_MEM_PERM_SET, does not allow this access"
        }
        (_, Trap::Abort { abort, .. }) if abort.fetch => {
            "a jump to a wild address, or code in a region without the execute attribute"
        }
        (_, Trap::Abort { abort, .. }) if abort.kind() == FaultKind::Permission => {
            "the region's attributes in the manifest do not allow this access"
        }
        (_, Trap::Abort { .. }) => "a wild pointer, or memory that its manifest has no region for",
        (_, Trap::Undefined { .. }) => "the instruction is not one that a secure partition may execute",
    }
}

struct What<'s> {
    spmc: &'s Spmc,
    partition: &'s Partition,
    trap: Trap,
}

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.trap {
            Trap::Undefined { class: 0x22 | 0x26 } => f.write_str("an unaligned program counter or stack pointer"),
            Trap::Undefined { class } => write!(
                f,
                "an instruction that is not a partition's (exception class {:#04x})",
                u64::from(class)
            ),
            Trap::SystemRegister(access) => {
                let verb = if access.read { "read" } else { "write" };
                write!(f, "{verb} of system register {}, not a partition's", access.register)
            }
            Trap::Abort {
                abort,
                far,
                address,
                non_secure,
            } => {
                let access = match (abort.fetch, abort.write) {
                    (true, _) => "instruction fetch from",
                    (false, true) => "write to",
                    (false, false) => "read of",
                };
                if abort.kind() == FaultKind::Permission && !abort.on_walk {
                    // HPFAR_EL2 is not set for these: all there is is the virtual address, which is the IPA for S-EL0.
                    let own = self.partition.regions.iter().filter(|_| self.partition.el1.is_some());
                    if let Some(region) = own.into_iter().find(|own| own.range.contains(PhysAddr::new(far))) {
                        let name = &region.name;
                        return write!(f, "{access} {far:#x}, its own \"{name}\": that page does not permit it");
                    }
                    return write!(f, "{access} virtual address {far:#x}: its region does not permit it");
                }
                let world = if non_secure { World::NonSecure } else { World::Secure };
                let walk = if abort.on_walk { " on its own table walk" } else { "" };
                let there = There {
                    spmc: self.spmc,
                    partition: self.partition,
                    world,
                    address,
                };
                write!(f, "{access} {world} {address:#x}{walk} (virtual {far:#x}): {there}")
            }
        }
    }
}

/// What is at an address, and whose it is.
struct There<'s> {
    spmc: &'s Spmc,
    partition: &'s Partition,
    world: World,
    address: u64,
}

impl fmt::Display for There<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = PhysAddr::new(self.address);
        if let Some(Region { name, access, .. }) = self.partition.region_at(self.world, self.address) {
            return write!(f, "its own \"{name}\" ({})", Letters(*access));
        }
        if let Some(Region { world, name, .. }) = self.partition.regions.iter().find(|r| r.range.contains(address)) {
            return write!(f, "its own \"{name}\" is there, but {world}");
        }
        if self.spmc.is_emulated(self.partition, self.world, self.address) {
            return f.write_str("its interrupt controller, by other than a plain load or store of one register");
        }
        if self.world == World::Secure && self.spmc.memory.contains(address) {
            return f.write_str("memory of the SPMC");
        }
        let others = self
            .spmc
            .partitions()
            .iter()
            .filter(|p| !core::ptr::eq(*p, self.partition));
        for other in others {
            if let Some(region) = other.region_at(self.world, self.address) {
                return write!(f, "\"{}\" of partition \"{}\"", region.name, other.name);
            }
        }
        match self
            .spmc
            .declared
            .iter()
            .find(|declared| declared.range.contains(address))
            .map(|d| d.kind)
        {
            Some(MemoryKind::Memory) => f.write_str("secure memory that no partition owns"),
            Some(MemoryKind::NsMemory) => f.write_str("memory of the normal world, not shared with it"),
            Some(MemoryKind::DeviceMemory | MemoryKind::NsDeviceMemory) => {
                f.write_str("a device that its manifest has no region for")
            }
            None => f.write_str("nothing that the SPMC manifest declares"),
        }
    }
}

/// Access rights as letters.
pub(crate) struct Letters(pub(crate) Access);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Access::READ, "r"), (Access::WRITE, "w"), (Access::EXECUTE, "x")] {
            f.write_str(if self.0.contains(bit) { letter } else { "-" })?;
        }
        Ok(())
    }
}

/// The table of partitions, once all were initialised on the boot PE.
#[cold]
pub(crate) fn booted<M: Machine>(spmc: &Spmc, machine: &mut M) {
    let ready = spmc.partitions().iter().filter(|p| p.health() == Health::Ready).count();
    machine.print(format_args!(
        "spmc: {ready} of {} partitions ready\n",
        spmc.partitions().len()
    ));
    for partition in spmc.partitions() {
        let state = match partition.health() {
            Health::Ready => "ready",
            Health::Starting => "not started",
            Health::Stopped => "stopped",
        };
        let kind = match partition.multiplicity {
            Multiplicity::Pinned => "pinned",
            Multiplicity::Migratable => "migratable",
        };
        machine.print(format_args!(
            "  {}  {:<16} {state:<11} {:>2} context{} {kind:<10} FF-A {}  {:#012x}-{:#012x}\n",
            partition.id,
            partition.name,
            partition.slots.len(),
            if partition.slots.len() == 1 { " " } else { "s" },
            partition.version(),
            partition.memory.base().as_u64(),
            partition.memory.last().as_u64(),
        ));
    }
}
