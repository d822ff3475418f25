//! FFA_NOTIFICATION_*: the calls on [`Notifications`] (FF-A 1.2, chapters 10 and 16).

use alloc::{boxed::Box, vec::Vec};
use spin::mutex::TicketMutex;

use crate::{
    abi::{self, FfaError, Route, low},
    discovery::Instance,
    id::EndpointId,
    interrupt::Line,
    machine::Machine,
    notification::{Notifications, Pending, Untold},
    partition::Partition,
    spmc::{Attention, Pe, Spmc, success},
    vcpu::Slot,
};

/// FFA_NOTIFICATION_BIND, flag 0: a notification for each vCPU. FFA_NOTIFICATION_SET, flag 0, likewise.
const PER_VCPU: u32 = 1 << 0;
/// FFA_NOTIFICATION_SET, flag 1: the schedule receiver interrupt waits until the caller gives up the PE.
pub(crate) const DELAY_SRI: u32 = 1 << 1;
/// FFA_NOTIFICATION_GET: what is asked for.
const FROM_PARTITIONS: u32 = 1 << 0;
const FROM_VMS: u32 = 1 << 1;
const FROM_SPM: u32 = 1 << 2;
const FROM_HYPERVISOR: u32 = 1 << 3;
/// FFA_NOTIFICATION_INFO_GET: more is pending than the reply had room for.
const MORE_PENDING: u64 = 1 << 0;

/// Notifications of the VMs of the normal world that a bitmap was created for.
///
/// Lock order: the registry's lock, then nothing. A partition's own lock ([`Partition::notifications`]) is a leaf as well;
/// never two at a time.
#[derive(Debug)]
pub struct VmRegistry {
    free: Vec<Notifications>,
    vms: Vec<Vm>,
    vcpus: usize,
}

#[derive(Debug)]
struct Vm {
    id: EndpointId,
    vcpus: usize,
    notifications: Notifications,
}

impl VmRegistry {
    /// Room for `vms` VMs of at most `vcpus` vCPUs. Allocates.
    #[must_use]
    pub fn new(vms: usize, vcpus: usize) -> Self {
        Self {
            free: (0..vms).map(|_| Notifications::new(vcpus)).collect(),
            vms: Vec::with_capacity(vms),
            vcpus,
        }
    }

    fn find(&mut self, id: EndpointId) -> Option<&mut Vm> {
        self.vms.iter_mut().find(|vm| vm.id == id)
    }

    fn create(&mut self, id: EndpointId, vcpus: usize) -> Result<(), FfaError> {
        if self.find(id).is_some() {
            return Err(FfaError::Denied);
        }
        if vcpus > self.vcpus {
            return Err(FfaError::NoMemory);
        }
        let notifications = self.free.pop().ok_or(FfaError::NoMemory)?;
        self.vms.push(Vm {
            id,
            vcpus,
            notifications,
        });
        Ok(())
    }

    fn destroy(&mut self, id: EndpointId) -> Result<(), FfaError> {
        if self.find(id).is_none_or(|vm| vm.notifications.is_pending()) {
            return Err(FfaError::Denied);
        }
        self.remove(id);
        Ok(())
    }

    /// Forgets a VM, whatever is pending for it.
    fn remove(&mut self, id: EndpointId) {
        let Some(place) = self.vms.iter().position(|vm| vm.id == id) else {
            return;
        };
        let mut vm = self.vms.swap_remove(place);
        vm.notifications.clear();
        self.free.push(vm.notifications);
    }
}

/// The lock around a [`VmRegistry`].
pub type Vms = TicketMutex<VmRegistry>;

/// A caller of one of these calls, with the endpoint that it may speak for.
fn speaks_for(instance: Instance<'_>, id: EndpointId) -> bool {
    match instance {
        Instance::NormalWorld => !id.is_secure(),
        Instance::Partition(partition) => partition.endpoint() == id,
    }
}

fn bitmap(low_half: u64, high_half: u64) -> u64 {
    u64::from(low(low_half)) | (u64::from(low(high_half)) << 32)
}

