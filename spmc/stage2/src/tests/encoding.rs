//! Bits: descriptors as Arm ARM D8.3.2 has them, attributes, registers, ranges.

use super::{GIB, KIB4, MIB2, data, range};
use crate::{
    Access, Attributes, Execute, Ipa, IpaRange, IpaSize, Level, MemoryType, OutputAddress, Ownership, Shareability,
    VSTCR_EL2_WALKS_SECURE, VTCR_EL2_OUTPUT_NON_SECURE, descriptor,
};

#[test]
fn attributes_have_the_architectures_bits() {
    // MemAttr 0b1111, S2AP 0b11, SH 0b11, AF, XN 0b10, ownership 1.
    assert_eq!(
        data().bits(),
        0b1111 << 2 | 0b11 << 6 | 0b11 << 8 | 1 << 10 | 0b10 << 53 | 1 << 55
    );
    let device = Attributes::new(
        MemoryType::DeviceNGnRE,
        Access::ReadOnly,
        Execute::Never,
        Ownership::Device,
    );
    assert_eq!(
        device.bits(),
        0b0001 << 2 | 0b01 << 6 | 0b10 << 8 | 1 << 10 | 0b10 << 53 | 7 << 55
    );
    let code = data().with_permissions(Access::ReadOnly, Execute::El1);
    assert_eq!(code.bits() >> 53 & 0b11, 0b11);
    assert_eq!(
        data().with_permissions(Access::None, Execute::El0).bits() >> 53 & 0b11,
        0b01
    );
    assert_eq!(
        data().with_permissions(Access::None, Execute::Always).bits() >> 53 & 0b11,
        0b00
    );
}

#[test]
fn attributes_are_read_back() {
    let memories = [
        MemoryType::DeviceNGnRnE,
        MemoryType::DeviceNGnRE,
        MemoryType::DeviceNGRE,
        MemoryType::DeviceGRE,
        MemoryType::NormalNonCacheable,
        MemoryType::NormalWriteThrough,
        MemoryType::NormalWriteBack,
    ];
    let accesses = [Access::None, Access::ReadOnly, Access::WriteOnly, Access::ReadWrite];
    let executes = [Execute::Never, Execute::Always, Execute::El0, Execute::El1];
    let shareabilities = [Shareability::None, Shareability::Outer, Shareability::Inner];
    for memory in memories {
        for access in accesses {
            for execute in executes {
                for ownership in Ownership::all() {
                    for shareability in shareabilities {
                        let built = Attributes::new(memory, access, execute, ownership).with_shareability(shareability);
                        let read = Attributes::of(descriptor::leaf(0x1000, built.bits(), Level::Three));
                        assert_eq!(read, built);
                        assert_eq!(
                            (
                                read.memory(),
                                read.access(),
                                read.execute(),
                                read.ownership(),
                                read.shareability()
                            ),
                            (memory, access, execute, ownership, shareability)
                        );
                    }
                }
            }
        }
    }
    assert_eq!(data().with_ownership(Ownership::Lent).ownership(), Ownership::Lent);
    assert_eq!(
        data().with_ownership(Ownership::Lent).with_ownership(Ownership::Owned),
        data()
    );
}

#[test]
fn without_xnx_only_xn1_is_used() {
    for execute in [Execute::Never, Execute::Always, Execute::El0, Execute::El1] {
        let bits = data().with_permissions(Access::ReadOnly, execute.without_xnx()).bits();
        assert_eq!(bits >> 53 & 1, 0);
    }
    assert_eq!(Execute::Never.without_xnx(), Execute::Never);
    assert_eq!(Execute::El0.without_xnx(), Execute::Always);
}

#[test]
fn descriptor_types_are_by_level() {
    assert_eq!(descriptor::leaf(GIB, 0, Level::One) & 0b11, 0b01);
    assert_eq!(descriptor::leaf(MIB2, 0, Level::Two) & 0b11, 0b01);
    assert_eq!(descriptor::leaf(KIB4, 0, Level::Three) & 0b11, 0b11);
    let table = descriptor::table(crate::TableAddr(0x8000_1000), 512);
    assert_eq!(table, 0x8000_1000 | 512 << 2 | 0b11);
    assert_eq!(descriptor::count(table), 512);
}

#[test]
fn ill_formed_descriptors_are_told() {
    let page = descriptor::leaf(KIB4, data().bits(), Level::Three);
    assert!(descriptor::is_well_formed(page, Level::Three));
    assert!(!descriptor::is_well_formed(page | 1 << 11, Level::Three));
    assert!(!descriptor::is_well_formed(page | 1 << 58, Level::Three));
    assert!(!descriptor::is_well_formed(page & !0b10, Level::Three));
    assert!(!descriptor::is_well_formed(page & !(1 << 10), Level::Three));
    let block = descriptor::leaf(MIB2, data().bits(), Level::Two);
    assert!(descriptor::is_well_formed(block, Level::Two));
    assert!(!descriptor::is_well_formed(block, Level::One));
    assert!(!descriptor::is_well_formed(block & !0xffff_ffff, Level::Zero));
    assert!(!descriptor::is_well_formed(
        descriptor::table(crate::TableAddr(KIB4), 513),
        Level::Two
    ));
    assert!(!descriptor::is_well_formed(1 << 62, Level::Two));
}

