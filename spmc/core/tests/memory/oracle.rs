//! Descriptors against those of the `arm-ffa` crate, whose own form is that of FF-A 1.1, and whatever else at random.

use arm_ffa::{
    FuncId,
    memory_management::{
        Cacheability, ConstituentMemRegion, DataAccessPerm, Handle, InstuctionAccessPerm, MemAccessPerm,
        MemRegionAttributes, MemRegionSecurity, MemTransactionDesc, MemTransactionFlags, MemType, Shareability,
    },
};
use proptest::prelude::*;

use crate::{
    message::{Form, Message, RO},
    world::{NS, NWD, SP1, SP2, SP3, World, page},
};

const NORMAL: MemType = MemType::Normal {
    cacheability: Cacheability::WriteBack,
    shareability: Shareability::Inner,
};

fn permission(id: u16, write: bool) -> MemAccessPerm {
    MemAccessPerm {
        endpoint_id: id,
        instr_access: InstuctionAccessPerm::NotSpecified,
        data_access: if write {
            DataAccessPerm::ReadWrite
        } else {
            DataAccessPerm::ReadOnly
        },
        flags: 0,
    }
}

/// Ranges that do not overlap: gaps and lengths. What touches is one range.
fn ranges() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0_u64..3, 1_u32..4), 1..400).prop_map(|parts| {
        let mut at = 0x2000;
        let mut ranges = Vec::new();
        for (gap, pages) in parts {
            at += gap;
            ranges.push((page(NS, at), pages));
            at += u64::from(pages);
        }
        ranges
    })
}

fn joined(ranges: &[(u64, u32)]) -> Vec<(u64, u32)> {
    let mut joined: Vec<(u64, u32)> = Vec::new();
    for &(address, pages) in ranges {
        match joined.last_mut() {
            Some((start, count)) if page(*start, (*count).into()) == address => *count += pages,
            _ => joined.push((address, pages)),
        }
    }
    joined
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arm_ffa_understands_and_is_understood(ranges in ranges(), tag: u64, write: bool, several: bool) {
        let mut w = World::new(2);
        w.buffer_pages = 4;
        w.speaks(NWD, Form::V1_1);
        w.speaks(SP1, Form::V1_1);
        let mut descriptor = MemTransactionDesc {
            sender_id: 9,
            mem_region_attr: MemRegionAttributes { security: MemRegionSecurity::Secure, mem_type: NORMAL },
            flags: MemTransactionFlags(0),
            handle: Handle(0),
            tag,
        };
        let constituents: Vec<_> =
            ranges.iter().map(|&(address, page_cnt)| ConstituentMemRegion { address, page_cnt }).collect();
        let borrowers: Vec<_> = [SP1, SP2].into_iter().take(1 + usize::from(several)).map(|id| permission(id, write)).collect();
        let mut bytes = vec![0; 0x4000];
        let length = descriptor.pack(&constituents, &borrowers, &mut bytes);
        let handle = w.send_by(NWD, FuncId::MemShare32, &bytes[..length], 4096).unwrap();
        descriptor.handle = Handle(handle);
        let length = descriptor.pack(&[], &borrowers, &mut bytes);
        w.put_tx(SP1, &bytes[..length]);
        let reply = w.call(SP1, FuncId::MemRetrieveReq32, [length as u64, length as u64, 0, 0]).unwrap();
        let response = w.get_rx(SP1, reply[2] as usize);
        let (found, permissions, constituents) = MemTransactionDesc::unpack(&response).unwrap();
        descriptor.flags = MemTransactionFlags(MemTransactionFlags::TYPE_SHARE);
        descriptor.mem_region_attr.security = MemRegionSecurity::NonSecure;
        prop_assert_eq!(&found, &descriptor);
        let permissions: Vec<_> = permissions.map(Result::unwrap).collect();
        let granted = MemAccessPerm { instr_access: InstuctionAccessPerm::NotExecutable, ..permission(SP1, write) };
        prop_assert_eq!(permissions, vec![granted]);
        let found: Vec<_> = constituents.unwrap().map(Result::unwrap).map(|c| (c.address, c.page_cnt)).collect();
        prop_assert_eq!(found, joined(&ranges));
        w.check(0);
    }

    #[test]
    fn what_was_sent_is_what_is_retrieved(
        ranges in ranges(),
        tag: u64,
        passed: [u64; 2],
        sender in 0_usize..3,
        borrower in 0_usize..3,
        most in 1_usize..90,
    ) {
        let (sender, borrower) = (Form::ALL[sender], Form::ALL[borrower]);
        let mut w = World::new(3);
        w.speaks(NWD, sender);
        w.speaks(SP2, borrower);
        let message = Message::send(sender, 3, &[(SP1, RO), (SP2, RO), (SP3, RO), (4, RO)], &ranges).normal();
        let message = message.with(|m| {
            m.tag = tag;
            m.emads[1].passed = passed;
        });
        let handle = w.send_by(NWD, FuncId::MemShare64, &message.bytes(), 192 + 16 * most).unwrap();
        w.check(0);
        let request = Message::retrieve(borrower, 3, handle, &[(SP2, RO)]).with(|m| {
            m.tag = tag;
            m.flags = 1 << 10;
        });
        let response = w.retrieve(SP2, &request).unwrap();
        prop_assert_eq!((response.sender, response.tag, response.handle), (3, tag, handle));
        prop_assert_eq!(response.plain_ranges(), joined(&ranges));
        let expected = if sender == Form::V1_2 && borrower == Form::V1_2 { passed } else { [0, 0] };
        prop_assert_eq!(response.emads[0].passed, expected);
        w.check(0);
    }
}
