//! Tests of the machine layer that need the machine (feature `selftest`): run on the boot PE before partitions boot,
//! one line each, `test NAME ... ok` or `... FAILED`.
//!
//! A few instructions at EL1, in a stage-2 space made for the purpose, stand in for a partition. What they check on
//! purpose goes through the same calls as the policy's: `tantalum_stage2`, [`Machine::invalidate_stage2`],
//! [`Core::run`].
#![expect(unsafe_code, reason = "fills pages, and copies the code for EL1 into one")]

use core::{arch::global_asm, ptr};

use tantalum_core::{
    addr::{PhysAddr, World},
    context::{Context, Stage2Roots},
    machine::Machine,
    spmc::Exit,
};
use tantalum_stage2::{
    Access, Attributes, Execute, Granule, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress, Ownership, Tables, WithTlb,
};

use crate::{console, entry, layout, layout::PAGE, pages, pe::Core};

// Reads at x1 into x0, stores x2 there when x3 is not 0, uses FP when x4 is not 0, and says so.
global_asm!(
    r#"
.pushsection .rodata.tantalum_selftest, "a"
.balign 8
.global tantalum_selftest_code
tantalum_selftest_code:
1:  cbnz    x4, 3f
    cbnz    x3, 2f
    ldr     x0, [x1]
    hvc     #0
    b       1b
2:  str     x2, [x1]
    hvc     #0
    b       1b
.arch_extension fp
3:  fmov    x0, d7
    fmov    d7, x2
    hvc     #0
    b       1b
.balign 8
.global tantalum_selftest_code_end
tantalum_selftest_code_end:
.popsection
"#
);

unsafe extern "C" {
    static tantalum_selftest_code: u8;
    static tantalum_selftest_code_end: u8;
}

/// Exception classes.
const EC_HVC: u64 = 0x16;
const EC_DATA_ABORT: u64 = 0x24;
/// `HPFAR_EL2.NS`.
const HPFAR_NS: u64 = 1 << 63;

/// `CPACR_EL1.FPEN`: FP does not trap to EL1.
const CPACR_FPEN: u64 = 0b11 << 20;

/// Where the code and the page under test are for EL1.
const CODE: u64 = 0x8000_0000;
const DATA: u64 = 0x9000_0000;

type Outcome = Result<(), &'static str>;

/// A page of the pool as memory for EL1, filled with `value`.
fn page(value: u64) -> Option<u64> {
    let page = pages::allocate_table()?;
    let words: *mut u64 = ptr::with_exposed_provenance_mut(page);
    for index in 0..PAGE / 8 {
        // SAFETY: the page is ours alone.
        unsafe { words.add(index).write_volatile(value) };
    }
    entry::clean(page, PAGE);
    Some(page as u64)
}

/// A page with the code.
fn code_page() -> Option<u64> {
    let page = pages::allocate_table()?;
    let start = &raw const tantalum_selftest_code;
    let bytes = (&raw const tantalum_selftest_code_end).addr() - start.addr();
    // SAFETY: the page is ours alone, and the code fits.
    unsafe { ptr::copy_nonoverlapping(start, ptr::with_exposed_provenance_mut(page), bytes) };
    entry::clean(page, PAGE);
    Some(page as u64)
}

/// A stand-in for a partition.
struct Guest {
    secure: Tables,
    non_secure: Tables,
    context: Context,
}

/// One page at `at`.
fn one_page(at: u64) -> IpaRange {
    IpaRange::new(Ipa(at), 1).expect("aligned")
}

impl Guest {
    fn new(core: &mut Core, vmid: u16, code: u64) -> Option<Self> {
        let mut secure = Tables::new(core, IpaSize::Bits39).ok()?;
        let non_secure = Tables::new(core, IpaSize::Bits39).ok()?;
        let attributes = Attributes::new(
            MemoryType::NormalWriteBack,
            Access::ReadOnly,
            Execute::Always,
            Ownership::Owned,
        );
        secure
            .map(core, one_page(CODE), OutputAddress(code), attributes, Granule::Pages)
            .ok()?;
        let roots = Stage2Roots {
            secure: PhysAddr::new(secure.root().0),
            non_secure: PhysAddr::new(non_secure.root().0),
            vmid,
        };
        let mut context = Context::new(roots, 1 << 31);
        context.el1.cpacr = CPACR_FPEN;
        Some(Self {
            secure,
            non_secure,
            context,
        })
    }

    fn map(&mut self, core: &mut Core, output: u64) -> Outcome {
        let attributes = Attributes::new(
            MemoryType::NormalWriteBack,
            Access::ReadWrite,
            Execute::Never,
            Ownership::Owned,
        );
        self.secure
            .map(core, one_page(DATA), OutputAddress(output), attributes, Granule::Pages)
            .map_err(|_| "the page could not be mapped")
    }

