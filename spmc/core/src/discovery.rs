//! Who and what is there: FFA_VERSION, FFA_FEATURES, FFA_PARTITION_INFO_GET_REGS (FF-A 1.2, chapter 13).

use arm_ffa::FuncId;
use uuid::Uuid;

use crate::{
    abi::{self, FfaError, SPMC_VERSION, V1_1, V1_2, Version, low},
    id::EndpointId,
    interrupt::Line,
    logical::Logical,
    machine::{SCHEDULE_RECEIVER_INTERRUPT, SmcRegisters},
    mailbox::PAGE_COUNT_MASK,
    manifest::partition::{MessagingMethod, NsInterruptsAction, VmAvailability},
    memory::MemoryManager,
    messaging::{same_uuid, uuid_from_registers},
    partition::{Multiplicity, Partition},
    power::compatible,
    spmc::{Action, Pe, Spmc, answer, refuse, success},
};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub enum Instance<'s> {
    /// The normal world, at the physical instance.
    NormalWorld,
    /// A partition, at the virtual instance.
    Partition(&'s Partition),
}

impl Instance<'_> {
    /// The caller's id; [`EndpointId::NWD`] for all of the normal world.
    #[must_use]
    pub fn id(&self) -> EndpointId {
        match self {
            Self::NormalWorld => EndpointId::NWD,
            Self::Partition(partition) => partition.endpoint(),
        }
    }
}

/// Feature identifiers are below this; function identifiers have bit 31.
const FEATURE_ID_MASK: u32 = 0xff;
/// Feature: notification pending interrupt.
const NOTIFICATION_PENDING_FEATURE: u32 = 1;
/// Feature: schedule receiver interrupt.
const SCHEDULE_RECEIVER_FEATURE: u32 = 2;
/// Feature: managed exit interrupt.
const MANAGED_EXIT_FEATURE: u32 = 3;

/// FFA_VERSION from a partition: x0-x7 of the answer, w0 holding the SPMC's version or NOT_SUPPORTED.
#[must_use]
pub fn version(partition: &Partition, asked: &[u64; 8]) -> [u64; 8] {
    let [_, requested, ..] = *asked;
    let accepted = compatible(low(requested)).is_some_and(|version| partition.negotiate(version));
    let w0 = if accepted {
        u64::from(u32::from(SPMC_VERSION))
    } else {
        abi::error_code(FfaError::NotSupported)
    };
    [w0, 0, 0, 0, 0, 0, 0, 0]
}

/// The interrupt that a feature is (FF-A 1.2, table 13.14).
fn interrupt_feature(instance: Instance<'_>, id: u32) -> Option<u32> {
    match (instance, id) {
        (Instance::NormalWorld, SCHEDULE_RECEIVER_FEATURE) => Some(SCHEDULE_RECEIVER_INTERRUPT),
        (Instance::Partition(partition), NOTIFICATION_PENDING_FEATURE) if partition.notifications.is_some() => {
            Some(partition.interrupt_id(Line::NOTIFICATION))
        }
        (Instance::Partition(partition), MANAGED_EXIT_FEATURE)
            if partition.ns_interrupts == NsInterruptsAction::ManagedExit =>
        {
            Some(partition.interrupt_id(Line::MANAGED_EXIT))
        }
        _ => None,
    }
}

