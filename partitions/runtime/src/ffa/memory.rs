//! Descriptors of memory transactions, word by word: right ones, and any others.

/// Words of a [`Head`] at most: eight borrowers in the longest form.
const WORDS: usize = 40;

/// The form of a descriptor, by version of FF-A.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// FF-A 1.0.
    V1_0,
    /// FF-A 1.1.
    V1_1,
    /// FF-A 1.2.
    V1_2,
}

impl Layout {
    /// Words of the header.
    #[must_use]
    pub const fn header(self) -> usize {
        match self {
            Self::V1_0 => 4,
            Self::V1_1 | Self::V1_2 => 6,
        }
    }

    /// Words that describe a borrower.
    #[must_use]
    pub const fn borrower(self) -> usize {
        match self {
            Self::V1_0 | Self::V1_1 => 2,
            Self::V1_2 => 4,
        }
    }
}

/// Data access: read-only.
pub const READ_ONLY: u8 = 1;
/// Data access: read and write.
pub const READ_WRITE: u8 = 2;
/// Instruction access: never.
pub const NEVER_EXECUTE: u8 = 1 << 2;
/// Instruction access: allowed.
pub const EXECUTE: u8 = 2 << 2;
/// Attributes of normal memory: write-back, inner shareable.
pub const NORMAL: u16 = 0x2f;

/// A memory transaction descriptor up to the first address range.
#[derive(Clone, Copy, Debug)]
pub struct Transaction<'a> {
    /// Its form.
    pub layout: Layout,
    /// Who sends, or has sent.
    pub sender: u16,
    /// Attributes of the memory.
    pub attributes: u16,
    /// Flags.
    pub flags: u32,
    /// The handle; 0 in what a sender sends.
    pub handle: u64,
    /// A number of the sender's choice.
    pub tag: u64,
    /// The borrowers, eight at most, and their permissions.
    pub borrowers: &'a [(u16, u8)],
    /// How many pages and address ranges there are in all; none in a request to retrieve.
    pub ranges: Option<(u32, u32)>,
}

/// The first words of a descriptor.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    words: [u64; WORDS],
    length: usize,
}

impl Head {
    /// The words.
    #[must_use]
    pub fn words(&self) -> &[u64] {
        &self.words[..self.length]
    }

    /// The same, to be changed.
    pub fn words_mut(&mut self) -> &mut [u64] {
        &mut self.words[..self.length]
    }

    fn push(&mut self, words: &[u64]) {
        self.words[self.length..self.length + words.len()].copy_from_slice(words);
        self.length += words.len();
    }
}

impl Transaction<'_> {
    /// The words of the descriptor before its first address range.
    #[must_use]
    pub fn head(&self) -> Head {
        let mut head = Head {
            words: [0; WORDS],
            length: 0,
        };
        let first = u64::from(self.sender) | u64::from(self.attributes) << 16 | u64::from(self.flags) << 32;
        let count = (self.borrowers.len() as u64) << 32;
        let size = 8 * self.layout.borrower() as u64;
        match self.layout {
            Layout::V1_0 => head.push(&[first, self.handle, self.tag, count]),
            Layout::V1_1 | Layout::V1_2 => {
                let start = 8 * self.layout.header() as u64;
                head.push(&[first, self.handle, self.tag, count | size, start, 0]);
            }
        }
        let composite = head.length + self.layout.borrower() * self.borrowers.len();
        let composite = if self.ranges.is_some() { 8 * composite as u64 } else { 0 };
        for (id, permissions) in self.borrowers {
            let word = u64::from(*id) | u64::from(*permissions) << 16 | composite << 32;
            head.push(&[word, 0, 0, 0][..self.layout.borrower()]);
        }
        if let Some((pages, ranges)) = self.ranges {
            head.push(&[u64::from(pages) | u64::from(ranges) << 32, 0]);
        }
        head
    }
}

/// The words of a descriptor to relinquish memory.
#[must_use]
pub const fn relinquish(handle: u64, flags: u32, id: u16) -> [u64; 3] {
    [handle, flags as u64 | 1 << 32, id as u64]
}
