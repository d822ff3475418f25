//! The step function: an event of a PE in, the action to carry out on it out.

use alloc::{boxed::Box, vec::Vec};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use spin::mutex::TicketMutex;
use tantalum_stage2::IpaSize;

use crate::{
    abi::{self, FfaError, Form, FuncId, Function, SPMC_VERSION, Version},
    addr::PageRange,
    context::Context,
    discovery::Instance,
    framework::Relay,
    id::{EndpointId, PeIndex, VcpuIndex},
    interrupt::{
        distributor::Frames,
        paravirtual,
        physical::{Source, sources},
    },
    logical::Logical,
    machine::{Machine, SmcRegisters},
    mailbox::{Mailbox, VmMailboxes},
    manifest::spmc::{InterruptController, MemoryRange, Mpidr},
    memory::MemoryManager,
    notifying::{VmRegistry, Vms},
    partition::{Partition, decode_version, lock_version, negotiate},
    vcpu::{Model, Slot},
    watch::Pace,
};

/// VMs of the normal world that notifications are kept for at a time.
const MAX_VMS: usize = 16;
/// vCPUs that each of them may have at least; more where the machine has more PEs.
const MIN_VM_VCPUS: usize = 16;

/// What happened on a PE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The PE has entered the SPMC: cold boot on the first, PSCI CPU_ON on the others.
    Online,
    /// EL3 has returned from the SMC of the last [`Action::NormalWorld`]: [`Pe::normal_world`] holds the next request.
    NormalWorld,
    /// The context that [`Action::Run`] entered has stopped running.
    Exit(Exit),
}

/// Why a context stopped running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A synchronous exception to EL2. `far` and `hpfar` mean something only for those exceptions that set them.
    Synchronous {
        /// `ESR_EL2`.
        esr: u64,
        /// `FAR_EL2`.
        far: u64,
        /// `HPFAR_EL2`.
        hpfar: u64,
    },
    /// A physical IRQ: a secure Group 1 interrupt.
    Irq,
    /// A physical FIQ: an interrupt of the normal world or of EL3.
    Fiq,
    /// An SError, or an exception that the architecture should not have produced.
    SError {
        /// `ESR_EL2`.
        esr: u64,
    },
}

/// What the machine layer is to do next on the PE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Action {
    /// Enter the context [`Pe::running_context`] and report its [`Event::Exit`].
    Run,
    /// Leave for EL3 with [`Pe::normal_world`] in x0-x17 and report [`Event::NormalWorld`] when it returns.
    NormalWorld,
}

/// A context that is on a PE: running, or blocked on the one that it called.
#[derive(Debug)]
pub struct Running<'s> {
    /// Its partition.
    pub partition: &'s Partition,
    /// Its slot in the partition; the state there is `OnPe`.
    pub slot: &'s Slot,
    /// Its number.
    pub vcpu: VcpuIndex,
    /// Its registers.
    pub ctx: Box<Context>,
    /// What it is doing.
    pub model: Model,
    /// It runs on top of whatever had the PE, which did not call it, and goes on as it was.
    pub preempts: bool,
    /// Faults that were delivered to it since it was last given the PE.
    pub faults: crate::fault::FaultHistory,
}

impl Running<'_> {
    /// How FF-A names it in w1.
    #[must_use]
    pub fn target(&self) -> abi::Target {
        abi::Target {
            endpoint: self.partition.endpoint(),
            vcpu: self.vcpu,
        }
    }
}