impl Spmc {
    /// FFA_FEATURES: whether a call or a feature is there for the caller, and its properties.
    ///
    /// # Errors
    /// `NotSupported` for what is not there, `InvalidParameters` for input properties of a call that has none.
    pub fn features(&self, instance: Instance<'_>, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, ..] = *registers;
        let id = low(w1);
        if id & !FEATURE_ID_MASK == 0 {
            return match interrupt_feature(instance, id) {
                Some(interrupt) => Ok(success(u64::from(interrupt))),
                None => Err(FfaError::NotSupported),
            };
        }
        let version = self.version_of(instance);
        let function = FuncId::try_from(id).map_err(|_| FfaError::NotSupported)?;
        if abi::introduced(function) > version || !is_offered(instance, function) {
            return Err(FfaError::NotSupported);
        }
        if matches!(function, FuncId::MemRetrieveReq32 | FuncId::MemRetrieveReq64) {
            return retrieve_features(instance, version, low(w2));
        }
        if low(w2) != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let properties = match function {
            FuncId::RxTxMap32 | FuncId::RxTxMap64 if version >= V1_2 => PAGE_COUNT_MASK << 16,
            _ => 0,
        };
        Ok(success(u64::from(properties)))
    }

    pub(crate) fn partition_info_for_partition(&self, pe: &mut Pe<'_>) -> Action {
        let Some(running) = pe.running.as_mut() else {
            return refuse(pe, FfaError::Aborted);
        };
        let asked = running.ctx.x.first_chunk().copied().unwrap_or([0; 8]);
        match self.partition_info_get_regs(Instance::Partition(running.partition), &asked) {
            Ok(registers) => {
                for (register, value) in running.ctx.x.iter_mut().zip(registers) {
                    *register = value;
                }
                Action::Run
            }
            Err(error) => answer(pe, Err(error)),
        }
    }

    /// FFA_PARTITION_INFO_GET_REGS: up to five descriptors of 24 bytes from a start index on.
    ///
    /// # Errors
    /// `InvalidParameters` for a UUID that nobody has, or a start index past the end; `Retry` when the list has changed
    /// since the tag was handed out.
    pub fn partition_info_get_regs(&self, instance: Instance<'_>, asked: &[u64; 8]) -> Result<SmcRegisters, FfaError> {
        let [_, x1, x2, x3, ..] = *asked;
        let uuid = uuid_from_registers(x1, x2);
        let start = usize::try_from(x3 & 0xffff).map_err(|_| FfaError::InvalidParameters)?;
        if x3 >> 32 != 0 {
            return Err(FfaError::InvalidParameters);
        }
        let tag = self.information_tag();
        // The first call of a series has no tag yet.
        let asked_tag = (x3 >> 16) & 0xffff;
        if asked_tag != tag && (start != 0 || asked_tag != 0) {
            return Err(FfaError::Retry);
        }
        let count = self.count_descriptors(instance, uuid);
        let last = count.checked_sub(1).ok_or(FfaError::InvalidParameters)?;
        if start > last {
            return Err(FfaError::InvalidParameters);
        }
        let mut reply = [0; 18];
        let (mut place, mut current) = (0_usize, start);
        let (head, words) = reply.split_at_mut(3);
        let mut slots = words.chunks_exact_mut(3);
        self.each_descriptor(instance, uuid, &mut |descriptor| {
            if place >= start
                && let Some(slot) = slots.next()
            {
                slot.copy_from_slice(&descriptor);
                current = current.saturating_add(1);
            }
            place = place.saturating_add(1);
        });
        let current = current.saturating_sub(1);
        let metadata = (DESCRIPTOR_BYTES << 48) | (tag << 32) | ((current as u64) << 16) | last as u64;
        for (register, value) in head.iter_mut().zip([abi::FFA_SUCCESS_64, 0, metadata]) {
            *register = value;
        }
        Ok(reply)
    }

    /// Changes whenever the list of partitions does: they only ever leave it.
    fn information_tag(&self) -> u64 {
        let stopped = self
            .partitions
            .iter()
            .filter(|partition| partition.is_stopped())
            .count();
        u64::try_from(stopped).unwrap_or(u64::MAX) & 0xffff
    }

    /// How many descriptors there are with `uuid`.
    pub(crate) fn count_descriptors(&self, instance: Instance<'_>, uuid: Uuid) -> usize {
        let mut count = 0_usize;
        self.each_descriptor(instance, uuid, &mut |_| count = count.saturating_add(1));
        count
    }

