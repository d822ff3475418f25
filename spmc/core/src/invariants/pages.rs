//! Whose memory is.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use core::ops::ControlFlow;

use tantalum_stage2::{Entry, Ipa, IpaRange, Ownership, Run, Tables};

use super::ensure;
use crate::{
    addr::{PAGE_SHIFT, PageRange, PhysAddr, World},
    id::EndpointId,
    machine::TableMemory,
    manifest::spmc::MemoryKind,
    partition::Partition,
    spmc::Spmc,
};

/// Whose pages are, by world and address, and who has borrowed them.
#[derive(Default)]
struct Pages {
    owners: BTreeMap<(World, u64), EndpointId>,
    borrowed: BTreeSet<(World, u64, EndpointId)>,
    buffers: BTreeSet<(World, u64)>,
}

impl Spmc {
    /// Checks whose memory is: each page has one owner; what partitions have besides their own is what shares say; what is
    /// lent away or donated is not open to its owner; buffers are where mailboxes say; no partition has the SPMC's memory;
    /// the pages of the normal world that are not its alone are marked, and no others. Allocates: for tests.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_memory<M: TableMemory>(&self, memory: &M) -> Result<(), String> {
        let mut pages = Pages::default();
        let mut buffers = BTreeSet::new();
        for partition in self.partitions() {
            let tables = partition.tables.lock();
            for (tables, world) in [(&tables.secure, World::Secure), (&tables.non_secure, World::NonSecure)] {
                note_pages(self, memory, partition, tables, world, &mut pages)?;
            }
            if let Some(pair) = &*partition.mailbox.lock() {
                let addresses = pair.rx.page_addresses().chain(pair.tx.page_addresses());
                buffers.extend(addresses.map(|page| (pair.world, page.as_u64())));
            }
        }
        ensure(pages.buffers == buffers, || {
            format!("buffers are {buffers:x?}, pages marked so {:x?}", pages.buffers)
        })?;
        let said = self.shares.borrowed(memory);
        ensure(pages.borrowed == said, || {
            let wrong = pages.borrowed.symmetric_difference(&said).next();
            format!("{wrong:x?} is borrowed, or should be")
        })?;
        let vms = self.vm_mailboxes.lock();
        let pairs = vms
            .iter()
            .map(|(_, pair)| *pair)
            .chain(*self.normal_world_mailbox.lock());
        let held: Vec<PageRange> = pairs.flat_map(|pair| [pair.rx, pair.tx]).collect();
        let is_declared = |address: u64| {
            let normal_world = [MemoryKind::NsMemory, MemoryKind::NsDeviceMemory];
            self.declared
                .iter()
                .any(|ram| normal_world.contains(&ram.kind) && ram.range.contains(PhysAddr::new(address)))
        };
        let kept = pages
            .owners
            .keys()
            .filter(|(world, address)| *world == World::NonSecure && is_declared(*address));
        let kept = u64::try_from(kept.count()).unwrap_or(u64::MAX);
        self.shares.check_invariants(memory, self, &held, kept)
    }
}

/// Notes what a partition has in one of its spaces.
fn note_pages<M: TableMemory>(
    spmc: &Spmc,
    memory: &M,
    partition: &Partition,
    tables: &Tables,
    world: World,
    pages: &mut Pages,
) -> Result<(), String> {
    let (name, id) = (&partition.name, partition.endpoint());
    let whole = IpaRange::new(Ipa(0), tables.ipa_size().limit().0 >> PAGE_SHIFT);
    let mut result = Ok(());
    let visit = |run: Run| {
        let (output, attributes, open) = match run.entry {
            Entry::Mapped(output, attributes) => (output, attributes, true),
            Entry::Suspended(output, attributes) => (output, attributes, false),
            Entry::Empty(_) => return ControlFlow::Continue(()),
        };
        // What is nobody's is what the SPMC itself maps for partitions at S-EL0.
        if attributes.ownership() == Ownership::None {
            return ControlFlow::Continue(());
        }
        let range = PageRange::from_bytes(PhysAddr::new(output.0), run.range.bytes());
        result = (|| {
            let range = range.map_err(|_| format!("{name:?}: {run:x?}"))?;
            ensure(output.0 == run.range.start().0, || {
                format!("{name:?}: {run:x?} is elsewhere")
            })?;
            ensure(!range.overlaps(&spmc.memory), || {
                format!("{name:?} has memory of the SPMC: {range}")
            })?;
            let expected = !matches!(attributes.ownership(), Ownership::Lent | Ownership::Donated);
            ensure(open == expected, || format!("{name:?}: {run:x?} is open: {open}"))?;
            for page in range.page_addresses() {
                let page = page.as_u64();
                match attributes.ownership() {
                    Ownership::Borrowed => {
                        pages.borrowed.insert((world, page, id));
                        continue;
                    }
                    // Of several, by their manifests.
                    Ownership::Device => continue,
                    Ownership::Buffer => {
                        pages.buffers.insert((world, page));
                    }
                    _ => {}
                }
                let before = pages.owners.insert((world, page), id);
                ensure(before.is_none(), || format!("{page:#x} is {name:?}'s and {before:?}'s"))?;
            }
            Ok(())
        })();
        if result.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    if let Some(whole) = whole {
        let _ = tables.walk(memory, whole, visit);
    }
    result
}
