//! From the first Rust code to the loop that serves a PE.
#![expect(unsafe_code, reason = "sets the vectors, and takes what the entry code hands over")]

use alloc::{boxed::Box, vec, vec::Vec};
use core::{cell::UnsafeCell, fmt, sync::atomic::Ordering};

use tantalum_core::{
    addr::{PageRange, PhysAddr, World},
    boot::{self, BootConfig},
    interrupt::distributor::Frames,
    machine::SmcRegisters,
    manifest::spmc::Mpidr,
    spmc::Spmc,
};
use tantalum_stage2::IpaSize;

use crate::{
    Platform, console,
    distributor::Controller,
    el3,
    entry::{self, AFFINITY, Secondary, secondary_entry},
    features::Features,
    foreign::Window,
    heap, layout, pages, panic,
    pe::Core,
    run::Processor,
    say,
    stage1::Stage1,
    sysreg, vectors,
};

/// The manifest is one page at most where TF-A puts it on most boards; a little more is accepted.
const MANIFEST_MAX: usize = 0x1_0000;
/// Bytes of a device tree's header that tell its size.
const HEADER: usize = 8;
/// `FDT` magic.
const MAGIC: [u8; 4] = [0xd0, 0x0d, 0xfe, 0xed];

/// Where [`early`] leaves what [`primary`] goes on with. Not a lock: atomics need not work while the MMU is off.
#[derive(Debug)]
struct Handover(UnsafeCell<Option<Stage1>>);

// SAFETY: only `early` and `primary` access it, one after the other, on the boot PE while there is no other.
unsafe impl Sync for Handover {}

static HANDOVER: Handover = Handover(UnsafeCell::new(None));

/// First Rust code: MMU off, one PE. Makes the translation that the entry code then turns on.
pub fn early<P: Platform>() {
    console::initialise(P::UART);
    let level = sysreg::current_el::read() >> 2 & 3;
    if level != 2 {
        early_failure(format_args!(
            "entered at EL{level}, needs S-EL2: build TF-A with SPMD_SPM_AT_SEL2=1"
        ));
    }
    // SAFETY: the vectors are those of this image. There is no Core yet.
    unsafe {
        sysreg::vbar_el2::write((vectors::tantalum_vectors as *const ()).addr() as u64);
        sysreg::tpidr_el2::write(0);
    }
    sysreg::isb();
    match Stage1::new(P::UART) {
        Ok(stage1) => {
            stage1.publish(&Features::detect());
            // SAFETY: see `Handover`.
            unsafe { *HANDOVER.0.get() = Some(stage1) };
        }
        Err(_) => early_failure(format_args!("{TRANSLATION}")),
    }
}

/// Reports a failure before there is anything to report it with, and fails initialisation.
fn early_failure(what: fmt::Arguments<'_>) -> ! {
    console::print_early(format_args!("\ntantalum: boot failed: {what}\n"));
    panic::fail(el3::code::INVALID_PARAMETERS)
}

/// The reason that nobody should ever see.
const TRANSLATION: &str = "the SPMC's own translation tables can't be made";

/// Why the boot PE could not come up.
#[derive(Debug)]
enum Failure {
    NoManifest(u64),
    ManifestUnreadable(u64),
    Policy(boot::BootError),
    BootPeNotNamed(u64),
    TooManyPes(usize),
    OutOfMemory(&'static str),
    Translation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoManifest(at) => write!(f, "manifest: x0 is {at:#x}, where there is no device tree"),
            Self::ManifestUnreadable(at) => write!(f, "manifest: the memory at {at:#x} can't be read"),
            Self::Policy(error) => write!(f, "{error}"),
            Self::BootPeNotNamed(mpidr) => {
                write!(
                    f,
                    "manifest: /cpus does not name the PE that boots (MPIDR {:#x})",
                    mpidr & AFFINITY
                )
            }
            Self::TooManyPes(count) => write!(f, "manifest: /cpus names {count} PEs, {} fit", layout::MAX_PES),
            Self::OutOfMemory(what) => write!(f, "the SPMC's memory has no room left for {what}"),
            Self::Translation => f.write_str(TRANSLATION),
        }
    }
}

/// The boot PE, with the MMU on. `manifest` is what EL3 gave in x0, `entered_at` the counter at the first instruction.
pub fn primary<P: Platform>(manifest: u64, entered_at: u64) -> ! {
    pages::initialise();
    // SAFETY: see `Handover`.
    let stage1 = unsafe { &mut *HANDOVER.0.get() }.take();
    let mut stage1 = stage1.expect("the entry code calls `early` first");
    match start::<P>(&mut stage1, manifest, entered_at) {
        Ok(processor) => processor.run(),
        Err(failure) => {
            say!("boot failed: {failure}");
            panic::fail(el3::code::INVALID_PARAMETERS)
        }
    }
}

