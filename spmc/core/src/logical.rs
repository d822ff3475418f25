//! EL3's logical partitions: asked for once at boot, so that they can be listed with ours (FF-A 1.2, section 13.9).

use alloc::vec::Vec;
use uuid::Uuid;

use crate::{
    abi,
    id::EndpointId,
    machine::{Machine, SmcRegisters},
    messaging::{same_uuid, uuid_from_registers},
};

/// `FFA_PARTITION_INFO_GET_REGS`.
const PARTITION_INFO_GET_REGS: u64 = 0xc400_008b;
/// Ids that EL3 has for its logical partitions: 0xffc0 to 0xfffe.
const MAX_LOGICAL: usize = 63;
/// Registers of a descriptor that we know of; newer ones are longer.
const KNOWN_WORDS: usize = 3;

/// A logical partition at EL3, as it describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logical {
    /// Its id.
    pub id: EndpointId,
    /// Execution contexts.
    pub contexts: u16,
    /// Its properties, as partitions may see them.
    pub properties: u32,
    /// Its UUID.
    pub uuid: Uuid,
}

/// Asks the SPMD for its logical partitions; they come in ascending order of ids. An SPMD that has none, does not know the
/// call or does not come to an end is taken at its word until then.
pub(crate) fn ask<M: Machine>(machine: &mut M) -> Vec<Logical> {
    let mut found: Vec<Logical> = Vec::new();
    let (mut start, mut tag) = (0, 0);
    // Each answer that is followed by another has at least one descriptor.
    for _ in 0..MAX_LOGICAL {
        let mut registers: SmcRegisters = [0; 18];
        abi::put(
            &mut registers,
            [PARTITION_INFO_GET_REGS, 0, 0, start | (tag << 16), 0, 0, 0, 0],
        );
        machine.el3_call(&mut registers);
        let [x0, _, metadata, descriptors @ ..] = registers;
        let [last, current, new_tag, bytes] = [0, 16, 32, 48].map(|shift| (metadata >> shift) & 0xffff);
        let words = usize::try_from(bytes / 8).unwrap_or(0);
        if x0 != abi::FFA_SUCCESS_64 || bytes % 8 != 0 || words < KNOWN_WORDS || current < start || last < current {
            break;
        }
        let count = usize::try_from(current.saturating_sub(start).saturating_add(1)).unwrap_or(0);
        for descriptor in descriptors.chunks_exact(words).take(count) {
            add(&mut found, descriptor);
        }
        if current == last {
            break;
        }
        (start, tag) = (current.saturating_add(1), new_tag);
    }
    crate::sort::sort_by_key(&mut found, |logical| logical.id);
    found
}

#[expect(clippy::cast_possible_truncation, reason = "fields of 16 and 32 bits")]
fn add(found: &mut Vec<Logical>, descriptor: &[u64]) {
    let &[first, uuid_low, uuid_high, ..] = descriptor else {
        return;
    };
    let logical = Logical {
        id: EndpointId::new(first as u16),
        contexts: (first >> 16) as u16,
        properties: (first >> 32) as u32,
        uuid: uuid_from_registers(uuid_low, uuid_high),
    };
    let same = |other: &Logical| {
        (other.id, other.contexts, other.properties) == (logical.id, logical.contexts, logical.properties)
            && same_uuid(&other.uuid, &logical.uuid)
    };
    if logical.id.is_el3_logical() && found.len() < MAX_LOGICAL && !found.iter().any(same) {
        found.push(logical);
    }
}
