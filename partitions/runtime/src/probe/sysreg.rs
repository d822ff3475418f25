//! System registers that a partition has no business with. Each access must be undefined there, or do no harm.

use core::arch::asm;

use super::{Fault, arm, caught, guarded};
use crate::context::Context;
use core::mem::offset_of;

/// One register or system instruction to try.
#[derive(Debug)]
pub struct Target {
    /// What it is called.
    pub name: &'static str,
    read: fn() -> Result<u64, Fault>,
    write: fn(u64) -> Result<(), Fault>,
    /// What an access must do.
    pub rule: Rule,
}

/// What an access from a partition must do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rule {
    /// Be undefined, as an access to a register of a higher exception level or of a feature that is not there.
    Undefined,
    /// Be undefined, or have no effect that anybody else could notice.
    Harmless,
}

impl Target {
    /// Tries to read it.
    ///
    /// # Errors
    ///
    /// The fault that the access takes.
    pub fn read(&self) -> Result<u64, Fault> {
        (self.read)()
    }

    /// Tries to write it.
    ///
    /// # Errors
    ///
    /// The fault that the access takes.
    pub fn write(&self, value: u64) -> Result<(), Fault> {
        (self.write)(value)
    }
}

/// Makes targets of registers, by the numbers of their encoding: assemblers do not know all of the names.
macro_rules! targets {
    ($rule:expr; $($name:literal = $encoding:literal),* $(,)?) => {
        &[$(Target {
            name: $name,
            rule: $rule,
            read: || {
                let record = arm();
                let (at, value): (u64, u64);
                // SAFETY: a read of a system register; if it faults, the vectors go on after it.
                unsafe {
                    guarded!(record, at, [concat!("mrs {value}, ", $encoding)], value = inout(reg) 0_u64 => value,
                        options(nostack));
                }
                caught(record, at).map(|()| value)
            },
            write: |value| {
                let record = arm();
                let at: u64;
                // SAFETY: a write of a register that the program does not depend on; if it faults, the vectors go on after it.
                unsafe {
                    guarded!(record, at, [concat!("msr ", $encoding, ", {value}")], value = in(reg) value,
                        options(nostack));
                }
                caught(record, at)
            },
        }),*]
    };
}

/// Makes targets of system instructions, which only "write".
macro_rules! instructions {
    ($rule:expr; $($name:literal = $instruction:literal),* $(,)?) => {
        &[$(Target {
            name: $name,
            rule: $rule,
            read: || Ok(0),
            write: |value| {
                let record = arm();
                let at: u64;
                // SAFETY: an instruction that changes no memory contents of the program's; if it faults, the vectors go on after it.
                unsafe {
                    guarded!(record, at, [concat!($instruction, " // {value}")], value = in(reg) value, options(nostack));
                }
                caught(record, at)
            },
        }),*]
    };
}