#[test]
fn registers_say_what_the_tables_are() {
    assert_eq!(IpaSize::Bits39.vtcr_el2(), 0x8000_3559);
    assert_eq!(IpaSize::Bits48.vtcr_el2(), 0x8000_3590);
    assert_eq!(IpaSize::Bits39.vstcr_el2(), 0x8000_0059);
    assert_eq!(IpaSize::Bits48.vstcr_el2(), 0x8000_0090);
    assert_eq!(VTCR_EL2_OUTPUT_NON_SECURE, 1 << 30);
    assert_eq!(VSTCR_EL2_WALKS_SECURE, 0);
    for size in [IpaSize::Bits39, IpaSize::Bits48] {
        assert_eq!(size.t0sz(), u64::from(64 - size.bits()));
        assert_eq!(size.limit(), Ipa(1 << size.bits()));
        assert_eq!(size.root_level().size() * 512, size.limit().0);
    }
}

#[test]
fn ranges_are_of_whole_pages_and_do_not_wrap() {
    assert_eq!(IpaRange::new(Ipa(1), 1), None);
    assert_eq!(IpaRange::new(Ipa(0xfff), 1), None);
    assert_eq!(IpaRange::new(Ipa(0), 0), None);
    assert_eq!(IpaRange::new(Ipa(0), u64::MAX), None);
    assert_eq!(IpaRange::new(Ipa(0), 1 << 52), None);
    assert_eq!(IpaRange::new(Ipa(u64::MAX - 0xfff), 1), None);
    assert_eq!(IpaRange::new(Ipa(u64::MAX - 0x1fff), 2), None);
    let high = IpaRange::new(Ipa(u64::MAX - 0x1fff), 1).expect("below the top");
    assert_eq!(
        (high.pages(), high.bytes(), high.end()),
        (1, KIB4, Ipa(u64::MAX - 0xfff))
    );
    let some = range(0x3000, 0x2000);
    assert!(some.contains(Ipa(0x3000)) && some.contains(Ipa(0x4fff)));
    assert!(!some.contains(Ipa(0x2fff)) && !some.contains(Ipa(0x5000)));
}

#[test]
fn outputs_are_aligned_and_below_48_bits() {
    assert!(OutputAddress((1 << 48) - KIB4).is_valid_for(KIB4));
    assert!(!OutputAddress((1 << 48) - KIB4).is_valid_for(2 * KIB4));
    assert!(!OutputAddress(1 << 48).is_valid_for(KIB4));
    assert!(!OutputAddress(0x800).is_valid_for(KIB4));
    assert!(!OutputAddress(!0xfff).is_valid_for(KIB4));
}

#[test]
fn levels_nest() {
    assert_eq!(Level::of_boundary(0), Level::Zero);
    assert_eq!(Level::of_boundary(1 << 39), Level::Zero);
    assert_eq!(Level::of_boundary(GIB), Level::One);
    assert_eq!(Level::of_boundary(GIB + MIB2), Level::Two);
    assert_eq!(Level::of_boundary(GIB + KIB4), Level::Three);
    assert_eq!(Level::Two.index(GIB + 3 * MIB2 + KIB4), 3);
    assert_eq!(Level::Three.index(GIB + 3 * MIB2 + KIB4), 1);
    assert_eq!(Level::Two.floor(3 * MIB2 + KIB4), 3 * MIB2);
}

#[test]
fn stage_1_of_el0_has_the_architectures_bits() {
    // AttrIndx 0, NS, AP[2:1] 0b01 (EL1 and EL0, read and write), SH 0b11, AF, PXN and not UXN.
    let secure = 0b01 << 6 | 0b11 << 8 | 1 << 10 | 1 << 53;
    assert_eq!(Attributes::for_el0(false).bits(), secure);
    assert_eq!(Attributes::for_el0(true).bits(), secure | 1 << 5);
    // AP[2:1] 0b10 (EL1, read), UXN and not PXN.
    assert_eq!(
        Attributes::code_for_el1().bits(),
        0b10 << 6 | 0b11 << 8 | 1 << 10 | 1 << 54
    );
    // They are what descriptors keep.
    for attributes in [
        Attributes::for_el0(false),
        Attributes::for_el0(true),
        Attributes::code_for_el1(),
    ] {
        let found = descriptor::leaf(0x1000, attributes.bits(), Level::Three);
        assert_eq!(Attributes::of(found), attributes);
    }
    // EPD1, 4 KiB, write-back walks in the inner shareable domain, 48 bits of output.
    let common = 1 << 23 | 0b101 << 32 | 0b11 << 12 | 0b01 << 10 | 0b01 << 8;
    assert_eq!(IpaSize::Bits39.tcr_el1(), common | 25);
    assert_eq!(IpaSize::Bits48.tcr_el1(), common | 16);
}
