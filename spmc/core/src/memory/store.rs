//! Lists of 64-bit words in pages that are taken when needed and given back.
//!
//! The SPMC has no heap once partitions run. What a share has to remember and what grows with it, its borrowers and its
//! address ranges, is kept in such lists: the first [`INLINE`] words within the list itself, so that the share of a buffer
//! costs no page at all; all further ones in pages of the table memory, the last word of each being the address of the
//! next. Table memory is used because it is there, is given back, and is read and written by descriptors of 64 bits.

use tantalum_stage2::{TableAddr, TableMemory};

/// Words that a list holds without a page.
pub(super) const INLINE: usize = 8;
/// [`INLINE`], as an index.
const FIRST_IN_PAGE: u32 = 8;
/// Words of the list in a page.
const PER_PAGE: u32 = 511;
/// Index of the word that holds the next page's address, 0 in the last page.
const LINK: usize = 511;

/// There is no room for another word: the budget is used up, or table memory has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// A list of words. Dropping it without [`Words::free`] leaks its pages.
///
/// Invariants: `first` and `last` are both there exactly when `len` is above [`INLINE`], and `room` is 0
/// else; the chain from `first` ends at
/// `last` and has `pages` pages, as few as hold `len` words.
#[derive(Debug)]
pub(super) struct Words {
    inline: [u64; INLINE],
    ends: Option<(TableAddr, TableAddr)>,
    len: u32,
    pages: u32,
    /// Words that the last page still has room for.
    room: u32,
}

/// A place in a list, for reading it in order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    index: u32,
    /// Page and place in it, when `index` is behind the inline words.
    page: Option<TableAddr>,
    offset: u32,
}

impl Words {
    /// An empty list.
    pub(super) const fn new() -> Self {
        Self {
            inline: [0; INLINE],
            ends: None,
            len: 0,
            pages: 0,
            room: 0,
        }
    }

    /// Number of words.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Number of pages taken.
    pub(super) const fn pages(&self) -> u32 {
        self.pages
    }

    /// Appends a word. Takes a page if need be, and one off `budget` then.
    #[inline]
    pub(super) fn push<M: TableMemory>(&mut self, memory: &mut M, word: u64, budget: &mut u32) -> Result<(), Full> {
        if let Some(place) = usize::try_from(self.len)
            .ok()
            .and_then(|index| self.inline.get_mut(index))
        {
            *place = word;
        } else {
            let page = match self.ends {
                Some((_, last)) if self.room != 0 => last,
                _ => self.grow(memory, budget)?,
            };
            memory.write_descriptor(page, PER_PAGE.wrapping_sub(self.room) as usize, word);
            self.room = self.room.wrapping_sub(1);
        }
        self.len = self.len.checked_add(1).ok_or(Full)?;
        Ok(())
    }

    /// Appends words, as many as there is room for. Returns how many.
    pub(super) fn extend<M: TableMemory, T: Copy + Into<u64>>(
        &mut self,
        memory: &mut M,
        from: &[T],
        budget: &mut u32,
    ) -> usize {
        let mut done = 0_usize;
        while let Some(word) = from.get(done) {
            let page = self.ends.map(|(_, last)| last).filter(|_| self.room != 0);
            let Some(page) = page else {
                if self.push(memory, (*word).into(), budget).is_err() {
                    break;
                }
                done = done.wrapping_add(1);
                continue;
            };
            let until = from.len().min(done.wrapping_add(self.room as usize));
            let piece = from.get(done..until).unwrap_or_default();
            memory.write_descriptors(page, PER_PAGE.wrapping_sub(self.room) as usize, piece);
            let count = u32::try_from(piece.len()).unwrap_or(self.room);
            self.room = self.room.wrapping_sub(count);
            self.len = self.len.wrapping_add(count);
            done = until;
        }
        done
    }

