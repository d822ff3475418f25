//! Notifications: bits that one endpoint raises for another, which collects them when it runs (FF-A 1.2, chapter 10).
//!
//! [`Notifications`] is the state of one receiver. It knows nothing of calls: [`crate::notifying`] has those.

use alloc::{boxed::Box, vec};

use crate::{abi::FfaError, id::EndpointId};

/// Notifications that a sender of either world can have bound: bits of a 64-bit bitmap.
pub const BITS: usize = 64;

/// Framework notification of the SPM: the RX buffer is full.
pub const RX_FULL_SPM: u64 = 1;

/// Notifications from the senders of one world.
#[derive(Clone, Debug)]
struct Bitmap {
    /// The sender that each bound bit is bound to.
    senders: [EndpointId; BITS],
    bound: u64,
    /// Bound bits that are pended for one vCPU each; the others are global.
    per_vcpu: u64,
    pending_global: u64,
    pending_vcpu: Box<[u64]>,
    /// Pending global bits that FFA_NOTIFICATION_INFO_GET has told of.
    told_global: u64,
    told_vcpu: Box<[u64]>,
}

/// Which senders' notifications.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Senders {
    /// Secure partitions.
    Partitions,
    /// VMs of the normal world.
    Vms,
}

impl Senders {
    /// The world that `sender` belongs to.
    #[must_use]
    pub const fn of(sender: EndpointId) -> Self {
        if sender.is_secure() {
            Self::Partitions
        } else {
            Self::Vms
        }
    }
}

/// The numbers of the bits that are set. Takes as long as there are such bits.
fn bits(mut bitmap: u64) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let bit = usize::try_from(bitmap.trailing_zeros())
            .ok()
            .filter(|bit| *bit < BITS)?;
        bitmap &= bitmap.wrapping_sub(1);
        Some(bit)
    })
}

impl Bitmap {
    fn new(vcpus: usize) -> Self {
        Self {
            senders: [EndpointId::NWD; BITS],
            bound: 0,
            per_vcpu: 0,
            pending_global: 0,
            pending_vcpu: vec![0; vcpus].into_boxed_slice(),
            told_global: 0,
            told_vcpu: vec![0; vcpus].into_boxed_slice(),
        }
    }

    fn clear(&mut self) {
        self.bound = 0;
        self.per_vcpu = 0;
        self.pending_global = 0;
        self.told_global = 0;
        for pending in self.pending_vcpu.iter_mut().chain(&mut self.told_vcpu) {
            *pending = 0;
        }
    }

    fn pending(&self) -> u64 {
        self.pending_vcpu
            .iter()
            .fold(self.pending_global, |all, pending| all | pending)
    }

    /// Whether all of `bitmap` is bound to `sender`, globally or for vCPUs.
    fn is_bound_to(&self, sender: EndpointId, bitmap: u64, per_vcpu: bool) -> bool {
        let kind = if per_vcpu { self.per_vcpu } else { !self.per_vcpu };
        bitmap & !(self.bound & kind) == 0
            && bits(bitmap).all(|bit| self.senders.get(bit).is_some_and(|bound| *bound == sender))
    }

    fn bind(&mut self, sender: EndpointId, bitmap: u64, per_vcpu: bool) -> Result<(), FfaError> {
        if self.bound & bitmap != 0 {
            return Err(FfaError::Denied);
        }
        for bit in bits(bitmap) {
            if let Some(bound) = self.senders.get_mut(bit) {
                *bound = sender;
            }
        }
        self.bound |= bitmap;
        if per_vcpu {
            self.per_vcpu |= bitmap;
        }
        Ok(())
    }

    fn unbind(&mut self, sender: EndpointId, bitmap: u64) -> Result<(), FfaError> {
        let global = bitmap & !self.per_vcpu;
        let per_vcpu = bitmap & self.per_vcpu;
        if !self.is_bound_to(sender, global, false) || !self.is_bound_to(sender, per_vcpu, true) {
            return Err(FfaError::Denied);
        }
        if self.pending() & bitmap != 0 {
            return Err(FfaError::Denied);
        }
        self.bound &= !bitmap;
        self.per_vcpu &= !bitmap;
        Ok(())
    }

