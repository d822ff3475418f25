//! Which pages of the normal world are not the normal world's alone.
//!
//! The SPMC does not translate the normal world's accesses, and can't know which VM has which page: that is the
//! hypervisor's business. What it must know is which pages were shared, lent or donated, or are in use otherwise, so that
//! no page is passed on twice. That is one bit a page of the memory that the SPMC manifest declares as the normal world's,
//! in pages of 32,768 bits that are taken when the first page in their 128 MiB is marked, and kept: so that marks never
//! fail for want of memory once they were made, cost nothing for memory that is never passed on, and can't be used up by
//! an owner that scatters its shares.

use alloc::{vec, vec::Vec};

use tantalum_stage2::{TableAddr, TableMemory};

use crate::{
    abi::FfaError,
    addr::{PAGE_SHIFT, PageRange, World},
    memory::{permission::Memory, share::Range},
};

/// log2 of the number of bits in a page of bits.
const CHUNK_SHIFT: u32 = 15;
/// Bits in a word.
const WORD_BITS: u64 = 64;

/// A declared range, and the marks of its pages.
#[derive(Debug)]
struct Declared {
    range: PageRange,
    device: bool,
    /// Number of the first page of bits, counted from address 0.
    first_chunk: u64,
    chunks: Vec<Option<TableAddr>>,
}

/// The marks. See the module's documentation.
#[derive(Debug)]
pub(super) struct NormalWorldMap {
    declared: Vec<Declared>,
    recent: Recent,
}

/// The page of bits that was used last, and for which addresses it is: those of its 128 MiB that lie in one declared range.
/// Pages of bits are never given back, so that this stays true.
#[derive(Clone, Copy, Debug)]
struct Recent {
    start: u64,
    end: u64,
    device: bool,
    page: TableAddr,
}

impl Recent {
    #[inline(always)]
    fn has(&self, range: Range) -> bool {
        self.start <= range.address() && range.end() <= self.end
    }
}

/// Bits of one word: the page of bits, the word in it, the bits in that.
struct Bits {
    chunk: u64,
    word: usize,
    mask: u64,
}

impl NormalWorldMap {
    /// Marks for `declared` memory, none set. Ranges that touch are taken together. Allocates on the heap.
    pub(super) fn new(mut ranges: Vec<(PageRange, bool)>) -> Self {
        crate::sort::sort_by_key(&mut ranges, |(range, _)| range.base());
        let recent = Recent {
            start: 0,
            end: 0,
            device: false,
            page: TableAddr(0),
        };
        let mut map = Self {
            declared: Vec::new(),
            recent,
        };
        let mut merged: Option<(PageRange, bool)> = None;
        for (range, device) in ranges {
            merged = match merged {
                Some((last, kind)) if kind == device && range.base() <= last.end() => {
                    let end = last.end().max(range.end());
                    let bytes = end.offset_from(last.base()).unwrap_or(0);
                    Some((PageRange::from_bytes(last.base(), bytes).unwrap_or(last), kind))
                }
                other => {
                    map.declare(other);
                    Some((range, device))
                }
            };
        }
        map.declare(merged);
        map
    }

    fn declare(&mut self, range: Option<(PageRange, bool)>) {
        let Some((range, device)) = range else { return };
        let chunk = |address: u64| address >> (PAGE_SHIFT + CHUNK_SHIFT);
        let first_chunk = chunk(range.base().as_u64());
        let chunks = chunk(range.last().as_u64())
            .saturating_sub(first_chunk)
            .saturating_add(1);
        let chunks = vec![None; usize::try_from(chunks).unwrap_or(0)];
        self.declared.push(Declared {
            range,
            device,
            first_chunk,
            chunks,
        });
    }

