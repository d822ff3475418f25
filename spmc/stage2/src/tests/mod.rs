//! Tests of the tree: each operation, its boundaries, random sequences against a model, stale translations.

mod encoding;
mod model;
mod operations;
mod shares;
mod tlb;

use core::ops::ControlFlow;
use std::vec::Vec;

use crate::{
    Access, Attributes, Error, Execute, Granule, Ipa, IpaRange, IpaSize, MemoryType, OutputAddress, Ownership, Run,
    Tables, Tlb, fake::FakeMemory,
};

pub(crate) const KIB4: u64 = 1 << 12;
pub(crate) const MIB2: u64 = 1 << 21;
pub(crate) const GIB: u64 = 1 << 30;

pub(crate) fn range(start: u64, bytes: u64) -> IpaRange {
    assert!(bytes.is_multiple_of(KIB4));
    IpaRange::new(Ipa(start), bytes / KIB4).expect("a range")
}

/// Normal write-back, read-write, never executed, owned.
pub(crate) fn data() -> Attributes {
    Attributes::new(
        MemoryType::NormalWriteBack,
        Access::ReadWrite,
        Execute::Never,
        Ownership::Owned,
    )
}

/// A tree over its own memory, watched for stale translations, checked when it goes.
pub(crate) struct Bed {
    pub(crate) memory: FakeMemory,
    pub(crate) tables: Tables,
}

impl Bed {
    pub(crate) fn new(size: IpaSize) -> Self {
        let mut memory = FakeMemory::new();
        let tables = Tables::new(&mut memory, size).expect("memory");
        memory.watch(&tables);
        Self { memory, tables }
    }

    pub(crate) fn map(&mut self, start: u64, bytes: u64, output: u64, granule: Granule) -> Result<(), Error> {
        self.tables.map(
            &mut self.memory,
            range(start, bytes),
            OutputAddress(output),
            data(),
            granule,
        )
    }

    pub(crate) fn unmap(&mut self, start: u64, bytes: u64) {
        let token = self
            .tables
            .unmap(&mut self.memory, range(start, bytes), Ownership::None)
            .expect("unmapped");
        token.complete(&mut self.memory);
    }

    pub(crate) fn runs(&self, start: u64, bytes: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let flow = self.tables.walk(&self.memory, range(start, bytes), |run| {
            runs.push(run);
            ControlFlow::Continue(())
        });
        assert_eq!(flow, Ok(ControlFlow::Continue(())));
        runs
    }

    /// Level and output of the translation of `ipa`.
    pub(crate) fn at(&self, ipa: u64) -> Option<(u8, u64)> {
        self.tables
            .translate(&self.memory, Ipa(ipa))
            .map(|mapping| (mapping.level.number(), mapping.output.0))
    }

    pub(crate) fn check(&self) {
        self.memory.check(&self.tables);
    }

    /// Takes the tree apart and checks that nothing is left.
    pub(crate) fn finish(mut self) {
        self.check();
        self.memory.unwatch(self.tables.root());
        let token = self.tables.destroy(&mut self.memory);
        token.complete(&mut self.memory);
        assert_eq!(self.memory.live(), 0);
    }
}

/// All of an IPA space.
pub(crate) fn everything(size: IpaSize) -> IpaRange {
    range(0, size.limit().0)
}

/// Invalidates everything, whatever any token says.
pub(crate) fn invalidate_all(memory: &mut FakeMemory, size: IpaSize) {
    memory.invalidate(everything(size));
}
