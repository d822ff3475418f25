//! Reading a device tree so that every complaint can say where it belongs: nodes with their path, properties with
//! their node, and a sink for diagnostics.

use super::MAX_DTB_BYTES;
use super::diagnostic::{Diagnostic, Report, Severity, Text, Value};
use super::dtb::{Dtb, DtbNode, DtbProperty};
use super::nearest::nearest;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::fmt::Write as _;

/// Most children of one node that are looked at.
const MAX_CHILDREN: usize = 1024;

/// What an address of a page has to be.
pub(super) const PAGE_ADDRESS: &str = "a page-aligned address (multiple of 0x1000)";

/// What diagnostics call the header of a partition's package.
const PACKAGE_NAME: &str = "package header";

// What only diagnostics need is `#[cold]` and out of line: there are some 150 of them, and moving a place about inline takes
// more code than the rest of a diagnostic.

/// Where diagnostics about one manifest go.
#[derive(Debug)]
pub(super) struct Sink<'r> {
    partition: Option<&'r str>,
    report: &'r mut Report,
    errors: usize,
}

impl<'r> Sink<'r> {
    /// A sink for the manifest of `partition`, or for the SPMC's own.
    pub(super) fn new(partition: Option<&'r str>, report: &'r mut Report) -> Self {
        Self {
            partition,
            report,
            errors: 0,
        }
    }

    /// A sink into the same report for what is wrong with one partition.
    pub(super) fn for_partition<'s>(&'s mut self, partition: &'s str) -> Sink<'s> {
        Sink {
            partition: Some(partition),
            report: self.report,
            errors: 0,
        }
    }

    /// Whether an error went through this sink.
    pub(super) fn failed(&self) -> bool {
        self.errors != 0
    }

    /// Reports that something is wrong, which leaves out the partition.
    #[cold]
    #[inline(never)]
    pub(super) fn error(&mut self, at: At<'_>, message: fmt::Arguments<'_>) {
        self.errors = self.errors.saturating_add(1);
        self.push(Severity::Error, at, message);
    }

    /// Reports something that leaves out nothing.
    #[cold]
    #[inline(never)]
    pub(super) fn warn(&mut self, at: At<'_>, message: fmt::Arguments<'_>) {
        self.push(Severity::Warning, at, message);
    }

    fn push(&mut self, severity: Severity, at: At<'_>, message: fmt::Arguments<'_>) {
        if self.report.is_full() {
            self.report.count(severity);
            return;
        }
        self.report.push(Diagnostic {
            severity,
            partition: self.partition.map(|name| text(&Text(name))),
            node: text(&at.path),
            property: at.property.map(|name| text(&Text(name))),
            value: at.value.map(|value| text(&value)),
            message: text(&message),
        });
    }
}

/// What `shown` shows. One function for all types, unlike `ToString`.
#[cold]
#[inline(never)]
fn text(shown: &dyn fmt::Display) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail; an error of `shown` itself would leave the text short.
    let _ = write!(text, "{shown}");
    text
}

/// The path of a node: at most two names below the root, which is as deep as any manifest goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Path<'a> {
    parent: Option<&'a str>,
    name: Option<&'a str>,
}

impl<'a> Path<'a> {
    /// The root.
    pub(super) const ROOT: Path<'static> = Path {
        parent: None,
        name: None,
    };

    /// Not a node: the header of a partition's package.
    pub(super) const PACKAGE: Path<'static> = Path {
        parent: Some(PACKAGE_NAME),
        name: None,
    };

    /// The path of the node `name` below this one.
    #[inline(never)]
    pub(super) fn join(self, name: &'a str) -> Self {
        Self {
            parent: self.name,
            name: Some(name),
        }
    }

    /// This place, to complain about the node as a whole.
    #[cold]
    #[inline(never)]
    pub(super) fn here(self) -> At<'a> {
        At {
            path: self,
            property: None,
            value: None,
        }
    }

    /// Reports that the property `name` is not there.
    #[cold]
    #[inline(never)]
    pub(super) fn missing(self, name: &str, expected: &str, sink: &mut Sink<'_>) {
        sink.error(self.property(name), format_args!("missing, expected {expected}"));
    }

    /// The property `name` of this node.
    #[cold]
    #[inline(never)]
    pub(super) fn property(self, name: &'a str) -> At<'a> {
        At {
            path: self,
            property: Some(name),
            value: None,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.parent, self.name) {
            (Some(name), None) => f.write_str(name),
            (None, None) => f.write_str("/"),
            (None, Some(name)) => write!(f, "/{}", Text(name)),
            (Some(parent), Some(name)) => write!(f, "/{}/{}", Text(parent), Text(name)),
        }
    }
}