fn start<P: Platform>(
    stage1: &mut Stage1,
    manifest_at: u64,
    entered_at: u64,
) -> Result<&'static mut Processor, Failure> {
    say!("booting on {}", P::NAME);
    let features = Features::detect();
    let foreign = stage1.map_foreign_table().map_err(|_| Failure::Translation)?;
    let mut core = new_core(0, &features, foreign)?;
    // No partition runs until the policy has said how large their address spaces are.
    core.take_over(IpaSize::Bits39);

    #[cfg(feature = "selftest")]
    crate::selftest::run(&mut core);

    let manifest = read_manifest(&mut core, manifest_at)?;
    let mpidr = sysreg::mpidr_el1::read();
    let window = layout::window();
    let spmc_memory = PageRange::from_bytes(PhysAddr::new(window.start as u64), window.len() as u64)
        .map_err(|_| Failure::OutOfMemory("itself"))?;
    let config = BootConfig {
        devices: P::RESERVED,
        manifest: &manifest,
        spmc_memory,
        boot_mpidr: mpidr,
        free_pages: pages::usage().available,
        pages_a_pe: pages_a_pe(),
        interrupt_controller: Frames {
            distributor: P::GIC[0].base().as_u64(),
            redistributors: P::GIC[1].base().as_u64(),
        },
    };
    let spmc = Box::new(boot::start(&config, &mut core).map_err(Failure::Policy)?);
    let spmc: &'static Spmc = Box::leak(spmc);
    drop(manifest);

    core.controller = Some(interrupt_controller(spmc, &P::GIC, stage1)?);
    let processor = processors(spmc, core, stage1, foreign)?;
    processor.booting_since = Some(entered_at);
    heap::seal();
    register_secondary_entry();
    Ok(processor)
}

/// Finds the interrupt controller where the SPMC manifest, or the board, has it, and sets up the shared interrupts.
fn interrupt_controller(
    spmc: &Spmc,
    board: &[PageRange; 2],
    stage1: &mut Stage1,
) -> Result<&'static Controller, Failure> {
    let (distributors, redistributors) = match &spmc.interrupt_controller {
        Some(described) => (&described.distributors[..], &described.redistributors[..]),
        None => board.split_at(1),
    };
    let distributor = *distributors.first().ok_or(Failure::Translation)?;
    for device in redistributors.iter().chain([&distributor]) {
        stage1.map_device(*device).map_err(|_| Failure::Translation)?;
    }
    let controller = Box::leak(Box::new(Controller::find(distributor, redistributors, spmc.cpus())));
    let boot = Mpidr::from_register(sysreg::mpidr_el1::read());
    for interrupt in spmc.shared_interrupts() {
        controller.initialise(boot, interrupt);
    }
    Ok(controller)
}

/// Pages that a PE takes at most: stack, state, and what the heap needs around it.
fn pages_a_pe() -> usize {
    let bytes = layout::STACK_BYTES + size_of::<Processor>() + crate::simd::AREA_BYTES_MAX;
    bytes.div_ceil(layout::PAGE) + 1
}

fn new_core(index: usize, features: &Features, foreign: usize) -> Result<Core, Failure> {
    let window = Window::new(index, foreign, features.pa_limit()).ok_or(Failure::TooManyPes(index + 1))?;
    Ok(Core::new(index, features, window))
}

/// A private copy of the manifest.
fn read_manifest(core: &mut Core, at: u64) -> Result<Vec<u8>, Failure> {
    let mut header = [0; HEADER];
    let address = PhysAddr::new(at);
    core.window
        .read(World::Secure, address, &mut header)
        .map_err(|_| Failure::ManifestUnreadable(at))?;
    let [magic @ .., a, b, c, d] = header;
    let bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    if magic != MAGIC || !(HEADER..=MANIFEST_MAX).contains(&bytes) {
        return Err(Failure::NoManifest(at));
    }
    let mut manifest = vec![0; bytes];
    core.window
        .read(World::Secure, address, &mut manifest)
        .map_err(|_| Failure::ManifestUnreadable(at))?;
    Ok(manifest)
}

