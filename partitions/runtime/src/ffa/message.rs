//! Direct messages as a receiver sees them, and the loop that serves them.

use arm_ffa::{FuncId, UuidHelper};
use uuid::Uuid;

use super::{Registers, SMC, error_code, ids, low, pair, registers};
use crate::{context, println};

/// Bit 31 of w2: a message of the SPM itself, not of a partition.
const FRAMEWORK: u64 = 1 << 31;
/// Function of a framework message: a power state request, and the answer to one.
const POWER_REQUEST: u64 = 0;
const WARM_BOOT: u64 = 1;
const POWER_RESPONSE: u64 = 2;
/// Function of a framework message: a virtual machine was created or destroyed; the answer has the next higher number.
const VM_CREATED: u64 = 4;
const VM_DESTROYED: u64 = 6;

/// How a message travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// `FFA_MSG_SEND_DIRECT_REQ_32`: five words of 32 bits.
    Direct32,
    /// `FFA_MSG_SEND_DIRECT_REQ_64`: five words of 64 bits.
    Direct64,
    /// `FFA_MSG_SEND_DIRECT_REQ2`: fourteen words of 64 bits, to a service.
    Direct2(Uuid),
}

/// A direct request that arrived.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Request {
    /// Who asks.
    pub sender: u16,
    /// Who is asked: this partition.
    pub receiver: u16,
    /// How the message came, which is how the answer goes back.
    pub kind: Kind,
    words: [u64; 14],
}

/// A direct response: what a handler returns, and what a requester gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Response {
    /// x0-x17 of the response.
    pub registers: Registers,
}

impl Request {
    /// The direct request of a partition or of the normal world that `registers` hold, if they do.
    #[must_use]
    pub fn from_registers(registers: &Registers) -> Option<Self> {
        let (sender, receiver) = pair(registers[1]);
        let mut words = [0; 14];
        let kind = match FuncId::try_from(low(registers[0])).ok()? {
            FuncId::MsgSendDirectReq32 if registers[2] & FRAMEWORK == 0 => {
                for (word, register) in words.iter_mut().zip(&registers[3..8]) {
                    *word = u64::from(low(*register));
                }
                Kind::Direct32
            }
            FuncId::MsgSendDirectReq64 if registers[2] & FRAMEWORK == 0 => {
                words[..5].copy_from_slice(&registers[3..8]);
                Kind::Direct64
            }
            FuncId::MsgSendDirectReq64_2 => {
                words.copy_from_slice(&registers[4..]);
                Kind::Direct2(UuidHelper::from_u64_regs([registers[2], registers[3]]))
            }
            _ => return None,
        };
        Some(Self {
            sender,
            receiver,
            kind,
            words,
        })
    }

    /// The words of the message: five or fourteen.
    #[must_use]
    pub fn payload(&self) -> &[u64] {
        match self.kind {
            Kind::Direct32 | Kind::Direct64 => &self.words[..5],
            Kind::Direct2(_) => &self.words,
        }
    }

    /// The response with these words. Those that the kind of message has no room for are left out, and so are the upper halves of 32-bit words.
    #[must_use]
    pub fn respond(&self, payload: &[u64]) -> Response {
        let ids = ids(self.receiver, self.sender);
        let (function, first, last, mask) = match self.kind {
            Kind::Direct32 => (FuncId::MsgSendDirectResp32, 3, 8, 0xffff_ffff),
            Kind::Direct64 => (FuncId::MsgSendDirectResp64, 3, 8, u64::MAX),
            Kind::Direct2(_) => (FuncId::MsgSendDirectResp64_2, 4, 18, u64::MAX),
        };
        let mut registers = registers(&[function as u64, ids]);
        for (register, word) in registers[first..last].iter_mut().zip(payload) {
            *register = word & mask;
        }
        Response { registers }
    }

    /// The response with the words of the request.
    #[must_use]
    pub fn echo(&self) -> Response {
        self.respond(&self.words)
    }
}

impl Response {
    /// The response in `registers`.
    #[must_use]
    pub(crate) fn from_registers(registers: &Registers) -> Self {
        Self { registers: *registers }
    }

    /// Who responds, and to whom.
    #[must_use]
    pub fn ids(&self) -> (u16, u16) {
        pair(self.registers[1])
    }

    /// The words of the message: five or fourteen.
    #[must_use]
    pub fn payload(&self) -> &[u64] {
        if low(self.registers[0]) == FuncId::MsgSendDirectResp64_2 as u32 {
            &self.registers[4..]
        } else {
            &self.registers[3..8]
        }
    }
}

/// The answer to a message of the SPM itself: a partition has nothing against what it announces.
fn framework_response(request: &Registers) -> Option<Registers> {
    if low(request[0]) != FuncId::MsgSendDirectReq32 as u32 || request[2] & FRAMEWORK == 0 {
        return None;
    }
    let function = match request[2] & 0xff {
        POWER_REQUEST | WARM_BOOT => POWER_RESPONSE,
        announcement @ (VM_CREATED | VM_DESTROYED) => announcement + 1,
        _ => return None,
    };
    let (sender, receiver) = pair(request[1]);
    Some(registers(&[
        FuncId::MsgSendDirectResp32 as u64,
        ids(receiver, sender),
        FRAMEWORK | function,
        0,
    ]))
}

/// Waits for messages and answers each with what `handler` returns, forever.
///
/// Power messages and announcements of virtual machines are accepted on the program's behalf.
pub fn serve(handler: impl FnMut(&Request) -> Response) -> ! {
    serve_with(|registers| SMC.call(registers), handler)
}

/// [`serve`], with a function of one's own to make the calls.
pub fn serve_with(mut call: impl FnMut(&Registers) -> Registers, mut handler: impl FnMut(&Request) -> Response) -> ! {
    let wait = registers(&[FuncId::MsgWait32 as u64]);
    context::set_initialised();
    let mut event = call(&wait);
    loop {
        event = if let Some(request) = Request::from_registers(&event) {
            call(&handler(&request).registers)
        } else if let Some(response) = framework_response(&event) {
            call(&response)
        } else if let Some(code) = error_code(&event) {
            println!("the SPM refused a response or a wait: {code}");
            call(&wait)
        } else {
            // FFA_RUN without a message, or an interrupt that this library has nothing to do with.
            call(&wait)
        };
    }
}