    /// Marks `range`, none of which is marked, and says what it is.
    ///
    /// # Errors
    /// `Denied` when some of it is marked or was not declared; `NoMemory`.
    #[inline(never)]
    pub(super) fn claim<M: TableMemory>(&mut self, memory: &mut M, range: &PageRange) -> Result<Memory, FfaError> {
        let declared = self
            .declared
            .iter_mut()
            .find(|d| d.range.contains_range(range))
            .ok_or(FfaError::Denied)?;
        for Bits { chunk, word, mask } in bits(range) {
            let page = declared.take(memory, chunk)?;
            if memory.read_descriptor(page, word) & mask != 0 {
                return Err(FfaError::Denied);
            }
        }
        declared.change(memory, range, |old, mask| old | mask);
        let device = declared.device;
        self.recent = declared.around(range.last().as_u64()).unwrap_or(self.recent);
        Ok(describe(device))
    }

    /// Claims ranges in order, up to the first that can't be. See [`Estate::claim`](super::plan::Estate::claim).
    pub(super) fn claim_all<M: TableMemory>(
        &mut self,
        memory: &mut M,
        ranges: &[Range],
        known: &mut Option<Memory>,
    ) -> (usize, Result<(), FfaError>) {
        let mut claimed = 0_usize;
        loop {
            if known.is_some_and(|known| known.device == self.recent.device) {
                claimed = claimed.wrapping_add(self.claim_near(memory, ranges.get(claimed..).unwrap_or_default()));
            }
            let Some(range) = ranges.get(claimed) else {
                return (claimed, Ok(()));
            };
            let Some(pages) = range.checked() else {
                return (claimed, Err(FfaError::Denied));
            };
            match self.claim(memory, &pages) {
                Ok(found) if known.is_none_or(|known| known.device == found.device) => *known = Some(found),
                Ok(_) => {
                    self.release(memory, *range);
                    return (claimed, Err(FfaError::Denied));
                }
                Err(error) => return (claimed, Err(error)),
            }
            claimed = claimed.wrapping_add(1);
        }
    }

    /// Claims the first ranges, as many as lie in the page of bits that was used last, are in one word each, and not marked.
    /// Returns how many.
    fn claim_near<M: TableMemory>(&self, memory: &mut M, ranges: &[Range]) -> usize {
        let Recent { page, .. } = self.recent;
        let (mut word, mut bits, mut claimed) = (usize::MAX, 0, 0_usize);
        for range in ranges {
            let Some((place, mask)) = one_word(*range).filter(|_| self.recent.has(*range)) else {
                break;
            };
            if place != word {
                if word != usize::MAX {
                    memory.write_descriptor(page, word, bits);
                }
                (word, bits) = (place, memory.read_descriptor(page, place));
            }
            if bits & mask != 0 {
                break;
            }
            bits |= mask;
            claimed = claimed.wrapping_add(1);
        }
        if word != usize::MAX {
            memory.write_descriptor(page, word, bits);
        }
        claimed
    }

    /// Takes marks away.
    pub(super) fn release<M: TableMemory>(&mut self, memory: &mut M, range: Range) {
        if self.recent.has(range)
            && let Some((word, mask)) = one_word(range)
        {
            memory.update_descriptor(self.recent.page, word, |found| found & !mask);
            return;
        }
        let Some(range) = range.checked() else { return };
        if let Some(declared) = self.declared.iter().find(|d| d.range.contains_range(&range)) {
            declared.change(memory, &range, |old, mask| old & !mask);
            self.recent = declared.around(range.last().as_u64()).unwrap_or(self.recent);
        }
    }

    /// Marks what is declared of `range` for good, whether it is marked or not.
    ///
    /// # Errors
    /// `NoMemory`; some of it is marked then.
    pub(super) fn reserve<M: TableMemory>(&mut self, memory: &mut M, range: &PageRange) -> Result<(), FfaError> {
        for declared in &mut self.declared {
            let Some(part) = declared.range.intersection(range) else {
                continue;
            };
            for Bits { chunk, .. } in bits(&part) {
                declared.take(memory, chunk)?;
            }
            declared.change(memory, &part, |old, mask| old | mask);
        }
        Ok(())
    }

