//! What FF-A calls its functions, features and errors.

use core::fmt;

/// Functions with a 64-bit form only.
const ONLY_64: [u32; 3] = [0x8b, 0x8d, 0x8e];

/// The low byte of a function's number, and its name without `FFA_`. Those with a 64-bit form too are marked.
const FUNCTIONS: [(u32, &str, bool); 46] = [
    (0x60, "ERROR", true),
    (0x61, "SUCCESS", true),
    (0x62, "INTERRUPT", true),
    (0x63, "VERSION", false),
    (0x64, "FEATURES", false),
    (0x65, "RX_RELEASE", false),
    (0x66, "RXTX_MAP", true),
    (0x67, "RXTX_UNMAP", false),
    (0x68, "PARTITION_INFO_GET", false),
    (0x69, "ID_GET", false),
    (0x6b, "MSG_WAIT", true),
    (0x6c, "YIELD", true),
    (0x6d, "RUN", true),
    (0x6f, "MSG_SEND_DIRECT_REQ", true),
    (0x70, "MSG_SEND_DIRECT_RESP", true),
    (0x71, "MEM_DONATE", true),
    (0x72, "MEM_LEND", true),
    (0x73, "MEM_SHARE", true),
    (0x74, "MEM_RETRIEVE_REQ", true),
    (0x75, "MEM_RETRIEVE_RESP", false),
    (0x76, "MEM_RELINQUISH", false),
    (0x77, "MEM_RECLAIM", false),
    (0x78, "MEM_OP_PAUSE", false),
    (0x79, "MEM_OP_RESUME", false),
    (0x7a, "MEM_FRAG_RX", false),
    (0x7b, "MEM_FRAG_TX", false),
    (0x7c, "NORMAL_WORLD_RESUME", true),
    (0x7d, "NOTIFICATION_BITMAP_CREATE", false),
    (0x7e, "NOTIFICATION_BITMAP_DESTROY", false),
    (0x7f, "NOTIFICATION_BIND", false),
    (0x80, "NOTIFICATION_UNBIND", false),
    (0x81, "NOTIFICATION_SET", false),
    (0x82, "NOTIFICATION_GET", false),
    (0x83, "NOTIFICATION_INFO_GET", true),
    (0x84, "RX_ACQUIRE", false),
    (0x85, "SPM_ID_GET", false),
    (0x86, "MSG_SEND2", false),
    (0x87, "SECONDARY_EP_REGISTER", true),
    (0x88, "MEM_PERM_GET", true),
    (0x89, "MEM_PERM_SET", true),
    (0x8a, "CONSOLE_LOG", true),
    (0x8b, "PARTITION_INFO_GET_REGS", true),
    (0x8c, "EL3_INTR_HANDLE", false),
    (0x8d, "MSG_SEND_DIRECT_REQ2", true),
    (0x8e, "MSG_SEND_DIRECT_RESP2", true),
    (0x90, "ABORT", false),
];

/// Functions of others that are good to try.
const OTHERS: [(u32, &str); 3] = [
    (0x8000_0000, "SMCCC_VERSION"),
    (0x8400_0000, "PSCI_VERSION"),
    (0x8400_000a, "PSCI_FEATURES"),
];

/// Where the numbers of FF-A's functions begin, in the 32-bit and the 64-bit form.
const BASE_32: u32 = 0x8400_0000;
const BASE_64: u32 = 0xc400_0000;

/// The function with a name: `FFA_ID_GET`, `id_get`; `..._64` is the 64-bit form.
pub fn function(word: &str) -> Option<u32> {
    if let Some((number, _)) = OTHERS.iter().find(|(_, name)| name.eq_ignore_ascii_case(word)) {
        return Some(*number);
    }
    let word = match word.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("FFA_") => &word[4..],
        _ => word,
    };
    let (word, wide) = match word.strip_suffix("_64") {
        Some(word) => (word, true),
        None => (word.strip_suffix("_32").unwrap_or(word), false),
    };
    let (low, _, _) = FUNCTIONS.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(word))?;
    let base = if wide || ONLY_64.contains(low) {
        BASE_64
    } else {
        BASE_32
    };
    Some(base | low)
}

/// A function's number, shown as its name where it has one.
#[derive(Clone, Copy, Debug)]
pub struct Function(pub u32);

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = *self;
        let found = FUNCTIONS
            .iter()
            .find(|(low, _, wide)| number == BASE_32 | low || (*wide && number == BASE_64 | low));
        if let Some((low, name, wide)) = found {
            let suffix = match number & BASE_64 {
                BASE_64 if *wide && !ONLY_64.contains(low) => "_64",
                _ => "",
            };
            write!(f, "FFA_{name}{suffix}")
        } else {
            let other = OTHERS.iter().find(|(other, _)| number == *other);
            match other {
                Some((_, name)) => write!(f, "{name}"),
                None => write!(f, "{number:#x}"),
            }
        }
    }
}

/// The feature with a name.
pub fn feature(word: &str) -> Option<u32> {
    match word {
        "npi" => Some(1),
        "sri" => Some(2),
        "mei" => Some(3),
        _ => None,
    }
}

/// An error code, shown as its name.
#[derive(Clone, Copy, Debug)]
pub struct Code(pub u32);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(code) = *self;
        f.write_str(match code.cast_signed() {
            -1 => "NOT_SUPPORTED",
            -2 => "INVALID_PARAMETERS",
            -3 => "NO_MEMORY",
            -4 => "BUSY",
            -5 => "INTERRUPTED",
            -6 => "DENIED",
            -7 => "RETRY",
            -8 => "ABORTED",
            -9 => "NO_DATA",
            -10 => "NOT_READY",
            other => return write!(f, "{other}"),
        })
    }
}
