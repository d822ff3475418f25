//! What must hold between any two steps, whatever partitions and the normal world do.

mod pages;

use alloc::{format, string::String};

use crate::{
    abi::Target,
    addr::World,
    context::Context,
    id::{EndpointId, PeIndex},
    mailbox::Buffers,
    manifest::partition::NsInterruptsAction,
    partition::{Health, Multiplicity, Partition},
    power::compatible,
    scheduling::masks_interrupts,
    spmc::{Pe, Running, Spmc},
    vcpu::{Framework, Model, Slot, State},
    watch::NO_LIMIT,
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
        check_mailboxes(self)?;
        for (index, partition) in self.partitions().iter().enumerate() {
            for other in self.partitions().iter().take(index) {
                check_apart(partition, other)?;
            }
            check_partition(self, partition)?;
            for (vcpu, slot) in partition.slots.iter().enumerate() {
                check_slot(partition, vcpu, slot, pes)?;
            }
        }
        Ok(())
    }
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

impl Pe<'_> {
    /// The limit of the time that is counted on the PE; [`NO_LIMIT`] when none is.
    #[must_use]
    pub fn time_limit(&self) -> u64 {
        let holds = |running: &Running<'_>| running.holding().map(|holding| running.limit(holding));
        on_pe(self).find_map(holds).unwrap_or(NO_LIMIT)
    }
}

/// Contexts on a PE: running first, then its callers from the innermost out.
fn on_pe<'p, 's>(pe: &'p Pe<'s>) -> impl Iterator<Item = &'p Running<'s>> {
    pe.running.iter().chain(pe.chain.iter().rev())
}

