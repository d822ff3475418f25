//! A reader of flattened device trees (Devicetree Specification 0.4, chapter 5), made for hostile ones.
//!
//! [`Dtb::new`] walks the whole tree once and checks its structure; what is read later needs no further check, and
//! anything odd would only end an iteration early. No recursion, no allocation, and no step that is not bounded by the
//! size of the blob.
//!
//! Why not a crate: of those that do not panic, dtoolkit 0.4.1 made the parsing of a boot's three manifests take
//! 273,000 instructions rather than 120,000 (opt-level 3), of the 900,000 that a whole boot may take, and it refuses
//! names of more than 31 characters, which dtc accepts. Tests compare this reader with dtoolkit and fdt.

use alloc::vec::Vec;
use core::fmt;

/// Bytes of the header.
pub(super) const HEADER_BYTES: usize = 40;

/// The first word of a device tree.
const MAGIC: u32 = 0xd00d_feed;

/// The only version of the format in use, since 2005.
const VERSION: u32 = 17;

/// Deepest nesting of nodes, the root included. Manifests need 3.
const MAX_DEPTH: usize = 16;

/// Longest name, its final zero included. The specification says 32.
const MAX_NAME: usize = 256;

/// Where the structure block is in a tree of ours: behind the header and the end of an empty list of reservations.
const STRUCTURE_AT: usize = HEADER_BYTES + 16;

/// Bytes of a property of two cells in the structure block.
const PROPERTY_BYTES: usize = 20;

const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// What is wrong with a blob that was to be a device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtbError {
    /// It does not begin with the magic number.
    Magic,
    /// It is not of version 17.
    Version(u32),
    /// It states more bytes (the first number) than there are (the second).
    Truncated(usize, usize),
    /// Its header, or one of its blocks, is not within it.
    Block(&'static str),
    /// At this offset in the structure block there is not what has to be there.
    Structure(usize),
    /// At this offset in the structure block nodes are nested too deeply.
    Depth(usize),
}

impl fmt::Display for DtbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it does not begin with 0xd00dfeed"),
            Self::Version(version) => write!(f, "its version is {}, not {}", u64::from(*version), u64::from(VERSION)),
            Self::Truncated(total, there) => write!(f, "it states a size of {total} bytes, there are {there}"),
            Self::Block(what) => write!(f, "its {what} is not within it"),
            Self::Structure(offset) => write!(f, "its structure block is broken at offset {offset:#x}"),
            Self::Depth(offset) => write!(f, "more than {MAX_DEPTH} nested nodes at offset {offset:#x}"),
        }
    }
}

/// A device tree whose structure was checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dtb<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
}

/// A node: the offset in the structure block of what follows its name.
#[derive(Clone, Copy, Debug)]
pub(super) struct DtbNode<'a> {
    dtb: Dtb<'a>,
    name: &'a str,
    body: usize,
}

/// A property.
#[derive(Clone, Copy, Debug)]
pub(super) struct DtbProperty<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a [u8],
}

/// One token of the structure block, with the offset of the next one.
enum Token<'a> {
    Begin(&'a [u8]),
    Property { name: usize, value: &'a [u8] },
    EndNode,
    End,
}

/// The big-endian word at `offset`.
#[inline(never)]
fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk::<4>()
        .map(|word| u32::from_be_bytes(*word))
}

/// The word at `offset` as a size or an offset.
#[inline(never)]
fn size(bytes: &[u8], offset: usize) -> Option<usize> {
    word(bytes, offset).and_then(|word| usize::try_from(word).ok())
}

