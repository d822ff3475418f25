//! Access to system registers, by the names of the architecture.
//!
//! Registers that the assembler may not know (they need an architecture extension that the target does not have) are
//! named by their encoding, `S<op0>_<op1>_C<n>_C<m>_<op2>`.
#![expect(unsafe_code, reason = "MRS and MSR are assembly")]

/// Defines a module for each register, with `read` and `write`.
macro_rules! system_registers {
    ($($(#[$attribute:meta])* $name:ident = $register:literal;)*) => {
        $(
            $(#[$attribute])*
            pub mod $name {
                use core::arch::asm;

                /// Reads the register.
                #[inline(always)]
                #[must_use]
                pub fn read() -> u64 {
                    let value: u64;
                    // SAFETY: reading a system register has no effect on memory; if the register did not exist, an
                    // exception would be taken.
                    unsafe {
                        asm!(
                            concat!("mrs {value}, ", $register),
                            value = out(reg) value,
                            options(nomem, nostack, preserves_flags),
                        );
                    }
                    value
                }

                /// Writes the register. No barrier.
                ///
                /// # Safety
                /// The value must keep translation, permissions and control flow of the SPMC as the Rust code around
                /// relies on them.
                #[inline(always)]
                pub unsafe fn write(value: u64) {
                    // SAFETY: the caller vouches for the register's effect; nothing else is touched.
                    unsafe {
                        asm!(
                            concat!("msr ", $register, ", {value}"),
                            value = in(reg) value,
                            options(nostack, preserves_flags),
                        );
                    }
                }
            }
        )*
    };
}

system_registers! {
    /// Affinities of this PE.
    mpidr_el1 = "mpidr_el1";
    /// Implementer and part.
    midr_el1 = "midr_el1";
    /// Exception level.
    current_el = "CurrentEL";
    /// Counter.
    cntpct_el0 = "cntpct_el0";
    /// Frequency of the counter, as firmware has set it.
    cntfrq_el0 = "cntfrq_el0";
    /// Cache line sizes.
    ctr_el0 = "ctr_el0";
    /// Vector base of EL2.
    vbar_el2 = "vbar_el2";
    /// The PE's [`Core`](crate::pe::Core), 0 before there is one.
    tpidr_el2 = "tpidr_el2";
    /// Syndrome.
    esr_el2 = "esr_el2";
    /// Fault address.
    far_el2 = "far_el2";
    /// Fault IPA.
    hpfar_el2 = "hpfar_el2";
    /// Result of an address translation.
    par_el1 = "par_el1";
    /// Hypervisor configuration.
    hcr_el2 = "hcr_el2";
    /// AArch32 traps.
    hstr_el2 = "hstr_el2";
    /// Traps of FP, SVE, SME and trace.
    cptr_el2 = "cptr_el2";
    /// Traps of debug and performance monitors.
    mdcr_el2 = "mdcr_el2";
    /// Timer controls.
    cnthctl_el2 = "cnthctl_el2";
    /// Offset of the virtual counter.
    cntvoff_el2 = "cntvoff_el2";
    /// MIDR_EL1 as EL1 reads it.
    vpidr_el2 = "vpidr_el2";
    /// MPIDR_EL1 as EL1 reads it.
    vmpidr_el2 = "vmpidr_el2";
    /// Stage-2 control.
    vtcr_el2 = "vtcr_el2";
    /// Stage-2 root of the non-secure IPA space, and the VMID of both.
    vttbr_el2 = "vttbr_el2";
    /// Stage-2 control of the secure IPA space.
    vstcr_el2 = "S3_4_C2_C6_2";
    /// Stage-2 root of the secure IPA space.
    vsttbr_el2 = "S3_4_C2_C6_0";
    /// Interrupts that are pending for this PE.
    isr_el1 = "S3_0_C12_C1_0";
    /// Deferred SErrors, of EL2.
    disr_el1 = "S3_0_C12_C1_1";
    /// Deferred virtual SErrors: what EL1 reads as `DISR_EL1`.
    vdisr_el2 = "S3_4_C12_C1_1";
    /// Active priorities of Group 0.
    icc_ap0r0_el1 = "S3_0_C12_C8_4";
    /// Active priorities of Group 1.
    icc_ap1r0_el1 = "S3_0_C12_C9_0";
    /// Enable of Group 0.
    icc_igrpen0_el1 = "S3_0_C12_C12_6";
    /// Enable of Group 1.
    icc_igrpen1_el1 = "S3_0_C12_C12_7";
    /// Virtual timer, control.
    cntv_ctl_el0 = "cntv_ctl_el0";
    /// Virtual timer, compare value.
    cntv_cval_el0 = "cntv_cval_el0";
    /// Secure EL2 physical timer, control.
    cnthps_ctl_el2 = "S3_4_C14_C5_1";
    /// Secure EL2 physical timer, compare value.
    cnthps_cval_el2 = "S3_4_C14_C5_2";
    /// Vector lengths of SVE, one register for both worlds.
    zcr_el2 = "S3_4_C1_C2_0";
    /// Vector lengths of SME, one register for both worlds.
    smcr_el2 = "S3_4_C1_C2_6";
    /// Streaming mode and ZA storage.
    svcr = "S3_3_C4_C2_2";
    /// FP control.
    fpcr = "S3_3_C4_C4_0";
    /// FP status.
    fpsr = "S3_3_C4_C4_1";
    /// FP8 mode.
    fpmr = "S3_3_C4_C4_2";
    /// Priority mask.
    icc_pmr_el1 = "S3_0_C4_C6_0";
    /// Highest priority pending Group 0 interrupt.
    icc_hppir0_el1 = "S3_0_C12_C8_2";
    /// Software generated interrupts of Group 1.
    icc_sgi1r_el1 = "S3_0_C12_C11_5";
    /// Software generated interrupts of the other world's Group 1.
    icc_asgi1r_el1 = "S3_0_C12_C11_6";
    /// Acknowledge of Group 1.
    icc_iar1_el1 = "S3_0_C12_C12_0";
    /// End of Group 1.
    icc_eoir1_el1 = "S3_0_C12_C12_1";
    /// CPU interface control.
    icc_ctlr_el1 = "S3_0_C12_C12_4";
    /// System register interface of EL2.
    icc_sre_el2 = "S3_4_C12_C9_5";
    /// Virtual CPU interface control.
    ich_hcr_el2 = "S3_4_C12_C11_0";
    /// Virtual CPU interface type.
    ich_vtr_el2 = "S3_4_C12_C11_1";
    /// What the virtual CPU interface shows: masks, enables.
    ich_vmcr_el2 = "S3_4_C12_C11_7";
    /// Active priorities of virtual Group 0.
    ich_ap0r0_el2 = "S3_4_C12_C8_0";
    /// Active priorities of virtual Group 1.
    ich_ap1r0_el2 = "S3_4_C12_C9_0";
    /// List register 0.
    ich_lr0_el2 = "S3_4_C12_C12_0";
    /// List register 1.
    ich_lr1_el2 = "S3_4_C12_C12_1";
    /// List register 2.
    ich_lr2_el2 = "S3_4_C12_C12_2";
    /// List register 3.
    ich_lr3_el2 = "S3_4_C12_C12_3";
    /// Processor features 0.
    id_aa64pfr0_el1 = "id_aa64pfr0_el1";
    /// Processor features 1.
    id_aa64pfr1_el1 = "id_aa64pfr1_el1";
    /// Processor features 2.
    id_aa64pfr2_el1 = "S3_0_C0_C4_2";
    /// SME features.
    id_aa64smfr0_el1 = "S3_0_C0_C4_5";
    /// Debug features 0.
    id_aa64dfr0_el1 = "id_aa64dfr0_el1";
    /// Memory model 0.
    id_aa64mmfr0_el1 = "id_aa64mmfr0_el1";
    /// Memory model 1.
    id_aa64mmfr1_el1 = "id_aa64mmfr1_el1";
}

/// Writes a register that EL3 may keep from us although the ID registers have it: says whether the write was done.
/// EL3 answers with an Undefined Instruction exception, which the vectors skip ([`crate::vectors`]).
macro_rules! try_write {
    ($register:literal, $value:expr) => {{
        let done: u64;
        core::arch::asm!(
            concat!("2: msr ", $register, ", {value}"),
            "mov {done}, #1",
            "b 4f",
            "3: mov {done}, #0",
            "4:",
            ".pushsection .fixups, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            value = in(reg) $value,
            done = lateout(reg) done,
            options(nostack, preserves_flags),
        );
        done != 0
    }};
}
pub(crate) use try_write;

/// Instruction synchronisation barrier.
#[inline(always)]
pub fn isb() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("isb", options(nostack, preserves_flags)) };
}

/// Data synchronisation barrier, inner shareable.
#[inline(always)]
pub fn dsb_ish() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ish", options(nostack, preserves_flags)) };
}

/// Data synchronisation barrier, inner shareable, stores.
#[inline(always)]
pub fn dsb_ishst() {
    // SAFETY: a barrier.
    unsafe { core::arch::asm!("dsb ishst", options(nostack, preserves_flags)) };
}
