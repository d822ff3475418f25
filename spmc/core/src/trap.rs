//! Exceptions from partitions other than FF-A calls: aborts, system registers, interrupts, what else may not be done.

use tantalum_stage2::Ipa;

use crate::{
    abi::{self, FfaError},
    fault::{Exception, Undeliverable},
    id_registers,
    machine::{Machine, SystemRegister},
    report::{self, Cause, Trap},
    spmc::{Action, Exit, Pe, Spmc, refuse},
    syndrome::{Abort, FaultKind, HVC, SMC, Syndrome, SystemRegisterAccess, class, fault_ipa},
    timer,
};

/// `ESR_EL2`: the immediate of an HVC, 0 where the vectors of partitions at S-EL0 pass a call on.
const IMMEDIATE: u64 = 0xffff;

/// Bytes of an instruction.
const INSTRUCTION: u64 = 4;

impl Spmc {
    /// The running context has stopped running.
    #[inline(always)]
    pub(crate) fn exit<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, exit: Exit) -> Action {
        if pe.running.as_ref().is_some_and(|running| running.ctx.signals.list) {
            self.empty_list_registers(pe, machine);
        }
        match exit {
            Exit::Synchronous { esr, far, hpfar } => {
                match class(esr) {
                    SMC => skip_instruction(pe),
                    HVC if esr & IMMEDIATE == 0 || !is_at_el0(pe) => {}
                    HVC => return self.el0_fault(pe, machine),
                    _ => return self.trapped(pe, machine, esr, far, hpfar),
                }
                self.partition_call(pe, machine)
            }
            Exit::Fiq => self.fiq(pe, machine),
            Exit::Irq => self.secure_interrupt(pe, machine),
            Exit::SError { esr } => self.stop_running(pe, machine, &Cause::SystemError { esr }),
        }
    }

    #[inline(never)]
    fn trapped<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, esr: u64, far: u64, hpfar: u64) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        if running.partition.is_stopped() {
            return self.leave_stopped(pe, machine);
        }
        match Syndrome::decode(esr) {
            // Waiting is never needed for progress, and must not keep the PE from anybody else.
            Syndrome::Wait => {
                skip_instruction(pe);
                Action::Run
            }
            Syndrome::SystemRegister(access) => {
                if let Some(register) = timer::Register::decode(access.register) {
                    return self.timer_access(pe, machine, access, register);
                }
                if running.ctx.signals.gic && self.virtual_gic_access(pe, machine, access) {
                    return Action::Run;
                }
                let Some(running) = pe.running.as_mut() else {
                    return refuse(pe, FfaError::Aborted);
                };
                if emulate(&mut running.ctx.x, machine, access) {
                    skip_instruction(pe);
                    return Action::Run;
                }
                self.deliver(pe, machine, Exception::Undefined, Trap::SystemRegister(access))
            }
            Syndrome::Abort(abort) => self.abort(pe, machine, abort, far, hpfar),
            Syndrome::Other { class } => self.deliver(pe, machine, Exception::Undefined, Trap::Undefined { class }),
            Syndrome::Smc | Syndrome::Hvc { .. } => Action::Run,
        }
    }

    /// The vectors of a partition at S-EL0 have reported an exception that was not a call.
    #[cold]
    #[inline(never)]
    fn el0_fault<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        machine.park(&mut running.ctx);
        let (esr, far) = (running.ctx.el1.esr, running.ctx.el1.far);
        let trap = match Syndrome::decode(esr) {
            Syndrome::SystemRegister(access) => Trap::SystemRegister(access),
            // Stage 1 maps what the SPMC manifest declares, each address to itself.
            Syndrome::Abort(abort) => Trap::Abort {
                abort,
                far,
                address: far,
                non_secure: false,
            },
            _ => Trap::Undefined { class: class(esr) },
        };
        self.deliver(pe, machine, Exception::Undefined, trap)
    }

    fn abort<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, abort: Abort, far: u64, hpfar: u64) -> Action {
        let (address, non_secure) = fault_ipa(hpfar, far);
        if abort.kind() == FaultKind::Translation
            && (!non_secure && self.distributor_access(pe, machine, abort, address)
                || is_over(pe, machine, address, non_secure))
        {
            return Action::Run;
        }
        let trap = Trap::Abort {
            abort,
            far,
            address,
            non_secure,
        };
        self.deliver(pe, machine, Exception::Abort(abort, far), trap)
    }

    /// Makes the running context take an exception at EL1, or stops its partition when it cannot.
    fn deliver<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, exception: Exception, trap: Trap) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        if running.partition.el1.is_some() {
            let why = Undeliverable::AtEl0;
            return self.stop_running(pe, machine, &Cause::Undeliverable { why, trap });
        }
        machine.park(&mut running.ctx);
        let at = running.ctx.pc;
        match running.faults.deliver(&mut running.ctx, exception) {
            Ok(()) => {
                report::delivered(self, machine, pe.index, running, at, trap);
                Action::Run
            }
            Err(why) => self.stop_running(pe, machine, &Cause::Undeliverable { why, trap }),
        }
    }

    fn fiq<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        if machine.group0_pending() {
            // EL3's own interrupt. What it answers does not matter: it may find that the interrupt went away.
            let mut registers = [0; 18];
            abi::put(&mut registers, [abi::FFA_EL3_INTR_HANDLE, 0, 0, 0, 0, 0, 0, 0]);
            machine.el3_call(&mut registers);
            return self.go_on(pe, machine);
        }
        self.preempt(pe, machine)
    }

    /// Goes on with the running context after an interrupt that was not its own.
    fn go_on<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        match &pe.running {
            Some(running) if !running.partition.is_stopped() => Action::Run,
            _ => self.leave_stopped(pe, machine),
        }
    }
}

