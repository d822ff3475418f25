//! Descriptors as a sender or borrower writes them, right or wrong, and responses as a borrower reads them.

use std::iter;

/// The form of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    V1_0,
    V1_1,
    V1_2,
}

impl Form {
    pub const ALL: [Self; 3] = [Self::V1_0, Self::V1_1, Self::V1_2];

    pub fn version(self) -> tantalum_core::abi::Version {
        tantalum_core::abi::Version(1, self as u16)
    }

    fn header(self) -> usize {
        if self == Self::V1_0 { 32 } else { 48 }
    }

    fn emad(self) -> usize {
        if self == Self::V1_2 { 32 } else { 16 }
    }
}

/// An EMAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emad {
    pub id: u16,
    pub permissions: u8,
    pub flags: u8,
    pub composite: Option<u32>,
    pub passed: [u64; 2],
    pub reserved: u64,
}

/// A memory transaction descriptor. What is `None` comes out right.
#[derive(Clone, Debug)]
pub struct Message {
    pub form: Form,
    pub sender: u16,
    pub attributes: u16,
    pub flags: u32,
    pub handle: u64,
    pub tag: u64,
    pub emads: Vec<Emad>,
    pub emad_size: Option<u32>,
    pub emad_count: Option<u32>,
    pub emad_offset: Option<u32>,
    /// Address and number of pages of each range, and what is reserved behind that.
    pub ranges: Vec<(u64, u32, u32)>,
    pub pages: Option<u32>,
    pub count: Option<u32>,
    /// Added to bytes of the finished descriptor: offset, value.
    pub patches: Vec<(usize, u8)>,
}

pub const RO: u8 = 1;
pub const RW: u8 = 2;
pub const NX: u8 = 4;
pub const X: u8 = 8;
pub const NORMAL: u16 = 0x2f;

impl Message {
    /// What `sender` sends to `borrowers` (ids and permissions).
    pub fn send(form: Form, sender: u16, borrowers: &[(u16, u8)], ranges: &[(u64, u32)]) -> Self {
        let emad = |&(id, permissions)| Emad {
            id,
            permissions,
            flags: 0,
            composite: None,
            passed: [0; 2],
            reserved: 0,
        };
        Self {
            form,
            sender,
            attributes: 0,
            flags: 0,
            handle: 0,
            tag: 0,
            emads: borrowers.iter().map(emad).collect(),
            emad_size: None,
            emad_count: None,
            emad_offset: None,
            ranges: ranges.iter().map(|&(address, pages)| (address, pages, 0)).collect(),
            pages: None,
            count: None,
            patches: Vec::new(),
        }
    }

    /// A retrieve request: as what was sent, without ranges.
    pub fn retrieve(form: Form, sender: u16, handle: u64, borrowers: &[(u16, u8)]) -> Self {
        Self {
            handle,
            ..Self::send(form, sender, borrowers, &[])
        }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub fn normal(self) -> Self {
        self.with(|m| m.attributes = NORMAL)
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let count = self.emad_count.unwrap_or(self.emads.len() as u32);
        let offset = self.emad_offset.unwrap_or(self.form.header() as u32);
        bytes.extend(self.sender.to_le_bytes());
        bytes.extend(self.attributes.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.handle.to_le_bytes());
        bytes.extend(self.tag.to_le_bytes());
        let size = if self.form == Form::V1_0 {
            0
        } else {
            self.form.emad() as u32
        };
        bytes.extend(self.emad_size.unwrap_or(size).to_le_bytes());
        bytes.extend(count.to_le_bytes());
        if self.form != Form::V1_0 {
            bytes.extend(offset.to_le_bytes());
        }
        bytes.resize(self.form.header().max(offset as usize), 0);
        let composite = if self.ranges.is_empty() {
            0
        } else {
            bytes.len() + self.form.emad() * self.emads.len()
        };
        for emad in &self.emads {
            bytes.extend(emad.id.to_le_bytes());
            bytes.extend([emad.permissions, emad.flags]);
            bytes.extend(emad.composite.unwrap_or(composite as u32).to_le_bytes());
            if self.form == Form::V1_2 {
                bytes.extend(emad.passed.iter().flat_map(|word| word.to_le_bytes()));
            }
            bytes.extend(emad.reserved.to_le_bytes());
        }
        if !self.ranges.is_empty() {
            let pages = self
                .ranges
                .iter()
                .map(|&(_, pages, _)| pages)
                .fold(0, u32::wrapping_add);
            bytes.extend(self.pages.unwrap_or(pages).to_le_bytes());
            bytes.extend(self.count.unwrap_or(self.ranges.len() as u32).to_le_bytes());
            bytes.extend(iter::repeat_n(0, 8));
            for (address, pages, reserved) in &self.ranges {
                bytes.extend(address.to_le_bytes());
                bytes.extend(pages.to_le_bytes());
                bytes.extend(reserved.to_le_bytes());
            }
        }
        for &(at, value) in &self.patches {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= value;
            }
        }
        bytes
    }

