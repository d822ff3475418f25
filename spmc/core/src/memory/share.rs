//! Shares: what was shared, lent or donated, by whom to whom, and how far each borrower is.
//!
//! ```text
//!            send, first fragment          last fragment
//!     (none) --------------------> Sending -------------> Open --> (none)
//!                                     |                    | reclaim, by the owner, when no borrower has it;
//!                                     | error, reclaim     | or the end of a donation, when its receiver has it
//!                                     v
//!                                  (none)
//! ```
//! Each borrower of an open share has it or has it not: retrieve and relinquish, as often as it likes.

use alloc::vec::Vec;

use tantalum_stage2::TableMemory;

use crate::{
    abi::FfaError,
    addr::{PAGE_SHIFT, PageRange, PhysAddr},
    id::EndpointId,
    memory::{
        descriptor::Block,
        permission::{Granted, Kind, Memory},
        store::{Cursor, Words},
    },
};

pub(super) use crate::memory::store::Full;

/// Words that a borrower takes in [`Share::words`].
const BORROWER_WORDS: u32 = 3;
/// Bits of a range's word that hold its number of pages.
const COUNT_BITS: u32 = 28;
/// Handles hold the place of their share in these bits.
const INDEX_BITS: u32 = 16;

/// A borrower, and how far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Borrower {
    pub(super) id: EndpointId,
    /// The permissions that the sender gave.
    pub(super) sent: u8,
    /// It has the memory, with these permissions.
    pub(super) retrieved: Option<Granted>,
    /// It has had the memory before.
    pub(super) again: bool,
    /// The range to begin the next fragment of the response with; 0 when the response is complete.
    pub(super) next: u32,
}

impl Borrower {
    const RETRIEVED: u64 = 1 << 24;
    const AGAIN: u64 = 1 << 25;

    fn encode(self) -> u64 {
        let granted = self
            .retrieved
            .map_or(0, |granted| Self::RETRIEVED | u64::from(granted.encode()) << 26);
        let again = if self.again { Self::AGAIN } else { 0 };
        let fixed = u64::from(self.id.as_u16()) | u64::from(self.sent) << 16;
        fixed | granted | again | u64::from(self.next) << 32
    }

    #[expect(clippy::cast_possible_truncation, reason = "fields are cut out")]
    fn decode(word: u64) -> Self {
        Self {
            id: EndpointId::new(word as u16),
            sent: (word >> 16) as u8,
            retrieved: (word & Self::RETRIEVED != 0).then_some(Granted::of((word >> 26) as u8 & 0xf)),
            again: word & Self::AGAIN != 0,
            next: (word >> 32) as u32,
        }
    }
}

/// What is still to come of the descriptor of a share that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sending {
    /// Constituents.
    pub(super) constituents: u32,
    /// Pages in them.
    pub(super) pages: u64,
    /// Bytes that have come.
    pub(super) received: u32,
}

/// A share.
///
/// Invariants: `words` holds [`BORROWER_WORDS`] words for each of `borrowers`, then one word a range; the ranges are claimed
/// of the owner, in ascending order only if the owner sent them so, and no two have a page in common. `retrieved` is the
/// number of borrowers that have the memory, 0 while it is being sent.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) owner: EndpointId,
    /// To whose account it goes: the owner's, or that of the receiver of a donation once it has the memory.
    payer: EndpointId,
    pub(super) kind: Kind,
    pub(super) flags: u32,
    pub(super) tag: u64,
    /// What the memory is, once there is a range.
    pub(super) memory: Option<Memory>,
    /// What is still to come, or `None` when the share is open.
    pub(super) sending: Option<Sending>,
    pub(super) borrowers: u32,
    pub(super) retrieved: u32,
    /// Pages in all ranges.
    pub(super) pages: u64,
    /// To be zeroed when the last borrower that has it relinquishes.
    pub(super) clear_relinquish: bool,
    /// The owner is gone: to be forgotten when the last borrower relinquishes.
    pub(super) orphan: bool,
    /// As [`Borrower::next`], for the hypervisor's retrieve request.
    pub(super) hypervisor_next: u32,
    /// Where the last range ends; 0 while there is none.
    end: u64,
    words: Words,
}

