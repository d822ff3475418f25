//! Errors and warnings about manifests, worded like a good compiler's.

use crate::addr::PageRange;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::fmt::Write as _;
use uuid::Uuid;

/// Most diagnostics kept of one [`Report`]; what is beyond is only counted.
pub const MAX_DIAGNOSTICS: usize = 64;

/// Most characters of a name or string that are shown.
pub(super) const MAX_TEXT: usize = 48;

/// Most cells of a value that are shown.
const MAX_CELLS: usize = 8;

/// Text from a manifest: cut at [`MAX_TEXT`] characters, with `?` for what is not printable ASCII, so that it can
/// neither flood nor control a console.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text<'a>(pub(super) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars().take(MAX_TEXT) {
            f.write_char(if matches!(character, ' '..='~') { character } else { '?' })?;
        }
        if self.0.len() > MAX_TEXT {
            f.write_str("...")
        } else {
            Ok(())
        }
    }
}

/// A value as a diagnostic shows it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// The bytes of a property, shown as its source may have been: a string, cells or bytes.
    Raw(&'a [u8]),
    /// A number in hexadecimal.
    Hex(u64),
    /// A number in decimal.
    Dec(u64),
    /// A range of pages.
    Range(PageRange),
    /// A UUID.
    Uuid(&'a Uuid),
}

impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Raw(bytes) => write_raw(f, bytes),
            Self::Hex(number) => write!(f, "{number:#x}"),
            Self::Dec(number) => write!(f, "{number}"),
            Self::Range(range) => write!(f, "{range}"),
            Self::Uuid(uuid) => write_uuid(f, uuid),
        }
    }
}

/// The canonical form. The library's own has room for all others too.
fn write_uuid(f: &mut fmt::Formatter<'_>, uuid: &Uuid) -> fmt::Result {
    for (index, byte) in uuid.as_bytes().iter().enumerate() {
        let hyphen = if matches!(index, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(f, "{hyphen}{:02x}", u64::from(*byte))?;
    }
    Ok(())
}

fn write_raw(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    if bytes.is_empty() {
        return f.write_str("(no value)");
    }
    if let Some((0, text)) = bytes.split_last()
        && !text.is_empty()
        && text.iter().all(|byte| matches!(byte, b' '..=b'~'))
        && let Ok(text) = core::str::from_utf8(text)
    {
        return write!(f, "\"{}\"", Text(text));
    }
    let (cells, rest) = bytes.as_chunks::<4>();
    let (open, close, count) = if rest.is_empty() {
        ('<', '>', cells.len())
    } else {
        ('[', ']', bytes.len())
    };
    f.write_char(open)?;
    for index in 0..count.min(MAX_CELLS) {
        let space = if index == 0 { "" } else { " " };
        match (rest.is_empty(), cells.get(index), bytes.get(index)) {
            (true, Some(cell), _) => write!(f, "{space}{:#x}", u64::from(u32::from_be_bytes(*cell)))?,
            (_, _, Some(byte)) => write!(f, "{space}{:02x}", u64::from(*byte))?,
            _ => {}
        }
    }
    if count > MAX_CELLS {
        f.write_str(" ...")?;
    }
    f.write_char(close)
}

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
/// `Display` gives `partition "echo": /device-regions/uart1: base-address = 0x9040800: expected ...`; the alternate
/// form (`{:#}`) puts `error: ` or `warning: ` in front. All text that came from a manifest is bounded and printable.
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
        Self {
            entries: Vec::new(),
            dropped: 0,
            errors: 0,
        }
    }

    /// Adds a diagnostic; beyond [`MAX_DIAGNOSTICS`] it is only counted.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.is_full() {
            self.count(diagnostic.severity);
            return;
        }
        if diagnostic.severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        self.entries.push(diagnostic);
    }

    /// Whether a further diagnostic is only counted.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_DIAGNOSTICS
    }

    /// Counts a diagnostic that is not kept.
    pub(super) fn count(&mut self, severity: Severity) {
        if severity == Severity::Error {
            self.errors = self.errors.saturating_add(1);
        }
        self.dropped = self.dropped.saturating_add(1);
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