/// Registers of EL2 and EL3: undefined at EL1 whatever the SPM does.
static HIGHER_LEVELS: &[Target] = targets! { Rule::Undefined;
    "HCR_EL2" = "S3_4_C1_C1_0", "SCTLR_EL2" = "S3_4_C1_C0_0", "CPTR_EL2" = "S3_4_C1_C1_2", "MDCR_EL2" = "S3_4_C1_C1_1",
    "HSTR_EL2" = "S3_4_C1_C1_3", "TTBR0_EL2" = "S3_4_C2_C0_0", "TCR_EL2" = "S3_4_C2_C0_2", "VTTBR_EL2" = "S3_4_C2_C1_0",
    "VTCR_EL2" = "S3_4_C2_C1_2", "VSTTBR_EL2" = "S3_4_C2_C6_0", "VSTCR_EL2" = "S3_4_C2_C6_2", "VBAR_EL2" = "S3_4_C12_C0_0",
    "ELR_EL2" = "S3_4_C4_C0_1", "SPSR_EL2" = "S3_4_C4_C0_0", "SP_EL1" = "S3_4_C4_C1_0", "ESR_EL2" = "S3_4_C5_C2_0",
    "FAR_EL2" = "S3_4_C6_C0_0", "HPFAR_EL2" = "S3_4_C6_C0_4", "TPIDR_EL2" = "S3_4_C13_C0_2", "CNTHCTL_EL2" = "S3_4_C14_C1_0",
    "CNTVOFF_EL2" = "S3_4_C14_C0_3", "CNTHP_CTL_EL2" = "S3_4_C14_C2_1", "CNTHPS_CTL_EL2" = "S3_4_C14_C5_1",
    "VPIDR_EL2" = "S3_4_C0_C0_0", "VMPIDR_EL2" = "S3_4_C0_C0_5", "ICH_HCR_EL2" = "S3_4_C12_C11_0", "ICH_LR0_EL2" = "S3_4_C12_C12_0",
    "ICC_SRE_EL2" = "S3_4_C12_C9_5", "HFGRTR_EL2" = "S3_4_C1_C1_4", "HCRX_EL2" = "S3_4_C1_C2_2", "MAIR_EL2" = "S3_4_C10_C2_0",
    "SCR_EL3" = "S3_6_C1_C1_0", "SCTLR_EL3" = "S3_6_C1_C0_0", "MDCR_EL3" = "S3_6_C1_C3_1", "CPTR_EL3" = "S3_6_C1_C1_2",
    "VBAR_EL3" = "S3_6_C12_C0_0", "ELR_EL3" = "S3_6_C4_C0_1", "TPIDR_EL3" = "S3_6_C13_C0_2", "ICC_IGRPEN1_EL3" = "S3_6_C12_C12_7",
    "CNTPS_CTL_EL1" = "S3_7_C14_C2_1", "CNTPS_CVAL_EL1" = "S3_7_C14_C2_2", "CNTPS_TVAL_EL1" = "S3_7_C14_C2_0",
    "SDER32_EL2" = "S3_4_C1_C3_1", "SCTLR_EL12" = "S3_5_C1_C0_0", "CNTV_CTL_EL02" = "S3_5_C14_C3_1",
};

/// The GIC's processor interface: a partition that could write it would decide which interrupts the normal world gets.
static INTERRUPTS: &[Target] = targets! { Rule::Harmless;
    "ICC_PMR_EL1" = "S3_0_C4_C6_0", "ICC_IAR1_EL1" = "S3_0_C12_C12_0", "ICC_HPPIR1_EL1" = "S3_0_C12_C12_2",
    "ICC_BPR1_EL1" = "S3_0_C12_C12_3", "ICC_CTLR_EL1" = "S3_0_C12_C12_4", "ICC_SRE_EL1" = "S3_0_C12_C12_5",
    "ICC_IGRPEN0_EL1" = "S3_0_C12_C12_6", "ICC_IGRPEN1_EL1" = "S3_0_C12_C12_7", "ICC_RPR_EL1" = "S3_0_C12_C11_3",
    "ICC_AP1R0_EL1" = "S3_0_C12_C9_0", "ICC_IAR0_EL1" = "S3_0_C12_C8_0", "ICC_HPPIR0_EL1" = "S3_0_C12_C8_2",
    "ICC_BPR0_EL1" = "S3_0_C12_C8_3",
};

/// Writes that would send or finish interrupts.
static INTERRUPT_WRITES: &[Target] = instructions! { Rule::Harmless;
    "ICC_SGI1R_EL1 write" = "msr S3_0_C12_C11_5, {value}", "ICC_ASGI1R_EL1 write" = "msr S3_0_C12_C11_6, {value}",
    "ICC_SGI0R_EL1 write" = "msr S3_0_C12_C11_7, {value}", "ICC_EOIR1_EL1 write" = "msr S3_0_C12_C12_1, {value}",
    "ICC_DIR_EL1 write" = "msr S3_0_C12_C11_1, {value}", "ICC_EOIR0_EL1 write" = "msr S3_0_C12_C8_1, {value}",
};

/// Timers: the normal world uses the EL1 physical timer, and keeps its virtual timer across a call.
static TIMERS: &[Target] = targets! { Rule::Harmless;
    "CNTP_CTL_EL0" = "S3_3_C14_C2_1", "CNTP_CVAL_EL0" = "S3_3_C14_C2_2", "CNTP_TVAL_EL0" = "S3_3_C14_C2_0",
    "CNTV_CVAL_EL0" = "S3_3_C14_C3_2", "CNTFRQ_EL0" = "S3_3_C14_C0_0", "CNTPCT_EL0" = "S3_3_C14_C0_1",
};

