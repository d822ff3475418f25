//! What can happen on a PE.

use tantalum_core::{
    abi::Form,
    machine::fake::{Owner, System},
    spmc::Exit,
};

/// Something that happens on a PE. Ids are as in w1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The PE comes up.
    Online,
    /// The normal world turns the PE off.
    Offline,
    /// Whoever has the PE sends a request in the name of `source`.
    Request { form: Form, source: u16, destination: u16 },
    /// Whoever has the PE responds.
    Response { form: Form, source: u16, destination: u16 },
    /// Whoever has the PE calls FFA_RUN.
    Run { partition: u16, vcpu: u16 },
    /// FFA_MSG_WAIT.
    Wait,
    /// FFA_YIELD.
    Yield,
    /// FFA_ERROR.
    Error,
    /// FFA_ABORT.
    Abort,
    /// FFA_ID_GET, which changes nothing.
    IdGet,
    /// An interrupt of the normal world.
    Fiq,
    /// A secure interrupt.
    Irq,
    /// An SError.
    SError,
}

/// The registers with which `operation` is made; payloads and all registers that do not matter come from `payload`.
pub fn registers(operation: Operation, payload: impl Fn(usize) -> u64) -> [u64; 18] {
    let route = |source: u16, destination: u16| u64::from(source) << 16 | u64::from(destination);
    let mut registers: [u64; 18] = core::array::from_fn(&payload);
    let head: &[u64] = match operation {
        Operation::Request {
            form,
            source,
            destination,
        } => &[form.request_id(), route(source, destination), 0],
        Operation::Response {
            form: form @ Form::Direct2,
            source,
            destination,
        } => &[form.response_id(), route(source, destination), 0, 0],
        Operation::Response {
            form,
            source,
            destination,
        } => &[form.response_id(), route(source, destination), 0],
        Operation::Run { partition, vcpu } => &[0x8400_006d, route(partition, vcpu)],
        Operation::Wait => &[0x8400_006b, 0, 0],
        Operation::Yield => &[0x8400_006c, 0, 0, 0, 0, 0, 0, 0],
        Operation::Error => &[0x8400_0060, 0, 0xffff_fff8],
        Operation::Abort => &[0x8400_0090],
        Operation::IdGet => &[0x8400_0069],
        Operation::Online | Operation::Offline | Operation::Fiq | Operation::Irq | Operation::SError => &[],
    };
    registers[..head.len()].copy_from_slice(head);
    // The nil UUID: no service in particular.
    if let Operation::Request {
        form: Form::Direct2, ..
    } = operation
    {
        registers[2..4].copy_from_slice(&[0, 0]);
    }
    registers
}

/// Carries `operation` out, with the `registers` that belong to it.
pub fn perform(system: &mut System<'_>, pe: usize, operation: Operation, registers: &[u64; 18]) {
    let exit = match operation {
        Operation::Online => {
            system.online(pe);
            return;
        }
        Operation::Offline => {
            system.turn_off(pe);
            return;
        }
        Operation::Fiq => Some(Exit::Fiq),
        Operation::Irq => Some(Exit::Irq),
        Operation::SError => Some(Exit::SError { esr: 0 }),
        _ => None,
    };
    match exit {
        Some(exit) => {
            system.load(pe, registers);
            system.exit(pe, exit);
        }
        None if system.owner(pe) == Owner::NormalWorld => {
            system.nwd(pe, registers);
        }
        None => {
            system.smc(pe, registers);
        }
    }
}