impl Spmc {
    /// Does `change` to the notifications of `receiver`; it gets the number of vCPUs too, and a partition's contexts.
    fn with_receiver<T>(
        &self,
        receiver: EndpointId,
        change: impl FnOnce(&mut Notifications, usize, &[Slot]) -> Result<T, FfaError>,
    ) -> Result<T, FfaError> {
        if receiver.is_secure() {
            let partition = self.find(receiver).ok_or(FfaError::InvalidParameters)?;
            if partition.is_stopped() {
                return Err(FfaError::Aborted);
            }
            let notifications = partition.notifications.as_ref().ok_or(FfaError::Denied)?;
            return change(&mut notifications.lock(), partition.slots.len(), &partition.slots);
        }
        let mut vms = self.vms.lock();
        let vm = vms.find(receiver).ok_or(FfaError::InvalidParameters)?;
        let vcpus = vm.vcpus;
        change(&mut vm.notifications, vcpus, &[])
    }

    /// FFA_NOTIFICATION_BITMAP_CREATE: w1 the VM, w2 the number of its vCPUs.
    ///
    /// # Errors
    /// `InvalidParameters` for a secure id or no vCPU, `Denied` when the VM has one, `NoMemory`.
    pub(crate) fn create_bitmap(&self, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, ..] = *registers;
        let (id, vcpus) = (vm_id(w1)?, usize::try_from(low(w2)).map_err(|_| FfaError::NoMemory)?);
        if vcpus == 0 {
            return Err(FfaError::InvalidParameters);
        }
        self.vms.lock().create(id, vcpus)?;
        Ok(success(0))
    }

    /// FFA_NOTIFICATION_BITMAP_DESTROY: w1 the VM.
    ///
    /// # Errors
    /// `InvalidParameters` for a secure id, `Denied` when there is none, or while something is pending.
    pub(crate) fn destroy_bitmap(&self, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        let [_, w1, ..] = *registers;
        let id = vm_id(w1)?;
        self.vms.lock().destroy(id)?;
        forget_vm(self, id);
        Ok(success(0))
    }

    /// FFA_NOTIFICATION_BIND and UNBIND: w1 sender and receiver (who calls), w2 flags, w3 and w4 the bitmap.
    ///
    /// # Errors
    /// `InvalidParameters` for ids or bits that cannot be, `Denied` when bits are (or are not) bound, or pending.
    pub(crate) fn bind(&self, instance: Instance<'_>, registers: &[u64; 8], bind: bool) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, w3, w4, ..] = *registers;
        let Route {
            source: sender,
            destination: receiver,
        } = Route::decode(w1);
        let (flags, bitmap) = (low(w2), bitmap(w3, w4));
        let allowed_flags = if bind { PER_VCPU } else { 0 };
        if flags & !allowed_flags != 0 || bitmap == 0 || sender == receiver || !speaks_for(instance, receiver) {
            return Err(FfaError::InvalidParameters);
        }
        if sender.is_secure() {
            self.find(sender).ok_or(FfaError::InvalidParameters)?;
        } else if !receiver.is_secure() {
            // Between VMs it is the hypervisor's matter.
            return Err(FfaError::InvalidParameters);
        }
        self.with_receiver(receiver, |notifications, _, _| {
            if bind {
                notifications.bind(sender, bitmap, flags & PER_VCPU != 0)
            } else {
                notifications.unbind(sender, bitmap)
            }
        })?;
        Ok(success(0))
    }

    /// FFA_NOTIFICATION_SET: w1 sender (who calls) and receiver, w2 flags and vCPU, w3 and w4 the bitmap.
    ///
    /// # Errors
    /// `InvalidParameters` for ids, flags or vCPUs that cannot be, `Denied` for bits that are not bound so.
    pub(crate) fn set<M: Machine>(
        &self,
        instance: Instance<'_>,
        pe: &mut Pe<'_>,
        machine: &mut M,
        registers: &[u64; 8],
    ) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, w3, w4, ..] = *registers;
        let Route {
            source: sender,
            destination: receiver,
        } = Route::decode(w1);
        let (flags, bitmap) = (low(w2), bitmap(w3, w4));
        let vcpu = usize::try_from(flags >> 16).map_err(|_| FfaError::InvalidParameters)?;
        let per_vcpu = flags & PER_VCPU != 0;
        let reserved = flags & 0xffff & !(PER_VCPU | DELAY_SRI) != 0 || (!per_vcpu && vcpu != 0);
        if reserved || bitmap == 0 || sender == receiver || !speaks_for(instance, sender) {
            return Err(FfaError::InvalidParameters);
        }
        self.with_receiver(receiver, |notifications, vcpus, slots| {
            if per_vcpu && vcpu >= vcpus {
                return Err(FfaError::InvalidParameters);
            }
            notifications.set(sender, bitmap, per_vcpu.then_some(vcpu))?;
            match slots.get(vcpu) {
                Some(slot) if per_vcpu => self.alert(pe, machine, slot),
                // Any context may take a global one.
                _ => slots.iter().for_each(|slot| self.alert(pe, machine, slot)),
            }
            Ok(())
        })?;
        self.schedule_receiver(pe, machine, flags & DELAY_SRI != 0);
        Ok(success(0))
    }

    /// FFA_NOTIFICATION_GET: w1 vCPU and receiver (who calls), w2 which.
    ///
    /// # Errors
    /// `InvalidParameters` for ids, flags or vCPUs that cannot be.
    pub(crate) fn get(&self, instance: Instance<'_>, registers: &[u64; 8]) -> Result<[u64; 8], FfaError> {
        let [_, w1, w2, ..] = *registers;
        let Route {
            source: vcpu,
            destination: receiver,
        } = Route::decode(w1);
        let flags = low(w2);
        if flags & !(FROM_PARTITIONS | FROM_VMS | FROM_SPM | FROM_HYPERVISOR) != 0 || !speaks_for(instance, receiver) {
            return Err(FfaError::InvalidParameters);
        }
        let wants = |flag| flags & flag != 0;
        let pending = self.with_receiver(receiver, |notifications, vcpus, slots| {
            let vcpu = usize::from(vcpu.as_u16());
            if vcpu >= vcpus {
                return Err(FfaError::InvalidParameters);
            }
            let taken = notifications.take(vcpu, wants(FROM_PARTITIONS), wants(FROM_VMS), wants(FROM_SPM));
            let left = notifications.is_pending();
            for (vcpu, slot) in slots.iter().enumerate() {
                if left && notifications.is_pending_for(vcpu) {
                    slot.interrupts.pend(Line::NOTIFICATION);
                } else {
                    slot.interrupts.withdraw(Line::NOTIFICATION);
                }
            }
            Ok(taken)
        })?;
        let Pending {
            partitions,
            vms,
            framework,
        } = pending;
        let half = |bitmap: u64| (u64::from(low(bitmap)), u64::from(low(bitmap >> 32)));
        let ((w2, w3), (w4, w5)) = (half(partitions), half(vms));
        Ok([abi::FFA_SUCCESS_32, 0, w2, w3, w4, w5, u64::from(low(framework)), 0])
    }

    /// Pends notifications of the SPM for `receiver`. `false`: it takes no notifications.
    pub(crate) fn pend_framework<M: Machine>(
        &self,
        pe: &mut Pe<'_>,
        machine: &mut M,
        receiver: EndpointId,
        bitmap: u64,
    ) -> bool {
        self.with_receiver(receiver, |notifications, _, slots| {
            notifications.set_framework(bitmap);
            slots.iter().for_each(|slot| self.alert(pe, machine, slot));
            Ok(())
        })
        .is_ok()
    }

    /// FFA_NOTIFICATION_INFO_GET: whom the scheduler of the normal world is to run. `wide`: the 64-bit form, with room for
    /// 20 ids instead of 10.
    ///
    /// # Errors
    /// `NoData` when nothing is pending that was not told before.
    pub(crate) fn info_get(&self, wide: bool) -> Result<[u64; 8], FfaError> {
        let mut lists = Lists::new(if wide { 20 } else { 10 });
        for partition in self.partitions() {
            let Some(notifications) = &partition.notifications else {
                continue;
            };
            if !partition.is_stopped() {
                lists.add(partition.endpoint(), &mut notifications.lock());
            }
        }
        for vm in &mut self.vms.lock().vms {
            lists.add(vm.id, &mut vm.notifications);
        }
        self.each_to_schedule(&mut |target| lists.list(target.endpoint, &[target.vcpu.as_u16()]));
        lists.encode(wide)
    }
}

