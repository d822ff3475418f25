//! Results: what a test returns, and the count of them.

use core::fmt;

use tantalum_partition::println;

/// Why a test did not pass.
#[derive(Clone, Copy, Debug)]
pub enum Verdict {
    /// Something was not as expected; it has been printed.
    Failed,
    /// The machine or the scenario lacks something that the test needs.
    Skipped(&'static str),
}

/// What a test returns.
pub type Outcome<T = ()> = Result<T, Verdict>;

/// How many tests ended how.
#[derive(Debug, Default)]
pub struct Score {
    passed: u32,
    failed: u32,
    skipped: u32,
}

impl Score {
    /// Prints and counts the outcome of a test.
    pub fn record(&mut self, name: &str, outcome: Outcome) {
        match outcome {
            Ok(()) => {
                self.passed += 1;
                println!("test {name} ... ok");
            }
            Err(Verdict::Failed) => {
                self.failed += 1;
                println!("test {name} ... FAILED");
            }
            Err(Verdict::Skipped(why)) => {
                self.skipped += 1;
                println!("test {name} ... skipped ({why})");
            }
        }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tantalum: {} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 {
            write!(f, ", {} skipped", self.skipped)?;
        }
        Ok(())
    }
}

/// Ends the test as failed, with a line that says why.
macro_rules! fail {
    ($($arguments:tt)*) => {{
        ::tantalum_partition::println!("    {}", format_args!($($arguments)*));
        return Err($crate::report::Verdict::Failed);
    }};
}

/// Fails unless two values are equal; numbers are printed in hexadecimal. The rest says what they are.
macro_rules! expect_eq {
    ($got:expr, $expected:expr, $($what:tt)*) => {{
        let (got, expected) = (&$got, &$expected);
        if got != expected {
            $crate::report::fail!("{}: expected {expected:x?}, got {got:x?}", format_args!($($what)*));
        }
    }};
}

/// Fails unless a condition holds. The rest says what it is.
macro_rules! check {
    ($condition:expr, $($what:tt)*) => {
        if !$condition {
            $crate::report::fail!("expected {}", format_args!($($what)*));
        }
    };
}

pub(crate) use {check, expect_eq, fail};
