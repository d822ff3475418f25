//! What must hold of shares and pages between any two calls.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
};

use tantalum_stage2::{Entry, Ipa, Ownership};

use super::{
    MemoryManager, State,
    permission::Kind,
    plan::{Partitions, Space},
    share::{Range, Share},
};
use crate::{
    addr::{PAGE_SIZE, PageRange, World},
    id::EndpointId,
    machine::TableMemory,
};

/// Whose page it is, by world and address.
type Pages = BTreeMap<(World, u64), EndpointId>;

impl MemoryManager {
    /// Checks the invariants: every page is in one share at most; what its owner and each borrower have of it is what the
    /// share says; as many pages of the normal world are marked as are in its shares, `held` ranges, and `kept` pages that it
    /// has donated or that are a partition's. Allocates: for tests.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub fn check_invariants<M: TableMemory, P: Partitions>(
        &self,
        memory: &M,
        partitions: &P,
        held: &[PageRange],
        kept: u64,
    ) -> Result<(), String> {
        let state = &*self.state.lock();
        let mut pages = Pages::new();
        let mut marked = held.iter().map(PageRange::pages).fold(kept, u64::saturating_add);
        for (handle, share) in state.shares.iter() {
            check_share(memory, partitions, share, &mut pages).map_err(|what| format!("share {handle:#x}: {what}"))?;
            // The mark of a page that was given away stays.
            let gone = share.kind == Kind::Donate && share.retrieved != 0;
            if !share.owner.is_secure() && !gone {
                marked = marked.saturating_add(share.pages);
            }
        }
        check_marks(memory, state, marked)
    }

    /// Pages that borrowers have, as the shares say. Allocates: for tests.
    pub(crate) fn borrowed<M: TableMemory>(&self, memory: &M) -> BTreeSet<(World, u64, EndpointId)> {
        let state = &*self.state.lock();
        let mut pages = BTreeSet::new();
        for (_, share) in state.shares.iter().filter(|(_, share)| share.kind != Kind::Donate) {
            let world = share.memory.map_or(World::NonSecure, |memory| memory.world);
            let borrowers = (0..share.borrowers).filter_map(|place| share.borrower(memory, place));
            for borrower in borrowers.filter(|borrower| borrower.retrieved.is_some()) {
                let mut ranges = share.ranges_from(memory, 0);
                while let Some(range) = ranges.next(memory, share).and_then(Range::checked) {
                    pages.extend(range.page_addresses().map(|page| (world, page.as_u64(), borrower.id)));
                }
            }
        }
        pages
    }

    /// Pages of table memory that shares and marks take.
    #[cfg(any(test, feature = "fake"))]
    pub fn table_pages(&self) -> usize {
        let state = &*self.state.lock();
        let stored: u32 = state
            .shares
            .iter()
            .map(|(_, share)| share.store_pages())
            .fold(0, u32::saturating_add);
        state.map.pages().saturating_add(stored as usize)
    }
}

