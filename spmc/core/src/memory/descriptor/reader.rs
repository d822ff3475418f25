//! Reading another world's buffer once, in order.

use crate::{
    abi::FfaError,
    addr::{PageRange, World},
    machine::Machine,
};

/// Blocks copied at a time.
const CHUNK: usize = 64;
/// Bytes of a block.
const BLOCK: u32 = 16;

/// Where an endpoint's TX or RX buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// In which physical address space.
    pub world: World,
    /// Its pages.
    pub range: PageRange,
}

impl Buffer {
    /// Checks that a buffer has so many bytes.
    ///
    /// # Errors
    /// `InvalidParameters`.
    pub(in crate::memory) fn holds(&self, bytes: u32) -> Result<(), FfaError> {
        if u64::from(bytes) > self.range.bytes() {
            return Err(FfaError::InvalidParameters);
        }
        Ok(())
    }
}

/// 16 bytes of a descriptor as two little-endian words.
pub(in crate::memory) type Block = [u64; 2];

/// Reads blocks of 16 bytes of a buffer that its owner may be writing meanwhile.
///
/// Every byte is copied at most once, and never after a byte behind it: what was checked is what is used.
#[derive(Debug)]
pub(in crate::memory) struct Reader {
    buffer: Buffer,
    /// The copy of `start..loaded`.
    chunk: [u64; 2 * CHUNK],
    start: u32,
    loaded: u32,
    /// The next block.
    at: u32,
    end: u32,
}

impl Reader {
    /// A reader of the first `bytes` bytes of `buffer`, which [`Buffer::holds`] them. (Not both in one, so that the reader is
    /// made where it stays.)
    pub(in crate::memory) fn new(buffer: Buffer, bytes: u32) -> Self {
        Self {
            buffer,
            chunk: [0; 2 * CHUNK],
            start: 0,
            loaded: 0,
            at: 0,
            end: bytes,
        }
    }

    /// Goes forward to `offset`.
    ///
    /// # Errors
    /// `InvalidParameters` for one that is behind what was read, or behind the end.
    pub(in crate::memory) fn seek(&mut self, offset: u32) -> Result<(), FfaError> {
        if offset < self.at || offset > self.end {
            return Err(FfaError::InvalidParameters);
        }
        self.at = offset;
        Ok(())
    }

    /// The offset of the next block.
    pub(in crate::memory) const fn offset(&self) -> u32 {
        self.at
    }

    /// Whether nothing is left.
    pub(in crate::memory) const fn is_done(&self) -> bool {
        self.at >= self.end
    }

    /// The next 16 bytes.
    ///
    /// # Errors
    /// `InvalidParameters` when there are fewer; `Aborted` when the buffer can't be read.
    pub(in crate::memory) fn block<M: Machine>(&mut self, machine: &mut M) -> Result<Block, FfaError> {
        let blocks = self.blocks(machine, 1)?;
        blocks.first().copied().ok_or(FfaError::InvalidParameters)
    }

    /// The next blocks, `most` at most; none when nothing is left.
    ///
    /// # Errors
    /// `InvalidParameters` when what is left is not made of whole blocks; `Aborted` when the buffer can't be read.
    pub(in crate::memory) fn blocks<M: Machine>(&mut self, machine: &mut M, most: u32) -> Result<&[Block], FfaError> {
        let left = self.end.wrapping_sub(self.at);
        if !left.is_multiple_of(BLOCK) {
            return Err(FfaError::InvalidParameters);
        }
        if left != 0 && self.at >= self.loaded {
            self.load(machine)?;
        }
        let from = self.at.wrapping_sub(self.start) / BLOCK;
        let until = self.loaded.wrapping_sub(self.start) / BLOCK;
        let until = until.min(from.saturating_add(most));
        self.at = self.start.wrapping_add(until.wrapping_mul(BLOCK));
        let (blocks, _) = self.chunk.as_chunks();
        Ok(blocks.get(from as usize..until as usize).unwrap_or_default())
    }

    /// Copies the next blocks, as many as there are and fit.
    #[inline(never)]
    fn load<M: Machine>(&mut self, machine: &mut M) -> Result<(), FfaError> {
        let left = self.end.wrapping_sub(self.at) / BLOCK;
        let count = (left as usize).min(CHUNK);
        let chunk = self.chunk.get_mut(..count.wrapping_mul(2)).ok_or(FfaError::Aborted)?;
        let from = self
            .buffer
            .range
            .base()
            .checked_add(u64::from(self.at))
            .ok_or(FfaError::Aborted)?;
        machine
            .copy_in_words(self.buffer.world, from, chunk)
            .map_err(|_| FfaError::Aborted)?;
        self.start = self.at;
        self.loaded = self
            .at
            .wrapping_add(BLOCK.wrapping_mul(u32::try_from(count).unwrap_or(0)));
        Ok(())
    }
}

/// Writes blocks of 16 bytes to a buffer, in order.
#[derive(Debug)]
pub(in crate::memory) struct Writer {
    buffer: Buffer,
    chunk: [u64; 2 * CHUNK],
    used: usize,
    /// Bytes that are in the buffer already.
    written: u64,
}

impl Writer {
    /// A writer to the start of `buffer`.
    pub(in crate::memory) const fn new(buffer: Buffer) -> Self {
        Self {
            buffer,
            chunk: [0; 2 * CHUNK],
            used: 0,
            written: 0,
        }
    }

