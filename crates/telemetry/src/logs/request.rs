//! The request line: one line for each request, with the same fields in every output.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceId};
use tracing::Level;
use uuid::Uuid;

use super::REQUEST;
use super::line::{Fields, Line, LineHeader, Name, TraceIds};
use crate::ipv4;

/// All fields and their meaning, in the order of the line. The members of every line (`timestamp`,
/// `trace_id`, …) precede them. A test compares this list with the table in `docs/logging.md`.
pub const FIELDS: &[(&str, &str)] = &[
    ("method", "One of the nine standard methods, or `other`"),
    (
        "route",
        "Route template, or `unmatched`. Equals the label `path` of the metrics",
    ),
    (
        "path",
        "Requested path without the query string. E-mail addresses are replaced by `redacted`, and the path is truncated to 512 bytes",
    ),
    (
        "status",
        "Status that was sent. 499 if the client disconnected before the end",
    ),
    (
        "duration_ms",
        "Milliseconds from the request's head to the end of the response body",
    ),
    (
        "busy_ms",
        "Milliseconds spent polling the request, without waiting times",
    ),
    (
        "response_bytes",
        "Bytes of the response body as sent, after compression",
    ),
    ("protocol_version", "`1.0`, `1.1` or `2`"),
    (
        "client_address",
        "Client address, resolved through trusted proxies",
    ),
    (
        "sampled",
        "Whether the trace was sampled at the start of the request",
    ),
    ("principal", "Id of the authenticated user, if any"),
    (
        "api_key",
        "Id of the API key that authenticated the user, if any",
    ),
    (
        "code",
        "`code` of the problem in the response, if there is one",
    ),
];

/// The line of a request that has ended.
#[derive(Clone, Copy)]
pub struct RequestLine<'a> {
    /// The fields without allocations.
    pub facts: RequestFields,
    /// Request id, from the client or generated.
    pub request_id: &'a str,
    /// Route template, or `unmatched`.
    pub route: &'a str,
    /// Path as it is logged. `None` if it equals the route template.
    pub path: Option<&'a str>,
}

/// The copyable fields of a request line: everything except its texts.
#[derive(Clone, Copy)]
pub struct RequestFields {
    /// End of the request.
    pub at: SystemTime,
    /// Trace of the request.
    pub trace_id: TraceId,
    /// Server span of the request.
    pub span_id: SpanId,
    /// Whether the trace was recorded from the start of the request.
    pub sampled: bool,
    /// One of the nine standard methods, or `other`.
    pub method: &'static str,
    /// Status that was sent. 499 if the client disconnected before the end.
    pub status: u16,
    /// From the request's head to the end of the response body.
    pub duration: Duration,
    /// Time spent polling the request.
    pub busy: Duration,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// `1.0`, `1.1` or `2`.
    pub protocol_version: &'static str,
    /// Client address, resolved through trusted proxies.
    pub client_address: IpAddr,
    /// Authenticated user.
    pub principal: Option<Uuid>,
    /// API key that authenticated the user.
    pub api_key: Option<Uuid>,
    /// Code of the problem in the response.
    pub code: Option<&'static str>,
}

impl RequestFields {
    /// The header of the line.
    pub(super) fn head(&self) -> LineHeader<'static> {
        LineHeader {
            at: self.at,
            level: Level::INFO,
            message: REQUEST,
            target: REQUEST,
            members: Some(r#","level":"info","message":"request","target":"request""#),
        }
    }

    pub(super) fn ids(&self) -> TraceIds {
        TraceIds {
            trace_id: self.trace_id,
            span_id: self.span_id,
            sampled: self.sampled,
        }
    }
}

impl Line for RequestLine<'_> {
    fn write(&self, line: &mut impl Fields) {
        let facts = &self.facts;
        line.word(Name::known("method"), facts.method);
        line.text(Name::known("route"), self.route);
        line.text(Name::known("path"), self.path.unwrap_or(self.route));
        line.unsigned(Name::known("status"), u64::from(facts.status));
        line.millis(Name::known("duration_ms"), facts.duration);
        line.millis(Name::known("busy_ms"), facts.busy);
        line.unsigned(Name::known("response_bytes"), facts.response_bytes);
        line.word(Name::known("protocol_version"), facts.protocol_version);
        match facts.client_address {
            IpAddr::V4(v4) => line.word(
                Name::known("client_address"),
                ipv4::text_of(v4, &mut [0; 16]),
            ),
            IpAddr::V6(v6) => line.word(Name::known("client_address"), &v6.to_string()),
        }
        line.boolean(Name::known("sampled"), facts.sampled);
        for (name, id) in [("principal", facts.principal), ("api_key", facts.api_key)] {
            if let Some(id) = id {
                let mut text = Uuid::encode_buffer();
                line.word(
                    Name::known(name),
                    id.as_hyphenated().encode_lower(&mut text),
                );
            }
        }
        if let Some(code) = facts.code {
            line.word(Name::known("code"), code);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::super::json::Json;
    use super::super::line::RESERVED;
    use super::*;

    /// A request whose duration in milliseconds equals its status.
    pub(in super::super) fn ended(status: u16) -> RequestFields {
        RequestFields {
            at: SystemTime::UNIX_EPOCH,
            trace_id: TraceId::from_bytes([0xab; 16]),
            span_id: SpanId::from_bytes([0xcd; 8]),
            sampled: false,
            method: "GET",
            status,
            duration: Duration::from_millis(status.into()),
            busy: Duration::ZERO,
            response_bytes: 0,
            protocol_version: "1.1",
            client_address: Ipv4Addr::LOCALHOST.into(),
            principal: None,
            api_key: None,
            code: None,
        }
    }

    #[test]
    fn names_are_not_reserved_and_need_no_escape() {
        for (name, _) in FIELDS {
            assert!(!RESERVED.contains(name), "{name}");
            assert!(
                name.bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{name}"
            );
        }
    }

    #[test]
    fn the_constant_members_equal_the_written_ones() {
        let known = ended(200).head();
        let members = None;
        let any = LineHeader { members, ..known };
        let [known, any] = [known, any].map(|head| {
            let mut line = Vec::new();
            Json::open(&mut line, &head, None, None).close();
            String::from_utf8(line).unwrap()
        });
        assert_eq!(known, any);
    }
}