/// What a diagnostic is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct At<'a> {
    path: Path<'a>,
    property: Option<&'a str>,
    value: Option<Value<'a>>,
}

impl<'a> At<'a> {
    /// The same with the value that was found.
    #[cold]
    #[inline(never)]
    pub(super) fn value(self, value: Value<'a>) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    /// The same with a number that was found, shown in hexadecimal.
    #[cold]
    #[inline(never)]
    pub(super) fn hex(self, value: u64) -> Self {
        self.value(Value::Hex(value))
    }

    /// The same with a number that was found, shown in decimal.
    #[cold]
    #[inline(never)]
    pub(super) fn dec(self, value: u64) -> Self {
        self.value(Value::Dec(value))
    }
}

/// A node of a device tree that was found well formed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node<'a> {
    inner: DtbNode<'a>,
    pub(super) path: Path<'a>,
}

impl<'a> Node<'a> {
    /// The root of the device tree at the start of `blob`; `None` after an error when there is no well-formed one.
    pub(super) fn root(blob: &'a [u8], sink: &mut Sink<'_>) -> Option<Self> {
        let at = Path::ROOT.here();
        let result = match Dtb::total_size(blob) {
            Ok(total) if total > MAX_DTB_BYTES => {
                sink.error(
                    at,
                    format_args!("device tree of {total} bytes: expected at most {MAX_DTB_BYTES}"),
                );
                return None;
            }
            Ok(_) => Dtb::new(blob),
            Err(error) => Err(error),
        };
        match result {
            Ok(dtb) => Some(Self {
                inner: dtb.root(),
                path: Path::ROOT,
            }),
            Err(error) => {
                sink.error(at, format_args!("expected a well-formed device tree: {error}"));
                None
            }
        }
    }

    /// The node's name, with its unit address.
    pub(super) fn name(&self) -> &'a str {
        self.inner.name()
    }

    /// The node's properties in their order. The same name may come twice in a hostile tree.
    #[inline(never)]
    pub(super) fn properties(&self) -> impl Iterator<Item = Prop<'a>> + use<'a> {
        let path = self.path;
        self.inner
            .properties()
            .map(move |DtbProperty { name, value }| Prop { path, name, value })
    }

    /// The node's children in their order, at most [`MAX_CHILDREN`] of them.
    #[inline(never)]
    pub(super) fn children(&self) -> impl Iterator<Item = Node<'a>> + use<'a> {
        let path = self.path;
        self.inner.children().take(MAX_CHILDREN).map(move |inner| Node {
            inner,
            path: path.join(inner.name()),
        })
    }

    /// This place, to complain about the node as a whole.
    pub(super) fn here(&self) -> At<'a> {
        self.path.here()
    }

    /// Warns of each child: there should be none.
    pub(super) fn no_children(&self, sink: &mut Sink<'_>) {
        for child in self.children() {
            sink.warn(self.path.property(child.name()), format_args!("unknown node, ignored"));
        }
    }

    /// Warns that this node has no meaning, with the nearest of `known`.
    pub(super) fn unknown(&self, sink: &mut Sink<'_>, known: &[&'static str]) {
        match nearest(self.name(), known) {
            Some(name) => sink.warn(
                self.here(),
                format_args!("unknown node, ignored; did you mean \"{name}\"?"),
            ),
            None => sink.warn(self.here(), format_args!("unknown node, ignored")),
        }
    }

    /// Whether one of the strings of `compatible` is `expected`; reports an error when not.
    pub(super) fn check_compatible(&self, found: Option<Prop<'a>>, expected: &str, sink: &mut Sink<'_>) -> bool {
        match found {
            Some(property) if property.is_string(expected) => true,
            Some(property) => {
                sink.error(property.at(), format_args!("expected \"{expected}\""));
                false
            }
            None => {
                sink.error(
                    self.path.property("compatible"),
                    format_args!("missing, expected \"{expected}\""),
                );
                false
            }
        }
    }
}