/// The performance monitor counts for everybody.
static PERFORMANCE: &[Target] = targets! { Rule::Harmless;
    "PMCR_EL0" = "S3_3_C9_C12_0", "PMCNTENSET_EL0" = "S3_3_C9_C12_1", "PMCNTENCLR_EL0" = "S3_3_C9_C12_2",
    "PMOVSCLR_EL0" = "S3_3_C9_C12_3", "PMSELR_EL0" = "S3_3_C9_C12_5", "PMCEID0_EL0" = "S3_3_C9_C12_6",
    "PMCCNTR_EL0" = "S3_3_C9_C13_0", "PMXEVTYPER_EL0" = "S3_3_C9_C13_1", "PMXEVCNTR_EL0" = "S3_3_C9_C13_2",
    "PMUSERENR_EL0" = "S3_3_C9_C14_0", "PMINTENSET_EL1" = "S3_0_C9_C14_1", "PMINTENCLR_EL1" = "S3_0_C9_C14_2",
    "PMEVCNTR0_EL0" = "S3_3_C14_C8_0", "PMEVTYPER0_EL0" = "S3_3_C14_C12_0", "PMCCFILTR_EL0" = "S3_3_C14_C15_7",
    "PMMIR_EL1" = "S3_0_C9_C14_6", "AMCR_EL0" = "S3_3_C13_C2_0", "AMUSERENR_EL0" = "S3_3_C13_C2_3",
    "PMSCR_EL1" = "S3_0_C9_C9_0", "PMBLIMITR_EL1" = "S3_0_C9_C10_0", "PMSIDR_EL1" = "S3_0_C9_C9_7",
};

/// Debug and trace: the normal world's breakpoints are in these.
static DEBUG: &[Target] = targets! { Rule::Harmless;
    "DBGBVR0_EL1" = "S2_0_C0_C0_4", "DBGBCR0_EL1" = "S2_0_C0_C0_5", "DBGWVR0_EL1" = "S2_0_C0_C0_6", "DBGWCR0_EL1" = "S2_0_C0_C0_7",
    "MDCCINT_EL1" = "S2_0_C0_C2_0", "OSLSR_EL1" = "S2_0_C1_C1_4", "OSDLR_EL1" = "S2_0_C1_C3_4", "DBGPRCR_EL1" = "S2_0_C1_C4_4",
    "DBGCLAIMSET_EL1" = "S2_0_C7_C8_6", "MDRAR_EL1" = "S2_0_C1_C0_0", "OSDTRRX_EL1" = "S2_0_C0_C0_2", "OSECCR_EL1" = "S2_0_C0_C6_2",
    "TRFCR_EL1" = "S3_0_C1_C2_1", "TRCPRGCTLR" = "S2_1_C0_C1_0", "TRBLIMITR_EL1" = "S3_0_C9_C11_0", "BRBCR_EL1" = "S2_1_C9_C0_0",
};

/// Features that nobody switches between partitions, so that none may have them.
static FEATURES: &[Target] = targets! { Rule::Harmless;
    "ZCR_EL1" = "S3_0_C1_C2_0", "SMCR_EL1" = "S3_0_C1_C2_6", "SMPRI_EL1" = "S3_0_C1_C2_4", "SVCR" = "S3_3_C4_C2_2",
    "TPIDR2_EL0" = "S3_3_C13_C0_5", "SMIDR_EL1" = "S3_1_C0_C0_6",
    "TFSR_EL1" = "S3_0_C5_C6_0", "TFSRE0_EL1" = "S3_0_C5_C6_1", "GCR_EL1" = "S3_0_C1_C0_6", "RGSR_EL1" = "S3_0_C1_C0_5",
    "MPAM0_EL1" = "S3_0_C10_C5_1", "MPAM1_EL1" = "S3_0_C10_C5_0", "MPAMIDR_EL1" = "S3_0_C10_C4_4",
    "LORSA_EL1" = "S3_0_C10_C4_0", "LORC_EL1" = "S3_0_C10_C4_3", "LORID_EL1" = "S3_0_C10_C4_7",
    "ERRIDR_EL1" = "S3_0_C5_C3_0", "ERRSELR_EL1" = "S3_0_C5_C3_1", "DISR_EL1" = "S3_0_C12_C1_1",
    "SCXTNUM_EL1" = "S3_0_C13_C0_7", "SCXTNUM_EL0" = "S3_3_C13_C0_7", "TCR2_EL1" = "S3_0_C2_C0_3", "PIR_EL1" = "S3_0_C10_C2_3",
    "PIRE0_EL1" = "S3_0_C10_C2_2", "POR_EL1" = "S3_0_C10_C2_4", "GCSCR_EL1" = "S3_0_C2_C5_0", "SCTLR2_EL1" = "S3_0_C1_C0_3",
    "ACCDATA_EL1" = "S3_0_C13_C0_5", "RNDR" = "S3_3_C2_C4_0", "ACTLR_EL1" = "S3_0_C1_C0_1", "AIDR_EL1" = "S3_1_C0_C0_7",
    "IMPDEF S3_0_C15_C0_0" = "S3_0_C15_C0_0", "IMPDEF S3_0_C11_C0_0" = "S3_0_C11_C0_0", "IMPDEF S3_7_C15_C2_0" = "S3_7_C15_C2_0",
};

