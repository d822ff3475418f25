//! What must hold between any two steps, whatever partitions and the normal world do.

use alloc::{format, string::String};

use crate::{
    id::PeIndex,
    partition::Partition,
    spmc::{Pe, Running, Spmc},
    vcpu::{Model, Slot, State},
};

impl Spmc {
    /// Checks every invariant of the policy; `pes` are all PEs, each between two steps.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_invariants(&self, pes: &[Pe<'_>]) -> Result<(), String> {
        for pe in pes {
            check_pe(self, pe)?;
        }
        for partition in self.partitions() {
            for slot in &partition.slots {
                check_slot(partition, slot, pes)?;
            }
        }
        Ok(())
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

/// Contexts on a PE: running first, then its callers from the innermost out.
fn on_pe<'p, 's>(pe: &'p Pe<'s>) -> impl Iterator<Item = &'p Running<'s>> {
    pe.running.iter().chain(pe.chain.iter().rev())
}

fn check_pe(spmc: &Spmc, pe: &Pe<'_>) -> Result<(), String> {
    let index = pe.index;
    ensure(pe.running.is_some() || pe.chain.is_empty(), || format!("{index:?}: callers wait, but nothing runs"))?;
    ensure(pe.chain.len() <= spmc.partitions().len(), || format!("{index:?}: the call chain is too long"))?;
    for (depth, running) in on_pe(pe).enumerate() {
        let again = on_pe(pe).skip(depth.saturating_add(1)).any(|other| core::ptr::eq(other.slot, running.slot));
        ensure(!again, || format!("{index:?}: {:?} is twice on the call chain", running.partition.name))?;
        ensure(matches!(*running.slot.lock(), State::OnPe(at) if at == index), || {
            format!("{index:?}: {:?} runs, but its slot says otherwise", running.partition.name)
        })?;
        ensure(running.partition.vcpu_on(index) == running.vcpu, || {
            format!("{index:?}: {:?} runs a context of another PE", running.partition.name)
        })?;
        ensure(running.ctx.stage2 == running.partition.roots, || {
            format!("{index:?}: {:?} has another partition's stage-2 roots", running.partition.name)
        })?;
    }
    let mut chain = on_pe(pe).peekable();
    while let Some(callee) = chain.next() {
        let Model::DirectRequest { requester, .. } = callee.model else { continue };
        let caller = chain.peek().map(|caller| caller.partition.endpoint());
        let consistent = match caller {
            Some(caller) => requester == caller,
            // The normal world may bring to its end what a context has asked for that is gone: its partition was
            // stopped, or its PE turned off.
            None => !requester.is_secure() || requester.is_el3_logical() || spmc.find(requester).is_some(),
        };
        ensure(consistent, || format!("{index:?}: {:?} works for {requester:?}, called by {caller:?}", callee.partition.name))?;
    }
    Ok(())
}

fn check_slot(partition: &Partition, slot: &Slot, pes: &[Pe<'_>]) -> Result<(), String> {
    let name = &partition.name;
    match &*slot.lock() {
        State::OnPe(at) => {
            let holders = |pe: &&Pe<'_>| pe.index == *at && on_pe(pe).any(|running| core::ptr::eq(running.slot, slot));
            ensure(pes.iter().filter(holders).count() == 1, || lost(name, *at))
        }
        State::Stopped(ctx) => {
            ensure(partition.is_stopped(), || format!("{name:?}: a context is stopped, the partition is not"))?;
            ensure(ctx.x.iter().all(|x| *x == 0), || format!("{name:?}: a stopped context kept its registers"))
        }
        State::Suspended { model, .. } => {
            ensure(*model != Model::Init, || format!("{name:?}: its initialisation was suspended"))
        }
        State::Waiting(ctx) | State::Off(ctx) => {
            ensure(ctx.stage2 == partition.roots, || format!("{name:?}: foreign stage-2 roots"))
        }
    }
}

fn lost(name: &str, at: PeIndex) -> String {
    format!("{name:?}: a context is on {at:?}, which does not have it")
}
