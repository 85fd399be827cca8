//! The request line: one for each request, the same fields in every sink.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceId};
use tracing::Level;
use uuid::Uuid;

use super::REQUEST;
use super::line::{Fields, Head, Ids, Line, name};
use crate::dotted::dotted;

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

/// A request that has ended.
#[derive(Clone, Copy)]
pub struct RequestLine<'a> {
    /// What needs no memory of its own.
    pub facts: RequestFacts,
    /// The client's, or a new one.
    pub request_id: &'a str,
    /// As much of the path as may be written; `None` when it is the template of the route.
    pub path: Option<&'a str>,
}

/// What can be copied of a request line; all that the client did not write.
#[derive(Clone, Copy)]
pub struct RequestFacts {
    /// When the request had ended.
    pub at: SystemTime,
    /// Trace that the request belongs to.
    pub trace_id: TraceId,
    /// The server span.
    pub span_id: SpanId,
    /// Whether the trace was recorded from the start of the request.
    pub sampled: bool,
    /// One of the nine standard methods, or `other`.
    pub method: &'static str,
    /// Route template, or `unmatched`.
    pub route: &'static str,
    /// Status that was sent; 499 when the client left before the end.
    pub status: u16,
    /// From the request's head to the end of the response body.
    pub duration: Duration,
    /// Time spent polling it.
    pub busy: Duration,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// `1.0`, `1.1` or `2`.
    pub protocol_version: &'static str,
    /// Resolved through trusted proxies.
    pub client_address: IpAddr,
    /// The authenticated user.
    pub principal: Option<Uuid>,
    /// The code of the problem that was answered.
    pub code: Option<&'static str>,
}

impl RequestFacts {
    /// What every line begins with.
    pub(super) fn head(&self) -> Head<'static> {
        Head {
            at: self.at,
            level: Level::INFO,
            message: REQUEST,
            target: REQUEST,
            members: Some(r#","level":"info","message":"request","target":"request""#),
        }
    }

    pub(super) fn ids(&self) -> Ids {
        Ids {
            trace_id: self.trace_id,
            span_id: self.span_id,
            sampled: self.sampled,
        }
    }
}

impl Line for RequestLine<'_> {
    fn write(&self, line: &mut impl Fields) {
        let facts = &self.facts;
        line.word(name!("method"), facts.method);
        line.text(name!("route"), facts.route);
        line.text(name!("path"), self.path.unwrap_or(facts.route));
        line.unsigned(name!("status"), u64::from(facts.status));
        line.millis(name!("duration_ms"), facts.duration);
        line.millis(name!("busy_ms"), facts.busy);
        line.unsigned(name!("response_bytes"), facts.response_bytes);
        line.word(name!("protocol_version"), facts.protocol_version);
        match facts.client_address {
            IpAddr::V4(v4) => line.word(name!("client_address"), dotted(v4, &mut [0; 16])),
            IpAddr::V6(v6) => line.word(name!("client_address"), &v6.to_string()),
        }
        line.boolean(name!("sampled"), facts.sampled);
        if let Some(principal) = facts.principal {
            let mut text = Uuid::encode_buffer();
            line.word(
                name!("principal"),
                principal.as_hyphenated().encode_lower(&mut text),
            );
        }
        if let Some(code) = facts.code {
            line.word(name!("code"), code);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;

    use super::super::json::Json;
    use super::super::line::RESERVED;
    use super::*;

    /// A request that took as many milliseconds as its status says.
    pub(in super::super) fn ended(status: u16) -> RequestFacts {
        RequestFacts {
            at: SystemTime::UNIX_EPOCH,
            trace_id: TraceId::from_bytes([0xab; 16]),
            span_id: SpanId::from_bytes([0xcd; 8]),
            sampled: false,
            method: "GET",
            route: "/a/{id}",
            status,
            duration: Duration::from_millis(status.into()),
            busy: Duration::ZERO,
            response_bytes: 0,
            protocol_version: "1.1",
            client_address: Ipv4Addr::LOCALHOST.into(),
            principal: None,
            code: None,
        }
    }

    #[test]
    fn no_name_is_taken_or_needs_an_escape() {
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
    fn its_head_is_written_as_any_other() {
        let known = ended(200).head();
        let members = None;
        let any = Head { members, ..known };
        let [known, any] = [known, any].map(|head| {
            let mut line = Vec::new();
            Json::open(&mut line, &head, None, None).close();
            String::from_utf8(line).unwrap()
        });
        assert_eq!(known, any);
    }
}