    /// Number of pages of `range` that are marked.
    pub(super) fn marked<M: TableMemory>(&self, memory: &M, range: &PageRange) -> u64 {
        let mut count = 0_u64;
        for declared in &self.declared {
            let Some(part) = declared.range.intersection(range) else {
                continue;
            };
            for Bits { chunk, word, mask } in bits(&part) {
                let found = declared
                    .chunk(chunk)
                    .map_or(0, |page| memory.read_descriptor(page, word));
                count = count.saturating_add(u64::from((found & mask).count_ones()));
            }
        }
        count
    }

    /// Number of pages of bits.
    #[cfg(any(test, feature = "fake"))]
    pub(super) fn pages(&self) -> usize {
        self.declared
            .iter()
            .map(|declared| declared.chunks.iter().flatten().count())
            .sum()
    }
}

impl Declared {
    fn chunk(&self, chunk: u64) -> Option<TableAddr> {
        let index = usize::try_from(chunk.checked_sub(self.first_chunk)?).ok()?;
        *self.chunks.get(index)?
    }

    /// The page of bits `chunk`, which is made if there is none.
    #[inline]
    fn take<M: TableMemory>(&mut self, memory: &mut M, chunk: u64) -> Result<TableAddr, FfaError> {
        let index = chunk
            .checked_sub(self.first_chunk)
            .and_then(|index| usize::try_from(index).ok());
        let index = index.ok_or(FfaError::Denied)?;
        match self.chunks.get(index).ok_or(FfaError::Denied)? {
            Some(page) => Ok(*page),
            None => {
                // No more than half of what there is: the rest is for partitions' tables.
                let taken = self.chunks.iter().flatten().count();
                let page = Some(memory).filter(|memory| memory.free_tables() > taken);
                let page = page.and_then(M::allocate_table).ok_or(FfaError::NoMemory)?;
                if let Some(place) = self.chunks.get_mut(index) {
                    *place = Some(page);
                }
                Ok(page)
            }
        }
    }

    /// The short cut for the page of bits of `address`.
    fn around(&self, address: u64) -> Option<Recent> {
        const SHIFT: u32 = PAGE_SHIFT + CHUNK_SHIFT;
        let chunk = address >> SHIFT;
        let page = self.chunk(chunk)?;
        let (start, end) = (chunk << SHIFT, chunk.saturating_add(1) << SHIFT);
        let (first, last) = (self.range.base().as_u64(), self.range.end().as_u64());
        Some(Recent {
            start: start.max(first),
            end: end.min(last),
            device: self.device,
            page,
        })
    }

    #[inline]
    fn change<M: TableMemory>(&self, memory: &mut M, range: &PageRange, change: impl Fn(u64, u64) -> u64) {
        for Bits { chunk, word, mask } in bits(range) {
            if let Some(page) = self.chunk(chunk) {
                let old = memory.read_descriptor(page, word);
                memory.write_descriptor(page, word, change(old, mask));
            }
        }
    }
}

/// What claimed memory is.
const fn describe(device: bool) -> Memory {
    Memory {
        world: World::NonSecure,
        device,
        writable: true,
        executable: false,
    }
}

/// The word in its page of bits that has all bits of a range, and which those are; `None` when they are in several.
#[inline(always)]
fn one_word(range: Range) -> Option<(usize, u64)> {
    let at = range.address() >> PAGE_SHIFT;
    let (offset, count) = (at % WORD_BITS, range.pages());
    if count > WORD_BITS.wrapping_sub(offset) {
        return None;
    }
    let mask = (u64::MAX >> (WORD_BITS.wrapping_sub(count) % WORD_BITS)) << offset;
    Some((((at / WORD_BITS) & 511) as usize, mask))
}

