//! Registers of the memory management calls (FF-A 1.2, "Memory management interfaces").

use arm_ffa::FuncId;

use super::{Buffer, Caller, Kind, MemoryManager, Partitions};
use crate::{
    abi::{FFA_SUCCESS_32, FfaError, low},
    id::EndpointId,
    machine::Machine,
};

/// FFA_MEM_RETRIEVE_RESP.
const RETRIEVE_RESP: u64 = 0x8400_0075;
/// FFA_MEM_FRAG_RX.
const FRAG_RX: u64 = 0x8400_007a;
/// FFA_MEM_FRAG_TX.
const FRAG_TX: u64 = 0x8400_007b;

/// How a call ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// FFA_SUCCESS: the share is open.
    Sent {
        /// Its handle.
        handle: u64,
    },
    /// FFA_MEM_FRAG_RX: the sender is to send more.
    SendMore {
        /// Handle of the share.
        handle: u64,
        /// Bytes that have come.
        received: u32,
        /// The sender, as the normal world has to be told it.
        sender: EndpointId,
    },
    /// FFA_MEM_RETRIEVE_RESP: the first fragment of the response, or all of it, is in the caller's RX buffer.
    Retrieved {
        /// Bytes of the response.
        total: u32,
        /// Bytes in RX.
        fragment: u32,
    },
    /// FFA_MEM_FRAG_TX: another fragment of the response is in the caller's RX buffer.
    Fragment {
        /// Handle of the share.
        handle: u64,
        /// Bytes in RX.
        fragment: u32,
        /// The sender, as the normal world has to be told it.
        sender: EndpointId,
    },
    /// FFA_SUCCESS without a result.
    Done,
}

