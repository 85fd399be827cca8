//! The request line: one for each request, the same fields in every sink.

use std::net::{IpAddr, Ipv4Addr};

use super::RequestRecord;
use super::visible::visible;
use crate::platform::telemetry::logs::{Fields, Line};

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
    const KNOWN: bool = true;

    fn write(&self, line: &mut impl Fields) {
        write(self, line);
    }
}

fn write(record: &RequestRecord, line: &mut impl Fields) {
    let context = &record.context;
    line.word("method", context.method);
    line.text("route", &context.route);
    line.text("path", &visible(record.path(), MAX_PATH));
    line.unsigned("status", u64::from(record.status));
    line.millis("duration_ms", record.duration);
    line.millis("busy_ms", record.busy);
    line.unsigned("response_bytes", record.response_bytes);
    line.word("protocol_version", record.protocol_version);
    match context.client_address {
        IpAddr::V4(v4) => line.word("client_address", dotted(v4, &mut [0; 15])),
        IpAddr::V6(v6) => line.word("client_address", &v6.to_string()),
    }
    line.boolean("sampled", context.sampled);
    if let Some(principal) = context.principal.get() {
        let mut text = uuid::Uuid::encode_buffer();
        line.word(
            "principal",
            principal.as_hyphenated().encode_lower(&mut text),
        );
    }
    if let Some(failure) = &record.failure {
        line.word("code", failure.code.code);
    }
}

/// The usual text of an IPv4 address, without a detour over `fmt`.
pub(super) fn dotted(address: Ipv4Addr, text: &mut [u8; 15]) -> &str {
    let mut end = 0;
    let mut push = |byte| {
        text[end] = byte;
        end += 1;
    };
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            push(b'.');
        }
        if octet >= 100 {
            push(b'0' + octet / 100);
        }
        if octet >= 10 {
            push(b'0' + octet / 10 % 10);
        }
        push(b'0' + octet % 10);
    }
    std::str::from_utf8(&text[..end]).unwrap_or_default()
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
            assert_eq!(dotted(address, &mut [0; 15]), address.to_string());
        }
    }
}
