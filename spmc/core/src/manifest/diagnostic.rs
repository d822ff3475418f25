//! Errors and warnings about manifests, worded like a good compiler's.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Most diagnostics kept of one [`Report`]; what is beyond is only counted.
pub const MAX_DIAGNOSTICS: usize = 64;

/// Whether a diagnostic leaves its partition out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The manifest is used; something in it does not do what its author may think.
    Warning,
    /// The manifest is refused.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// One thing that is wrong with a manifest.
///
/// `Display` gives `partition "echo": /device-regions/uart1: base-address = 0x9040800: expected ...`; the alternate form
/// (`{:#}`) puts `error: ` or `warning: ` in front. All text that came from a manifest is bounded and printable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the partition can still boot.
    pub severity: Severity,
    /// Name of the partition that is at fault; `None` when it is the SPMC's own manifest.
    pub partition: Option<String>,
    /// Path of the node, from `/`.
    pub node: String,
    /// Name of the property, where one is at fault.
    pub property: Option<String>,
    /// The value found, where there is one.
    pub value: Option<String>,
    /// What was expected instead, or what the consequence is.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.alternate() {
            write!(f, "{}: ", self.severity)?;
        }
        match &self.partition {
            Some(name) => write!(f, "partition \"{name}\": ")?,
            None => f.write_str("SPMC manifest: ")?,
        }
        f.write_str(&self.node)?;
        match (&self.property, &self.value) {
            (Some(property), Some(value)) => write!(f, ": {property} = {value}")?,
            (Some(property), None) => write!(f, ": {property}")?,
            (None, Some(value)) => write!(f, ": {value}")?,
            (None, None) => {}
        }
        write!(f, ": {}", self.message)
    }
}

/// The diagnostics of a boot, in the order in which they were found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    entries: Vec<Diagnostic>,
    dropped: usize,
    errors: usize,
}

impl Report {
    /// A report with nothing in it.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new(), dropped: 0, errors: 0 }
    }

    /// Adds a diagnostic; beyond [`MAX_DIAGNOSTICS`] it is only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if diagnostic.severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        if self.entries.len() < MAX_DIAGNOSTICS {
            self.entries.push(diagnostic);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The diagnostics, in the order in which they were found.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.entries
    }

    /// How many diagnostics there were beyond [`MAX_DIAGNOSTICS`]. To be printed when not 0.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// How many errors there were, kept or not.
    #[must_use]
    pub fn errors(&self) -> usize {
        self.errors
    }
}