impl Outcome {
    /// x0-x7 of the answer.
    #[must_use]
    pub fn registers(self) -> [u64; 8] {
        let low_half = |handle: u64| u64::from(low(handle));
        // Only a hypervisor, which calls for its VMs, is told the endpoint; MBZ for a partition.
        let endpoint = |id: EndpointId| {
            if id.is_secure() {
                0
            } else {
                u64::from(id.as_u16()) << 16
            }
        };
        match self {
            Self::Sent { handle } => [FFA_SUCCESS_32, 0, low_half(handle), handle >> 32, 0, 0, 0, 0],
            Self::SendMore {
                handle,
                received,
                sender,
            } => [
                FRAG_RX,
                low_half(handle),
                handle >> 32,
                received.into(),
                endpoint(sender),
                0,
                0,
                0,
            ],
            Self::Retrieved { total, fragment } => [RETRIEVE_RESP, total.into(), fragment.into(), 0, 0, 0, 0, 0],
            Self::Fragment {
                handle,
                fragment,
                sender,
            } => [
                FRAG_TX,
                low_half(handle),
                handle >> 32,
                fragment.into(),
                endpoint(sender),
                0,
                0,
                0,
            ],
            Self::Done => [FFA_SUCCESS_32, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// The caller's buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffers {
    /// What it writes.
    pub tx: Buffer,
    /// What it reads.
    pub rx: Buffer,
    /// It has not released RX yet.
    pub rx_full: bool,
}

impl Buffers {
    const fn free_rx(&self) -> Result<Buffer, FfaError> {
        if self.rx_full { Err(FfaError::Busy) } else { Ok(self.rx) }
    }
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// x0-x7.
    pub registers: [u64; 8],
    /// The caller owns its RX buffer now.
    pub fills_rx: bool,
}

impl MemoryManager {
    /// Whether [`MemoryManager::call`] knows a call.
    #[must_use]
    pub const fn serves(function: FuncId) -> bool {
        matches!(
            function,
            FuncId::MemDonate32
                | FuncId::MemDonate64
                | FuncId::MemLend32
                | FuncId::MemLend64
                | FuncId::MemShare32
                | FuncId::MemShare64
                | FuncId::MemRetrieveReq32
                | FuncId::MemRetrieveReq64
                | FuncId::MemRelinquish
                | FuncId::MemReclaim
                | FuncId::MemFragRx
                | FuncId::MemFragTx
        )
    }

    /// Serves a memory management call with x0-x7 or more in `registers`. `buffers` are the caller's, which must not be
    /// unmapped until this returns.
    ///
    /// # Errors
    /// Those of the call; `InvalidParameters` when the caller has no buffers and the call needs them, or asks for another
    /// buffer than TX; `NotSupported` for another call.
    pub fn call<M: Machine, P: Partitions>(
        &self,
        machine: &mut M,
        partitions: &P,
        caller: Caller,
        function: FuncId,
        registers: &[u64],
        buffers: Option<Buffers>,
    ) -> Result<Reply, FfaError> {
        let [_, x1, x2, x3, x4, ..] = *registers else {
            return Err(FfaError::InvalidParameters);
        };
        let (w1, w2, w3, w4) = (low(x1), low(x2), low(x3), low(x4));
        let handle = u64::from(w1) | u64::from(w2) << 32;
        let needed = || buffers.ok_or(FfaError::InvalidParameters);
        let wide = matches!(
            function,
            FuncId::MemDonate64 | FuncId::MemLend64 | FuncId::MemShare64 | FuncId::MemRetrieveReq64
        );
        // No other buffer than TX: neither an address nor a number of pages.
        let in_tx = if w4 == 0 && (if wide { x3 == 0 } else { w3 == 0 }) {
            Ok(())
        } else {
            Err(FfaError::InvalidParameters)
        };
        let mut fills_rx = false;
        let outcome = match function {
            FuncId::MemDonate32 | FuncId::MemDonate64 => {
                in_tx.and_then(|()| self.send(machine, partitions, caller, Kind::Donate, [w1, w2], needed()?.tx))
            }
            FuncId::MemLend32 | FuncId::MemLend64 => {
                in_tx.and_then(|()| self.send(machine, partitions, caller, Kind::Lend, [w1, w2], needed()?.tx))
            }
            FuncId::MemShare32 | FuncId::MemShare64 => {
                in_tx.and_then(|()| self.send(machine, partitions, caller, Kind::Share, [w1, w2], needed()?.tx))
            }
            FuncId::MemFragTx => self.frag_tx(machine, partitions, caller, handle, [w3, w4], needed()?.tx),
            FuncId::MemRetrieveReq32 | FuncId::MemRetrieveReq64 => {
                fills_rx = true;
                let Buffers { tx, .. } = needed()?;
                in_tx.and_then(|()| self.retrieve(machine, partitions, caller, [w1, w2], tx, needed()?.free_rx()?))
            }
            FuncId::MemFragRx => {
                fills_rx = true;
                self.frag_rx(machine, caller, handle, [w3, w4], needed()?.free_rx()?)
            }
            FuncId::MemRelinquish if !caller.is_normal_world() => {
                self.relinquish(machine, partitions, caller, needed()?.tx)
            }
            FuncId::MemReclaim => self.reclaim(machine, partitions, caller, handle, w3),
            _ => Err(FfaError::NotSupported),
        }?;
        Ok(Reply {
            registers: outcome.registers(),
            fills_rx,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_have_two_halves() {
        let (handle, vm, sp) = (0x1234_5678_9abc_def0, EndpointId::new(5), EndpointId::new(0x8001));
        let (low, high) = (0x9abc_def0, 0x1234_5678);
        let sent = Outcome::Sent { handle };
        assert_eq!(sent.registers(), [FFA_SUCCESS_32, 0, low, high, 0, 0, 0, 0]);
        for (sender, w4) in [(vm, 5 << 16), (sp, 0)] {
            let more = Outcome::SendMore {
                handle,
                received: 96,
                sender,
            };
            assert_eq!(more.registers(), [FRAG_RX, low, high, 96, w4, 0, 0, 0]);
            let fragment = Outcome::Fragment {
                handle,
                fragment: 96,
                sender,
            };
            assert_eq!(fragment.registers(), [FRAG_TX, low, high, 96, w4, 0, 0, 0]);
        }
    }
}
