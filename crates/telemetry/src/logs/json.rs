//! One JSON object a line, written in one pass without a value tree.

// What writes a member is inlined so that the names of the request line are constants:
// a store or two each, not a call to copy a few bytes.
#![allow(clippy::inline_always)]

use std::cell::Cell;
use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::line::{Fields, Head, Ids, Name, RESERVED, bounded};

/// Writes one object.
pub(super) struct Json<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Json<'a> {
    /// Opens the object with what every line has.
    pub(super) fn open(
        out: &'a mut Vec<u8>,
        head: &Head<'_>,
        ids: Option<Ids>,
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

    /// Closes the object and the line.
    pub(super) fn close(self) {
        self.out.extend_from_slice(b"}\n");
    }

    #[inline(always)]
    fn name(&mut self, name: Name<'_>) {
        match name.member {
            Some(member) => self.out.extend_from_slice(member.as_bytes()),
            None => self.foreign(name.text),
        }
    }

    /// A name that is not ours.
    #[inline(never)]
    fn foreign(&mut self, name: &str) {
        self.out.extend_from_slice(b",\"");
        if RESERVED.contains(&name) {
            self.out.extend_from_slice(b"field.");
        }
        escape(self.out, name);
        self.out.extend_from_slice(b"\":");
    }

    /// A field whose value is neither quoted nor escaped.
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
        digits::<3>(self.out, value.subsec_micros() % 1_000);
    }
}

/// Level, message and target.
#[inline(never)]
fn members(out: &mut Vec<u8>, head: &Head<'_>) {
    out.extend_from_slice(b",\"level\":\"");
    out.extend_from_slice(super::level_name(head.level).as_bytes());
    out.extend_from_slice(b"\",\"message\":\"");
    escape(out, bounded(head.message));
    out.extend_from_slice(b"\",\"target\":\"");
    escape(out, head.target);
    out.push(b'"');
}

/// RFC 8259, section 7. Beyond what it asks for, DEL, the C1 controls and the
/// line separators are escaped as well, so that no reader and no terminal takes a
/// value for anything but text.
fn escape(out: &mut Vec<u8>, text: &str) {
    if is_plain(text) {
        out.extend_from_slice(text.as_bytes());
    } else {
        escape_special(out, text);
    }
}

#[cold]
fn escape_special(out: &mut Vec<u8>, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| SPECIAL[usize::from(byte)]) {
        let (plain, tail) = rest.split_at(at);
        out.extend_from_slice(plain.as_bytes());
        // `SPECIAL` has only first bytes of characters.
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

/// Whether all of it is visible ASCII without quotes and backslashes.
fn is_plain(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (chunks, rest) = bytes.as_chunks::<16>();
    if !chunks.iter().all(are_plain) {
        return false;
    }
    // The end once more, rather than what is left byte by byte.
    match (
        bytes.last_chunk::<16>(),
        rest.first_chunk::<8>(),
        rest.last_chunk::<8>(),
    ) {
        _ if rest.is_empty() => true,
        (Some(end), _, _) => are_plain(end),
        (None, Some(start), Some(end)) => are_plain(start) && are_plain(end),
        _ => rest.iter().all(|byte| are_plain(&[*byte])),
    }
}

/// Looks at all bytes without a branch, so that they are compared at once.
fn are_plain<const N: usize>(bytes: &[u8; N]) -> bool {
    let special = bytes.iter().fold(0, |special, byte| {
        let invisible = u8::from(!(b' '..0x7f).contains(byte));
        special | invisible | u8::from(*byte == b'"') | u8::from(*byte == b'\\')
    });
    special == 0
}

/// Bytes that may begin a character which needs an escape.
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

/// RFC 3339 in UTC with microseconds. By hand: a line has one, and `fmt` takes as
/// long for it as all else takes together. The lines of a second share all but the
/// fraction.
pub(super) fn timestamp(out: &mut Vec<u8>, at: SystemTime) {
    thread_local! {
        static LAST: Cell<(u64, [u8; 19])> = const { Cell::new((u64::MAX, [0; 19])) };
    }
    let since = at
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let (second, text) = LAST.get();
    let text = if second == since.as_secs() {
        text
    } else {
        let text = whole_second(at);
        LAST.set((since.as_secs(), text));
        text
    };
    out.extend_from_slice(&text);
    out.push(b'.');
    digits::<6>(out, since.subsec_micros());
    out.push(b'Z');
}

#[cold]
fn whole_second(at: SystemTime) -> [u8; 19] {
    let at = time::OffsetDateTime::from(at);
    let mut text = Vec::with_capacity(19);
    let out = &mut text;
    digits::<4>(out, at.year().unsigned_abs());
    out.push(b'-');
    digits::<2>(out, u8::from(at.month()).into());
    out.push(b'-');
    digits::<2>(out, at.day().into());
    out.push(b'T');
    digits::<2>(out, at.hour().into());
    out.push(b':');
    digits::<2>(out, at.minute().into());
    out.push(b':');
    digits::<2>(out, at.second().into());
    text.try_into().unwrap_or([b'0'; 19])
}

/// The last `N` decimal digits of a number, zeros included.
fn digits<const N: usize>(out: &mut Vec<u8>, mut value: u32) {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::super::line::name;
    use super::*;
    use proptest::prelude::*;
    use tracing::Level;

    fn line(message: &str, name: &str, value: &str) -> Vec<u8> {
        let mut out = Vec::new();
        let head = Head {
            at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            level: Level::WARN,
            message,
            target: "t",
            members: None,
        };
        let mut json = Json::open(&mut out, &head, None, Some("r"));
        json.text(Name::new(name), value);
        json.float(name!("nan"), f64::NAN);
        json.millis(name!("took_ms"), Duration::from_micros(1_050));
        json.close();
        out
    }

    #[test]
    fn a_line_has_what_the_documentation_says() {
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
    fn what_needs_an_escape_is_seen_wherever_it_stands() {
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
    fn a_long_value_is_cut_at_a_character() {
        let value = format!("x{}", "ä".repeat(10_000));
        let parsed: serde_json::Value = serde_json::from_slice(&line("m", "v", &value)).unwrap();
        let kept = parsed["v"].as_str().unwrap();
        assert!(value.starts_with(kept) && kept.len() > 8_000 && kept.len() <= 8_192);
    }
}
