//! A line, as somebody types it at a terminal: backspace, and the lines before by the arrow keys.

use tantalum_partition::{
    arch,
    normal_world::{gic, timer, uart},
    print, println,
};

/// Characters of a line.
pub const LENGTH: usize = 160;
/// Lines that are remembered.
const LINES: usize = 16;
/// How often to look for input, in milliseconds. The core sleeps in between.
const PERIOD: u64 = 5;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const ESCAPE: u8 = 27;
const DELETE: u8 = 127;

/// Characters, as many as fit.
#[derive(Clone, Copy, Debug)]
struct Line {
    bytes: [u8; LENGTH],
    length: usize,
}

impl Line {
    const EMPTY: Self = Self {
        bytes: [0; LENGTH],
        length: 0,
    };

    fn text(&self) -> &str {
        // Only printable ASCII gets in.
        str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }

    fn push(&mut self, byte: u8) -> bool {
        let room = self.length < LENGTH;
        if room {
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        room
    }
}

/// Reads lines.
#[derive(Debug)]
pub struct Editor {
    line: Line,
    /// The lines before, the latest at `count - 1`, modulo their number.
    history: [Line; LINES],
    count: usize,
}

impl Editor {
    /// One that remembers nothing yet.
    pub const fn new() -> Self {
        Self {
            line: Line::EMPTY,
            history: [Line::EMPTY; LINES],
            count: 0,
        }
    }

    /// Reads a line.
    pub fn read(&mut self, prompt: &str) -> &str {
        print!("{prompt}");
        self.line = Line::EMPTY;
        let mut shown = self.count;
        loop {
            match next() {
                b'\r' | b'\n' => break,
                CTRL_C => {
                    self.line = Line::EMPTY;
                    print!("^C\n{prompt}");
                }
                CTRL_D if self.line.length == 0 => {
                    "off".bytes().for_each(|byte| _ = self.line.push(byte));
                    print!("off");
                    break;
                }
                BACKSPACE | DELETE if self.line.length > 0 => {
                    self.line.length -= 1;
                    print!("\x08 \x08");
                }
                CTRL_U => self.replace(prompt, Line::EMPTY),
                ESCAPE => self.escape(prompt, &mut shown),
                byte @ b' '..=b'~' if self.line.push(byte) => print!("{}", char::from(byte)),
                _ => {}
            }
        }
        println!("");
        self.remember();
        self.line.text()
    }

    /// An escape sequence: the arrows up and down choose a line of before.
    fn escape(&mut self, prompt: &str, shown: &mut usize) {
        if next() != b'[' {
            return;
        }
        let oldest = self.count.saturating_sub(LINES);
        match next() {
            b'A' if *shown > oldest => *shown -= 1,
            b'B' if *shown < self.count => *shown += 1,
            _ => return,
        }
        let line = if *shown == self.count {
            Line::EMPTY
        } else {
            self.history[*shown % LINES]
        };
        self.replace(prompt, line);
    }

    fn replace(&mut self, prompt: &str, line: Line) {
        self.line = line;
        print!("\r\x1b[K{prompt}{}", line.text());
    }

    fn remember(&mut self) {
        let latest = self.history[self.count.wrapping_sub(1) % LINES];
        if self.line.length > 0 && (self.count == 0 || latest.text() != self.line.text()) {
            self.history[self.count % LINES] = self.line;
            self.count += 1;
        }
    }
}

/// The next byte that comes; sleeps until there is one.
fn next() -> u8 {
    loop {
        if let Some(byte) = uart::read() {
            return byte;
        }
        gic::enable(timer::INTERRUPT);
        timer::start(PERIOD);
        arch::wait_for_interrupt();
        timer::stop();
        while gic::take().is_some() {}
        gic::disable(timer::INTERRUPT);
    }
}
