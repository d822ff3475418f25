//! Borrowing memory that the normal world shares, and how many instructions that takes.

use tantalum_partition::{
    ffa::{
        FuncId, SMC,
        memory::{Layout, READ_WRITE, Transaction, relinquish},
        registers,
    },
    image_range, measure, probe,
};

use crate::DONE;

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u64)]
pub enum Borrow {
    /// Retrieve the memory and release RX; all fragments of the response.
    Retrieve = 0,
    /// Relinquish it.
    Relinquish = 1,
    /// Only map the RX/TX buffers, which the others do too.
    Buffers = 2,
}

/// Bytes in a page.
const PAGE: u64 = 0x1000;

/// A partition, and its buffers. They must be accessible at their physical addresses.
#[derive(Debug)]
pub struct Borrower {
    own_id: u16,
    layout: Layout,
    tx: u64,
    is_mapped: bool,
}

impl Borrower {
    /// A partition that has no buffers yet, and speaks FF-A 1.2.
    #[must_use]
    pub fn new(own_id: u16) -> Self {
        // Behind all that the image needs.
        let tx = (image_range().end as u64).next_multiple_of(PAGE) + PAGE;
        Self {
            own_id,
            layout: Layout::V1_2,
            tx,
            is_mapped: false,
        }
    }

    /// The same for one that speaks FF-A 1.`minor`.
    #[must_use]
    pub fn speaking(self, minor: u32) -> Self {
        let layout = match minor {
            0 => Layout::V1_0,
            1 => Layout::V1_1,
            _ => Layout::V1_2,
        };
        Self { layout, ..self }
    }

    /// The address of TX; RX is the page behind it.
    #[must_use]
    pub fn buffers(&self) -> u64 {
        self.tx
    }

    /// Carries out what the normal world wants done: what, handle, permissions and sender.
    pub fn obey(&mut self, [what, handle, permissions]: [u64; 3], answer: &mut [u64; 14]) {
        if !self.is_mapped {
            let map = [FuncId::RxTxMap64 as u64, self.tx, self.tx + PAGE, 1];
            self.is_mapped = SMC.call(&registers(&map))[0] == FuncId::Success32 as u64;
        }
        let [ticks, result, code] = if what == Borrow::Retrieve as u64 {
            self.retrieve(handle, permissions)
        } else if what == Borrow::Relinquish as u64 {
            self.put(&relinquish(handle, 0, self.own_id));
            let (ticks, registers) = measure::partition_call(&registers(&[FuncId::MemRelinquish as u64]));
            [ticks, registers[0], registers[2]]
        } else {
            [0, self.tx, 0]
        };
        answer[..4].copy_from_slice(&[DONE, ticks, result, code]);
    }

    /// The ticks of all calls, and the bytes of the response; 0 and the error code when one of them failed.
    fn retrieve(&self, handle: u64, permissions: u64) -> [u64; 3] {
        let sender = (permissions >> 16 & 0xffff) as u16;
        let permissions = match (permissions & 0xff) as u8 {
            0 => READ_WRITE,
            given => given,
        };
        let request = Transaction {
            layout: self.layout,
            sender,
            attributes: 0,
            flags: 0,
            handle,
            tag: 0,
            borrowers: &[(self.own_id, permissions)],
            ranges: None,
        };
        let head = request.head();
        self.put(head.words());
        let length = 8 * head.words().len() as u64;
        let release = registers(&[FuncId::RxRelease as u64]);
        let (mut all, response) =
            measure::partition_call(&registers(&[FuncId::MemRetrieveReq32 as u64, length, length]));
        if response[0] != FuncId::MemRetrieveResp as u64 {
            return [all, 0, response[2]];
        }
        let (total, mut have) = (response[1], response[2]);
        all += measure::partition_call(&release).0;
        while have < total {
            let next = [FuncId::MemFragRx as u64, handle & 0xffff_ffff, handle >> 32, have];
            let (ticks, fragment) = measure::partition_call(&registers(&next));
            if fragment[0] != FuncId::MemFragTx as u64 {
                return [all, 0, fragment[2]];
            }
            have += fragment[3];
            all += ticks + measure::partition_call(&release).0;
        }
        [all, have, 0]
    }

    fn put(&self, words: &[u64]) {
        for (at, word) in (self.tx..).step_by(8).zip(words) {
            // A fault would show in the calls.
            let _ = probe::write64(at, *word);
        }
    }
}