    /// Gives `each` the descriptors of the partitions with `uuid` (nil: of all, one for each UUID), as three registers
    /// each. Not an iterator, which would be a copy of all this for each of its users.
    #[inline(never)]
    pub(crate) fn each_descriptor(&self, instance: Instance<'_>, uuid: Uuid, each: &mut dyn FnMut([u64; 3])) {
        let visible = visible_properties(instance, self.version_of(instance));
        let mut show = |listed: &Logical| {
            if !uuid.is_nil() && !same_uuid(&listed.uuid, &uuid) {
                return;
            }
            let properties = u64::from(listed.properties & visible) << 32;
            let first = u64::from(listed.id.as_u16()) | (u64::from(listed.contexts) << 16) | properties;
            // Asked by UUID, the UUID field is reserved: it is what the caller has asked for.
            let (low, high) = if uuid.is_nil() {
                uuid_to_registers(listed.uuid)
            } else {
                (0, 0)
            };
            each([first, low, high]);
        };
        for partition in self.partitions_by_id().filter(|partition| !partition.is_stopped()) {
            for service in &partition.services {
                show(&Logical {
                    id: partition.endpoint(),
                    contexts: u16::try_from(partition.slots.len()).unwrap_or(u16::MAX),
                    properties: properties(partition, service.messaging),
                    uuid: service.uuid,
                });
            }
        }
        self.logical.iter().for_each(show);
    }
}

/// Input and output property of FFA_MEM_RETRIEVE_REQ: the response says whether memory is non-secure.
const RETRIEVE_NS_BIT: u32 = 1 << 1;
/// Output property of FFA_MEM_RETRIEVE_REQ: the hypervisor may ask for what was sent.
const RETRIEVE_BY_HYPERVISOR: u32 = 1 << 2;

/// FFA_FEATURES of FFA_MEM_RETRIEVE_REQ. From FF-A 1.1 on a partition has to know of the NS bit. A region is retrieved once
/// before it is relinquished: w3 is 0.
fn retrieve_features(instance: Instance<'_>, version: Version, asked: u32) -> Result<[u64; 8], FfaError> {
    if asked & !RETRIEVE_NS_BIT != 0 {
        return Err(FfaError::InvalidParameters);
    }
    let partition = matches!(instance, Instance::Partition(_));
    if partition && version >= V1_1 && asked == 0 {
        return Err(FfaError::NotSupported);
    }
    Ok(success(u64::from(RETRIEVE_NS_BIT | RETRIEVE_BY_HYPERVISOR)))
}

/// Size of a partition information descriptor of FF-A 1.1 and 1.2.
const DESCRIPTOR_BYTES: u64 = 24;

fn uuid_to_registers(uuid: Uuid) -> (u64, u64) {
    let value = u128::from_le_bytes(*uuid.as_bytes());
    let half = |value: u128| u64::try_from(value & u128::from(u64::MAX)).unwrap_or(0);
    (half(value), half(value >> 64))
}

// Partition properties (FF-A 1.2, table "Partition information descriptor").
const RECEIVES_REQ: u32 = 1 << 0;
const SENDS_REQ: u32 = 1 << 1;
const INDIRECT: u32 = 1 << 2;
const NOTIFICATIONS: u32 = 1 << 3;
const VM_CREATED: u32 = 1 << 6;
const VM_DESTROYED: u32 = 1 << 7;
const AARCH64: u32 = 1 << 8;
const RECEIVES_REQ2: u32 = 1 << 9;
const SENDS_REQ2: u32 = 1 << 10;
/// Properties that FF-A 1.0 has; the others are reserved there.
const PROPERTIES_1_0: u32 = 0x7;
/// Properties that FF-A 1.1 has.
const PROPERTIES_1_1: u32 = 0x1ff;