/// A property of a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prop<'a> {
    path: Path<'a>,
    name: &'a str,
    value: &'a [u8],
}

impl<'a> Prop<'a> {
    /// The property's name.
    pub(super) fn name(&self) -> &'a str {
        self.name
    }

    /// This place, with the raw value.
    #[cold]
    #[inline(never)]
    pub(super) fn at(&self) -> At<'a> {
        self.place().value(Value::Raw(self.value))
    }

    /// This place, without the value.
    #[cold]
    #[inline(never)]
    pub(super) fn place(&self) -> At<'a> {
        self.path.property(self.name)
    }

    /// Length of the value in bytes.
    pub(super) fn len(&self) -> usize {
        self.value.len()
    }

    /// Reports that `value` is not what was expected. Out of line, as are its like: errors are rare and many.
    #[cold]
    #[inline(never)]
    pub(super) fn refuse(&self, value: Value<'_>, expected: &str, sink: &mut Sink<'_>) {
        sink.error(self.place().value(value), format_args!("expected {expected}"));
    }

    /// Reports that the value is not what was expected.
    #[cold]
    #[inline(never)]
    pub(super) fn expected(&self, expected: &str, sink: &mut Sink<'_>) {
        self.refuse(Value::Raw(self.value), expected, sink);
    }

    /// The number that the value is: 8, 16, 32 or 64 bits, big endian.
    pub(super) fn number(&self, sink: &mut Sink<'_>) -> Option<u64> {
        match *self.value {
            [a] => Some(u64::from(a)),
            [a, b] => Some(u64::from(u16::from_be_bytes([a, b]))),
            [a, b, c, d] => Some(u64::from(u32::from_be_bytes([a, b, c, d]))),
            [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
            _ => {
                self.expected("one number, of one or two cells", sink);
                None
            }
        }
    }

    /// A number that `accept` takes; `expected` says which ones those are. Shown in hexadecimal in an error.
    pub(super) fn hex<T>(
        &self,
        sink: &mut Sink<'_>,
        accept: impl FnOnce(u64) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let number = self.number(sink)?;
        let accepted = accept(number);
        if accepted.is_none() {
            self.refuse(Value::Hex(number), expected, sink);
        }
        accepted
    }

    /// A number that `accept` takes; `expected` says which ones those are. Shown in decimal in an error.
    pub(super) fn dec<T>(
        &self,
        sink: &mut Sink<'_>,
        accept: impl FnOnce(u64) -> Option<T>,
        expected: &str,
    ) -> Option<T> {
        let number = self.number(sink)?;
        let accepted = accept(number);
        if accepted.is_none() {
            self.refuse(Value::Dec(number), expected, sink);
        }
        accepted
    }

    /// A number from `least` to `most`, shown in decimal in an error.
    #[inline(never)]
    pub(super) fn between(&self, sink: &mut Sink<'_>, least: u64, most: u64, expected: &str) -> Option<u64> {
        self.dec(
            sink,
            |number| (least..=most).contains(&number).then_some(number),
            expected,
        )
    }

    /// A number of 32 bits, shown in hexadecimal in an error.
    #[inline(never)]
    pub(super) fn word(&self, sink: &mut Sink<'_>, expected: &str) -> Option<u32> {
        self.hex(sink, |number| u32::try_from(number).ok(), expected)
    }

    /// A number that is a multiple of `unit`, shown in hexadecimal in an error.
    #[inline(never)]
    pub(super) fn multiple(&self, sink: &mut Sink<'_>, unit: u64, expected: &str) -> Option<u64> {
        self.hex(sink, |number| number.is_multiple_of(unit).then_some(number), expected)
    }

    /// A boolean property: true because it is there. A value that looks like `= <0>` gets a warning.
    #[inline(never)]
    pub(super) fn flag(&self, sink: &mut Sink<'_>) -> bool {
        if !self.value.is_empty() {
            sink.warn(
                self.at(),
                format_args!("expected no value: the property is true because it is there, whatever its value"),
            );
        }
        true
    }

    /// The value as 32-bit cells; an error when there is none, or a rest.
    pub(super) fn cells(&self, sink: &mut Sink<'_>) -> Option<impl ExactSizeIterator<Item = u32> + use<'a>> {
        let (cells, rest) = self.value.as_chunks::<4>();
        if cells.is_empty() || !rest.is_empty() {
            self.expected("32-bit cells", sink);
            return None;
        }
        Some(cells.iter().map(|cell| u32::from_be_bytes(*cell)))
    }

    /// The value as groups of `N` cells, at least one and at most `max`; `each` says what a group is.
    pub(super) fn groups<const N: usize>(
        &self,
        sink: &mut Sink<'_>,
        max: usize,
        each: &str,
    ) -> Option<impl ExactSizeIterator<Item = [u32; N]> + use<'a, N>> {
        let (groups, _) = self.cells_of(N, sink, max, each)?.as_chunks::<N>();
        Some(groups.iter().map(|group| group.map(u32::from_be_bytes)))
    }

    /// The value as single cells, at most `max`; `each` says what they are. Empty after an error.
    #[inline(never)]
    pub(super) fn list(&self, sink: &mut Sink<'_>, max: usize, each: &str) -> Vec<u32> {
        let cells = self.cells_of(1, sink, max, each).unwrap_or_default();
        cells.iter().map(|cell| u32::from_be_bytes(*cell)).collect()
    }

    /// The value's cells: at least one group of `group` and at most `max`, without a rest.
    #[inline(never)]
    fn cells_of(&self, group: usize, sink: &mut Sink<'_>, max: usize, each: &str) -> Option<&'a [[u8; 4]]> {
        let (cells, rest) = self.value.as_chunks::<4>();
        let groups = cells.len().checked_div(group).unwrap_or(0);
        if groups == 0 || !cells.len().is_multiple_of(group) || !rest.is_empty() {
            self.expected(each, sink);
            return None;
        }
        if groups > max {
            sink.error(self.place(), format_args!("{groups} entries: expected at most {max}"));
            return None;
        }
        Some(cells)
    }

    /// The value as one printable string of 1 to `max` characters.
    pub(super) fn string(&self, sink: &mut Sink<'_>, max: usize) -> Option<&'a str> {
        let text = match self.value.split_last() {
            Some((0, text)) if text.iter().all(|byte| matches!(byte, b' '..=b'~')) => core::str::from_utf8(text).ok(),
            _ => None,
        };
        let Some(text) = text else {
            self.expected("one string of printable ASCII characters", sink);
            return None;
        };
        if text.is_empty() || text.len() > max {
            sink.error(self.at(), format_args!("expected a string of 1 to {max} characters"));
            return None;
        }
        Some(text)
    }

    /// The value as a list of strings, without their final zero.
    pub(super) fn strings(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.value
            .strip_suffix(&[0])
            .unwrap_or(self.value)
            .split(|byte| *byte == 0)
    }

    /// Whether the value is the string `expected`, or a list of strings with it.
    #[inline(never)]
    pub(super) fn is_string(&self, expected: &str) -> bool {
        self.strings().any(|string| string == expected.as_bytes())
    }

    /// Warns that this property has no meaning in its node, with the nearest of `known`. Properties that device trees
    /// have anywhere are passed over.
    pub(super) fn unknown(&self, sink: &mut Sink<'_>, known: &[&'static str]) {
        if matches!(
            self.name,
            "#address-cells" | "#size-cells" | "compatible" | "name" | "phandle" | "linux,phandle" | "status"
        ) {
            return;
        }
        match nearest(self.name, known) {
            Some(name) => {
                sink.warn(
                    self.place(),
                    format_args!("unknown property, ignored; did you mean \"{name}\"?"),
                );
            }
            None => sink.warn(self.place(), format_args!("unknown property, ignored")),
        }
    }
}

/// Values of a size that a `u16` holds.
pub(super) fn to_u16(value: u64) -> Option<u16> {
    u16::try_from(value).ok()
}
