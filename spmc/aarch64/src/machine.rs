//! What the policy asks of the machine, on the PE that it runs on.
#![expect(unsafe_code, reason = "table memory, TLB maintenance and ID registers")]

use core::{
    arch::{asm, global_asm},
    fmt, ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    context::{Context, Stage2Roots},
    machine::{InterruptChange, Machine, MemoryFault, NO_DEADLINE, SmcRegisters, SystemRegister},
    manifest::spmc::Mpidr,
};
use tantalum_stage2::{TableAddr, TableMemory};

use crate::{console, el3, gic, layout, pages, pe::Core, sysreg, virtual_gic};

/// Exception class of an SVC.
const EC_SVC: u64 = 0x15;

/// The descriptors of a table page.
///
/// # Panics
/// When `table` is not a page of the pool: a bug of the policy.
#[inline]
fn descriptors(table: TableAddr) -> &'static [AtomicU64; 512] {
    let page = layout::address(table.0);
    assert!(pages::is_table(page), "no table");
    let address: *const [AtomicU64; 512] = ptr::with_exposed_provenance(page);
    // SAFETY: the pool has given out this page for a table; tables are accessed through atomics only, and the pool
    // itself touches only pages that were given back.
    unsafe { &*address }
}

/// A descriptor of a table page.
#[inline]
fn descriptor(table: TableAddr, index: usize) -> &'static AtomicU64 {
    &descriptors(table)[index & 511]
}

impl TableMemory for Core {
    fn allocate_table(&mut self) -> Option<TableAddr> {
        pages::allocate_table().map(|page| TableAddr(page as u64))
    }

    fn free_tables(&self) -> usize {
        pages::usage().available
    }

    fn free_table(&mut self, table: TableAddr) {
        pages::free_table(layout::address(table.0));
    }

    #[inline]
    fn read_descriptor(&self, table: TableAddr, index: usize) -> u64 {
        descriptor(table, index).load(Ordering::Relaxed)
    }

    #[inline]
    fn write_descriptor(&mut self, table: TableAddr, index: usize, value: u64) {
        self.tables_written = true;
        descriptor(table, index).store(value, Ordering::Release);
    }

    fn read_descriptors(&self, table: TableAddr, index: usize, into: &mut [u64]) {
        for (word, descriptor) in into.iter_mut().zip(&descriptors(table)[index & 511..]) {
            *word = descriptor.load(Ordering::Relaxed);
        }
    }

    fn write_descriptors<T: Copy + Into<u64>>(&mut self, table: TableAddr, index: usize, from: &[T]) {
        self.tables_written = true;
        for (word, descriptor) in from.iter().zip(&descriptors(table)[index & 511..]) {
            descriptor.store((*word).into(), Ordering::Release);
        }
    }

    #[inline]
    fn update_descriptor(&mut self, table: TableAddr, index: usize, change: impl FnOnce(u64) -> u64) -> u64 {
        self.tables_written = true;
        let descriptor = descriptor(table, index);
        let old = descriptor.load(Ordering::Relaxed);
        descriptor.store(change(old), Ordering::Release);
        old
    }
}

impl Core {
    /// Has the timer raise its interrupt at the earlier one of two deadlines.
    fn set_earlier_deadline(&self) {
        const ENABLE: u64 = 1 << 0;
        let deadline = self.deadlines[0].min(self.deadlines[1]);
        // SAFETY: the timer is ours alone. Its interrupt is held back until a context or the normal world runs.
        unsafe {
            sysreg::cnthps_cval_el2::write(deadline);
            sysreg::cnthps_ctl_el2::write(if deadline == NO_DEADLINE { 0 } else { ENABLE });
        }
        sysreg::isb();
    }
}

impl Machine for Core {
    #[inline]
    fn park(&mut self, context: &mut Context) {
        self.park_context(context);
    }

    fn copy_in(&mut self, world: World, from: PhysAddr, into: &mut [u8]) -> Result<(), MemoryFault> {
        self.window.read(world, from, into)
    }

    fn copy_in_words(&mut self, world: World, from: PhysAddr, into: &mut [u64]) -> Result<(), MemoryFault> {
        self.window.read(world, from, into)
    }

    fn copy_out_words(&mut self, world: World, to: PhysAddr, from: &[u64]) -> Result<(), MemoryFault> {
        self.window.write(world, to, from)
    }

    fn copy_out(&mut self, world: World, to: PhysAddr, from: &[u8]) -> Result<(), MemoryFault> {
        self.window.write(world, to, from)
    }

    fn zero(&mut self, world: World, range: PageRange) -> Result<(), MemoryFault> {
        self.window.zero(world, range.base(), layout::address(range.bytes()))
    }

    fn synchronise_code(&mut self, world: World, range: PageRange) {
        // Memory that is not there needs no maintenance: whoever uses it will take the fault.
        let _ = self.window.clean(world, range.base(), layout::address(range.bytes()));
        // All of the instruction caches, since the partition will fetch through another virtual address.
        // SAFETY: invalidating instruction caches has no effect on what is executed.
        unsafe { asm!("ic ialluis", "dsb ish", "isb", options(nostack, preserves_flags)) };
    }

    fn invalidate_stage2(&mut self, roots: &Stage2Roots) {
        self.with_roots(roots, || {
            // Stage 1 and 2 entries of the VMID on all PEs: an entry may combine both stages, so that invalidating by
            // IPA alone leaves it usable.
            // SAFETY: TLB invalidation only makes later accesses walk the tables again.
            unsafe {
                asm!(
                    "dsb ishst",
                    "tlbi vmalls12e1is",
                    "dsb ish",
                    "isb",
                    options(nostack, preserves_flags)
                )
            };
        });
    }