/// Makes what each PE needs, and lets the others enter. Returns the boot PE's.
fn processors(
    spmc: &'static Spmc,
    boot_core: Core,
    stage1: &mut Stage1,
    foreign: usize,
) -> Result<&'static mut Processor, Failure> {
    let count = spmc.cpus().len();
    if count > layout::MAX_PES {
        return Err(Failure::TooManyPes(count));
    }
    let boot_affinity = sysreg::mpidr_el1::read() & AFFINITY;
    let (features, controller) = (boot_core.features, boot_core.controller);
    let mut boot_core = Some(boot_core);
    let mut boot = None;
    let mut secondaries = Vec::with_capacity(count);
    for (index, cpu) in spmc.cpus().iter().enumerate() {
        let affinity = cpu.as_u64();
        let policy = spmc.pe(affinity).ok_or(Failure::BootPeNotNamed(affinity))?;
        let is_boot = affinity == boot_affinity;
        let core = match boot_core.take_if(|_| is_boot) {
            Some(mut core) => {
                core.index = index;
                core
            }
            None => {
                let mut core = new_core(index + 1, &features, foreign)?;
                core.controller = controller;
                core
            }
        };
        let processor = Processor::leak(core, policy, spmc);
        secondaries.push(Secondary {
            affinity,
            stack: 0,
            argument: (&raw mut *processor).expose_provenance() as u64,
        });
        if is_boot {
            boot = Some(processor);
        }
    }
    let boot = boot.ok_or(Failure::BootPeNotNamed(boot_affinity))?;
    // Stacks last: their memory must not come between two growths of the heap.
    for (index, secondary) in secondaries.iter_mut().enumerate() {
        secondary.stack = if secondary.affinity == boot_affinity {
            boot_stack()
        } else {
            map_stack(stage1, index)?
        };
    }
    entry::publish(secondaries.leak());
    Ok(boot)
}

/// Initial stack pointer of the boot PE.
fn boot_stack() -> u64 {
    layout::boot_stack().end as u64
}

/// Makes a stack for the PE with `index`. Returns its initial stack pointer.
fn map_stack(stage1: &mut Stage1, index: usize) -> Result<u64, Failure> {
    let memory = pages::take(layout::STACK_BYTES).ok_or(Failure::OutOfMemory("stacks"))?;
    stage1
        .map_stack(index, memory)
        .map(|top| top as u64)
        .map_err(|_| Failure::Translation)
}

/// Tells EL3 where the other PEs enter. Without it they enter at the image's start, which copes with it.
fn register_secondary_entry() {
    let mut registers: SmcRegisters = [0; 18];
    registers[0] = el3::FFA_SECONDARY_EP_REGISTER;
    registers[1] = (secondary_entry as *const ()).addr() as u64;
    el3::call(&mut registers);
    if !matches!(registers[0], el3::FFA_SUCCESS | el3::FFA_SUCCESS_64) {
        say!(
            "EL3 did not take the secondary entry point {:#x} (x0 {:#x}, x2 {:#x}): do load_address and binary_size of \
             the SPMC manifest contain it?",
            (secondary_entry as *const ()).addr(),
            registers[0],
            registers[2],
        );
    }
}

/// Says what the SPMC takes, in time and memory, when it is about to tell EL3 that it is ready.
pub fn report(entered_at: u64) {
    panic::READY.store(true, Ordering::Relaxed);
    let ticks = sysreg::cntpct_el0::read().wrapping_sub(entered_at);
    let usage = pages::usage();
    #[cfg(feature = "selftest")]
    crate::selftest::report_stack();
    say!(
        "image {} bytes, RAM {} bytes (heap {}, tables {} of {} pages); ready {ticks} ticks after entry",
        layout::image_bytes(),
        layout::window().len(),
        heap::used(),
        usage.tables,
        usage.tables + usage.available,
    );
}

/// A PE that was turned on, with the MMU on. `processor` is what [`entry::Secondary::argument`] says.
///
/// # Safety
/// `processor` must be that.
pub unsafe extern "C" fn secondary(processor: *mut Processor) -> ! {
    // SAFETY: the entry code hands over the address that `processors` has put there for this PE, of a Processor that
    // lives for ever. Whoever had a reference to it ran on this PE before it was turned off, and will not run again.
    let processor = unsafe { &mut *processor };
    let features = Features::detect();
    if features != processor.core.features {
        say!(
            "PE {} has other features than the boot PE: it gets no service",
            processor.core.index
        );
        panic::fail(el3::code::INVALID_PARAMETERS);
    }
    processor.run()
}
