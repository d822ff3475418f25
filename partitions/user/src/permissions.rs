//! `FFA_MEM_PERM_GET` and `FFA_MEM_PERM_SET`. What is not as it should be is a panic, and the initialisation fails.

use tantalum_agent::{FREE, USER_CONSTANTS, USER_DATA};
use tantalum_partition::{
    ffa::{FfaError, Permissions, SMC, error_code, registers},
    image_range, probe,
};

const GET32: u64 = 0x8400_0088;
const GET64: u64 = 0xc400_0088;
const SET32: u64 = 0x8400_0089;
const SET64: u64 = 0xc400_0089;
const SUCCESS: u64 = 0x8400_0061;

/// Offset of the image in the package, and bytes of the partition's memory.
const IMAGE: u64 = 0x4000;
const MEMORY: u64 = 0x10_0000;

const CODE: u64 = Permissions::CODE.0 as u64;
const DATA: u64 = Permissions::READ_WRITE.0 as u64;
const CONSTANTS: u64 = Permissions::READ_ONLY.0 as u64;

fn expect(call: &[u64], expected: Result<u64, FfaError>) {
    let answer = SMC.call(&registers(call));
    let got = match error_code(&answer) {
        Some(code) => Err(code),
        None => Ok(answer[2]),
    };
    assert_eq!(got, expected, "the answer to {call:x?}");
    if expected.is_ok() {
        assert_eq!(answer[0], SUCCESS, "w0 of the answer to {call:x?}");
        assert_eq!(answer[3..8], [0; 5], "x3-x7 of the answer to {call:x?}");
    }
}

/// Tests both calls, and leaves the pages behind that the normal world's tests know of.
pub fn test() {
    let base = image_range().start as u64 - IMAGE;
    let (data, constants, code) = (base + USER_DATA, base + USER_CONSTANTS, base + USER_CONSTANTS + 0x1000);
    started(base, data);
    changes(data, constants);
    refusals(base, data);
    // For its buffers.
    expect(&[SET64, base + FREE, 2, DATA], Ok(0));
    // Other pages are as they were.
    expect(&[GET64, code], Ok(CODE));
    assert_eq!(probe::read64(code), Ok(0), "a page of code can be read");
}

/// What the entry code has made of the image, and how the rest is.
fn started(base: u64, data: u64) {
    expect(&[GET64, base], Ok(CODE));
    expect(&[GET64, base + IMAGE], Ok(CODE));
    expect(&[GET64, (&raw const WORD).addr() as u64 & !0xfff], Ok(CONSTANTS));
    let local = 0_u64;
    expect(&[GET64, (&raw const local).addr() as u64 & !0xfff], Ok(DATA));
    expect(&[GET32, data], Ok(CODE));
    expect(&[GET64, base + MEMORY - 0x1000], Ok(CODE));
}

/// A constant.
static WORD: u64 = 0x1234;

fn changes(data: u64, constants: u64) {
    expect(&[SET32, data, 2, DATA], Ok(0));
    expect(&[GET64, data], Ok(DATA));
    expect(&[GET32, constants], Ok(DATA));
    for page in [data, constants] {
        assert_eq!(
            probe::write64(page, u64::from(probe::RETURN_INSTRUCTION)),
            Ok(()),
            "data is written"
        );
    }
    // Data becomes code, which runs, and data again.
    expect(&[SET64, data, 1, CODE], Ok(0));
    assert_eq!(probe::execute(data), Ok(()), "code is executed");
    expect(&[SET64, data, 1, DATA], Ok(0));
    expect(&[SET64, constants, 1, CONSTANTS], Ok(0));
    expect(&[GET64, constants], Ok(CONSTANTS));
    expect(&[GET64, data], Ok(DATA));
    let kept = probe::read64(constants);
    assert_eq!(kept, Ok(u64::from(probe::RETURN_INSTRUCTION)), "a constant is read");
    // Upper halves do not count in the 32-bit forms.
    let high = 0xdead_beef << 32;
    expect(&[SET32, high | data, high | 1, high | DATA], Ok(0));
    expect(&[GET32, high | data], Ok(DATA));
}

fn refusals(base: u64, data: u64) {
    let wrong = Err(FfaError::InvalidParameters);
    // Unaligned, nothing, too much, nobody's, somebody else's, the SPMC's, the normal world's.
    expect(&[SET64, data + 8, 1, DATA], wrong);
    expect(&[SET64, data, 0, DATA], wrong);
    expect(&[SET64, base, MEMORY / 0x1000 + 1, CODE], wrong);
    expect(&[SET64, base, 0xffff_ffff, CODE], wrong);
    for address in [
        0,
        base - 0x1000,
        base + MEMORY,
        0x0e20_0000,
        0x0e10_0000,
        0x4000_0000,
        1 << 40,
        !0xfff,
    ] {
        expect(&[SET64, address, 1, CONSTANTS], wrong);
        expect(&[GET64, address], wrong);
    }
    expect(&[GET64, data + 8], wrong);
    expect(&[GET64, data, 1], wrong);
    // No access, reserved, written and executed, reserved bits.
    for permissions in [0, 0b100, 0b010, 0b110, 0b001, 0b1101, 1 << 31 | DATA] {
        expect(&[SET64, data, 1, permissions], wrong);
    }
    // Nothing of that has changed anything.
    expect(&[GET64, data], Ok(DATA));
    expect(&[GET64, base], Ok(CODE));
}