    fn take(&mut self, vcpu: usize) -> u64 {
        let mut taken = core::mem::take(&mut self.pending_global);
        self.told_global = 0;
        if let (Some(pending), Some(told)) = (self.pending_vcpu.get_mut(vcpu), self.told_vcpu.get_mut(vcpu)) {
            taken |= core::mem::take(pending);
            *told = 0;
        }
        taken
    }

    /// Forgets all that `sender` has bound: it is gone.
    fn drop_sender(&mut self, sender: EndpointId) {
        let mut gone = 0;
        for bit in bits(self.bound) {
            if self.senders.get(bit).is_some_and(|bound| *bound == sender) {
                gone |= 1 << bit;
            }
        }
        self.bound &= !gone;
        self.per_vcpu &= !gone;
        self.pending_global &= !gone;
        self.told_global &= !gone;
        for pending in self.pending_vcpu.iter_mut().chain(&mut self.told_vcpu) {
            *pending &= !gone;
        }
    }
}

/// What is pending for a receiver, as FFA_NOTIFICATION_GET returns it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// From partitions.
    pub partitions: u64,
    /// From VMs.
    pub vms: u64,
    /// From the SPM.
    pub framework: u64,
}

/// What FFA_NOTIFICATION_INFO_GET has to tell of a receiver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    /// Something global is pending.
    pub global: bool,
    /// vCPUs with something pending, as a bitmap of the first 64.
    pub vcpus: u64,
}

/// Notifications of one receiver.
///
/// Invariants: what is pending is bound; what was told is pending.
#[derive(Clone, Debug)]
pub struct Notifications {
    partitions: Bitmap,
    vms: Bitmap,
    framework: u64,
    framework_told: u64,
}

impl Notifications {
    /// The state of a receiver with `vcpus` contexts. Allocates: while booting only.
    #[must_use]
    pub fn new(vcpus: usize) -> Self {
        Self {
            partitions: Bitmap::new(vcpus),
            vms: Bitmap::new(vcpus),
            framework: 0,
            framework_told: 0,
        }
    }

    fn bitmap(&mut self, sender: EndpointId) -> &mut Bitmap {
        match Senders::of(sender) {
            Senders::Partitions => &mut self.partitions,
            Senders::Vms => &mut self.vms,
        }
    }

    /// FFA_NOTIFICATION_BIND.
    ///
    /// # Errors
    /// `Denied` when one of the bits is bound already; nothing has changed then.
    pub fn bind(&mut self, sender: EndpointId, bitmap: u64, per_vcpu: bool) -> Result<(), FfaError> {
        self.bitmap(sender).bind(sender, bitmap, per_vcpu)
    }

    /// FFA_NOTIFICATION_UNBIND.
    ///
    /// # Errors
    /// `Denied` when one of the bits is not bound to `sender`, or pending; nothing has changed then.
    pub fn unbind(&mut self, sender: EndpointId, bitmap: u64) -> Result<(), FfaError> {
        self.bitmap(sender).unbind(sender, bitmap)
    }

    /// FFA_NOTIFICATION_SET: pends bits, for `vcpu` or globally.
    ///
    /// # Errors
    /// `Denied` when one of the bits is not bound so to `sender`; `InvalidParameters` for a vCPU that is not there.
    /// Nothing has changed then.
    pub fn set(&mut self, sender: EndpointId, bitmap: u64, vcpu: Option<usize>) -> Result<(), FfaError> {
        let state = self.bitmap(sender);
        if !state.is_bound_to(sender, bitmap, vcpu.is_some()) {
            return Err(FfaError::Denied);
        }
        match vcpu {
            None => state.pending_global |= bitmap,
            Some(vcpu) => {
                *state.pending_vcpu.get_mut(vcpu).ok_or(FfaError::InvalidParameters)? |= bitmap;
            }
        }
        Ok(())
    }

    /// Pends framework notifications of the SPM.
    pub fn set_framework(&mut self, bitmap: u64) {
        self.framework |= bitmap;
    }