fn vm_id(w1: u64) -> Result<EndpointId, FfaError> {
    let id = u16::try_from(low(w1)).map_err(|_| FfaError::InvalidParameters)?;
    let id = EndpointId::new(id);
    if id.is_secure() {
        Err(FfaError::InvalidParameters)
    } else {
        Ok(id)
    }
}

impl Spmc {
    /// Asks the normal world to run a receiver: now, or when this PE next goes there.
    pub(crate) fn schedule_receiver<M: Machine>(&self, pe: &mut Pe<'_>, machine: &mut M, delayed: bool) {
        if delayed || pe.attention.contains(Attention::LEAVING) {
            pe.attention.insert(Attention::SCHEDULE_RECEIVER);
        } else {
            machine.raise_schedule_receiver(self.cpu(pe.index));
        }
    }
}

/// The lists of a reply to FFA_NOTIFICATION_INFO_GET: an endpoint id, followed by up to three of its vCPUs.
struct Lists {
    ids: arrayvec::ArrayVec<u16, 20>,
    room: usize,
    sizes: u64,
    count: u32,
    more: bool,
}

impl Lists {
    /// vCPU ids that one list has room for.
    const VCPUS: usize = 3;

    fn new(room: usize) -> Self {
        Self {
            ids: arrayvec::ArrayVec::new(),
            room,
            sizes: 0,
            count: 0,
            more: false,
        }
    }

