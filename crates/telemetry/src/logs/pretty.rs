//! The text format: time, level, message, fields and the start of the trace id.
//!
//! The formats of `tracing_subscriber::fmt` do not keep one record on one line: they do not escape
//! newlines in values, so that a value from a request could start a line of its own.

use std::io::Write as _;
use std::time::Duration;

use tracing::Level;

use super::line::{Fields, Line, LineHeader, Name, TraceIds, bounded};

const DIM: &str = "\x1b[2m";
const RESET: &str = "\x1b[0m";

/// Writes one line.
pub(super) fn write(
    out: &mut Vec<u8>,
    head: &LineHeader<'_>,
    ids: Option<TraceIds>,
    colours: bool,
    line: &impl Line,
) {
    let mut pretty = Pretty::open(out, head, ids, colours);
    line.write(&mut pretty);
    pretty.close();
}

struct Pretty<'a> {
    out: &'a mut Vec<u8>,
    colours: bool,
    ids: Option<TraceIds>,
}

impl<'a> Pretty<'a> {
    /// Starts the line.
    fn open(
        out: &'a mut Vec<u8>,
        head: &LineHeader<'_>,
        ids: Option<TraceIds>,
        colours: bool,
    ) -> Self {
        let at = time::OffsetDateTime::from(head.at);
        let (level, colour) = match head.level {
            Level::ERROR => ("ERROR", "\x1b[31m"),
            Level::WARN => ("WARN", "\x1b[33m"),
            Level::INFO => ("INFO", "\x1b[32m"),
            Level::DEBUG => ("DEBUG", "\x1b[34m"),
            Level::TRACE => ("TRACE", "\x1b[35m"),
        };
        let (dim, colour, reset) = if colours {
            (DIM, colour, RESET)
        } else {
            ("", "", "")
        };
        // Writing to memory cannot fail.
        let _infallible = write!(
            out,
            "{dim}{:02}:{:02}:{:02}.{:03}{reset} {colour}{level:5}{reset} ",
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        );
        visible(out, bounded(head.message));
        Self { out, colours, ids }
    }

    /// Ends the line.
    fn close(mut self) {
        if let Some(ids) = self.ids {
            let trace = ids.trace_hex();
            self.name("trace");
            self.out.extend_from_slice(&trace.as_flattened()[..8]);
        }
        self.out.push(b'\n');
    }

    fn name(&mut self, name: &str) {
        let (dim, reset) = if self.colours { (DIM, RESET) } else { ("", "") };
        // Writing to memory cannot fail.
        let _infallible = write!(self.out, " {dim}{name}={reset}");
    }

    fn plain(&mut self, name: &str, value: std::fmt::Arguments<'_>) {
        self.name(name);
        // Writing to memory cannot fail.
        let _infallible = self.out.write_fmt(value);
    }
}

impl Fields for Pretty<'_> {
    fn text(&mut self, name: Name<'_>, value: &str) {
        self.name(name.text);
        if value.is_empty() || value.contains([' ', '"', '=']) {
            self.out.push(b'"');
            visible(self.out, bounded(value));
            self.out.push(b'"');
        } else {
            visible(self.out, bounded(value));
        }
    }
    fn unsigned(&mut self, name: Name<'_>, value: u64) {
        self.plain(name.text, format_args!("{value}"));
    }
    fn signed(&mut self, name: Name<'_>, value: i64) {
        self.plain(name.text, format_args!("{value}"));
    }
    fn float(&mut self, name: Name<'_>, value: f64) {
        self.plain(name.text, format_args!("{value}"));
    }
    fn boolean(&mut self, name: Name<'_>, value: bool) {
        self.plain(name.text, format_args!("{value}"));
    }
    fn millis(&mut self, name: Name<'_>, value: Duration) {
        let micros = value.as_micros();
        self.plain(
            name.text,
            format_args!("{}.{:03}", micros / 1_000, micros % 1_000),
        );
    }
}

/// Escapes control characters, so that a value cannot move the cursor.
fn visible(out: &mut Vec<u8>, text: &str) {
    for character in text.chars() {
        if character.is_control() || character == '\u{2028}' || character == '\u{2029}' {
            // Writing to memory cannot fail.
            let _infallible = write!(out, "{}", character.escape_default());
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn control_characters_in_values_are_escaped() {
        let mut out = Vec::new();
        let head = LineHeader {
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_234),
            level: Level::INFO,
            message: "ready",
            target: "t",
            members: None,
        };
        let mut pretty = Pretty::open(&mut out, &head, None, false);
        pretty.text(Name::known("name"), "a \x1b[2J b");
        pretty.unsigned(Name::known("n"), 3);
        pretty.close();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "00:00:01.234 INFO  ready name=\"a \\u{1b}[2J b\" n=3\n"
        );
    }
}
