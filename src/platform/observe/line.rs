//! The request line: one for each request, the same fields in every sink.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};

use super::RequestRecord;
use super::visible::visible;
use crate::platform::telemetry::logs::{Fields, Line, name};

/// Bytes of a path that are written.
pub(super) const MAX_PATH: usize = 512;

/// Every field and its meaning, in the order in which they are written. Those that
/// every line has (`timestamp`, `trace_id`, …) come before. `docs/logging.md` has the
/// same table; a test compares them.
pub const FIELDS: &[(&str, &str)] = &[
    ("method", "One of the nine standard methods, or `other`"),
    (
        "route",
        "Route template, or `unmatched`; the same value as the label `path` of the metrics",
    ),
    (
        "path",
        "Path as it was asked for, without the query string; what looks like an e-mail address is `redacted`, and 512 bytes are written at most",
    ),
    (
        "status",
        "Status that was sent; 499 when the client left before the end",
    ),
    (
        "duration_ms",
        "Milliseconds from the request's head to the end of the response body",
    ),
    (
        "busy_ms",
        "Milliseconds of that spent working (polling), not waiting",
    ),
    ("response_bytes", "Bytes of the response body, as sent"),
    ("protocol_version", "`1.0`, `1.1` or `2`"),
    (
        "client_address",
        "The client, resolved through trusted proxies",
    ),
    (
        "sampled",
        "Whether the trace was recorded from the start of the request",
    ),
    ("principal", "Id of the authenticated user, if there is one"),
    (
        "code",
        "`code` of the problem that was answered, if one was",
    ),
];

impl Line for RequestRecord {
    fn write(&self, line: &mut impl Fields) {
        write(self, line);
    }
}

fn write(record: &RequestRecord, line: &mut impl Fields) {
    let context = &record.context;
    line.word(name!("method"), context.method);
    line.text(name!("route"), &context.route);
    let path = record.path();
    let path = if *path == *context.route {
        // As it stands in the code: nobody's address is in it.
        Cow::Borrowed(path)
    } else {
        visible(path, MAX_PATH)
    };
    line.text(name!("path"), &path);
    line.unsigned(name!("status"), u64::from(record.status));
    line.millis(name!("duration_ms"), record.duration);
    line.millis(name!("busy_ms"), record.busy);
    line.unsigned(name!("response_bytes"), record.response_bytes);
    line.word(name!("protocol_version"), record.protocol_version);
    match context.client_address {
        IpAddr::V4(v4) => line.word(name!("client_address"), dotted(v4, &mut [0; 16])),
        IpAddr::V6(v6) => line.word(name!("client_address"), &v6.to_string()),
    }
    line.boolean(name!("sampled"), context.sampled);
    if let Some(principal) = context.principal.get() {
        let mut text = uuid::Uuid::encode_buffer();
        line.word(
            name!("principal"),
            principal.as_hyphenated().encode_lower(&mut text),
        );
    }
    if let Some(failure) = &record.failure {
        line.word(name!("code"), failure.code.code);
    }
}

/// The digits of each octet, and how many they are.
const OCTETS: [([u8; 3], usize); 256] = {
    let digits = b"0123456789";
    let mut octets = [([0; 3], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let hundreds = digits[octet / 100];
        let tens = digits[octet / 10 % 10];
        let ones = digits[octet % 10];
        octets[octet] = match octet {
            100.. => ([hundreds, tens, ones], 3),
            10.. => ([tens, ones, 0], 2),
            _ => ([ones, 0, 0], 1),
        };
        octet += 1;
    }
    octets
};

/// The usual text of an IPv4 address, without a detour over `fmt`.
pub(super) fn dotted(address: Ipv4Addr, text: &mut [u8; 16]) -> &str {
    let mut end = 0;
    for octet in address.octets() {
        let (digits, length) = OCTETS[usize::from(octet)];
        text[end..end + 3].copy_from_slice(&digits);
        text[end + length] = b'.';
        end += length + 1;
    }
    std::str::from_utf8(&text[..end - 1]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_taken_or_needs_an_escape() {
        let taken = [
            "timestamp",
            "level",
            "message",
            "target",
            "trace_id",
            "span_id",
            "request_id",
        ];
        for (name, _) in FIELDS {
            assert!(!taken.contains(name), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn addresses_read_as_usual() {
        for address in [
            [0, 0, 0, 0],
            [192, 0, 2, 1],
            [10, 100, 99, 9],
            [255, 255, 255, 255],
        ] {
            let address = Ipv4Addr::from(address);
            assert_eq!(dotted(address, &mut [0; 16]), address.to_string());
        }
    }
}