/// The bytes from `offset` to the next zero byte, without it. `None` when there is none within [`MAX_NAME`] bytes.
/// Eight bytes a step: names are most of what a parser looks at.
fn string(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let all = bytes.get(offset..)?;
    let (mut rest, mut length) = (all, 0_usize);
    while let Some((chunk, next)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        // Bit 7 of each byte that is zero, and maybe of bytes above the first such one.
        let zeros = word.wrapping_sub(ONES) & !word & ONES << 7;
        if zeros != 0 {
            return all.get(..length.checked_add(usize::try_from(zeros.trailing_zeros() >> 3).ok()?)?);
        }
        length = length.checked_add(8)?;
        if length >= MAX_NAME {
            return None;
        }
        rest = next;
    }
    all.get(..length.checked_add(rest.iter().position(|byte| *byte == 0)?)?)
}

/// `offset` rounded up to a multiple of 4.
fn align(offset: usize) -> Option<usize> {
    Some(offset.checked_add(3)? & !3)
}

impl<'a> Dtb<'a> {
    /// The size that the header of `blob` states, in bytes.
    pub(super) fn total_size(blob: &[u8]) -> Result<usize, DtbError> {
        if word(blob, 0) != Some(MAGIC) {
            return Err(DtbError::Magic);
        }
        size(blob, 4)
            .filter(|total| *total >= HEADER_BYTES)
            .ok_or(DtbError::Block("header"))
    }

    /// Checks the device tree that `blob` begins with.
    pub(super) fn new(blob: &'a [u8]) -> Result<Self, DtbError> {
        let total = Self::total_size(blob)?;
        let blob = blob.get(..total).ok_or(DtbError::Truncated(total, blob.len()))?;
        let header = |offset| size(blob, offset).ok_or(DtbError::Block("header"));
        let version = word(blob, 20).unwrap_or(0);
        let compatible = word(blob, 24).unwrap_or(u32::MAX);
        if version < VERSION || compatible > VERSION {
            return Err(DtbError::Version(version));
        }
        let block = |offset: usize, bytes: usize| blob.get(offset..offset.checked_add(bytes)?);
        let dtb = Self {
            structure: block(header(8)?, header(36)?).ok_or(DtbError::Block("structure block"))?,
            strings: block(header(12)?, header(32)?).ok_or(DtbError::Block("strings block"))?,
        };
        dtb.check()?;
        Ok(dtb)
    }

    /// Walks the structure block once: one root, properties before nodes, all names terminated, one end.
    fn check(&self) -> Result<(), DtbError> {
        let (mut offset, mut depth) = (0, 0_usize);
        let mut properties = false;
        loop {
            let broken = DtbError::Structure(offset);
            let (token, next) = self.token(offset).ok_or(broken)?;
            match token {
                Token::Begin(_) if depth >= MAX_DEPTH => return Err(DtbError::Depth(offset)),
                Token::Begin(_) => {
                    depth = depth.saturating_add(1);
                    properties = true;
                }
                Token::Property { name, .. } if properties && depth > 0 => {
                    string(self.strings, name).ok_or(broken)?;
                }
                Token::EndNode if depth > 0 => {
                    depth = depth.saturating_sub(1);
                    properties = false;
                    if depth == 0 {
                        let (last, _) = self.token(next).ok_or(DtbError::Structure(next))?;
                        return if matches!(last, Token::End) {
                            Ok(())
                        } else {
                            Err(DtbError::Structure(next))
                        };
                    }
                }
                Token::Property { .. } | Token::EndNode | Token::End => return Err(broken),
            }
            offset = next;
        }
    }

    /// The token at `offset`, no-operations passed over, and the offset of what follows it. `None` when there is none.
    fn token(&self, mut offset: usize) -> Option<(Token<'a>, usize)> {
        loop {
            let next = offset.checked_add(4)?;
            match word(self.structure, offset)? {
                BEGIN_NODE => {
                    let name = string(self.structure, next)?;
                    return Some((
                        Token::Begin(name),
                        align(next.checked_add(name.len())?.checked_add(1)?)?,
                    ));
                }
                PROPERTY => {
                    let bytes = size(self.structure, next)?;
                    let name = size(self.structure, next.checked_add(4)?)?;
                    let start = next.checked_add(8)?;
                    let end = start.checked_add(bytes)?;
                    return Some((
                        Token::Property {
                            name,
                            value: self.structure.get(start..end)?,
                        },
                        align(end)?,
                    ));
                }
                END_NODE => return Some((Token::EndNode, next)),
                END => return Some((Token::End, next)),
                NOP => offset = next,
                _ => return None,
            }
        }
    }