    /// Appends a block.
    ///
    /// # Errors
    /// `NoMemory` when the buffer is too small, `Aborted` when it can't be written.
    #[inline(never)]
    pub(in crate::memory) fn block<M: Machine>(&mut self, machine: &mut M, block: Block) -> Result<(), FfaError> {
        self.fill(machine, 1, |_| Some(block))
    }

    /// Appends so many blocks, which `next` gives.
    ///
    /// # Errors
    /// As [`Writer::block`]; `Aborted` when `next` has none.
    #[inline(always)]
    pub(in crate::memory) fn fill<M: Machine>(
        &mut self,
        machine: &mut M,
        count: u32,
        mut next: impl FnMut(&M) -> Option<Block>,
    ) -> Result<(), FfaError> {
        let mut left = count as usize;
        while left != 0 {
            if self.used >= CHUNK {
                self.flush(machine)?;
            }
            let until = CHUNK.min(self.used.wrapping_add(left));
            let (places, _) = self.chunk.as_chunks_mut();
            for place in places.get_mut(self.used..until).unwrap_or_default() {
                *place = next(machine).ok_or(FfaError::Aborted)?;
            }
            left = left.wrapping_sub(until.wrapping_sub(self.used));
            self.used = until;
        }
        Ok(())
    }

    /// Writes out what was appended. To be called at the end.
    ///
    /// # Errors
    /// As [`Writer::block`].
    #[inline(never)]
    pub(in crate::memory) fn flush<M: Machine>(&mut self, machine: &mut M) -> Result<(), FfaError> {
        let words = self.chunk.get(..self.used.wrapping_mul(2)).ok_or(FfaError::Aborted)?;
        let after = self.written.saturating_add(size_of_val(words) as u64);
        if after > self.buffer.range.bytes() {
            return Err(FfaError::NoMemory);
        }
        let to = self
            .buffer
            .range
            .base()
            .checked_add(self.written)
            .ok_or(FfaError::Aborted)?;
        machine
            .copy_out_words(self.buffer.world, to, words)
            .map_err(|_| FfaError::Aborted)?;
        self.written = after;
        self.used = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addr::PhysAddr, machine::fake::FakeMachine};

    fn buffer(machine: &mut FakeMachine) -> Buffer {
        let range = PageRange::new(PhysAddr::new(0x1000), 1).unwrap();
        machine.memory.add(World::NonSecure, range);
        Buffer {
            world: World::NonSecure,
            range,
        }
    }

    #[test]
    fn what_was_read_stays_as_it_was() {
        let mut machine = FakeMachine::new(1);
        let buffer = buffer(&mut machine);
        let mut reader = Reader::new(buffer, 2048);
        machine
            .memory
            .write(World::NonSecure, buffer.range.base(), &[1; 4096])
            .unwrap();
        assert_eq!(reader.block(&mut machine), Ok([0x0101_0101_0101_0101; 2]));
        machine
            .memory
            .write(World::NonSecure, buffer.range.base(), &[2; 4096])
            .unwrap();
        // What was copied with it is not copied again, what comes behind it is copied once.
        assert_eq!(reader.blocks(&mut machine, 100).unwrap().len(), 63);
        assert_eq!(reader.blocks(&mut machine, 100).unwrap()[0], [0x0202_0202_0202_0202; 2]);
        assert!(reader.is_done());
        assert_eq!(reader.seek(2032), Err(FfaError::InvalidParameters), "never back");
        assert_eq!(reader.block(&mut machine), Err(FfaError::InvalidParameters));
        assert_eq!(reader.blocks(&mut machine, 1), Ok(&[][..]));
    }

    #[test]
    fn the_end_is_the_end() {
        let mut machine = FakeMachine::new(1);
        let buffer = buffer(&mut machine);
        assert!(buffer.holds(4097).is_err());
        let mut reader = Reader::new(buffer, 40);
        assert_eq!(reader.seek(41), Err(FfaError::InvalidParameters));
        let mut done = Reader::new(buffer, 32);
        done.seek(32).unwrap();
        assert!(done.is_done());
        reader.seek(32).unwrap();
        assert_eq!(reader.block(&mut machine), Err(FfaError::InvalidParameters));
        assert_eq!(reader.blocks(&mut machine, 1), Err(FfaError::InvalidParameters));
        machine.memory.set_broken(World::NonSecure, buffer.range.base(), true);
        let mut reader = Reader::new(buffer, 16);
        assert_eq!(reader.block(&mut machine), Err(FfaError::Aborted));
    }

    #[test]
    fn a_writer_stops_at_the_end_of_the_buffer() {
        let mut machine = FakeMachine::new(1);
        let buffer = buffer(&mut machine);
        let mut writer = Writer::new(buffer);
        for number in 0..256 {
            writer.block(&mut machine, [number, !number]).unwrap();
        }
        writer.flush(&mut machine).unwrap();
        writer.block(&mut machine, [0, 0]).unwrap();
        assert_eq!(writer.flush(&mut machine), Err(FfaError::NoMemory));
        let mut reader = Reader::new(buffer, 4096);
        for number in 0..256 {
            assert_eq!(reader.block(&mut machine), Ok([number, !number]));
        }
    }
}