/// Instructions that reach beyond the partition.
static INSTRUCTIONS: &[Target] = instructions! { Rule::Harmless;
    "DC ISW" = "dc isw, {value}", "DC CSW" = "dc csw, {value}", "DC CISW" = "dc cisw, {value}",
    "TLBI VMALLE1IS" = "tlbi vmalle1is", "IC IALLUIS" = "ic ialluis",
};

/// Instructions of a higher exception level.
static HIGHER_INSTRUCTIONS: &[Target] = instructions! { Rule::Undefined;
    "TLBI ALLE2" = "tlbi alle2", "TLBI ALLE1" = "tlbi alle1", "TLBI VMALLS12E1" = "tlbi vmalls12e1", "TLBI IPAS2E1" = "tlbi ipas2e1, {value}",
    "TLBI ALLE3" = "tlbi alle3", "AT S1E2R" = "at s1e2r, {value}", "AT S12E1R" = "at s12e1r, {value}", "AT S1E3R" = "at s1e3r, {value}",
};

/// Registers that say which features there are. Not to be written.
static IDENTIFICATION: &[Target] = targets! { Rule::Harmless;
    "ID_AA64PFR0_EL1" = "S3_0_C0_C4_0", "ID_AA64PFR1_EL1" = "S3_0_C0_C4_1", "ID_AA64ZFR0_EL1" = "S3_0_C0_C4_4",
    "ID_AA64SMFR0_EL1" = "S3_0_C0_C4_5", "ID_AA64DFR0_EL1" = "S3_0_C0_C5_0", "ID_AA64ISAR0_EL1" = "S3_0_C0_C6_0",
    "ID_AA64ISAR1_EL1" = "S3_0_C0_C6_1", "ID_AA64MMFR0_EL1" = "S3_0_C0_C7_0", "ID_AA64MMFR1_EL1" = "S3_0_C0_C7_1",
    "ID_AA64MMFR2_EL1" = "S3_0_C0_C7_2", "ID_AA64MMFR3_EL1" = "S3_0_C0_C7_3", "MIDR_EL1" = "S3_0_C0_C0_0",
    "MPIDR_EL1" = "S3_0_C0_C0_5", "REVIDR_EL1" = "S3_0_C0_C0_6", "CTR_EL0" = "S3_3_C0_C0_1", "DCZID_EL0" = "S3_3_C0_C0_7",
};

/// The groups of targets, each with a name.
pub static GROUPS: &[(&str, &[Target])] = &[
    ("registers of EL2 and EL3", HIGHER_LEVELS),
    ("instructions of EL2 and EL3", HIGHER_INSTRUCTIONS),
    ("GIC processor interface", INTERRUPTS),
    ("GIC commands", INTERRUPT_WRITES),
    ("timers", TIMERS),
    ("performance monitors", PERFORMANCE),
    ("debug and trace", DEBUG),
    ("unswitched features", FEATURES),
    ("maintenance instructions", INSTRUCTIONS),
    ("identification", IDENTIFICATION),
];

/// The targets of all groups, in order.
pub fn all() -> impl Iterator<Item = &'static Target> {
    GROUPS.iter().flat_map(|(_, targets)| targets.iter())
}