/// Whether a translation fault of the running context comes of another PE that was just splitting the block, which is there
/// again ([`tantalum_stage2`], "Faults while a block is split").
#[cold]
fn is_over<M: Machine>(pe: &mut Pe<'_>, machine: &M, address: u64, non_secure: bool) -> bool {
    let Some(running) = pe.running.as_mut() else {
        return false;
    };
    let tables = running.partition.tables.lock();
    let space = if non_secure { &tables.non_secure } else { &tables.secure };
    space.translate(machine, Ipa(address)).is_some() && running.faults.passes()
}

#[cold]
fn is_at_el0(pe: &Pe<'_>) -> bool {
    pe.running
        .as_ref()
        .is_some_and(|running| running.partition.el1.is_some())
}

#[inline(always)]
pub(crate) fn skip_instruction(pe: &mut Pe<'_>) {
    if let Some(running) = pe.running.as_mut() {
        running.ctx.pc = running.ctx.pc.wrapping_add(INSTRUCTION);
    }
}

/// An SMC or HVC that is not FF-A's: passed on to EL3 when the partition's manifest lets it, else unknown; but for the
/// version of the calling convention itself, which FF-A 1.2 relies on.
pub(crate) fn other_call<M: Machine>(pe: &mut Pe<'_>, machine: &mut M, id: u32) -> Action {
    let Some(running) = pe.running.as_mut() else {
        return refuse(pe, FfaError::Aborted);
    };
    let partition = running.partition;
    if partition.smc_whitelist_permissive || partition.smc_whitelist.contains(&id) {
        let mut registers = running.ctx.x.first_chunk().copied().unwrap_or([0; 18]);
        let [_, _, _, _, _, _, _, x7, ..] = &mut registers;
        // SMCCC client id: EL3 learns who asks, and nobody can ask in another's name.
        *x7 = u64::from(partition.id.as_u16());
        machine.el3_call(&mut registers);
        for (register, value) in running.ctx.x.iter_mut().zip(registers) {
            *register = value;
        }
    } else {
        let [x0, x1, ..] = &mut running.ctx.x;
        *x0 = match (id, abi::low(*x1)) {
            (abi::SMCCC_VERSION, _) => abi::SMCCC_VERSION_1_2,
            (abi::SMCCC_ARCH_FEATURES, abi::SMCCC_VERSION | abi::SMCCC_ARCH_FEATURES) => 0,
            _ => abi::SMCCC_UNKNOWN,
        };
    }
    Action::Run
}

/// Emulates an access to a system register. `false`: it is undefined for a partition.
fn emulate<M: Machine>(x: &mut [u64; 31], machine: &mut M, access: SystemRegisterAccess) -> bool {
    let register = access.register;
    if access.read && id_registers::is_id_register(register) {
        let value = id_registers::visible(register, machine.id_register(register));
        write_register(x, access.rt, value);
        return true;
    }
    match register {
        ACTLR_EL1 => {
            if access.read {
                write_register(x, access.rt, 0);
            }
            true
        }
        // Data cache maintenance by set and way: what it is for (power down) is not a partition's business.
        DC_ISW | DC_CSW | DC_CISW => !access.read,
        _ => false,
    }
}

pub(crate) fn write_register(x: &mut [u64; 31], rt: u8, value: u64) {
    if let Some(register) = x.get_mut(usize::from(rt)) {
        *register = value;
    }
}

/// The value that an access writes: that of a general-purpose register, 0 for xzr.
pub(crate) fn read_register(x: &[u64; 31], rt: u8) -> u64 {
    x.get(usize::from(rt)).copied().unwrap_or(0)
}

const fn register(op0: u8, op1: u8, crn: u8, crm: u8, op2: u8) -> SystemRegister {
    SystemRegister {
        op0,
        op1,
        crn,
        crm,
        op2,
    }
}
const ACTLR_EL1: SystemRegister = register(3, 0, 1, 0, 1);
const DC_ISW: SystemRegister = register(1, 0, 7, 6, 2);
const DC_CSW: SystemRegister = register(1, 0, 7, 10, 2);
const DC_CISW: SystemRegister = register(1, 0, 7, 14, 2);

/// Why the partition could not take an exception, in words.
#[must_use]
pub(crate) const fn why(undeliverable: Undeliverable) -> &'static str {
    match undeliverable {
        Undeliverable::NoVectors => "it has no exception vectors (VBAR_EL1 is 0 and its MMU is off)",
        Undeliverable::FaultInVector => "it faulted again while entering its own exception handler",
        Undeliverable::AtEl0 => "it runs at S-EL0, where nothing handles exceptions",
        Undeliverable::Livelock => "it took the same fault at the same instruction without end",
    }
}