impl Share {
    pub(super) const fn new(owner: EndpointId, kind: Kind, flags: u32, tag: u64) -> Self {
        Self {
            owner,
            payer: owner,
            kind,
            flags,
            tag,
            memory: None,
            sending: None,
            borrowers: 0,
            retrieved: 0,
            pages: 0,
            clear_relinquish: false,
            orphan: false,
            hypervisor_next: 0,
            end: 0,
            words: Words::new(),
        }
    }

    /// It is a donation that its receiver has got: the memory is the owner's no more.
    pub(super) fn is_given(&self) -> bool {
        self.kind == Kind::Donate && self.retrieved != 0
    }

    /// Pages of table memory that it takes.
    pub(super) const fn store_pages(&self) -> u32 {
        self.words.pages()
    }

    /// Adds a borrower. All come before the first range.
    pub(super) fn add_borrower<M: TableMemory>(
        &mut self,
        memory: &mut M,
        id: EndpointId,
        sent: u8,
        passed: Block,
        budget: &mut u32,
    ) -> Result<(), Full> {
        let borrower = Borrower {
            id,
            sent,
            retrieved: None,
            again: false,
            next: 0,
        };
        let [first, second] = passed;
        for word in [borrower.encode(), first, second] {
            self.words.push(memory, word, budget)?;
        }
        self.borrowers = self.borrowers.wrapping_add(1);
        Ok(())
    }

    /// A borrower by its place, which is below the number of borrowers.
    pub(super) fn borrower<M: TableMemory>(&self, memory: &M, place: u32) -> Option<Borrower> {
        let index = place.wrapping_mul(BORROWER_WORDS);
        self.words.get(memory, index).map(Borrower::decode)
    }

    /// What the sender passes on to a borrower.
    pub(super) fn passed<M: TableMemory>(&self, memory: &M, place: u32) -> Block {
        let mut cursor = self
            .words
            .at(memory, place.wrapping_mul(BORROWER_WORDS).wrapping_add(1));
        let mut word = || cursor.next(memory, &self.words).unwrap_or(0);
        [word(), word()]
    }

    /// Writes back a borrower that has changed.
    pub(super) fn set_borrower<M: TableMemory>(&mut self, memory: &mut M, place: u32, borrower: Borrower) {
        self.words
            .set(memory, place.wrapping_mul(BORROWER_WORDS), borrower.encode());
    }

    /// The borrower with an id, and its place.
    #[inline]
    pub(super) fn find<M: TableMemory>(&self, memory: &M, id: EndpointId) -> Option<(u32, Borrower)> {
        (0..self.borrowers).find_map(|place| Some((place, self.borrower(memory, place).filter(|b| b.id == id)?)))
    }

    /// Adds ranges, as many as there is room for; one that goes on where the last one ends is taken together with it. Returns
    /// the number of those that were added. When that is not all of them the share is good for nothing but to be undone.
    pub(super) fn add_ranges<M: TableMemory>(&mut self, memory: &mut M, ranges: &[Range], budget: &mut u32) -> usize {
        let mut added = 0_usize;
        while let Some(rest) = ranges.get(added..).filter(|rest| !rest.is_empty()) {
            // As many as don't join the one before, all at once.
            let (mut end, mut pages, mut apart) = (self.end, 0_u64, 0_usize);
            for range in rest {
                if range.address() == end {
                    break;
                }
                end = range.end();
                pages = pages.wrapping_add(range.pages());
                apart = apart.wrapping_add(1);
            }
            if apart != 0 {
                let rest = rest.get(..apart).unwrap_or_default();
                let pushed = self.words.extend(memory, rest, budget);
                added = added.wrapping_add(pushed);
                self.pages = self.pages.saturating_add(pages);
                self.end = end;
                if pushed < apart {
                    break;
                }
            } else if let Some(range) = rest.first() {
                if !self.join(memory, *range) && self.words.push(memory, range.0, budget).is_err() {
                    break;
                }
                self.end = range.end();
                self.pages = self.pages.saturating_add(range.pages());
                added = added.wrapping_add(1);
            }
        }
        added
    }

    /// Lengthens the last range, which ends where `range` begins, unless it gets too long by that.
    fn join<M: TableMemory>(&mut self, memory: &mut M, range: Range) -> bool {
        let last = if self.ranges() == 0 {
            None
        } else {
            self.words.last(memory).map(Range)
        };
        let joined = last.and_then(|last| Range::new(last.address(), last.pages().saturating_add(range.pages())));
        if let Some(joined) = joined {
            self.words.replace_last(memory, joined.0);
        }
        joined.is_some()
    }

