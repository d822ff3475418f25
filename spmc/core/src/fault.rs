//! Exceptions that a partition is made to take at its own EL1 (Arm ARM, exception entry to EL1).

use crate::{
    context::Context,
    syndrome::{Abort, FaultKind},
};

const PSTATE_NZCV: u64 = 0xf << 28;
const PSTATE_DIT: u64 = 1 << 24;
const PSTATE_PAN: u64 = 1 << 22;
const PSTATE_SSBS: u64 = 1 << 12;
const PSTATE_AARCH32: u64 = 1 << 4;
const PSTATE_EL_SP: u64 = 0xf;
const PSTATE_EL1H_DAIF: u64 = 0x3c5;
const SCTLR_SPAN: u64 = 1 << 23;
const SCTLR_DSSBS: u64 = 1 << 44;
const SCTLR_M: u64 = 1 << 0;

const ESR_IL: u64 = 1 << 25;
const EC_UNKNOWN: u64 = 0x00;
const EC_INSTRUCTION_ABORT_LOWER: u64 = 0x20;
const EC_INSTRUCTION_ABORT_SAME: u64 = 0x21;
const EC_DATA_ABORT_LOWER: u64 = 0x24;
const EC_DATA_ABORT_SAME: u64 = 0x25;
/// Synchronous external abort, not on a translation table walk.
const FSC_EXTERNAL: u64 = 0x10;
/// Synchronous external abort on a translation table walk, level 0.
const FSC_EXTERNAL_ON_WALK: u64 = 0x14;
const ISS_WNR: u64 = 1 << 6;
const ISS_FNV: u64 = 1 << 10;

/// Offset within a vector table.
const TABLE_MASK: u64 = 0x7ff;
/// Bytes of one entry of the vector table.
const VECTOR_BYTES: u64 = 0x80;
/// Faults in a row that are no progress, after which a context does not go on any more.
const MAX_REPEATS: u32 = 64;
/// Faults that were over when they were looked at, in one turn of a context, before they are taken for something else.
const MAX_PASSED: u32 = 4096;

/// What tells one fault from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fault {
    /// Program counter.
    pc: u64,
    /// Virtual address.
    address: u64,
    /// Stack pointer of EL1.
    sp: u64,
}

/// Faults that were delivered to a context since it was last given the PE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultHistory {
    /// The vector entry that was last entered, 0 for none.
    vector: u64,
    /// The last fault.
    last: Fault,
    /// How often it came in a row without progress.
    repeats: u32,
    /// Faults that were over when they were looked at.
    passed: u32,
}

/// Why an exception cannot be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undeliverable {
    /// The context never installed exception vectors.
    NoVectors,
    /// It faulted in the entry of its vector table for the fault before.
    FaultInVector,
    /// It takes the same fault for ever.
    Livelock,
    /// It is at S-EL0: it has no vectors of its own.
    AtEl0,
}

/// An exception to take at EL1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// The instruction is undefined.
    Undefined,
    /// A stage-2 abort, seen by EL1 as a synchronous external abort.
    Abort(Abort, u64),
}

impl FaultHistory {
    /// Counts a fault that was over when it was looked at. `false` after so many that something else must be wrong.
    pub fn passes(&mut self) -> bool {
        self.passed = self.passed.saturating_add(1);
        self.passed <= MAX_PASSED
    }

    /// Delivers `exception` to `ctx`, whose EL1 registers are in memory (parked).
    ///
    /// # Errors
    /// Why the context cannot go on; it is unchanged then.
    pub fn deliver(&mut self, ctx: &mut Context, exception: Exception) -> Result<(), Undeliverable> {
        let address = match exception {
            Exception::Undefined => 0,
            Exception::Abort(_, far) => far,
        };
        let vector = vector_entry(ctx);
        let same_table = self.vector & !TABLE_MASK == vector & !TABLE_MASK;
        if self.vector != 0 && same_table && ctx.pc.wrapping_sub(self.vector) < VECTOR_BYTES {
            return Err(Undeliverable::FaultInVector);
        }
        if ctx.el1.vbar == 0 && ctx.el1.sctlr & SCTLR_M == 0 {
            return Err(Undeliverable::NoVectors);
        }
        let this = Fault {
            pc: ctx.pc,
            address,
            sp: ctx.el1.sp_el1,
        };
        // ELR_EL1 tells that the handler has returned to the instruction, or not at all. In the first case another address
        // is progress; in the second it is the handler that faults, further down a stack that is not there.
        let again = this.pc == self.last.pc && ctx.el1.elr == this.pc;
        let stuck = again && (this.address == self.last.address || this.sp != self.last.sp);
        let repeats = if stuck { self.repeats.saturating_add(1) } else { 1 };
        if repeats > MAX_REPEATS {
            return Err(Undeliverable::Livelock);
        }
        *self = Self {
            vector,
            last: this,
            repeats,
            ..*self
        };
        enter(ctx, exception, vector);
        Ok(())
    }
}

fn from_el0(ctx: &Context) -> bool {
    ctx.pstate & (PSTATE_EL_SP | PSTATE_AARCH32) & !1 == 0 || ctx.pstate & PSTATE_AARCH32 != 0
}

/// The entry of the vector table for a synchronous exception.
fn vector_entry(ctx: &Context) -> u64 {
    let offset = if ctx.pstate & PSTATE_AARCH32 != 0 {
        0x600
    } else {
        match ctx.pstate & PSTATE_EL_SP {
            0x5 => 0x200,
            0x4 => 0x000,
            _ => 0x400,
        }
    };
    (ctx.el1.vbar & !TABLE_MASK).wrapping_add(offset)
}

fn syndrome(ctx: &Context, exception: Exception) -> u64 {
    let Exception::Abort(abort, _) = exception else {
        return (EC_UNKNOWN << 26) | ESR_IL;
    };
    let class = match (abort.fetch, from_el0(ctx)) {
        (true, true) => EC_INSTRUCTION_ABORT_LOWER,
        (true, false) => EC_INSTRUCTION_ABORT_SAME,
        (false, true) => EC_DATA_ABORT_LOWER,
        (false, false) => EC_DATA_ABORT_SAME,
    };
    let status = match (abort.on_walk, abort.kind()) {
        (true, _) => FSC_EXTERNAL_ON_WALK | u64::from(abort.status & 3),
        (false, FaultKind::Alignment) => u64::from(abort.status),
        (false, _) => FSC_EXTERNAL,
    };
    let mut esr = (class << 26) | status;
    if abort.il {
        esr |= ESR_IL;
    }
    if abort.write {
        esr |= ISS_WNR;
    }
    if !abort.far_valid {
        esr |= ISS_FNV;
    }
    esr
}

fn enter(ctx: &mut Context, exception: Exception, vector: u64) {
    ctx.el1.esr = syndrome(ctx, exception);
    if let Exception::Abort(_, far) = exception {
        ctx.el1.far = far;
    }
    ctx.el1.elr = ctx.pc;
    ctx.el1.spsr = ctx.pstate;
    let mut pstate = (ctx.pstate & (PSTATE_NZCV | PSTATE_DIT | PSTATE_PAN)) | PSTATE_EL1H_DAIF;
    if ctx.el1.sctlr & SCTLR_SPAN == 0 {
        pstate |= PSTATE_PAN;
    }
    if ctx.el1.sctlr & SCTLR_DSSBS != 0 {
        pstate |= PSTATE_SSBS;
    }
    ctx.pstate = pstate;
    ctx.pc = vector;
}