    /// Bytes before the first constituent.
    pub fn head(&self) -> usize {
        self.bytes().len() - 16 * self.ranges.len()
    }

    /// Reads back a whole descriptor.
    pub fn parse(form: Form, bytes: &[u8]) -> Self {
        let word = |at: usize, size: usize| {
            let mut word = [0; 8];
            word[..size].copy_from_slice(&bytes[at..at + size]);
            u64::from_le_bytes(word)
        };
        let count = word(28, 4) as usize;
        let (size, offset) = if form == Form::V1_0 {
            assert_eq!(word(24, 4), 0);
            (16, 32)
        } else {
            assert_eq!((word(36, 4), word(40, 8)), (0, 0), "reserved");
            (word(24, 4) as usize, word(32, 4) as usize)
        };
        assert_eq!((size, offset), (form.emad(), form.header()));
        let emads: Vec<Emad> = (0..count)
            .map(|index| {
                let at = offset + size * index;
                let passed = if size == 32 {
                    [word(at + 8, 8), word(at + 16, 8)]
                } else {
                    [0; 2]
                };
                let reserved = word(at + size - 8, 8);
                assert_eq!(reserved, 0);
                Emad {
                    id: word(at, 2) as u16,
                    permissions: word(at + 2, 1) as u8,
                    flags: word(at + 3, 1) as u8,
                    composite: Some(word(at + 4, 4) as u32),
                    passed,
                    reserved,
                }
            })
            .collect();
        let composite = emads[0].composite.unwrap() as usize;
        assert_eq!(composite, offset + size * count);
        assert_eq!(word(composite + 8, 8), 0);
        let ranges = (0..word(composite + 4, 4) as usize).map(|index| {
            let at = composite + 16 + 16 * index;
            (word(at, 8), word(at + 8, 4) as u32, word(at + 12, 4) as u32)
        });
        let ranges: Vec<_> = ranges.collect();
        assert_eq!(bytes.len(), composite + 16 + 16 * ranges.len());
        Self {
            form,
            sender: word(0, 2) as u16,
            attributes: word(2, 2) as u16,
            flags: word(4, 4) as u32,
            handle: word(8, 8),
            tag: word(16, 8),
            emads,
            emad_size: Some(word(24, 4) as u32),
            emad_count: Some(count as u32),
            emad_offset: Some(offset as u32),
            ranges,
            pages: Some(word(composite, 4) as u32),
            count: Some(word(composite + 4, 4) as u32),
            patches: Vec::new(),
        }
    }

    /// Ranges without what is reserved.
    pub fn plain_ranges(&self) -> Vec<(u64, u32)> {
        assert!(self.ranges.iter().all(|range| range.2 == 0));
        self.ranges.iter().map(|range| (range.0, range.1)).collect()
    }
}

/// A FFA_MEM_RELINQUISH descriptor.
pub fn relinquish(handle: u64, flags: u32, ids: &[u16]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(handle.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend((ids.len() as u32).to_le_bytes());
    bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
    bytes
}