    /// FFA_NOTIFICATION_GET for `vcpu`: takes what is pending of the kinds that are asked for.
    pub fn take(&mut self, vcpu: usize, partitions: bool, vms: bool, framework: bool) -> Pending {
        let mut pending = Pending::default();
        if partitions {
            pending.partitions = self.partitions.take(vcpu);
        }
        if vms {
            pending.vms = self.vms.take(vcpu);
        }
        if framework {
            pending.framework = core::mem::take(&mut self.framework);
            self.framework_told = 0;
        }
        pending
    }

    /// Whether anything is pending for `vcpu`, or globally.
    #[must_use]
    pub fn is_pending_for(&self, vcpu: usize) -> bool {
        [&self.partitions, &self.vms].into_iter().any(|bitmap| {
            bitmap.pending_global != 0 || bitmap.pending_vcpu.get(vcpu).is_some_and(|pending| *pending != 0)
        }) || self.framework != 0
    }

    /// Whether anything is pending at all.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.partitions.pending() | self.vms.pending() | self.framework != 0
    }

    /// What is pending that the scheduler of the normal world was not told of.
    #[must_use]
    pub fn untold(&self) -> Untold {
        let mut untold = Untold {
            global: self.framework & !self.framework_told != 0,
            vcpus: 0,
        };
        for bitmap in [&self.partitions, &self.vms] {
            untold.global |= bitmap.pending_global & !bitmap.told_global != 0;
            for (vcpu, (pending, told)) in bitmap.pending_vcpu.iter().zip(&bitmap.told_vcpu).enumerate().take(64) {
                if pending & !told != 0 {
                    untold.vcpus |= 1 << vcpu;
                }
            }
        }
        untold
    }

    /// The scheduler has been told of what is globally pending.
    pub fn tell_global(&mut self) {
        self.framework_told = self.framework;
        for bitmap in [&mut self.partitions, &mut self.vms] {
            bitmap.told_global = bitmap.pending_global;
        }
    }

    /// The scheduler has been told of what is pending for a vCPU.
    pub fn tell_vcpu(&mut self, vcpu: usize) {
        for bitmap in [&mut self.partitions, &mut self.vms] {
            if let (Some(told), Some(pending)) = (bitmap.told_vcpu.get_mut(vcpu), bitmap.pending_vcpu.get(vcpu)) {
                *told = *pending;
            }
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        for bitmap in [&mut self.partitions, &mut self.vms] {
            bitmap.clear();
        }
        self.framework = 0;
        self.framework_told = 0;
    }

    /// Forgets all that `sender` has bound.
    pub fn drop_sender(&mut self, sender: EndpointId) {
        self.bitmap(sender).drop_sender(sender);
    }

    /// Checks the invariants.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        [&self.partitions, &self.vms].into_iter().all(|bitmap| {
            let vcpus = bitmap.pending_vcpu.iter().zip(&bitmap.told_vcpu);
            bitmap.pending() & !bitmap.bound == 0
                && bitmap.pending_global & bitmap.per_vcpu == 0
                && bitmap.told_global & !bitmap.pending_global == 0
                && vcpus
                    .into_iter()
                    .all(|(pending, told)| told & !pending == 0 && pending & !bitmap.per_vcpu == 0)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SP: EndpointId = EndpointId::new(0x8001);
    const VM: EndpointId = EndpointId::new(1);

    #[test]
    fn pending_is_told_of_each_kind_and_vcpu() {
        let mut state = Notifications::new(2);
        assert!(!state.is_pending() && !state.is_pending_for(0));
        for (sender, per_vcpu) in [(SP, false), (VM, true)] {
            state.bind(sender, 1 << 4, per_vcpu).unwrap();
        }
        state.set(VM, 1 << 4, Some(1)).unwrap();
        assert_eq!((state.is_pending_for(0), state.is_pending_for(1)), (false, true));
        assert_eq!(state.set(VM, 1 << 4, Some(2)), Err(FfaError::InvalidParameters));
        // The same bit for another vCPU, from the other world, of the framework: each counts.
        state.set(VM, 1 << 4, Some(0)).unwrap();
        assert!(state.is_pending());
        state.set(SP, 1 << 4, None).unwrap();
        assert!(state.is_pending());
        state.set_framework(1 << 4);
        assert!(state.is_pending() && state.is_pending_for(7));
        let taken = state.take(0, true, true, false);
        assert_eq!((taken.partitions, taken.vms, taken.framework), (1 << 4, 1 << 4, 0));
        assert!(state.is_pending_for(0), "the framework's");
        assert_eq!(state.take(0, false, false, true).framework, 1 << 4);
        assert_eq!(
            (state.is_pending_for(0), state.is_pending_for(1), state.is_pending()),
            (false, true, true)
        );
        state.take(1, false, true, false);
        assert!(!state.is_pending() && state.is_consistent());
    }

    #[test]
    fn only_the_first_64_vcpus_are_told_of() {
        let mut state = Notifications::new(65);
        state.bind(SP, 1, true).unwrap();
        state.set(SP, 1, Some(64)).unwrap();
        assert_eq!(state.untold(), Untold::default());
        state.set(SP, 1, Some(63)).unwrap();
        assert_eq!(state.untold().vcpus, 1 << 63);
    }

    /// Bits 0 and 5 globally and 1 and 6 for vCPUs of two senders of each world, all pending and told.
    fn full() -> Notifications {
        let mut state = Notifications::new(2);
        for (sender, other) in [(SP, 0x8002), (VM, 2)] {
            for (sender, shift) in [(sender, 0), (EndpointId::new(other), 5)] {
                state.bind(sender, 1 << shift, false).unwrap();
                state.bind(sender, 2 << shift, true).unwrap();
                state.set(sender, 1 << shift, None).unwrap();
                state.set(sender, 2 << shift, Some(1)).unwrap();
            }
        }
        state.set_framework(1);
        state.tell_global();
        state.tell_vcpu(1);
        state
    }

    /// Whether bits 0 and 1 are free for either kind, and nothing is known of what they were.
    fn are_free(state: &mut Notifications, sender: EndpointId) -> bool {
        let bound = state.bind(sender, 1, true).is_ok() && state.bind(sender, 2, false).is_ok();
        let set = state.set(sender, 1, Some(1)).is_ok() && state.set(sender, 2, None).is_ok();
        let untold = state.untold();
        bound && set && untold.global && untold.vcpus == 2 && state.is_consistent()
    }

    #[test]
    fn nothing_stays_of_a_sender_that_is_gone() {
        for gone in [SP, VM] {
            let mut state = full();
            state.drop_sender(gone);
            assert!(state.is_consistent());
            assert_eq!(state.untold(), Untold::default(), "what others have set was told");
            assert!(are_free(&mut state, gone));
            let taken = state.take(1, true, true, false);
            let (of_gone, other) = if gone == SP {
                (taken.partitions, taken.vms)
            } else {
                (taken.vms, taken.partitions)
            };
            assert_eq!((of_gone, other), (3 | 3 << 5, 3 | 3 << 5));
        }
    }

    #[test]
    fn nothing_stays_of_what_is_cleared() {
        let mut state = full();
        state.clear();
        assert!(!state.is_pending() && state.is_consistent());
        for _ in 0..2 {
            state.set_framework(1);
            assert!(state.untold().global, "though it was told of before");
            state.tell_global();
            state.take(0, false, false, true);
        }
        assert!(are_free(&mut state, SP) && are_free(&mut state, VM));
    }

    #[test]
    fn inconsistent_states_are_noticed() {
        assert!(full().is_consistent());
        let broken = |change: fn(&mut Bitmap)| {
            [Senders::Partitions, Senders::Vms].into_iter().all(|of| {
                let mut state = full();
                change(match of {
                    Senders::Partitions => &mut state.partitions,
                    Senders::Vms => &mut state.vms,
                });
                !state.is_consistent()
            })
        };
        assert!(broken(|bitmap| bitmap.bound &= !1), "pending, not bound");
        assert!(broken(|bitmap| bitmap.bound &= !2), "pending for a vCPU, not bound");
        assert!(broken(|bitmap| bitmap.per_vcpu |= 1), "globally pending");
        assert!(broken(|bitmap| bitmap.per_vcpu &= !2), "pending for a vCPU");
        assert!(broken(|bitmap| bitmap.pending_global &= !1), "told, not pending");
        assert!(
            broken(|bitmap| bitmap.pending_vcpu[1] &= !2),
            "told for a vCPU, not pending"
        );
    }
}