    /// Number of ranges.
    pub(super) const fn ranges(&self) -> u32 {
        self.words
            .len()
            .saturating_sub(self.borrowers.saturating_mul(BORROWER_WORDS))
    }

    /// The ranges from one on, in the order in which they were sent.
    pub(super) fn ranges_from<M: TableMemory>(&self, memory: &M, first: u32) -> Ranges {
        let index = self.borrowers.wrapping_mul(BORROWER_WORDS).saturating_add(first);
        Ranges {
            cursor: self.words.at(memory, index),
            ahead: [0; AHEAD],
            place: 0,
            filled: 0,
        }
    }

    /// Whether some range has a page in common with `range`. Looks at all of them.
    pub(super) fn overlaps<M: TableMemory>(&self, memory: &M, range: Range) -> bool {
        let mut ranges = self.ranges_from(memory, 0);
        core::iter::from_fn(|| ranges.next(memory, self))
            .any(|other| other.address() < range.end() && range.address() < other.end())
    }

    /// Gives back what it takes.
    pub(super) fn free<M: TableMemory>(self, memory: &mut M) {
        self.words.free(memory);
    }
}

/// Words that are read at a time.
const AHEAD: usize = 32;

/// The ranges of a share, read one after the other.
#[derive(Debug)]
pub(super) struct Ranges {
    cursor: Cursor,
    /// What was read ahead, and how far it was used.
    ahead: [u64; AHEAD],
    place: usize,
    filled: usize,
}

impl Ranges {
    #[inline(always)]
    pub(super) fn next<M: TableMemory>(&mut self, memory: &M, share: &Share) -> Option<Range> {
        if self.place >= self.filled {
            self.filled = self.cursor.read(memory, &share.words, &mut self.ahead);
            self.place = 0;
        }
        let word = self.ahead.get(self.place).filter(|_| self.filled != 0)?;
        self.place = self.place.wrapping_add(1);
        Some(Range(*word))
    }

    /// The ranges of one page that come next and were read ahead, as their addresses.
    pub(super) fn pages_ahead(&self) -> impl Iterator<Item = u64> + '_ {
        let ahead = self.ahead.get(self.place..self.filled).unwrap_or_default();
        ahead
            .iter()
            .map_while(|word| (Range(*word).pages() == 1).then_some(Range(*word).address()))
    }

    /// Goes on behind so many ranges that were read ahead.
    pub(super) fn skip(&mut self, count: usize) {
        self.place = self.place.wrapping_add(count);
    }
}

/// A range of pages in one word: the number of its first page, and how many there are. Below 2^48, as whoever made it has
/// checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::memory) struct Range(u64);

impl From<Range> for u64 {
    fn from(range: Range) -> Self {
        range.0
    }
}

impl Range {
    /// No pages.
    pub(super) const NONE: Self = Self(0);

    /// `None` when there are too many pages. Both must have been checked.
    #[inline(always)]
    pub(super) const fn new(address: u64, pages: u64) -> Option<Self> {
        if pages >> COUNT_BITS != 0 {
            return None;
        }
        Some(Self((address >> PAGE_SHIFT) << COUNT_BITS | pages))
    }

    /// A range that was checked.
    ///
    /// # Errors
    /// `Denied` for one of too many pages to be anybody's.
    pub(super) fn of(range: &PageRange) -> Result<Self, FfaError> {
        Self::new(range.base().as_u64(), range.pages()).ok_or(FfaError::Denied)
    }

    /// The first address.
    #[inline(always)]
    pub(super) const fn address(self) -> u64 {
        (self.0 >> COUNT_BITS) << PAGE_SHIFT
    }

    /// Number of pages.
    #[inline(always)]
    pub(super) const fn pages(self) -> u64 {
        self.0 & ((1 << COUNT_BITS) - 1)
    }

    /// The first address behind it.
    #[inline(always)]
    pub(super) const fn end(self) -> u64 {
        self.address().wrapping_add(self.pages() << PAGE_SHIFT)
    }

    /// The same as a range that is safe to use anywhere.
    pub(super) fn checked(self) -> Option<PageRange> {
        PageRange::new(PhysAddr::new(self.address()), self.pages()).ok()
    }
}