fn check_pe(spmc: &Spmc, pe: &Pe<'_>) -> Result<(), String> {
    let index = pe.index;
    ensure(pe.running.is_some() || pe.chain.is_empty(), || {
        format!("{index:?}: callers wait, but nothing runs")
    })?;
    ensure(pe.chain.len() <= spmc.partitions().len(), || {
        format!("{index:?}: the call chain is too long")
    })?;
    let outermost = on_pe(pe).last();
    let initialises = outermost.is_some_and(|running| running.model == Model::Init);
    // A partition that may be started afresh is so on whatever PE it has left, whatever that does besides.
    let afresh = |running: &Running<'_>| running.model == Model::Init && running.partition.restart.is_some();
    let starts_afresh = on_pe(pe).any(afresh);
    ensure(initialises == pe.booting.is_some() || starts_afresh, || {
        format!("{index:?}: comes up, or not: {:?}", pe.booting)
    })?;
    for (depth, running) in on_pe(pe).enumerate() {
        ensure(depth == 0 || running.ctx.live == 0, || {
            format!(
                "{index:?}: {:?} waits for a callee and was not parked",
                running.partition.name
            )
        })?;
        let called = outermost.is_some_and(|outermost| !core::ptr::eq(outermost, running));
        ensure(
            !called || matches!(running.model, Model::DirectRequest { .. } | Model::SecureInterrupt) || afresh(running),
            || {
                format!(
                    "{index:?}: {:?} was called to {:?}",
                    running.partition.name, running.model
                )
            },
        )?;
        let again = on_pe(pe)
            .skip(depth.saturating_add(1))
            .any(|other| core::ptr::eq(other.slot, running.slot));
        ensure(!again, || {
            format!("{index:?}: {:?} is twice on the call chain", running.partition.name)
        })?;
        ensure(matches!(*running.slot.lock(), State::OnPe(at) if at == index), || {
            format!(
                "{index:?}: {:?} runs, but its slot says otherwise",
                running.partition.name
            )
        })?;
        ensure(running.partition.vcpu_on(index) == running.vcpu, || {
            format!("{index:?}: {:?} runs a context of another PE", running.partition.name)
        })?;
        ensure(running.ctx.stage2 == running.partition.roots, || {
            format!(
                "{index:?}: {:?} has another partition's stage-2 roots",
                running.partition.name
            )
        })?;
    }
    let relayed = |running: &Running<'_>| matches!(running.model, Model::Framework(Framework::Power));
    ensure(
        pe.relay.is_some() == on_pe(pe).last().is_some_and(relayed) || starts_afresh,
        || format!("{index:?}: a power message is under way and nobody has it, or the other way round"),
    )?;
    for (depth, running) in on_pe(pe).enumerate() {
        let limits = running.partition.time_limits;
        let bounded = limits.queued != NO_LIMIT && limits.firmware != NO_LIMIT;
        let counted = |running: &Running<'_>| {
            running.holding().is_some() || running.partition.ns_interrupts == NsInterruptsAction::Queued
        };
        ensure(
            !running.ctx.mask_ns_interrupts || !bounded || on_pe(pe).skip(depth).any(counted),
            || format!("{index:?}: nobody counts the time of {:?}", running.partition.name),
        )?;
    }
    let mut chain = on_pe(pe).peekable();
    while let Some(callee) = chain.next() {
        let masked = chain.peek().is_some_and(|caller| caller.ctx.mask_ns_interrupts);
        let expected = callee.model == Model::Init || masks_interrupts(callee.partition, callee.model, masked);
        let exits = callee.ctx.mask_ns_interrupts && callee.partition.ns_interrupts == NsInterruptsAction::ManagedExit;
        ensure(callee.ctx.mask_ns_interrupts == expected || exits, || {
            format!(
                "{index:?}: interrupts are masked for {:?}: {}",
                callee.partition.name, !expected
            )
        })?;
        let as_due = callee.model == Model::SecureInterrupt;
        ensure(
            callee.preempts == as_due || callee.preempts && callee.model == Model::Init,
            || format!("{index:?}: {:?} runs on top of another, or not", callee.partition.name),
        )?;
        let Model::DirectRequest { requester, .. } = callee.model else {
            continue;
        };
        let caller = chain.peek().map(|caller| caller.partition.endpoint());
        let consistent = match caller {
            Some(caller) => requester == caller,
            // The normal world may bring to its end what a context has asked for that is gone: its partition was
            // stopped, or its PE turned off.
            None => !requester.is_secure() || requester.is_el3_logical() || spmc.find(requester).is_some(),
        };
        ensure(consistent, || {
            format!(
                "{index:?}: {:?} works for {requester:?}, called by {caller:?}",
                callee.partition.name
            )
        })?;
    }
    Ok(())
}

/// Two partitions have nothing in common.
fn check_apart(one: &Partition, other: &Partition) -> Result<(), String> {
    let (name, than) = (&one.name, &other.name);
    ensure(one.id != other.id, || format!("{name:?} and {than:?} have the same id"))?;
    ensure(one.roots.vmid != other.roots.vmid, || {
        format!("{name:?} and {than:?} have the same VMID")
    })?;
    let roots = [other.roots.secure, other.roots.non_secure];
    ensure(
        !roots.contains(&one.roots.secure) && !roots.contains(&one.roots.non_secure),
        || format!("{name:?} and {than:?} share a translation table"),
    )?;
    ensure(!one.memory.overlaps(&other.memory), || {
        format!("{name:?} and {than:?} share memory")
    })
}

fn check_partition(spmc: &Spmc, partition: &Partition) -> Result<(), String> {
    let name = &partition.name;
    let contexts = match partition.multiplicity {
        Multiplicity::Pinned => spmc.cpus().len(),
        Multiplicity::Migratable => 1,
    };
    ensure(partition.slots.len() == contexts, || {
        format!("{name:?}: {} contexts", partition.slots.len())
    })?;
    ensure(partition.roots.vmid != 0, || format!("{name:?}: no VMID"))?;
    ensure(!partition.memory.overlaps(&spmc.memory), || {
        format!("{name:?}: shares memory with the SPMC")
    })?;
    ensure(
        compatible(u32::from(partition.version())) == Some(partition.version()),
        || format!("{name:?}: FF-A version {}", partition.version()),
    )
}