    fn unmap(&mut self, core: &mut Core) -> Outcome {
        let roots = self.context.stage2;
        let mut memory = WithTlb::new(core, |core: &mut Core, _| core.invalidate_stage2(&roots));
        let token = self.secure.unmap(&mut memory, one_page(DATA), Ownership::None);
        token
            .map_err(|_| "the page could not be unmapped")?
            .complete(&mut memory);
        Ok(())
    }

    /// Starts over with x1-x4 as given.
    fn run(&mut self, core: &mut Core, arguments: [u64; 4]) -> Exit {
        self.context.pc = CODE;
        self.context.x[1..5].copy_from_slice(&arguments);
        core.run(&mut self.context)
    }

    fn reads(&mut self, core: &mut Core, expected: u64) -> Outcome {
        match self.run(core, [DATA, 0, 0, 0]) {
            Exit::Synchronous { esr, .. } if esr >> 26 == EC_HVC && self.context.x[0] == expected => Ok(()),
            Exit::Synchronous { esr, .. } if esr >> 26 == EC_HVC => Err("EL1 read something else"),
            _ => Err("EL1 could not read"),
        }
    }

    fn faults(&mut self, core: &mut Core, at: u64) -> Outcome {
        match self.run(core, [at, 0, 0, 0]) {
            Exit::Synchronous { esr, far, hpfar } if esr >> 26 == EC_DATA_ABORT => {
                if far != at || (hpfar & !HPFAR_NS) << 8 != at & !0xfff {
                    return Err("the fault is at another address");
                }
                if hpfar & HPFAR_NS != 0 {
                    return Err("the fault is in the non-secure space");
                }
                Ok(())
            }
            _ => Err("EL1 still reads it"),
        }
    }

    fn destroy(self, core: &mut Core) {
        let roots = self.context.stage2;
        let mut memory = WithTlb::new(core, |core: &mut Core, _| core.invalidate_stage2(&roots));
        self.secure.destroy(&mut memory).complete(&mut memory);
        self.non_secure.destroy(&mut memory).complete(&mut memory);
    }
}

/// Pages and two guests for the tests.
struct Bench {
    pages: [u64; 3],
    one: Guest,
    other: Guest,
}

const A: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const B: u64 = 0xbbbb_bbbb_bbbb_bbbb;

impl Bench {
    fn new(core: &mut Core) -> Option<Self> {
        let pages = [page(A)?, page(B)?, code_page()?];
        let [.., code] = pages;
        Some(Self {
            pages,
            one: Guest::new(core, 0xf1, code)?,
            other: Guest::new(core, 0xf2, code)?,
        })
    }

    /// An unmapped page can't be read any more, though the TLB had it.
    fn unmapped_page_is_gone(&mut self, core: &mut Core) -> Outcome {
        let [a, b, _] = self.pages;
        self.one.map(core, a)?;
        self.one.reads(core, A)?;
        self.one.unmap(core)?;
        self.one.faults(core, DATA)?;
        self.one.map(core, b)?;
        self.one.reads(core, B)?;
        self.one.unmap(core)
    }

    /// The same while the PE has another partition's VMID loaded.
    fn unmapped_page_of_another_is_gone(&mut self, core: &mut Core) -> Outcome {
        let [a, b, _] = self.pages;
        self.one.map(core, a)?;
        self.other.map(core, b)?;
        self.one.reads(core, A)?;
        core.park(&mut self.one.context);
        self.other.reads(core, B)?;
        self.one.unmap(core)?;
        self.other.reads(core, B)?;
        core.park(&mut self.other.context);
        self.one.faults(core, DATA)?;
        core.park(&mut self.one.context);
        self.other.unmap(core)
    }

    /// FP registers follow their context, and start as the context has them.
    fn fp_registers_do_not_cross(&mut self, core: &mut Core) -> Outcome {
        for (to_one, value, expected) in [(true, A, 0), (false, B, 0), (true, A, A), (false, B, B)] {
            let guest = if to_one { &mut self.one } else { &mut self.other };
            guest.run(core, [0, value, 0, 1]);
            if guest.context.x[0] != expected {
                return Err("a context sees FP registers that are not its own");
            }
            core.park(&mut guest.context);
        }
        Ok(())
    }

    fn destroy(self, core: &mut Core) {
        self.one.destroy(core);
        self.other.destroy(core);
        for page in self.pages {
            pages::free_table(layout::address(page));
        }
    }
}