/// How much there may be of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Shares at a time, 65,536 at most. Each takes about 200 bytes of heap, at boot.
    pub shares: u32,
    /// Pages of table memory for borrowers and ranges of all shares.
    pub pages: u32,
    /// Shares, and a like part of the pages, that the normal world can't take.
    pub reserved: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shares: 512,
            pages: 512,
            reserved: 64,
        }
    }
}

/// Bytes of heap that a share takes, whether there is one or not.
pub const SHARE_BYTES: usize = size_of::<Slot>() + size_of::<Account>();

/// What an owner has taken.
#[derive(Clone, Copy, Debug)]
struct Account {
    owner: EndpointId,
    shares: u32,
    pages: u32,
}

/// A place for a share.
#[derive(Debug)]
struct Slot {
    /// The handle of the share here, or 0.
    handle: u64,
    share: Option<Share>,
    /// The next free place, when this one is free. Behind the last one there is none.
    next: u32,
}

/// The place of the share that a handle is of.
const fn place_of(handle: u64) -> u32 {
    (handle & ((1 << INDEX_BITS) - 1)) as u32
}

/// All shares.
///
/// An owner may take as much as it leaves for all others: a first one gets half of everything, a second one a quarter. So
/// nobody is ever left with nothing, and an owner that is alone is not held short. For the normal world's, "everything" is
/// what it may take in all.
#[derive(Debug)]
pub(super) struct Shares {
    slots: Vec<Slot>,
    /// The first free place, as [`Slot::next`].
    free: u32,
    accounts: Vec<Account>,
    limits: Limits,
    taken: u32,
    taken_pages: u32,
    /// Of these, the normal world's.
    normal_world: u32,
    normal_world_pages: u32,
    /// Handles given out. No handle is given out twice.
    generation: u64,
}