/// Properties that mean something to a caller.
fn visible_properties(instance: Instance<'_>, version: Version) -> u32 {
    let of_version = match version {
        version if version < V1_1 => PROPERTIES_1_0,
        version if version < V1_2 => PROPERTIES_1_1,
        _ => u32::MAX,
    };
    of_version
        & match instance {
            // Partitions send requests to partitions only.
            Instance::NormalWorld => !(SENDS_REQ | SENDS_REQ2),
            // Only the hypervisor has messages about VMs to send.
            Instance::Partition(_) => !(VM_CREATED | VM_DESTROYED),
        }
}

/// All properties of a partition.
fn properties(partition: &Partition, messaging: MessagingMethod) -> u32 {
    let mut bits = AARCH64;
    let mut set = |condition: bool, bit: u32| {
        if condition {
            bits |= bit;
        }
    };
    set(messaging.contains(MessagingMethod::DIRECT_REQ_RECEIVE), RECEIVES_REQ);
    set(messaging.contains(MessagingMethod::DIRECT_REQ_SEND), SENDS_REQ);
    set(messaging.contains(MessagingMethod::INDIRECT), INDIRECT);
    set(partition.notifications.is_some(), NOTIFICATIONS);
    set(partition.vm_availability.contains(VmAvailability::CREATED), VM_CREATED);
    set(
        partition.vm_availability.contains(VmAvailability::DESTROYED),
        VM_DESTROYED,
    );
    if partition.is_v1_2() {
        set(messaging.contains(MessagingMethod::DIRECT_REQ2_RECEIVE), RECEIVES_REQ2);
        set(messaging.contains(MessagingMethod::DIRECT_REQ2_SEND), SENDS_REQ2);
    }
    bits
}

/// Whether a call is there for the caller.
fn is_offered(instance: Instance<'_>, function: FuncId) -> bool {
    let for_both = matches!(
        function,
        FuncId::Error32
            | FuncId::Success32
            | FuncId::Success64
            | FuncId::Interrupt32
            | FuncId::Version
            | FuncId::Features
            | FuncId::IdGet
            | FuncId::SpmIdGet
            | FuncId::PartitionInfoGet
            | FuncId::PartitionInfoGetRegs
            | FuncId::RxTxMap32
            | FuncId::RxTxMap64
            | FuncId::RxTxUnmap
            | FuncId::RxRelease
            | FuncId::NotificationBind
            | FuncId::NotificationUnbind
            | FuncId::NotificationSet
            | FuncId::NotificationGet
            | FuncId::Run32
            | FuncId::MsgSend2
            | FuncId::MsgSendDirectReq32
            | FuncId::MsgSendDirectReq64
            | FuncId::MsgSendDirectReq64_2
            // What calls end with, as FFA_SUCCESS.
            | FuncId::MsgSendDirectResp32
            | FuncId::MsgSendDirectResp64
            | FuncId::MsgSendDirectResp64_2
            | FuncId::MemRetrieveResp
    ) || MemoryManager::serves(function) && function != FuncId::MemRelinquish;
    let for_normal_world = matches!(
        function,
        FuncId::RxAcquire
            | FuncId::NotificationBitmapCreate
            | FuncId::NotificationBitmapDestroy
            | FuncId::NotificationInfoGet32
            | FuncId::NotificationInfoGet64
    );
    let for_partition = |partition: &Partition| match function {
        FuncId::MsgWait32 | FuncId::MemRelinquish | FuncId::Yield32 | FuncId::ConsoleLog32 | FuncId::ConsoleLog64 => {
            true
        }
        FuncId::MemPermGet32 | FuncId::MemPermGet64 | FuncId::MemPermSet32 | FuncId::MemPermSet64 => {
            partition.el1.is_some()
        }
        FuncId::SecondaryEpRegister64 | FuncId::SecondaryEpRegister32 => partition.multiplicity == Multiplicity::Pinned,
        _ => false,
    };
    for_both
        || match instance {
            Instance::NormalWorld => for_normal_world,
            Instance::Partition(partition) => for_partition(partition),
        }
}