    /// Takes another page.
    #[cold]
    fn grow<M: TableMemory>(&mut self, memory: &mut M, budget: &mut u32) -> Result<TableAddr, Full> {
        let left = budget.checked_sub(1).ok_or(Full)?;
        let page = memory.allocate_table().ok_or(Full)?;
        *budget = left;
        self.ends = match self.ends {
            Some((first, last)) => {
                memory.write_descriptor(last, LINK, page.0);
                Some((first, page))
            }
            None => Some((page, page)),
        };
        self.pages = self.pages.wrapping_add(1);
        self.room = PER_PAGE;
        Ok(page)
    }

    /// The last word.
    pub(super) fn last<M: TableMemory>(&self, memory: &M) -> Option<u64> {
        let index = self.len.checked_sub(1)?;
        match self.ends {
            Some((_, last)) => {
                let offset = PER_PAGE.wrapping_sub(1).wrapping_sub(self.room);
                Some(memory.read_descriptor(last, offset as usize))
            }
            None => self.inline.get(index as usize).copied(),
        }
    }

    /// Replaces the last word, if there is one.
    pub(super) fn replace_last<M: TableMemory>(&mut self, memory: &mut M, word: u64) {
        let Some(index) = self.len.checked_sub(1) else { return };
        match self.ends {
            Some((_, last)) => {
                let offset = PER_PAGE.wrapping_sub(1).wrapping_sub(self.room);
                memory.write_descriptor(last, offset as usize, word);
            }
            None => {
                if let Some(place) = self.inline.get_mut(index as usize) {
                    *place = word;
                }
            }
        }
    }

    /// A word.
    pub(super) fn get<M: TableMemory>(&self, memory: &M, index: u32) -> Option<u64> {
        self.at(memory, index).next(memory, self)
    }

    /// Replaces a word, whose index is below the number of words.
    pub(super) fn set<M: TableMemory>(&mut self, memory: &mut M, index: u32, word: u64) {
        if let Some(place) = self.inline.get_mut(index as usize) {
            *place = word;
        } else if let Cursor {
            page: Some(page),
            offset,
            ..
        } = self.at(memory, index)
        {
            memory.write_descriptor(page, offset as usize, word);
        }
    }

    /// The place of a word, to go on from there.
    pub(super) fn at<M: TableMemory>(&self, memory: &M, index: u32) -> Cursor {
        let mut cursor = Cursor {
            index,
            page: None,
            offset: 0,
        };
        let Some(mut offset) = index.checked_sub(FIRST_IN_PAGE) else {
            return cursor;
        };
        cursor.page = self.ends.map(|(first, _)| first);
        while let (Some(page), Some(less)) = (cursor.page, offset.checked_sub(PER_PAGE)) {
            cursor.page = next_page(memory, page);
            offset = less;
        }
        cursor.offset = offset;
        cursor
    }

    /// Gives all pages back.
    pub(super) fn free<M: TableMemory>(self, memory: &mut M) {
        let mut page = self.ends.map(|(first, _)| first);
        while let Some(this) = page {
            page = next_page(memory, this);
            memory.free_table(this);
        }
    }
}

impl Cursor {
    /// Reads words from here on, as many as there are and fit, and stands behind them then. Returns how many.
    #[inline(never)]
    pub(super) fn read<M: TableMemory>(&mut self, memory: &M, words: &Words, into: &mut [u64]) -> usize {
        let mut done = 0_usize;
        loop {
            let left = words.len.saturating_sub(self.index);
            let rest = into.get_mut(done..).unwrap_or_default();
            let count = rest.len().min(left as usize);
            let Some(place) = rest.first_mut().filter(|_| count != 0) else {
                return done;
            };
            let Some(page) = self.page else {
                *place = self.next(memory, words).unwrap_or(0);
                done = done.wrapping_add(1);
                continue;
            };
            let count = count.min(PER_PAGE.wrapping_sub(self.offset) as usize);
            memory.read_descriptors(page, self.offset as usize, rest.get_mut(..count).unwrap_or_default());
            let step = u32::try_from(count).unwrap_or(left);
            self.index = self.index.wrapping_add(step);
            self.offset = self.offset.wrapping_add(step);
            done = done.wrapping_add(count);
            if self.offset == PER_PAGE {
                self.page = next_page(memory, page);
                self.offset = 0;
            }
        }
    }