    fn add(&mut self, id: EndpointId, notifications: &mut Notifications) {
        let Untold { global, mut vcpus } = notifications.untold();
        if global {
            if !self.list(id, &[]) {
                return;
            }
            notifications.tell_global();
        }
        while vcpus != 0 {
            let room = self
                .room
                .saturating_sub(self.ids.len())
                .saturating_sub(1)
                .min(Self::VCPUS);
            let mut list: arrayvec::ArrayVec<u16, 3> = arrayvec::ArrayVec::new();
            while vcpus != 0 && list.len() < room {
                let vcpu = vcpus.trailing_zeros();
                vcpus &= vcpus.wrapping_sub(1);
                let _ = u16::try_from(vcpu).map(|vcpu| list.try_push(vcpu));
            }
            if list.is_empty() || !self.list(id, &list) {
                self.more = true;
                return;
            }
            for vcpu in list {
                notifications.tell_vcpu(usize::from(vcpu));
            }
        }
    }

    fn list(&mut self, id: EndpointId, vcpus: &[u16]) -> bool {
        let room = self.room.saturating_sub(self.ids.len());
        if room <= vcpus.len() {
            self.more = true;
            return false;
        }
        let _ = self.ids.try_push(id.as_u16());
        let _ = self.ids.try_extend_from_slice(vcpus);
        let size = u64::try_from(vcpus.len()).unwrap_or(0);
        self.sizes |= size << self.count.saturating_mul(2);
        self.count = self.count.saturating_add(1);
        true
    }

    fn encode(&self, wide: bool) -> Result<[u64; 8], FfaError> {
        if self.count == 0 {
            return Err(FfaError::NoData);
        }
        let id = if wide { abi::FFA_SUCCESS_64 } else { abi::FFA_SUCCESS_32 };
        let more = if self.more { MORE_PENDING } else { 0 };
        let mut result = [
            id,
            0,
            more | (u64::from(self.count) << 7) | (self.sizes << 12),
            0,
            0,
            0,
            0,
            0,
        ];
        let each = if wide { 4 } else { 2 };
        for (register, ids) in result.iter_mut().skip(3).zip(self.ids.chunks(each)) {
            for (place, id) in ids.iter().enumerate() {
                *register |= u64::from(*id) << (place.saturating_mul(16));
            }
        }
        Ok(result)
    }
}

/// The notification state of a partition, if its manifest asks for it.
pub(crate) fn for_partition(wanted: bool, vcpus: usize) -> Option<Box<TicketMutex<Notifications>>> {
    wanted.then(|| Box::new(TicketMutex::new(Notifications::new(vcpus))))
}

/// A VM is destroyed: it has no notifications any more, and none that it has bound.
pub(crate) fn forget_vm(spmc: &Spmc, id: EndpointId) {
    spmc.vms.lock().remove(id);
    for notifications in spmc
        .partitions()
        .iter()
        .filter_map(|partition| partition.notifications.as_ref())
    {
        notifications.lock().drop_sender(id);
    }
}

/// A partition was stopped: nothing of it stays pending anywhere.
pub(crate) fn forget(spmc: &Spmc, stopped: &Partition) {
    for partition in spmc.partitions() {
        if let Some(notifications) = &partition.notifications {
            notifications.lock().drop_sender(stopped.endpoint());
        }
    }
    for vm in &mut spmc.vms.lock().vms {
        vm.notifications.drop_sender(stopped.endpoint());
    }
}
