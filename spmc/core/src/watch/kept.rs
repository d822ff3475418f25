//! What of the time that is counted makes two states differ, for models that visit all states of small machines.
//!
//! Not how often devices have interrupted, nor when the last handler ended: a limit in such a model is shorter than any break,
//! and there are no storms.

use crate::{
    machine::NO_DEADLINE,
    watch::{NO_LIMIT, Pace, TimeLimits, Watch, slice},
};

/// A [`Watch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct KeptWatch {
    left: u64,
    /// How long ago it began to be spent.
    spent: Option<u64>,
    /// The place of the PE on whose present stretch it was a handler last.
    stretch: Option<usize>,
}

impl KeptWatch {
    /// It is that of a context with `limits`; `paces` are those of all PEs.
    pub(crate) fn new<'p>(
        watch: &Watch,
        limits: &TimeLimits,
        now: u64,
        mut paces: impl Iterator<Item = &'p Pace>,
    ) -> Self {
        let Watch {
            left,
            since,
            stretch,
            events: _,
            stormed: _,
        } = *watch;
        match longest_slice(limits) {
            // Nothing is counted.
            None => Self::default(),
            Some(longest) => Self {
                left,
                spent: (since != NO_DEADLINE).then(|| now.saturating_sub(since).min(longest)),
                stretch: paces.position(|pace| pace.stretch == stretch),
            },
        }
    }

    /// The watch at the time `now`.
    pub(crate) fn watch(&self, now: u64) -> Watch {
        Watch {
            left: self.left,
            since: self.spent.map_or(NO_DEADLINE, |spent| now.saturating_sub(spent)),
            stretch: self.stretch.map_or(0, first_stretch),
            ..Watch::NEW
        }
    }
}

/// The longest slice of all limits, if there are any.
fn longest_slice(limits: &TimeLimits) -> Option<u64> {
    let TimeLimits {
        interrupt,
        queued,
        firmware,
        start,
    } = *limits;
    let limits = [interrupt, queued, firmware, start].into_iter();
    limits.filter(|limit| *limit != NO_LIMIT).map(slice).max()
}

/// The stretch of a PE in a state that was put back; no other PE comes to it soon.
fn first_stretch(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(0).wrapping_add(1).wrapping_shl(16)
}

impl Pace {
    /// What of it is kept, where there are partitions with these limits.
    pub(crate) fn kept<'l>(&self, mut limits: impl Iterator<Item = &'l TimeLimits>) -> [bool; 2] {
        let Self {
            stretch: _,
            ended: _,
            crowded,
            afresh,
        } = *self;
        let counted = limits.any(|limits| longest_slice(limits).is_some());
        [crowded && counted, afresh && counted]
    }

    /// That of the PE at a place.
    pub(crate) fn put_back(place: usize, [crowded, afresh]: [bool; 2]) -> Self {
        Self {
            stretch: first_stretch(place),
            crowded,
            afresh,
            ..Self::NEW
        }
    }
}