fn check_marks<M: TableMemory>(memory: &M, state: &State, expected: u64) -> Result<(), String> {
    let everything = PageRange::from_bytes(crate::addr::PhysAddr::new(0), crate::addr::ADDRESS_LIMIT);
    let found = everything.map_or(0, |range| state.map.marked(memory, &range));
    ensure(found == expected, || {
        format!("{found} pages of the normal world are marked, expected {expected}")
    })
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn check_share<M: TableMemory, P: Partitions>(
    memory: &M,
    partitions: &P,
    share: &Share,
    pages: &mut Pages,
) -> Result<(), String> {
    let gone = share.kind == Kind::Donate && share.retrieved != 0;
    let mut total = 0_u64;
    let mut ranges = share.ranges_from(memory, 0);
    while let Some(range) = ranges.next(memory, share).and_then(Range::checked) {
        total = total.saturating_add(range.pages());
        for address in range.page_addresses() {
            if gone {
                // Its new owner may have passed it on before it has fetched the whole response.
                continue;
            }
            let world = share.memory.map_or(World::NonSecure, |memory| memory.world);
            let before = pages.insert((world, address.as_u64()), share.owner);
            ensure(before.is_none(), || format!("page {address} is in another share too"))?;
            check_page(memory, partitions, share, world, address.as_u64())?;
        }
    }
    ensure(total == share.pages, || {
        format!("{total} pages in its ranges, {} counted", share.pages)
    })?;
    let retrieved = (0..share.borrowers)
        .filter_map(|place| share.borrower(memory, place))
        .filter(|b| b.retrieved.is_some());
    let retrieved = retrieved.count();
    ensure(u32::try_from(retrieved) == Ok(share.retrieved), || {
        format!("{retrieved} borrowers have it")
    })?;
    ensure(share.sending.is_none() || share.retrieved == 0, || {
        String::from("retrieved before it was sent")
    })
}

/// What the owner and each borrower have of a page.
fn check_page<M: TableMemory, P: Partitions>(
    memory: &M,
    partitions: &P,
    share: &Share,
    world: World,
    address: u64,
) -> Result<(), String> {
    let entry = |space: Space<'_>| {
        let tables = space.tables.lock();
        let tables = if world == World::Secure {
            &tables.secure
        } else {
            &tables.non_secure
        };
        (
            tables.entry(memory, Ipa(address)),
            tables.translate(memory, Ipa(address)).is_some(),
        )
    };
    if let Some(space) = partitions.space(share.owner) {
        let (found, open) = entry(space);
        let state = match found {
            Entry::Empty(state) => state,
            Entry::Mapped(_, attributes) | Entry::Suspended(_, attributes) => attributes.ownership(),
        };
        let (expected, access) = match share.kind {
            _ if share.sending.is_some() => (Ownership::Shared, true),
            Kind::Share => (Ownership::Shared, true),
            Kind::Lend => (Ownership::Lent, false),
            Kind::Donate => (Ownership::Donated, false),
        };
        ensure((state, open) == (expected, access), || {
            format!("page {address:#x} is {found:?} at its owner")
        })?;
    }
    for borrower in (0..share.borrowers).filter_map(|place| share.borrower(memory, place)) {
        let Some(space) = partitions.space(borrower.id) else {
            continue;
        };
        let (found, _) = entry(space);
        let right = match (found, borrower.retrieved) {
            (Entry::Mapped(output, attributes), Some(granted)) => {
                let permissions = (attributes.access(), attributes.execute());
                output.0 == address && attributes.ownership() == Ownership::Borrowed && permissions == granted.stage2()
            }
            (Entry::Empty(_), None) => true,
            _ => false,
        };
        ensure(right, || format!("page {address:#x} is {found:?} at {:?}", borrower.id))?;
    }
    debug_assert!(address.is_multiple_of(PAGE_SIZE));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::share::{Borrower, Sending};
    use tantalum_stage2::fake::FakeMemory;

    struct Nobody;

    impl Partitions for Nobody {
        fn space(&self, _: EndpointId) -> Option<Space<'_>> {
            None
        }
    }

    const VM: EndpointId = EndpointId::new(1);

    fn share(memory: &mut FakeMemory, change: impl FnOnce(&mut FakeMemory, &mut Share)) -> Share {
        let mut share = Share::new(VM, Kind::Share, 0, 0);
        share
            .add_borrower(memory, EndpointId::new(0x8001), 2, [0; 2], &mut 0)
            .unwrap();
        let range = Range::new(0x4000_0000, 2).unwrap();
        assert_eq!(share.add_ranges(memory, &[range], &mut 0), 1);
        change(memory, &mut share);
        share
    }

    fn retrieve(memory: &mut FakeMemory, share: &mut Share) {
        let borrower = share.borrower(memory, 0).unwrap();
        let granted = crate::memory::permission::Granted {
            write: true,
            execute: false,
        };
        let borrower = Borrower {
            retrieved: Some(granted),
            ..borrower
        };
        share.set_borrower(memory, 0, borrower);
        share.retrieved = 1;
    }

    #[test]
    fn a_share_must_agree_with_what_it_holds() {
        let mut memory = FakeMemory::new();
        let sending = Some(Sending {
            constituents: 1,
            pages: 1,
            received: 0,
        });
        let mut result = |change: &dyn Fn(&mut FakeMemory, &mut Share)| {
            let share = share(&mut memory, change);
            check_share(&memory, &Nobody, &share, &mut Pages::new()).err()
        };
        assert_eq!(result(&|_, _| {}), None);
        assert_eq!(result(&|_, share| share.sending = sending), None);
        assert_eq!(result(&retrieve), None);
        assert_eq!(
            result(&|_, share| share.pages = 3).unwrap(),
            "2 pages in its ranges, 3 counted"
        );
        assert_eq!(result(&|_, share| share.retrieved = 1).unwrap(), "0 borrowers have it");
        let early = result(&|memory, share| {
            retrieve(memory, share);
            share.sending = sending;
        });
        assert_eq!(early.unwrap(), "retrieved before it was sent");
    }

    #[test]
    fn a_page_must_be_in_one_share_only() {
        let mut memory = FakeMemory::new();
        let share = share(&mut memory, |_, _| {});
        let mut pages = Pages::new();
        assert_eq!(check_share(&memory, &Nobody, &share, &mut pages), Ok(()));
        assert!(check_share(&memory, &Nobody, &share, &mut pages).is_err());
    }
}
