//! The JSON format: one object a line, written in one pass without a value tree.

#![expect(
    clippy::inline_always,
    reason = "without it the fields of a request line take 1,060 more instructions, 3.7% of a ping"
)]

use std::io::Write as _;
use std::num::NonZeroU8;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use time::format_description::well_known::iso8601::{Config, EncodedConfig, TimePrecision};

use super::line::{Fields, LineHeader, Name, RESERVED, TraceIds, bounded};

/// Writer of one object.
pub(super) struct Json<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Json<'a> {
    /// Opens the object and writes the members that every line has.
    pub(super) fn open(
        out: &'a mut Vec<u8>,
        head: &LineHeader<'_>,
        ids: Option<TraceIds>,
        request_id: Option<&str>,
    ) -> Self {
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, head.at);
        out.push(b'"');
        match head.members {
            Some(members) => out.extend_from_slice(members.as_bytes()),
            None => members(out, head),
        }
        if let Some(ids) = ids {
            out.extend_from_slice(b",\"trace_id\":\"");
            out.extend_from_slice(ids.trace_hex().as_flattened());
            out.extend_from_slice(b"\",\"span_id\":\"");
            out.extend_from_slice(ids.span_hex().as_flattened());
            out.push(b'"');
        }
        if let Some(id) = request_id {
            out.extend_from_slice(b",\"request_id\":\"");
            escape(out, bounded(id));
            out.push(b'"');
        }
        Self { out }
    }

    /// Closes the object and ends the line.
    pub(super) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    #[inline(always)]
    fn name(&mut self, name: Name<'_>) {
        self.out.extend_from_slice(b",\"");
        if name.known {
            self.out.extend_from_slice(name.text.as_bytes());
        } else {
            if RESERVED.contains(&name.text) {
                self.out.extend_from_slice(b"field.");
            }
            escape(self.out, name.text);
        }
        self.out.extend_from_slice(b"\":");
    }

    /// Writes a value without quotes and escapes.
    #[inline(always)]
    fn plain(&mut self, name: Name<'_>, value: &str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
    }
}

impl Fields for Json<'_> {
    #[inline(always)]
    fn text(&mut self, name: Name<'_>, value: &str) {
        self.name(name);
        self.out.push(b'"');
        escape(self.out, bounded(value));
        self.out.push(b'"');
    }
    #[inline(always)]
    fn word(&mut self, name: Name<'_>, value: &str) {
        self.name(name);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }
    #[inline(always)]
    fn unsigned(&mut self, name: Name<'_>, value: u64) {
        self.plain(name, itoa::Buffer::new().format(value));
    }
    fn signed(&mut self, name: Name<'_>, value: i64) {
        self.plain(name, itoa::Buffer::new().format(value));
    }
    fn float(&mut self, name: Name<'_>, value: f64) {
        if value.is_finite() {
            self.name(name);
            // Writing to memory cannot fail.
            let _infallible = write!(self.out, "{value}");
        } else {
            self.plain(name, "null");
        }
    }
    #[inline(always)]
    fn boolean(&mut self, name: Name<'_>, value: bool) {
        self.name(name);
        if value {
            self.out.extend_from_slice(b"true");
        } else {
            self.out.extend_from_slice(b"false");
        }
    }
    #[inline(always)]
    fn millis(&mut self, name: Name<'_>, value: Duration) {
        let whole = value.as_secs() * 1_000 + u64::from(value.subsec_millis());
        self.unsigned(name, whole);
        self.out.push(b'.');
        let micros = value.subsec_micros() % 1_000;
        for digit in [micros / 100, micros / 10 % 10, micros % 10] {
            self.out.push(b"0123456789"[digit as usize]);
        }
    }
}

/// Writes level, message and target.
fn members(out: &mut Vec<u8>, head: &LineHeader<'_>) {
    out.extend_from_slice(b",\"level\":\"");
    out.extend_from_slice(super::level_name(head.level).as_bytes());
    out.extend_from_slice(b"\",\"message\":\"");
    escape(out, bounded(head.message));
    out.extend_from_slice(b"\",\"target\":\"");
    escape(out, head.target);
    out.push(b'"');
}