/// Foreign memory: what is not there faults, and is survived; our own is refused.
fn foreign_faults_are_survived(core: &mut Core) -> Outcome {
    let mut buffer = [0_u8; 24];
    // 3 TiB: neither QEMU's virt machine nor FVP has anything there.
    let nowhere = PhysAddr::new(0x300_0000_0008);
    let own = PhysAddr::new(layout::window().start as u64 + 0x1008);
    for (address, what) in [
        (nowhere, "memory that is not there was read"),
        (own, "our own memory was read"),
    ] {
        for world in [World::Secure, World::NonSecure] {
            if core.copy_in(world, address, &mut buffer).is_ok() || core.copy_out(world, address, &buffer).is_ok() {
                return Err(what);
            }
        }
    }
    if core
        .copy_in(World::Secure, PhysAddr::new(u64::MAX - 7), &mut buffer)
        .is_ok()
    {
        return Err("a range that wraps was read");
    }
    Ok(())
}

/// The block moves, against the obvious loops.
fn block_moves_are_right() -> Outcome {
    const LENGTH: usize = 96;
    let pattern = |index: usize| u8::try_from((index * 7 + 1) % 256).unwrap_or(0);
    for to in 0..17 {
        for from in 0..17 {
            for bytes in 0..LENGTH - 17 {
                let mut buffer: [u8; LENGTH] = core::array::from_fn(pattern);
                buffer.copy_within(from..from + bytes, to);
                let right = buffer.iter().enumerate().all(|(index, byte)| {
                    let moved = (to..to + bytes).contains(&index);
                    *byte == pattern(if moved { index - to + from } else { index })
                });
                if !right {
                    return Err("bytes were moved wrong");
                }
            }
        }
        for bytes in 0..LENGTH - 17 {
            let mut buffer = [0x5a_u8; LENGTH];
            buffer[to..to + core::hint::black_box(bytes)].fill(core::hint::black_box(0xc3));
            let right = buffer
                .iter()
                .enumerate()
                .all(|(index, byte)| *byte == if (to..to + bytes).contains(&index) { 0xc3 } else { 0x5a });
            if !right {
                return Err("bytes were set wrong");
            }
        }
    }
    Ok(())
}

fn report(name: &str, outcome: Outcome) {
    match outcome {
        Ok(()) => console::print(format_args!("test {name} ... ok\n")),
        Err(why) => console::print(format_args!("test {name} ... FAILED: {why}\n")),
    }
}

/// What an unused word of the boot PE's stack holds.
const UNUSED: u64 = 0x5a5a_5a5a_5a5a_5a5a;

/// Marks the unused part of the boot PE's stack.
#[inline(never)]
fn mark_stack() {
    let here = 0_u64;
    let end = (&raw const here).addr() - 512;
    for address in (layout::boot_stack().start..end).step_by(8) {
        let word: *mut u64 = ptr::with_exposed_provenance_mut(address);
        // SAFETY: the word is below this function's frame, by more than the calls in this loop take.
        unsafe { word.write_volatile(UNUSED) };
    }
}

/// Says how much of the boot PE's stack was used since [`run`].
pub fn report_stack() {
    let stack = layout::boot_stack();
    let unused = stack.clone().step_by(8).take_while(|address| {
        let word: *const u64 = ptr::with_exposed_provenance(*address);
        // SAFETY: reads memory of the stack.
        unsafe { word.read_volatile() == UNUSED }
    });
    let used = stack.len() - unused.count() * 8;
    console::print(format_args!(
        "stack of the boot PE: {used} of {} bytes used\n",
        stack.len()
    ));
    report(
        "boot::stack_has_reserve",
        if used <= stack.len() / 4 * 3 {
            Ok(())
        } else {
            Err("a quarter must be left")
        },
    );
}

/// Runs them all.
pub fn run(core: &mut Core) {
    mark_stack();
    report("mem::block_moves_are_right", block_moves_are_right());
    report("foreign::faults_are_survived", foreign_faults_are_survived(core));
    let before = pages::usage().tables;
    let Some(mut bench) = Bench::new(core) else {
        return report("selftest", Err("no memory"));
    };
    report("stage2::unmapped_page_is_gone", bench.unmapped_page_is_gone(core));
    report(
        "stage2::unmapped_page_of_another_is_gone",
        bench.unmapped_page_of_another_is_gone(core),
    );
    report("simd::fp_registers_do_not_cross", bench.fp_registers_do_not_cross(core));
    core.park(&mut bench.one.context);
    core.park(&mut bench.other.context);
    bench.destroy(core);
    core.restore_normal_world();
    report(
        "pages::all_came_back",
        if pages::usage().tables == before {
            Ok(())
        } else {
            Err("tables are missing")
        },
    );
}
