//! `FFA_VERSION`.

use tantalum_partition::ffa::Registers;

use super::tests;
use crate::{
    report::{Outcome, check, expect_eq},
    talk::{ID_GET, VERSION, smc},
    world::World,
};

tests! { "version":
    bit_31_is_not_supported,
    another_major_version_is_not_supported,
    lower_minor_version_is_answered_by_1_2,
    higher_minor_version_is_not_agreed_to,
    version_1_2_is_agreed_to,
    unused_registers_are_zero,
    same_version_again_is_allowed,
    change_after_another_call_is_not_supported,
}

const NOT_SUPPORTED: u64 = 0xffff_ffff;
const V1_2: u64 = 0x0001_0002;

/// The answers while nothing was agreed on: there is only one chance to get them.
#[derive(Clone, Copy, Debug)]
pub struct Observations {
    bit_31: Registers,
    major_2: Registers,
    minor_1: Registers,
    minor_3: Registers,
    minor_2: Registers,
}

/// Asks for several versions, and last for 1.2, before any other call.
pub fn observe() -> Observations {
    let ask = |version| smc(&[VERSION, version]);
    Observations {
        bit_31: ask(1 << 31 | V1_2),
        major_2: ask(2 << 16),
        minor_1: ask(1 << 16 | 1),
        minor_3: ask(1 << 16 | 3),
        minor_2: ask(V1_2),
    }
}

/// w0: the upper half of the register is not the answer's.
fn w0(answer: &Registers) -> u64 {
    answer[0] & 0xffff_ffff
}

fn bit_31_is_not_supported(world: &World) -> Outcome {
    expect_eq!(w0(&world.version.bit_31), NOT_SUPPORTED, "FFA_VERSION with bit 31 set");
    Ok(())
}

fn another_major_version_is_not_supported(world: &World) -> Outcome {
    expect_eq!(w0(&world.version.major_2), NOT_SUPPORTED, "FFA_VERSION 2.0");
    Ok(())
}

fn lower_minor_version_is_answered_by_1_2(world: &World) -> Outcome {
    expect_eq!(w0(&world.version.minor_1), V1_2, "FFA_VERSION 1.1");
    Ok(())
}

fn higher_minor_version_is_not_agreed_to(world: &World) -> Outcome {
    let answer = w0(&world.version.minor_3);
    check!(
        answer == NOT_SUPPORTED || answer == V1_2,
        "NOT_SUPPORTED or 1.2 for FFA_VERSION 1.3, got {answer:#x}"
    );
    Ok(())
}

fn version_1_2_is_agreed_to(world: &World) -> Outcome {
    expect_eq!(w0(&world.version.minor_2), V1_2, "FFA_VERSION 1.2");
    Ok(())
}

fn unused_registers_are_zero(world: &World) -> Outcome {
    for answer in [
        &world.version.bit_31,
        &world.version.major_2,
        &world.version.minor_1,
        &world.version.minor_2,
    ] {
        expect_eq!(answer[1..8], [0; 7], "x1-x7 after FFA_VERSION");
    }
    Ok(())
}

fn same_version_again_is_allowed(_: &World) -> Outcome {
    let _ = smc(&[ID_GET]);
    expect_eq!(
        w0(&smc(&[VERSION, V1_2])),
        V1_2,
        "FFA_VERSION 1.2 again, after another call"
    );
    Ok(())
}

fn change_after_another_call_is_not_supported(_: &World) -> Outcome {
    let _ = smc(&[ID_GET]);
    let answer = w0(&smc(&[VERSION, 1 << 16 | 1]));
    // Whatever happened: agree on 1.2 again, all other tests count on it.
    let again = w0(&smc(&[VERSION, V1_2]));
    expect_eq!(answer, NOT_SUPPORTED, "FFA_VERSION 1.1 after another call");
    expect_eq!(again, V1_2, "FFA_VERSION 1.2 afterwards");
    Ok(())
}
