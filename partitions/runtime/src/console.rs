//! Text output: `FFA_CONSOLE_LOG` in a partition, the UART in the normal world.

use core::fmt::{self, Write};

use crate::{arch, ffa, normal_world::uart};

/// As many characters as one `FFA_CONSOLE_LOG` takes.
const LINE: usize = 128;

/// Collects text and passes it on in as few calls as possible.
#[derive(Debug)]
struct Console {
    text: [u8; LINE],
    length: usize,
}

impl Console {
    fn flush(&mut self) {
        let mut rest = &self.text[..self.length];
        if arch::is_normal_world() {
            uart::write(rest);
            rest = &[];
        }
        while !rest.is_empty() {
            // An SPM older than FF-A 1.2, or one that has no 64-bit form, may have the 32-bit one. If not, there is nobody to tell.
            let Ok(taken) = ffa::SMC.console_log64(rest).or_else(|_| ffa::SMC.console_log32(rest)) else {
                break;
            };
            rest = &rest[taken..];
        }
        self.length = 0;
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.length == LINE {
                self.flush();
            }
            self.text[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Prints formatted text; the macros' work.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>, newline: bool) {
    let mut console = Console {
        text: [0; LINE],
        length: 0,
    };
    // Writing to the buffer can't fail, and a failing `Display` of the caller's is not ours to report.
    let _ = console.write_fmt(arguments);
    if newline {
        let _ = console.write_str("\n");
    }
    console.flush();
}

/// Prints text without ending the line.
#[macro_export]
macro_rules! print {
    ($($arguments:tt)*) => { $crate::console::print(format_args!($($arguments)*), false) };
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arguments:tt)*) => { $crate::console::print(format_args!($($arguments)*), true) };
}