    /// The word here, after which the cursor stands at the next; `None` behind the last.
    #[inline]
    pub(super) fn next<M: TableMemory>(&mut self, memory: &M, words: &Words) -> Option<u64> {
        if self.index >= words.len {
            return None;
        }
        let inline = words.inline.get(self.index as usize);
        self.index = self.index.wrapping_add(1);
        if let Some(word) = inline {
            if self.index == FIRST_IN_PAGE {
                self.page = words.ends.map(|(first, _)| first);
            }
            return Some(*word);
        }
        let page = self.page?;
        let word = memory.read_descriptor(page, self.offset as usize);
        self.offset = self.offset.wrapping_add(1);
        if self.offset == PER_PAGE {
            self.page = next_page(memory, page);
            self.offset = 0;
        }
        Some(word)
    }
}

fn next_page<M: TableMemory>(memory: &M, page: TableAddr) -> Option<TableAddr> {
    match memory.read_descriptor(page, LINK) {
        0 => None,
        next => Some(TableAddr(next)),
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;
    use tantalum_stage2::fake::FakeMemory;

    fn all(memory: &FakeMemory, words: &Words, from: u32) -> Vec<u64> {
        let mut cursor = words.at(memory, from);
        core::iter::from_fn(|| cursor.next(memory, words)).collect()
    }

    #[test]
    fn keeps_what_is_pushed_over_several_pages() {
        let (mut memory, mut words, mut budget) = (FakeMemory::new(), Words::new(), 10);
        for number in 0..1600 {
            assert_eq!(words.push(&mut memory, number, &mut budget), Ok(()));
            assert_eq!(words.last(&memory), Some(number));
        }
        assert_eq!((words.len(), words.pages(), budget), (1600, 4, 6));
        for from in [0, 1, 7, 8, 9, 518, 519, 520, 1029, 1030, 1031, 1599] {
            assert_eq!(
                all(&memory, &words, from),
                (u64::from(from)..1600).collect::<Vec<_>>(),
                "from {from}"
            );
            assert_eq!(words.get(&memory, from), Some(u64::from(from)));
        }
        assert_eq!((words.get(&memory, 1600), words.get(&memory, u32::MAX)), (None, None));
        for index in [0, 7, 8, 518, 519, 1599] {
            words.set(&mut memory, index, 0xabc);
            assert_eq!(words.get(&memory, index), Some(0xabc));
        }
        words.replace_last(&mut memory, 5);
        assert_eq!(words.get(&memory, 1599), Some(5));
        words.free(&mut memory);
        assert_eq!(memory.live(), 0);
    }

    #[test]
    fn eight_words_need_no_page() {
        let (mut memory, mut words, mut budget) = (FakeMemory::new(), Words::new(), 0);
        assert_eq!(words.last(&memory), None);
        words.replace_last(&mut memory, 1);
        for number in 0..8 {
            assert_eq!(words.push(&mut memory, number, &mut budget), Ok(()));
        }
        assert_eq!(words.push(&mut memory, 8, &mut budget), Err(Full));
        words.replace_last(&mut memory, 70);
        assert_eq!((all(&memory, &words, 0).len(), words.last(&memory)), (8, Some(70)));
        words.free(&mut memory);
        assert_eq!(memory.allocations(), 0);
    }

    #[test]
    fn failing_changes_nothing() {
        let (mut memory, mut words, mut budget) = (FakeMemory::new(), Words::new(), 2);
        memory.set_budget(Some(1));
        for number in 0..519 {
            assert_eq!(words.push(&mut memory, number, &mut budget), Ok(()));
        }
        assert_eq!(words.push(&mut memory, 0, &mut budget), Err(Full));
        assert_eq!((words.len(), words.pages(), budget), (519, 1, 1));
        memory.set_budget(None);
        assert_eq!(words.push(&mut memory, 519, &mut budget), Ok(()));
        assert_eq!(all(&memory, &words, 517), [517, 518, 519]);
        words.free(&mut memory);
        assert_eq!(memory.live(), 0);
    }
}