/// Buffers are pairs, in the world they should be in; a stopped partition has none. Pending notifications are bound.
fn check_mailboxes(spmc: &Spmc) -> Result<(), String> {
    let pair = |owner: EndpointId, buffers: &Buffers| {
        let fits = buffers.rx.pages() == buffers.tx.pages() && !buffers.rx.overlaps(&buffers.tx);
        let world = owner.is_secure() || buffers.world == World::NonSecure;
        let foreign = [&buffers.rx, &buffers.tx]
            .into_iter()
            .any(|range| spmc.memory.overlaps(range));
        ensure(fits && world && !foreign, || format!("{owner:?}: {buffers:?}"))
    };
    for partition in spmc.partitions() {
        if let Some(buffers) = &*partition.mailbox.lock() {
            pair(partition.endpoint(), buffers)?;
        }
        let consistent = partition
            .notifications
            .as_ref()
            .is_none_or(|state| state.lock().is_consistent());
        ensure(consistent, || format!("{:?}: notifications", partition.name))?;
    }
    if let Some(buffers) = &*spmc.normal_world_mailbox.lock() {
        pair(EndpointId::NWD, buffers)?;
    }
    let vms = spmc.vm_mailboxes.lock();
    for (place, (id, buffers)) in vms.iter().enumerate() {
        pair(*id, buffers)?;
        let unique = vms.iter().skip(place.saturating_add(1)).all(|(other, _)| other != id);
        ensure(unique && !id.is_secure() && *id != EndpointId::NWD, || {
            format!("{id:?}: not a VM, or twice")
        })?;
    }
    Ok(())
}

fn check_slot(partition: &Partition, vcpu: usize, slot: &Slot, pes: &[Pe<'_>]) -> Result<(), String> {
    let name = &partition.name;
    let kept = |ctx: &Context| {
        ensure(ctx.stage2 == partition.roots, || {
            format!("{name:?}: foreign stage-2 roots")
        })?;
        ensure(ctx.live == 0, || {
            format!("{name:?}: context {vcpu} was stored away without being parked")
        })
    };
    let started = || {
        ensure(partition.health() != Health::Starting, || {
            format!("{name:?}: runs, and never started")
        })
    };
    match &*slot.lock() {
        State::OnPe(at) => {
            let holders = |pe: &&Pe<'_>| pe.index == *at && on_pe(pe).any(|running| core::ptr::eq(running.slot, slot));
            ensure(pes.iter().filter(holders).count() == 1, || lost(name, *at))
        }
        State::Stopped(ctx) => {
            kept(ctx)?;
            ensure(partition.is_stopped(), || {
                format!("{name:?}: a context is stopped, the partition is not")
            })?;
            ensure(ctx.x.iter().all(|x| *x == 0), || {
                format!("{name:?}: a stopped context kept its registers")
            })
        }
        State::Suspended {
            ctx, model, resumer, ..
        } => {
            kept(ctx)?;
            started()?;
            let consistent = match *model {
                Model::Init | Model::SecureInterrupt => false,
                Model::Run => *resumer == Target::NORMAL_WORLD,
                // EL3's logical partitions wait for nothing but a response.
                Model::DirectRequest { requester, .. } if requester.is_secure() => {
                    !requester.is_el3_logical() && (*resumer == Target::NORMAL_WORLD || resumer.endpoint == requester)
                }
                Model::DirectRequest { .. } => *resumer == Target::NORMAL_WORLD,
                // A power message is not interrupted, the hypervisor's may be.
                Model::Framework(message) => *resumer == Target::NORMAL_WORLD && message != Framework::Power,
            };
            ensure(consistent, || {
                format!("{name:?}: suspended, {model:?}, to be resumed by {resumer:?}")
            })
        }
        State::Waiting(ctx) => {
            kept(ctx)?;
            started()
        }
        State::Off(ctx) => kept(ctx),
    }
}

fn lost(name: &str, at: PeIndex) -> String {
    format!("{name:?}: a context is on {at:?}, which does not have it")
}