    fn write_vectors(&mut self, page: TableAddr) {
        // SAFETY: assembly has put that many words there; nothing writes to them.
        let code = unsafe { tantalum_el1_synchronous };
        for entry in 0..VECTORS {
            self.write_descriptor(page, entry * VECTOR_WORDS, code[EL1_WORDS - 1]);
        }
        for (index, word) in code.iter().enumerate() {
            self.write_descriptor(page, SYNCHRONOUS_EL0 * VECTOR_WORDS + index, *word);
        }
        // SAFETY: cache maintenance of a page of the pool, which is mapped. No cache line is shorter than 16 bytes.
        unsafe {
            asm!(
                "2: dc cvau, {line}",
                "add {line}, {line}, #16",
                "cmp {line}, {end}",
                "b.lo 2b",
                "dsb ish",
                "ic ialluis",
                "dsb ish",
                "isb",
                line = inout(reg) page.0 => _,
                end = in(reg) page.0 + layout::PAGE as u64,
                options(nostack),
            );
        }
    }

    fn id_register(&mut self, register: SystemRegister) -> u64 {
        match register {
            SystemRegister {
                op0: 3,
                op1: 0,
                crn: 0,
                crm: crm @ 1..=7,
                op2: op2 @ 0..=7,
            } => read_id_register(usize::from(crm - 1) * 8 + usize::from(op2)),
            _ => 0,
        }
    }

    fn el3_call(&mut self, registers: &mut SmcRegisters) {
        el3::call(registers);
    }

    fn take_list_registers(&mut self, context: &mut Context) {
        virtual_gic::leave(&mut context.virtual_gic);
    }

    fn has_virtual_gic(&mut self) -> bool {
        virtual_gic::works()
    }

    fn group0_pending(&mut self) -> bool {
        gic::group0_pending()
    }

    fn acknowledge_secure_interrupt(&mut self) -> Option<u32> {
        gic::acknowledge()
    }

    #[inline]
    fn secure_interrupt_pending(&mut self) -> bool {
        const I: u64 = 1 << 7;
        sysreg::isr_el1::read() & I != 0
    }

    fn change_interrupt(&mut self, cpu: Mpidr, id: u32, change: InterruptChange) {
        if let Some(controller) = self.controller {
            controller.change(cpu, id, change);
        }
    }

    fn kick(&mut self, cpu: Mpidr) {
        gic::kick(cpu);
    }

    fn raise_schedule_receiver(&mut self, cpu: Mpidr) {
        gic::raise_schedule_receiver(cpu);
    }

    #[inline]
    fn now(&mut self) -> u64 {
        sysreg::isb();
        sysreg::cntpct_el0::read()
    }

    fn set_timer(&mut self, deadline: u64) {
        self.deadlines[0] = deadline;
        self.set_earlier_deadline();
    }

    fn set_watchdog(&mut self, deadline: u64) {
        self.deadlines[1] = deadline;
        self.set_earlier_deadline();
    }

    fn frequency(&mut self) -> u64 {
        sysreg::cntfrq_el0::read().max(1)
    }

    fn print(&mut self, text: fmt::Arguments<'_>) {
        console::print(text);
    }
}

/// Entries of a vector table, 64-bit words of one, and the number of that for synchronous exceptions of EL0.
const VECTORS: usize = 16;
const VECTOR_WORDS: usize = 16;
const SYNCHRONOUS_EL0: usize = 8;
/// 64-bit words of [`tantalum_el1_synchronous`].
const EL1_WORDS: usize = 6;

// What is at EL1 of partitions at S-EL0, in that entry of the vector table. Its last word is what is in all others. It is
// copied into a page of their own, and runs wherever that is.
global_asm!(
    r#"
.pushsection .rodata.tantalum_el1, "a"
.balign 8
.global tantalum_el1_synchronous
tantalum_el1_synchronous:
    msr     tpidr_el1, x0
    mrs     x0, esr_el1
    ubfx    x0, x0, #26, #6
    cmp     x0, #{svc}
    mrs     x0, tpidr_el1
    b.ne    1f
    hvc     #0
    eret
    dsb     nsh
    isb
1:  hvc     #1
    b       1b
.popsection
"#,
    svc = const EC_SVC,
);

unsafe extern "C" {
    static tantalum_el1_synchronous: [u64; EL1_WORDS];
}

// One MRS and RET for each register of the ID space, CRm 1-7, op2 0-7. All of it can be read: what is not allocated
// reads as 0.
global_asm!(
    r#"
.pushsection .text.tantalum_id_registers, "ax"
.balign 8
.global tantalum_id_registers
tantalum_id_registers:
.irp crm, 1, 2, 3, 4, 5, 6, 7
    .irp op2, 0, 1, 2, 3, 4, 5, 6, 7
    mrs     x0, S3_0_C0_C\crm\()_\op2
    ret
    .endr
.endr
.popsection
"#
);

unsafe extern "C" {
    static tantalum_id_registers: [u64; 56];
}

/// Reads the register with this place in the table.
fn read_id_register(place: usize) -> u64 {
    assert!(place < 56);
    let value: u64;
    // SAFETY: calls one of 56 functions of two instructions, which change x0 only.
    unsafe {
        asm!(
            "blr {function}",
            function = in(reg) (&raw const tantalum_id_registers).addr() + place * 8,
            out("x0") value,
            out("x30") _,
            options(nomem, nostack, preserves_flags),
        );
    }
    value
}