/// The bits of a range, word by word.
#[inline]
fn bits(range: &PageRange) -> impl Iterator<Item = Bits> + use<> {
    let mut at = range.base().as_u64() >> PAGE_SHIFT;
    let end = range.end().as_u64() >> PAGE_SHIFT;
    core::iter::from_fn(move || {
        let left = end.checked_sub(at).filter(|left| *left != 0)?;
        let offset = at % WORD_BITS;
        let count = left.min(WORD_BITS.wrapping_sub(offset));
        let mask = (u64::MAX >> WORD_BITS.wrapping_sub(count)) << offset;
        let this = Bits {
            chunk: at >> CHUNK_SHIFT,
            word: ((at / WORD_BITS) & 511) as usize,
            mask,
        };
        at = at.wrapping_add(count);
        Some(this)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PhysAddr;
    use tantalum_stage2::fake::FakeMemory;

    fn range(page: u64, pages: u64) -> PageRange {
        PageRange::new(PhysAddr::new(page << 12), pages).unwrap()
    }

    #[test]
    fn a_page_is_claimed_once() {
        let mut memory = FakeMemory::new();
        let mut map = NormalWorldMap::new(vec![(range(0x40000, 0x10000), false), (range(0x9000, 1), true)]);
        let ram = map.claim(&mut memory, &range(0x40000, 200)).unwrap();
        assert!(!ram.device && ram.writable && !ram.executable && ram.world == World::NonSecure);
        assert!(map.claim(&mut memory, &range(0x9000, 1)).unwrap().device);
        for taken in [
            range(0x40000, 1),
            range(0x400c7, 2),
            range(0x40000, 0x10000),
            range(0x400c7, 1),
        ] {
            assert_eq!(map.claim(&mut memory, &taken), Err(FfaError::Denied), "{taken}");
        }
        assert_eq!(map.marked(&memory, &range(0, 1 << 20)), 201);
        assert!(map.claim(&mut memory, &range(0x400c8, 1)).is_ok());
        map.release(&mut memory, Range::of(&range(0x40000, 201)).unwrap());
        assert_eq!(map.marked(&memory, &range(0x40000, 0x10000)), 0);
        assert!(map.claim(&mut memory, &range(0x40000, 0x10000)).is_ok());
    }

    #[test]
    fn only_declared_memory_is_claimed() {
        let mut memory = FakeMemory::new();
        let declared = [
            (range(20, 10), false),
            (range(10, 10), false),
            (range(30, 5), true),
            (range(0x3_fff8, 16), false),
        ];
        let mut map = NormalWorldMap::new(declared.into());
        for bad in [
            range(9, 1),
            range(9, 2),
            range(29, 2),
            range(34, 2),
            range(35, 1),
            range(0x4_0007, 2),
        ] {
            assert_eq!(map.claim(&mut memory, &bad), Err(FfaError::Denied), "{bad}");
        }
        // Ranges that touch are one; one that crosses a page of bits too.
        assert!(map.claim(&mut memory, &range(10, 20)).is_ok());
        assert!(map.claim(&mut memory, &range(0x3_fff8, 16)).is_ok());
        assert_eq!(map.marked(&memory, &range(0, 1 << 20)), 36);
    }

    #[test]
    fn running_out_of_memory_marks_nothing() {
        let mut memory = FakeMemory::new();
        let mut map = NormalWorldMap::new(vec![(range(0, 1 << 17), false)]);
        memory.set_budget(Some(1));
        assert_eq!(map.claim(&mut memory, &range(0x7000, 0x2000)), Err(FfaError::NoMemory));
        assert_eq!((map.marked(&memory, &range(0, 1 << 17)), map.pages()), (0, 1));
        memory.set_budget(None);
        assert!(map.claim(&mut memory, &range(0x7000, 0x2000)).is_ok());
    }

    fn single(page: u64) -> Range {
        Range::of(&range(page, 1)).unwrap()
    }

    #[test]
    fn the_page_of_bits_used_last_is_for_its_own_pages_only() {
        const CHUNK: u64 = 1 << CHUNK_SHIFT;
        let mut memory = FakeMemory::new();
        let declared = [
            (range(2 * CHUNK + 8, 2 * CHUNK), false),
            (range(4 * CHUNK + 8, 8), true),
        ];
        let mut map = NormalWorldMap::new(declared.into());
        let mut known = None;
        let mut claim = |map: &mut NormalWorldMap, page| map.claim_all(&mut memory, &[single(page)], &mut known);
        let (done, refused) = ((1, Ok(())), (0, Err(FfaError::Denied)));
        // Bits at the same place of the page before, and of the one behind.
        for page in [3 * CHUNK + 9, 2 * CHUNK + 9, 3 * CHUNK + 10, 4 * CHUNK + 7] {
            assert_eq!(claim(&mut map, page), done, "{page:#x}");
            assert_eq!(claim(&mut map, page), refused, "{page:#x}");
        }
        // Near by, and not declared.
        assert_eq!(claim(&mut map, 2 * CHUNK + 10), done);
        for page in [2 * CHUNK, 2 * CHUNK + 7, 4 * CHUNK + 16] {
            assert_eq!(claim(&mut map, page), refused, "{page:#x}");
        }
        // Near by, and of another kind.
        let mut device = None;
        assert_eq!(map.claim_all(&mut memory, &[single(4 * CHUNK + 8)], &mut device), done);
        assert_eq!(
            map.claim_all(&mut memory, &[single(4 * CHUNK + 9)], &mut known),
            refused
        );
        assert_eq!(map.claim_all(&mut memory, &[single(4 * CHUNK + 10)], &mut device), done);
        assert_eq!(map.claim_all(&mut memory, &[single(4 * CHUNK + 6)], &mut known), done);
        assert_eq!(
            map.claim_all(&mut memory, &[single(4 * CHUNK + 5)], &mut device),
            refused
        );
        assert_eq!(map.marked(&memory, &range(0, 8 * CHUNK)), 8);
        for page in [2 * CHUNK + 9, 3 * CHUNK + 9, 4 * CHUNK + 8] {
            map.release(&mut memory, single(page));
            assert_eq!(map.marked(&memory, &range(page, 1)), 0, "{page:#x}");
        }
        assert_eq!(map.marked(&memory, &range(0, 8 * CHUNK)), 5);
    }

    #[test]
    fn single_pages_in_a_row_are_marked_by_words() {
        let mut memory = FakeMemory::new();
        // The second of two pages of bits.
        let mut map = NormalWorldMap::new(vec![(range(0, 2 << CHUNK_SHIFT), false)]);
        let first = 1 << CHUNK_SHIFT;
        let pages: Vec<_> = (first..first + 256).map(single).collect();
        let writes = memory.writes();
        assert_eq!(map.claim_all(&mut memory, &pages, &mut None), (256, Ok(())));
        assert_eq!(
            memory.writes(),
            writes + 5,
            "four words, the first of them for the first page too"
        );
        // Ranges within a word as well, the largest of all its bits.
        let ranges: Vec<_> = (16..20)
            .map(|word| Range::of(&range(first + 64 * word, 64)).unwrap())
            .collect();
        let writes = memory.writes();
        assert_eq!(map.claim_all(&mut memory, &ranges, &mut None), (4, Ok(())));
        assert_eq!(memory.writes(), writes + 4);
        assert_eq!(map.marked(&memory, &range(first, first)), 512);
    }

    #[test]
    fn marks_take_half_of_the_tables_at_most() {
        for (free, taken) in [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)] {
            let mut memory = FakeMemory::new();
            let mut map = NormalWorldMap::new(vec![(range(0, 8 << CHUNK_SHIFT), false)]);
            memory.set_budget(Some(free));
            let claimed = (0..8).filter(|chunk| map.claim(&mut memory, &range(chunk << CHUNK_SHIFT, 1)).is_ok());
            assert_eq!((claimed.count(), map.pages()), (taken, taken), "of {free}");
        }
    }

    #[test]
    fn what_is_reserved_stays_so() {
        let mut memory = FakeMemory::new();
        let mut map = NormalWorldMap::new(vec![(range(16, 16), false)]);
        // Once for each partition that has it.
        for _ in 0..2 {
            map.reserve(&mut memory, &range(0, 18)).unwrap();
        }
        assert_eq!(map.claim(&mut memory, &range(17, 2)), Err(FfaError::Denied));
        assert!(map.claim(&mut memory, &range(18, 2)).is_ok());
    }
}