/// What the policy keeps for each PE. Only that PE touches it.
///
/// Invariants: `running` is `None` only while the PE is in the normal world (or leaving for it) or off; `chain` holds the
/// callers of `running`, outermost first, each at most once, so that it never outgrows the number of partitions.
#[derive(Debug)]
pub struct Pe<'s> {
    /// x0-x17 as they came from, or go to, EL3.
    pub normal_world: SmcRegisters,
    pub(crate) index: PeIndex,
    pub(crate) running: Option<Running<'s>>,
    pub(crate) chain: Vec<Running<'s>>,
    /// The partition to initialise next, while the PE comes up.
    pub(crate) booting: Option<usize>,
    /// The power message that partitions of this PE are being told of.
    pub(crate) relay: Option<Relay>,
    /// The context that starts above so many callers was asked for, and not called: whoever asked is to ask again.
    pub(crate) late: Option<usize>,
    /// What it has to look after at the end of a step.
    pub(crate) attention: Attention,
    /// How handlers follow each other.
    pub(crate) pace: Pace,
}

bitflags::bitflags! {
    /// What a PE has to look after, when it can.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub(crate) struct Attention: u8 {
        /// A context of this PE may wait with an interrupt.
        const DUE = 1 << 0;
        /// The schedule receiver interrupt is to be raised when the PE next goes to the normal world.
        const SCHEDULE_RECEIVER = 1 << 1;
        /// The list registers of the running context were emptied.
        const REASSERT = 1 << 2;
        /// Who holds back the normal world's interrupts has changed, or has had time until now.
        const WATCH = 1 << 3;
        /// The PE is about to go off: what the normal world is to take must go elsewhere.
        const LEAVING = 1 << 4;
    }
}

impl Pe<'_> {
    /// The context that [`Action::Run`] asks to enter.
    pub fn running_context(&mut self) -> Option<&mut Context> {
        self.running.as_mut().map(|running| &mut *running.ctx)
    }

    /// Whether the context that runs on the PE is being initialised.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.running
            .as_ref()
            .is_some_and(|running| running.model == Model::Init)
    }

    /// The PE's index, which is also that of the contexts pinned to it.
    #[must_use]
    pub fn index(&self) -> PeIndex {
        self.index
    }
}

/// The SPMC. Shared by all PEs; see `spmc/docs/locking.md` for who may lock what.
#[derive(Debug)]
pub struct Spmc {
    cpus: Vec<Mpidr>,
    pub(crate) partitions: Vec<Partition>,
    /// Index into `partitions` by endpoint id less 0x8000.
    by_id: Vec<Option<u16>>,
    /// The interrupts of their devices, by ascending number.
    pub(crate) sources: Vec<Source>,
    /// EL3's logical partitions, in ascending order of ids.
    pub(crate) logical: Vec<Logical>,
    pub(crate) memory: PageRange,
    pub(crate) declared: Vec<MemoryRange>,
    ipa_size: IpaSize,
    /// The interrupt controller, if the SPMC manifest describes it.
    pub interrupt_controller: Option<InterruptController>,
    /// Where virtual interrupt controllers are.
    pub(crate) frames: Frames,
    pub(crate) normal_world_mailbox: Mailbox,
    pub(crate) vm_mailboxes: VmMailboxes,
    pub(crate) vms: Vms,
    /// What was shared, lent and donated, and whose the normal world's memory is.
    pub(crate) shares: MemoryManager,
    normal_world_version: AtomicU32,
    /// The boot PE has initialised all partitions.
    pub(crate) booted: AtomicBool,
    /// The PEs that are on, the first 64 of them.
    pub(crate) online: AtomicU64,
    /// Held while the routes of interrupts change.
    pub(crate) routing: TicketMutex<()>,
    /// There may be contexts whose timer no PE keeps.
    pub(crate) homeless: AtomicBool,
    /// Partitions that start afresh when others let go of their memory.
    pub(crate) held_back: AtomicU32,
}

