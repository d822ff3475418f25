//! Function identifiers: the fast path of the decoder agrees with the slow one, which is the list of `arm-ffa`.

use tantalum_core::abi::{FuncId, Function};

#[test]
fn every_identifier_is_what_arm_ffa_says() {
    for id in (0x8400_0000..0x8400_0200)
        .chain(0xc400_0000..0xc400_0200)
        .chain(0x8500_0060..0x8500_0090)
    {
        let expected = match FuncId::try_from(id) {
            Ok(function) => Function::Ffa(function),
            Err(_) if id & 0x3fff_ffff == 0x0400_0090 && id >> 31 == 1 => Function::Abort,
            Err(_) if (0x60..0xf0).contains(&(id & 0xff_ffff)) && id >> 24 & 0x3f == 4 => Function::UnknownFfa,
            Err(_) => Function::Other(id),
        };
        assert_eq!(Function::decode(id.into()), expected, "{id:#x}");
        // SMCCC: bits 63:32 of x0 mean nothing.
        assert_eq!(
            Function::decode(0xdead_beef_0000_0000 | u64::from(id)),
            expected,
            "{id:#x}"
        );
        // Bit 16: the caller has no live SVE state.
        if !matches!(expected, Function::Other(_)) {
            assert_eq!(Function::decode(u64::from(id | 1 << 16)), expected, "{id:#x}");
        }
    }
}

#[test]
fn yielding_calls_and_other_owners_are_not_ffas() {
    for id in [
        0x0400_0063,
        0x4400_0063,
        0x8000_0063,
        0x8300_0063,
        0x8600_0063,
        0xbf00_0063,
        0x8402_0063,
        0x8440_0063,
    ] {
        assert_eq!(
            Function::decode(id),
            Function::Other(u32::try_from(id).expect("32 bits"))
        );
    }
}