/// Escapes a text (RFC 8259, section 7). DEL, the C1 controls and the line separators are escaped
/// as well, because terminals and log readers interpret them.
fn escape(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape_special(out, text);
    }
}

fn escape_special(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| SPECIAL[usize::from(byte)]) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        // `SPECIAL` contains only first bytes of characters.
        let Some(character) = tail.chars().next() else {
            return;
        };
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_control() || c == '\u{2028}' || c == '\u{2029}' => {
                // Writing to memory cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        rest = &tail[character.len_utf8()..];
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Whether a text is visible ASCII without quotes and backslashes. Checks all bytes without a
/// branch, so that the compiler vectorizes the loop: 165 instructions for a typical text, and 210
/// with a search for the first match.
fn is_plain(text: &str) -> bool {
    let special = text.bytes().fold(0, |special, byte| {
        let invisible = u8::from(!(b' '..0x7f).contains(&byte));
        special | invisible | u8::from(byte == b'"') | u8::from(byte == b'\\')
    });
    special == 0
}

/// First bytes of characters that may need an escape.
const SPECIAL: [bool; 256] = {
    let mut special = [false; 256];
    let mut control = 0;
    while control < 0x20 {
        special[control] = true;
        control += 1;
    }
    special[b'"' as usize] = true;
    special[b'\\' as usize] = true;
    special[0x7f] = true;
    special[0xc2] = true;
    special[0xe2] = true;
    special
};

/// The profile of ISO 8601 that RFC 3339 specifies, with microseconds. `Rfc3339` of the same crate
/// writes nanoseconds without the zeros at their end.
const RFC_3339: EncodedConfig = Config::DEFAULT
    .set_time_precision(TimePrecision::Second {
        decimal_digits: NonZeroU8::new(6),
    })
    .encode();

/// Writes a time in UTC.
fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    let at = OffsetDateTime::from(at);
    // Fails for years beyond 9999 only.
    let _in_range = at.format_into(out, &Iso8601::<RFC_3339>);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tracing::Level;

    fn line(message: &str, name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let head = LineHeader {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            level: Level::WARN,
            message,
            target: "t",
            members: None,
        };
        let mut json = Json::open(&mut out, &head, None, Some("r"));
        json.text(Name::new(name), value);
        json.float(Name::known("nan"), f64::NAN);
        json.millis(Name::known("took_ms"), Duration::from_micros(1_050));
        json.close();
        out
    }

    #[test]
    fn a_line_has_the_documented_members() {
        let text = String::from_utf8(line("m", "level", "x")).unwrap();
        assert_eq!(
            text,
            "{\"timestamp\":\"2023-11-14T22:13:20.000001Z\",\"level\":\"warn\",\"message\":\"m\",\
             \"target\":\"t\",\"request_id\":\"r\",\"field.level\":\"x\",\"nan\":null,\"took_ms\":1.050}\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_survives_and_stays_on_its_line(message in ".*", value in any::<String>()) {
            let out = line(&message, "v", &value);
            let (newline, body) = out.split_last().unwrap();
            prop_assert_eq!(*newline, b'\n');
            let text = std::str::from_utf8(body).unwrap();
            prop_assert!(!text.contains(char::is_control));
            let parsed: serde_json::Value = serde_json::from_str(text).unwrap();
            prop_assert_eq!(parsed["v"].as_str(), Some(value.as_str()));
            prop_assert_eq!(parsed["message"].as_str(), Some(message.as_str()));
        }
    }

    #[test]
    fn characters_to_escape_are_found_at_every_position() {
        for length in 0..40 {
            let plain = vec![b'x'; length];
            assert!(is_plain(std::str::from_utf8(&plain).unwrap()));
            for at in 0..length {
                for special in *b"\"\\\n\x7f" {
                    let mut text = plain.clone();
                    text[at] = special;
                    let text = String::from_utf8(text).unwrap();
                    assert!(!is_plain(&text), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_long_value_is_truncated_at_a_character() {
        let value = format!("x{}", "ä".repeat(10_000));
        let parsed: serde_json::Value = serde_json::from_slice(&line("m", "v", &value)).unwrap();
        let kept = parsed["v"].as_str().unwrap();
        assert!(value.starts_with(kept) && kept.len() > 8_000 && kept.len() <= 8_192);
    }
}