impl Spmc {
    /// An SPMC with `partitions` in boot order, for the PEs `cpus` (affinities in ascending order).
    #[inline(never)]
    #[must_use]
    pub fn new(
        cpus: Vec<Mpidr>,
        partitions: Vec<Partition>,
        memory: PageRange,
        declared: Vec<MemoryRange>,
        ipa_size: IpaSize,
        shares: MemoryManager,
    ) -> Self {
        let vcpus = cpus.len().max(MIN_VM_VCPUS);
        let offset = |id: EndpointId| usize::from(id.as_u16() & 0x7fff);
        let entries = partitions
            .iter()
            .map(|p| offset(p.endpoint()))
            .max()
            .map_or(0, |highest| highest.saturating_add(1));
        let mut by_id: Vec<Option<u16>> = alloc::vec![None; entries];
        for (index, partition) in partitions.iter().enumerate() {
            if let Some(entry) = by_id.get_mut(offset(partition.endpoint())) {
                *entry = u16::try_from(index).ok();
            }
        }
        let sources = sources(&partitions, &cpus);
        Self {
            cpus,
            sources,
            partitions,
            by_id,
            logical: Vec::new(),
            memory,
            declared,
            ipa_size,
            interrupt_controller: None,
            frames: Frames::default(),
            normal_world_mailbox: Mailbox::new(None),
            vm_mailboxes: VmMailboxes::default(),
            vms: Vms::new(VmRegistry::new(MAX_VMS, vcpus)),
            shares,
            normal_world_version: AtomicU32::new(u32::from(SPMC_VERSION)),
            booted: AtomicBool::new(false),
            online: AtomicU64::new(0),
            routing: TicketMutex::new(()),
            homeless: AtomicBool::new(false),
            held_back: AtomicU32::new(0),
        }
    }

    /// The same, knowing of EL3's logical partitions.
    #[must_use]
    pub fn with_logical_partitions(mut self, logical: Vec<Logical>) -> Self {
        self.logical = logical;
        self
    }

    /// The same, with the interrupt controller that the SPMC manifest describes, or else the one that the board has.
    #[must_use]
    pub fn with_interrupt_controller(mut self, controller: Option<InterruptController>, board: Frames) -> Self {
        let first = |regions: &[PageRange]| regions.first().map(|region| region.base().as_u64());
        let described = controller.as_ref();
        let described = described.and_then(|gic| first(&gic.distributors).zip(first(&gic.redistributors)));
        self.frames = described.map_or(board, |(distributor, redistributors)| Frames {
            distributor,
            redistributors,
        });
        self.interrupt_controller = controller;
        self
    }

    /// Affinities of the PEs that the SPMC manifest names; a PE's place here is its index.
    #[must_use]
    pub fn cpus(&self) -> &[Mpidr] {
        &self.cpus
    }

    /// Size of the partitions' IPA spaces, for `VTCR_EL2` and `VSTCR_EL2`.
    #[must_use]
    pub fn ipa_size(&self) -> IpaSize {
        self.ipa_size
    }

    /// The partitions, in boot order.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// Memory management.
    #[must_use]
    pub fn shares(&self) -> &MemoryManager {
        &self.shares
    }

