//! A second opinion on results: the decoder of `arm-ffa`, which shares no code with the policy's.

use std::{format, string::String};

use arm_ffa::{Interface, Version};

use crate::machine::SmcRegisters;

/// FFA_MSG_WAIT and FFA_YIELD, as the normal world gets them: `arm-ffa` does not keep the context and the time-out.
const FORGETS_ARGUMENTS: [u64; 2] = [0x8400_006b, 0x8400_006c];

/// What is wrong with `registers`, the result of an FF-A call: it cannot be decoded, or comes out differently when it is
/// encoded again. FFA_VERSION has no form of its own and must not be asked about.
#[must_use]
pub fn what_is_wrong(registers: &SmcRegisters) -> Option<String> {
    // 1.2, whatever was negotiated: the crate panics on what it takes for older callers.
    let version = Version(1, 2);
    let interface = match Interface::from_regs(version, registers) {
        Ok(interface) => interface,
        Err(error) => return Some(format!("{registers:x?} cannot be decoded: {error}")),
    };
    let mut again = [0; 18];
    interface.to_regs(version, &mut again);
    let [x0, ..] = *registers;
    let same = registers.iter().zip(again).take(8).enumerate();
    let mut other = same.filter(|(n, (one, other))| *one != other && (*n == 0 || !FORGETS_ARGUMENTS.contains(&x0)));
    other
        .next()
        .map(|(n, _)| format!("{registers:x?} is {interface:x?}, whose x{n} is another"))
}