    /// The same tree with a property `name` of two cells more in each of `nodes`, which are in their order in the tree. What was
    /// behind the structure and the strings is left out, reservations of memory as well.
    pub(super) fn with_addresses(&self, name: &str, nodes: &[(DtbNode<'_>, u64)]) -> Option<Vec<u8>> {
        let word = |number: usize| Some(u32::try_from(number).ok()?.to_be_bytes());
        let structure = self
            .structure
            .len()
            .checked_add(nodes.len().checked_mul(PROPERTY_BYTES)?)?;
        let strings = self.strings.len().checked_add(name.len())?.checked_add(1)?;
        let total = STRUCTURE_AT.checked_add(structure)?.checked_add(strings)?;
        let mut blob = Vec::with_capacity(total);
        blob.extend(MAGIC.to_be_bytes());
        let strings_at = STRUCTURE_AT.checked_add(structure)?;
        for number in [
            total,
            STRUCTURE_AT,
            strings_at,
            HEADER_BYTES,
            17,
            16,
            0,
            strings,
            structure,
        ] {
            blob.extend_from_slice(&word(number)?);
        }
        blob.resize(STRUCTURE_AT, 0);
        let mut done = 0;
        for (node, value) in nodes {
            blob.extend_from_slice(self.structure.get(done..node.body)?);
            done = node.body;
            for number in [3, 8, self.strings.len()] {
                blob.extend_from_slice(&word(number)?);
            }
            blob.extend_from_slice(&value.to_be_bytes());
        }
        blob.extend_from_slice(self.structure.get(done..)?);
        blob.extend_from_slice(self.strings);
        blob.extend_from_slice(name.as_bytes());
        blob.push(0);
        Some(blob)
    }

    /// The root.
    pub(super) fn root(self) -> DtbNode<'a> {
        let body = match self.token(0) {
            Some((Token::Begin(_), body)) => body,
            _ => self.structure.len(),
        };
        DtbNode {
            dtb: self,
            name: "",
            body,
        }
    }
}

impl<'a> DtbNode<'a> {
    /// The node's name with its unit address; empty when it is not UTF-8.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// The node's properties, in their order. A name that is not UTF-8 is empty.
    pub(super) fn properties(&self) -> impl Iterator<Item = DtbProperty<'a>> + use<'a> {
        let (dtb, mut offset) = (self.dtb, self.body);
        core::iter::from_fn(move || {
            let (Token::Property { name, value }, next) = dtb.token(offset)? else {
                return None;
            };
            offset = next;
            let name = core::str::from_utf8(string(dtb.strings, name)?).unwrap_or_default();
            Some(DtbProperty { name, value })
        })
    }

    /// The node's children, in their order.
    pub(super) fn children(&self) -> impl Iterator<Item = DtbNode<'a>> + use<'a> {
        let (dtb, mut offset, mut depth) = (self.dtb, self.body, 0_usize);
        core::iter::from_fn(move || {
            loop {
                let (token, next) = dtb.token(offset)?;
                offset = next;
                match token {
                    Token::Property { .. } => {}
                    Token::Begin(name) => {
                        depth = depth.saturating_add(1);
                        if depth == 1 {
                            let name = core::str::from_utf8(name).unwrap_or_default();
                            return Some(DtbNode { dtb, name, body: next });
                        }
                    }
                    Token::EndNode => depth = depth.checked_sub(1)?,
                    Token::End => return None,
                }
            }
        })
    }
}

#[cfg(test)]
mod tests;