    /// The policy state of the PE with the affinity of `mpidr`, or `None` when the manifest does not name it.
    ///
    /// Allocates: to be called once for each PE, while booting. [`Event::Online`] resets it.
    #[must_use]
    pub fn pe(&self, mpidr: u64) -> Option<Pe<'_>> {
        let index = self.cpus.iter().position(|cpu| *cpu == Mpidr::from_register(mpidr))?;
        Some(Pe {
            normal_world: [0; 18],
            index: PeIndex::new(u16::try_from(index).ok()?),
            running: None,
            chain: Vec::with_capacity(self.partitions.len()),
            booting: None,
            relay: None,
            late: None,
            attention: Attention::empty(),
            pace: Pace::NEW,
        })
    }

    /// Takes one step. Never panics, whatever the event and the registers hold; every path is bounded.
    #[inline(always)]
    pub fn handle<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, event: Event) -> Action {
        let action = match event {
            Event::Exit(exit) => self.exit(pe, machine, exit),
            Event::NormalWorld => self.normal_world_call(pe, machine),
            Event::Online => self.online(pe, machine),
        };
        if pe.attention.is_empty() {
            action
        } else {
            self.attend(pe, machine, action)
        }
    }

    /// The partition with an id.
    #[inline(never)]
    pub(crate) fn find(&self, id: EndpointId) -> Option<&Partition> {
        self.find_inline(id)
    }

    /// The same for where every instruction counts.
    #[inline(always)]
    pub(crate) fn find_inline(&self, id: EndpointId) -> Option<&Partition> {
        if !id.is_secure() {
            return None;
        }
        let index = (*self.by_id.get(usize::from(id.as_u16() & 0x7fff))?)?;
        self.partitions.get(usize::from(index))
    }

    /// The partitions, by ascending id.
    pub(crate) fn partitions_by_id(&self) -> impl Iterator<Item = &Partition> {
        self.by_id
            .iter()
            .flatten()
            .filter_map(|index| self.partitions.get(usize::from(*index)))
    }

    /// The affinity of a PE.
    #[inline(never)]
    pub(crate) fn cpu(&self, pe: PeIndex) -> Mpidr {
        self.cpus.get(pe.index()).copied().unwrap_or(Mpidr::from_register(0))
    }

    /// The FF-A version that the normal world has negotiated; the SPMC's own until it has.
    pub(crate) fn normal_world_version(&self) -> Version {
        decode_version(self.normal_world_version.load(Ordering::Relaxed))
    }

    /// FFA_VERSION of the normal world: takes `version` unless another call has been made since; the one in force may be
    /// repeated.
    #[must_use]
    pub(crate) fn negotiate_normal_world_version(&self, version: Version) -> bool {
        negotiate(&self.normal_world_version, version)
    }

    /// The normal world has made another call than FFA_VERSION: its version stays as it is from here on.
    #[inline(always)]
    pub(crate) fn lock_normal_world_version(&self) {
        lock_version(&self.normal_world_version);
    }

    /// A call by the normal world, or by EL3 itself.
    #[inline(always)]
    fn normal_world_call<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let [x0, ..] = pe.normal_world;
        match Function::decode(x0) {
            Function::Ffa(FuncId::MsgSendDirectReq32) => self.request_from_normal_world(pe, machine, Form::Direct32),
            Function::Ffa(FuncId::MsgSendDirectReq64) => self.request_from_normal_world(pe, machine, Form::Direct64),
            Function::Ffa(FuncId::MsgSendDirectReq64_2) => self.request_from_normal_world(pe, machine, Form::Direct2),
            Function::Ffa(function) => self.other_normal_world_call(pe, machine, function),
            // EL3 takes whatever we answer for an FF-A call: never SMCCC's own "unknown".
            Function::Abort | Function::UnknownFfa | Function::Other(_) => refuse(pe, FfaError::NotSupported),
        }
    }

    #[inline(never)]
    fn other_normal_world_call<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, function: FuncId) -> Action {
        if function != FuncId::Interrupt32 {
            self.lock_normal_world_version();
            if function.minimum_ffa_version() > self.normal_world_version() {
                return refuse(pe, FfaError::NotSupported);
            }
        }
        let caller = Instance::NormalWorld;
        let asked = first_8(&pe.normal_world);
        let result = match function {
            FuncId::Run32 => return self.run_from_normal_world(pe, machine),
            FuncId::Interrupt32 => return self.secure_interrupt_in_normal_world(pe, machine),
            FuncId::PartitionInfoGetRegs => match self.partition_info_get_regs(caller, &asked) {
                Ok(registers) => {
                    pe.normal_world = registers;
                    return Action::NormalWorld;
                }
                Err(error) => Err(error),
            },
            FuncId::IdGet => Ok(success(u64::from(EndpointId::NWD.as_u16()))),
            FuncId::RxAcquire => self.acquire_rx(&asked),
            FuncId::NotificationBitmapCreate => self.create_bitmap(&asked),
            FuncId::NotificationBitmapDestroy => self.destroy_bitmap(&asked),
            FuncId::NotificationInfoGet32 | FuncId::NotificationInfoGet64 => {
                self.info_get(function == FuncId::NotificationInfoGet64)
            }
            // A response that nobody waits for: responses go from partitions to the normal world only.
            FuncId::MsgSendDirectResp32 | FuncId::MsgSendDirectResp64 | FuncId::MsgSendDirectResp64_2 => {
                Err(FfaError::Denied)
            }
            _ => self.common_call(caller, pe, machine, function, &asked),
        };
        reply(pe, result)
    }

    /// The calls that both worlds make alike, and that end at once.
    #[inline(never)]
    fn common_call<M: Machine>(
        &self,
        caller: Instance<'_>,
        pe: &mut Pe<'_>,
        machine: &mut M,
        function: FuncId,
        asked: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        match function {
            FuncId::Features => self.features(caller, asked),
            FuncId::SpmIdGet => Ok(success(u64::from(EndpointId::SPMC.as_u16()))),
            FuncId::RxTxMap32 | FuncId::RxTxMap64 => {
                self.map_buffers(caller, machine, asked, function == FuncId::RxTxMap64)
            }
            FuncId::RxTxUnmap => self.unmap_buffers(caller, machine, asked),
            FuncId::RxRelease => self.release_rx(caller, asked),
            FuncId::MsgSend2 => self.send_indirect(caller, pe, machine, asked),
            FuncId::PartitionInfoGet => self.partition_info_get(caller, machine, asked),
            FuncId::NotificationBind => self.bind(caller, asked, true),
            FuncId::NotificationUnbind => self.bind(caller, asked, false),
            FuncId::NotificationSet => self.set(caller, pe, machine, asked),
            FuncId::NotificationGet => {
                let result = self.get(caller, asked);
                if let Some(running) = pe.running.as_mut() {
                    running.assert_interrupts();
                }
                result
            }
            _ if MemoryManager::serves(function) => {
                let result = self.memory_call(caller, machine, function, asked);
                if matches!(function, FuncId::MemRelinquish | FuncId::MemReclaim) && self.holds_back() {
                    pe.attention.insert(Attention::DUE);
                }
                result
            }
            _ => Err(FfaError::NotSupported),
        }
    }

    /// An FF-A call or another SMC or HVC by the running context; its program counter is already past the instruction.
    #[inline(always)]
    pub(crate) fn partition_call<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        if running.partition.is_stopped() {
            return self.leave_stopped(pe, machine);
        }
        let [x0, ..] = running.ctx.x;
        let function = Function::decode(x0);
        if !matches!(function, Function::Ffa(FuncId::Version) | Function::Other(_)) {
            running.partition.lock_version();
        }
        match function {
            Function::Ffa(FuncId::MsgSendDirectResp32) => self.response(pe, machine, Form::Direct32),
            Function::Ffa(FuncId::MsgSendDirectResp64) => self.response(pe, machine, Form::Direct64),
            Function::Ffa(FuncId::MsgSendDirectReq32) => self.request_from_partition(pe, machine, Form::Direct32),
            Function::Ffa(FuncId::MsgSendDirectReq64) => self.request_from_partition(pe, machine, Form::Direct64),
            Function::Ffa(FuncId::IdGet) => {
                let id = running.partition.endpoint();
                answer(pe, Ok(success(u64::from(id.as_u16()))))
            }
            Function::Ffa(function) => self.other_partition_call(pe, machine, function),
            Function::Abort => self.stop_running(pe, machine, &crate::report::Cause::Abort),
            Function::UnknownFfa => answer(pe, Err(FfaError::NotSupported)),
            Function::Other(id) if paravirtual::is_paravirtual(id) => self.paravirtual_call(pe, machine, id),
            Function::Other(id) => crate::trap::other_call(pe, machine, id),
        }
    }

    #[inline(never)]
    fn other_partition_call<'s, M: Machine>(&'s self, pe: &mut Pe<'s>, machine: &mut M, function: FuncId) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        if abi::introduced(function) > running.partition.version() {
            return answer(pe, Err(FfaError::NotSupported));
        }
        let caller = Instance::Partition(running.partition);
        let asked = first_8(&running.ctx.x);
        let result = match function {
            FuncId::MsgSendDirectReq64_2 => return self.request_from_partition(pe, machine, Form::Direct2),
            FuncId::MsgSendDirectResp64_2 => return self.response(pe, machine, Form::Direct2),
            FuncId::MsgWait32 => return self.message_wait(pe, machine),
            FuncId::Yield32 => return self.yield_cycles(pe, machine),
            FuncId::Run32 => return self.run_from_partition(pe, machine),
            FuncId::PartitionInfoGetRegs => return self.partition_info_for_partition(pe),
            FuncId::Error32 => return self.partition_error(pe, machine),
            FuncId::Version => Ok(crate::discovery::version(running.partition, &asked)),
            FuncId::ConsoleLog32 | FuncId::ConsoleLog64 => {
                crate::console::console_log(running, machine, function == FuncId::ConsoleLog64)
            }
            FuncId::SecondaryEpRegister64 | FuncId::SecondaryEpRegister32 => {
                let wide = function == FuncId::SecondaryEpRegister64;
                crate::lifecycle::register_secondary_entry(running, self.is_booted(), wide)
            }
            FuncId::MemPermGet32 | FuncId::MemPermGet64 | FuncId::MemPermSet32 | FuncId::MemPermSet64 => {
                let wide = matches!(function, FuncId::MemPermGet64 | FuncId::MemPermSet64);
                let set = matches!(function, FuncId::MemPermSet32 | FuncId::MemPermSet64);
                crate::s_el0::permissions(running, machine, &asked, wide, set)
            }
            // Calls that only the SPMC and the SPMD make: known, and not a partition's to make.
            FuncId::Interrupt32 | FuncId::NormalWorldResume32 => Err(FfaError::Denied),
            _ => self.common_call(caller, pe, machine, function, &asked),
        };
        answer(pe, result)
    }

    /// Whether the boot PE has initialised all partitions.
    pub(crate) fn is_booted(&self) -> bool {
        self.booted.load(Ordering::Acquire)
    }
}

