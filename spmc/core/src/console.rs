//! FFA_CONSOLE_LOG: lines of partitions on the SPMC's console (FF-A 1.2, section 13.13).

use arrayvec::ArrayString;

use crate::{
    abi::{FfaError, low},
    id::{SpId, VcpuIndex},
    machine::Machine,
    spmc::{Running, success},
};

/// Longest line; a longer one is broken.
const LINE_BYTES: usize = 128;

/// What a context has written since its last new line.
#[derive(Debug)]
pub struct LogLine {
    text: ArrayString<LINE_BYTES>,
}

impl Default for LogLine {
    fn default() -> Self {
        Self::new()
    }
}

impl LogLine {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: ArrayString::new_const(),
        }
    }

    /// Forgets what was not printed.
    pub(crate) fn clear(&mut self) {
        self.text.clear();
    }

    fn push<M: Machine>(&mut self, machine: &mut M, from: &Sender<'_>, byte: u8) {
        match byte {
            // Empty lines tell nothing, and a call could be made of them.
            b'\n' if self.text.is_empty() => {}
            b'\n' => self.flush(machine, from),
            b'\r' | 0 => {}
            _ => {
                if self.text.is_full() {
                    self.flush(machine, from);
                }
                let _ = self.text.try_push(printable(byte));
            }
        }
    }

    /// Writes the line out, if there is something in it.
    fn flush<M: Machine>(&mut self, machine: &mut M, from: &Sender<'_>) {
        machine.print(format_args!(
            "[{} {}.{}] {}\n",
            from.name,
            from.id,
            from.vcpu.as_u16(),
            self.text
        ));
        self.text.clear();
    }
}

/// What a partition may still write: so many characters at once, and so many each second after.
#[derive(Debug)]
pub struct LogBudget {
    left: u64,
    since: u64,
}

/// Characters that may come at once.
const BURST: u64 = 16 * 1024;
/// Characters a second that a partition may go on writing: about what a serial line of 115,200 baud takes.
const A_SECOND: u64 = 11_520;

impl LogBudget {
    /// A full budget.
    #[must_use]
    pub const fn new() -> Self {
        Self { left: BURST, since: 0 }
    }

    /// Takes `characters` from it, if they are there.
    fn take<M: Machine>(&mut self, machine: &mut M, characters: u64) -> bool {
        let now = machine.now();
        let ticks = now.saturating_sub(self.since);
        let earned = ticks
            .saturating_mul(A_SECOND)
            .checked_div(machine.frequency())
            .unwrap_or(0);
        if earned > 0 {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.since = now;
        }
        match self.left.checked_sub(characters) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Default for LogBudget {
    fn default() -> Self {
        Self::new()
    }
}

struct Sender<'s> {
    name: &'s str,
    id: SpId,
    vcpu: VcpuIndex,
}

/// A partition's byte as it may go to a terminal: nothing that moves the cursor or changes colours.
fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        b'\t' => ' ',
        _ => '?',
    }
}

/// Writes out what the running context, which is stopped, has logged and not ended with a new line.
pub(crate) fn flush<M: Machine>(running: &Running<'_>, machine: &mut M) {
    let Some(line) = running.partition.log.get(running.vcpu.index()) else {
        return;
    };
    let mut line = line.lock();
    if !line.text.is_empty() {
        line.flush(machine, &sender(running));
    }
}

fn sender<'s>(running: &Running<'s>) -> Sender<'s> {
    Sender {
        name: &running.partition.name,
        id: running.partition.id,
        vcpu: running.vcpu,
    }
}

/// FFA_CONSOLE_LOG of the running context: w1 characters from x2 on, four a register or eight.
pub(crate) fn console_log<M: Machine>(
    running: &Running<'_>,
    machine: &mut M,
    wide: bool,
) -> Result<[u64; 8], FfaError> {
    let x = &running.ctx.x;
    let [_, w1, ..] = *x;
    let (registers, bytes_each) = match (wide, running.partition.is_v1_2()) {
        (false, _) => (6, 4),
        (true, false) => (6, 8),
        (true, true) => (16, 8),
    };
    let length = usize::try_from(low(w1)).map_err(|_| FfaError::InvalidParameters)?;
    if length == 0 || length > registers * bytes_each {
        return Err(FfaError::InvalidParameters);
    }
    let Some(line) = running.partition.log.get(running.vcpu.index()) else {
        return Err(FfaError::Denied);
    };
    if !running.partition.log_budget.lock().take(machine, u64::from(low(w1))) {
        return Err(FfaError::Retry);
    }
    let from = sender(running);
    let bytes = x
        .iter()
        .skip(2)
        .flat_map(|register| register.to_le_bytes().into_iter().take(bytes_each));
    let mut line = line.lock();
    for byte in bytes.take(length) {
        line.push(machine, &from, byte);
    }
    Ok(success(0))
}