impl Shares {
    /// Places for as many shares as `limits` say. Allocates on the heap.
    pub(super) fn new(limits: Limits) -> Self {
        let count = limits.shares.min(1 << INDEX_BITS);
        let mut slots = Vec::with_capacity(count as usize);
        for index in 0..count {
            slots.push(Slot {
                handle: 0,
                share: None,
                next: index.wrapping_add(1),
            });
        }
        Self {
            slots,
            free: 0,
            accounts: Vec::with_capacity(count as usize),
            limits: Limits {
                shares: count,
                ..limits
            },
            taken: 0,
            taken_pages: 0,
            normal_world: 0,
            normal_world_pages: 0,
            generation: 0,
        }
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Number of shares.
    pub(super) const fn len(&self) -> u32 {
        self.taken
    }

    fn account(&self, owner: EndpointId) -> Account {
        let known = self.accounts.iter().find(|account| account.owner == owner).copied();
        known.unwrap_or(Account {
            owner,
            shares: 0,
            pages: 0,
        })
    }

    /// Whether `owner` may have another share, and how many pages it may take for it.
    pub(super) fn admit(&self, owner: EndpointId) -> Result<u32, FfaError> {
        let account = self.account(owner);
        let mut free = self.limits.shares.saturating_sub(self.taken);
        if !owner.is_secure() {
            let part = self.limits.shares.saturating_sub(self.limits.reserved);
            free = free.min(part.saturating_sub(self.normal_world));
        }
        // Whoever has nothing gets the last place too.
        let fits = account.shares.saturating_add(2) <= free || account.shares == 0 && free > 0;
        if fits {
            Ok(self.budget_of(owner))
        } else {
            Err(FfaError::NoMemory)
        }
    }

    /// How many pages more `owner` may take.
    pub(super) fn budget_of(&self, owner: EndpointId) -> u32 {
        let Limits {
            shares,
            pages,
            reserved,
            ..
        } = self.limits;
        let mut free = pages.saturating_sub(self.taken_pages);
        if !owner.is_secure() {
            let kept = u64::from(pages)
                .saturating_mul(u64::from(reserved))
                .checked_div(u64::from(shares))
                .unwrap_or(0);
            let part = pages.saturating_sub(u32::try_from(kept).unwrap_or(u32::MAX));
            free = free.min(part.saturating_sub(self.normal_world_pages));
        }
        free.saturating_sub(self.account(owner).pages).div_ceil(2)
    }

    /// Takes a place, and a handle for it, for a share that [`Shares::admit`] has admitted. [`Shares::put`] is to follow.
    pub(super) fn take_place(&mut self) -> Option<u64> {
        let index = self.free;
        let slot = self.slots.get_mut(index as usize)?;
        self.generation = self.generation.wrapping_add(1);
        let handle = self.generation << INDEX_BITS | u64::from(index);
        self.free = slot.next;
        slot.handle = handle;
        self.taken = self.taken.saturating_add(1);
        Some(handle)
    }

    fn slot(&mut self, handle: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(place_of(handle) as usize)
            .filter(|slot| slot.handle == handle)
    }

    /// The share with a handle.
    #[inline]
    pub(super) fn get(&mut self, handle: u64) -> Option<&mut Share> {
        self.slot(handle)?.share.as_mut()
    }

    /// Takes a share out.
    pub(super) fn remove(&mut self, handle: u64) -> Option<Share> {
        let share = self.take_out(handle)?;
        self.vacate(handle);
        Some(share)
    }

    /// Takes a share out for a change of what it stores; its place stays its own. [`Shares::put`] is to follow.
    pub(super) fn take_out(&mut self, handle: u64) -> Option<Share> {
        let share = self.slot(handle)?.share.take()?;
        self.refund(share.payer, 1, share.store_pages());
        Some(share)
    }

    /// A share goes to the account of `payer` from now on.
    pub(super) fn transfer(&mut self, handle: u64, payer: EndpointId) {
        if let Some(share) = self.take_out(handle) {
            self.put(handle, Some(Share { payer, ..share }));
        }
    }

    /// Puts a share into the place of its handle; without one, the place becomes free.
    pub(super) fn put(&mut self, handle: u64, share: Option<Share>) {
        if let Some(share) = share {
            self.charge(share.payer, 1, share.store_pages());
            if let Some(slot) = self.slot(handle) {
                slot.share = Some(share);
            }
        } else {
            self.vacate(handle);
        }
    }

    /// Frees the place of a handle, which has no share any more.
    fn vacate(&mut self, handle: u64) {
        let free = self.free;
        let Some(slot) = self.slot(handle) else { return };
        slot.handle = 0;
        slot.next = free;
        self.free = place_of(handle);
        self.taken = self.taken.saturating_sub(1);
    }

    /// `owner` has taken shares and pages more.
    fn charge(&mut self, owner: EndpointId, shares: u32, pages: u32) {
        self.taken_pages = self.taken_pages.saturating_add(pages);
        if !owner.is_secure() {
            self.normal_world = self.normal_world.saturating_add(shares);
            self.normal_world_pages = self.normal_world_pages.saturating_add(pages);
        }
        if let Some(account) = self.accounts.iter_mut().find(|account| account.owner == owner) {
            account.shares = account.shares.saturating_add(shares);
            account.pages = account.pages.saturating_add(pages);
        } else {
            // Allocates nothing: nobody is here without a share, and there is room for as many as there can be shares.
            self.accounts.push(Account { owner, shares, pages });
        }
    }

    /// `owner` has given shares and pages back.
    fn refund(&mut self, owner: EndpointId, shares: u32, pages: u32) {
        self.taken_pages = self.taken_pages.saturating_sub(pages);
        if !owner.is_secure() {
            self.normal_world = self.normal_world.saturating_sub(shares);
            self.normal_world_pages = self.normal_world_pages.saturating_sub(pages);
        }
        let Some(place) = self.accounts.iter().position(|account| account.owner == owner) else {
            return;
        };
        if let Some(account) = self.accounts.get_mut(place) {
            account.shares = account.shares.saturating_sub(shares);
            account.pages = account.pages.saturating_sub(pages);
            if account.shares == 0 {
                self.accounts.swap_remove(place);
            }
        }
    }

    /// Handles of all shares, in no order.
    pub(super) fn handle_at(&self, place: u32) -> Option<u64> {
        let slot = self.slots.get(place as usize)?;
        slot.share.as_ref().map(|_| slot.handle)
    }

    /// All shares with their handles.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Share)> {
        self.slots
            .iter()
            .filter_map(|slot| Some((slot.handle, slot.share.as_ref()?)))
    }
}

#[cfg(test)]
#[path = "share_tests.rs"]
mod tests;