/// The registers that the arguments of a call are in, but for direct messages.
#[inline(always)]
fn first_8(registers: &[u64]) -> [u64; 8] {
    registers.first_chunk().copied().unwrap_or([0; 8])
}

/// `FFA_SUCCESS` with one value in w2.
#[must_use]
pub(crate) const fn success(w2: u64) -> [u64; 8] {
    [abi::FFA_SUCCESS_32, 0, w2, 0, 0, 0, 0, 0]
}

/// Ends a call of the normal world with an error.
#[cold]
pub(crate) fn refuse(pe: &mut Pe<'_>, error: FfaError) -> Action {
    reply(pe, Err(error))
}

/// Ends a call of the normal world. x8-x17 stay as they came with the call: the caller's own, which an SMC with a result of
/// up to eight registers preserves (SMCCC 1.2, section 2.6; TF-A passes them on in both directions).
pub(crate) fn reply(pe: &mut Pe<'_>, result: Result<[u64; 8], FfaError>) -> Action {
    match result {
        Ok(registers) => abi::put(&mut pe.normal_world, registers),
        Err(error) => abi::put_error(&mut pe.normal_world, error),
    }
    Action::NormalWorld
}

/// Ends a call of the running context, which goes on. x8 and above stay the caller's.
pub(crate) fn answer(pe: &mut Pe<'_>, result: Result<[u64; 8], FfaError>) -> Action {
    if let Some(running) = pe.running.as_mut() {
        match result {
            Ok(registers) => abi::put(&mut running.ctx.x, registers),
            Err(error) => abi::put_error(&mut running.ctx.x, error),
        }
    }
    Action::Run
}

// All PEs share the SPMC; what a PE holds is its alone, and a register file has one owner.
static_assertions::assert_impl_all!(Spmc: Send, Sync);
static_assertions::assert_not_impl_any!(Pe<'static>: Clone, Copy);
static_assertions::assert_not_impl_any!(Running<'static>: Clone, Copy);
