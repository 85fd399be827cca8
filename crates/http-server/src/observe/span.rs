//! The server span, made from the record when the request has ended.
//!
//! Sampled and late requests share this code, so that a span agrees with the metrics and the
//! request line. The ids of a sampled request were in the OpenTelemetry context while it ran. So
//! inner spans are its children. Attributes follow the stable HTTP semantic conventions.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use http::uri::Authority;
use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use opentelemetry_semantic_conventions::attribute;
use request::propagation::Remote;
use request::{UNMATCHED, redact};
use telemetry::ipv4;

use crate::observe::request_record::{MAX_PATH, RequestRecord};

/// Maximum bytes of a client's header or method in a span.
const MAX_TEXT: usize = 256;
/// Attribute with the reason why an unsampled request was exported.
const SAMPLING_REASON: &str = "sampling.reason";

/// The ids of a request's span as OpenTelemetry represents them.
pub(crate) fn span_context(
    trace_id: TraceId,
    span_id: SpanId,
    remote: Option<&Remote>,
) -> SpanContext {
    let state = Remote::parent(remote)
        .map_or_else(TraceState::default, |parent| parent.trace_state().clone());
    SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, state)
}

/// The span of a record. `reason` says why an unsampled request is exported.
pub(crate) fn server_span(
    record: &RequestRecord,
    scope: InstrumentationScope,
    reason: Option<&'static str>,
) -> SpanData {
    let context = &record.context;
    let remote = record.remote.as_deref();
    let parent = Remote::parent(remote);
    let mut links = SpanLinks::default();
    if let Some(stranger) = remote.filter(|remote| !remote.believed) {
        links.links = vec![Link::with_context(stranger.context.clone())];
    }
    SpanData {
        span_context: span_context(context.trace_id, context.span_id, remote),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanContext::span_id),
        parent_span_is_remote: parent.is_some(),
        span_kind: SpanKind::Server,
        name: record.route.span_name().into(),
        start_time: record.started,
        end_time: record.started + record.duration,
        attributes: attributes(record, reason),
        dropped_attributes_count: 0,
        events: events(record),
        links,
        status: if record.status >= 500 {
            Status::error("")
        } else {
            Status::Unset
        },
        instrumentation_scope: scope,
    }
}

fn route(record: &RequestRecord) -> Option<&'static str> {
    let route = record.context.route;
    (route != UNMATCHED).then_some(route)
}

fn attributes(record: &RequestRecord, reason: Option<&'static str>) -> Vec<KeyValue> {
    let context = &record.context;
    let mut all = Vec::with_capacity(16);
    if context.method == "other" {
        let original = redact(record.method.as_str(), MAX_TEXT).into_owned();
        all.push(KeyValue::new(attribute::HTTP_REQUEST_METHOD, "_OTHER"));
        all.push(KeyValue::new(
            attribute::HTTP_REQUEST_METHOD_ORIGINAL,
            original,
        ));
    } else {
        all.push(KeyValue::new(
            attribute::HTTP_REQUEST_METHOD,
            context.method,
        ));
    }
    let route = route(record);
    if let Some(route) = route {
        all.push(KeyValue::new(attribute::HTTP_ROUTE, route));
    }
    all.push(KeyValue::new(
        attribute::HTTP_RESPONSE_STATUS_CODE,
        i64::from(record.status),
    ));
    all.push(KeyValue::new(attribute::URL_SCHEME, record.scheme));
    let path = match route {
        // A template without parameters is its only path and contains no data of the client.
        Some(route) if route == record.path() => StringValue::from(route),
        _ => redact(record.path(), MAX_PATH).into_owned().into(),
    };
    all.push(KeyValue::new(attribute::URL_PATH, path));
    let version = record.protocol_version;
    all.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version));
    let address = match context.client_address {
        IpAddr::V4(v4) => ipv4::text_of(v4, &mut [0; 16]).to_owned(),
        IpAddr::V6(v6) => v6.to_string(),
    };
    all.push(KeyValue::new(attribute::CLIENT_ADDRESS, address));
    server(record, &mut all);
    let agent = record.user_agent.as_ref().and_then(|v| v.to_str().ok());
    if let Some(agent) = agent {
        let agent = redact(agent, MAX_TEXT).into_owned();
        all.push(KeyValue::new(attribute::USER_AGENT_ORIGINAL, agent));
    }
    if record.status >= 500 {
        let status = record.status.to_string();
        all.push(KeyValue::new(attribute::ERROR_TYPE, status));
    }
    if let Some(failure) = &record.failure {
        all.push(KeyValue::new("problem.code", failure.code.code));
    }
    let request_id = context.request_id.to_string();
    all.push(KeyValue::new("request.id", request_id));
    if let Some(reason) = reason {
        all.push(KeyValue::new(SAMPLING_REASON, reason));
    }
    all
}

thread_local! {
    /// The last text and the server that it names. Clients address a service by few names.
    static LAST: RefCell<(Box<[u8]>, Option<Server>)> = RefCell::default();
}

/// Adds the server that the client addressed (`Host`, `:authority`).
fn server(record: &RequestRecord, all: &mut Vec<KeyValue>) {
    let text = match (&record.authority, &record.host) {
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return,
    };
    Server::with(text, |server| {
        let host = StringValue::from(Arc::clone(&server.host));
        all.push(KeyValue::new(attribute::SERVER_ADDRESS, host));
        if let Some(port) = server.port {
            all.push(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
        }
    });
}

#[derive(Debug, PartialEq)]
struct Server {
    host: Arc<str>,
    port: Option<u16>,
}

impl Server {
    /// Calls `look` with the server that a host names, if the host is valid.
    fn with(text: &[u8], look: impl FnOnce(&Self)) {
        LAST.with_borrow_mut(|(last, server)| {
            if **last != *text {
                (*last, *server) = (Box::from(text), Self::parse(text));
            }
            server.as_ref().map(look);
        });
    }

    fn of(authority: &Authority) -> Self {
        Self {
            host: redact(authority.host(), MAX_TEXT).into(),
            port: authority.port_u16(),
        }
    }

    fn parse(host: &[u8]) -> Option<Self> {
        Self::plain(host).or_else(|| Some(Self::of(&Authority::try_from(host).ok()?)))
    }

    /// Parses a name or an IPv4 address, with or without a port. Nearly all hosts have this form,
    /// and the full grammar costs more.
    fn plain(text: &[u8]) -> Option<Self> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let end = text.iter().position(|byte| !is_plain(byte));
        let (host, port) = text.split_at(end.unwrap_or(text.len()));
        if host.is_empty() || host.len() > MAX_TEXT {
            return None;
        }
        let port = match port {
            [] => None,
            [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
                Some(std::str::from_utf8(digits).ok()?.parse().ok()?)
            }
            _ => return None,
        };
        Some(Self {
            host: std::str::from_utf8(host).ok()?.into(),
            port,
        })
    }
}

/// The cause of a 5xx, with the same text as the error event in the log.
fn events(record: &RequestRecord) -> SpanEvents {
    let mut events = SpanEvents::default();
    let failure = record.failure.as_ref().filter(|_| record.status >= 500);
    if let Some(cause) = failure.and_then(|failure| failure.cause.as_deref()) {
        let message = KeyValue::new(attribute::EXCEPTION_MESSAGE, cause.to_string());
        let at = record.started + record.duration;
        events.events = vec![Event::new("exception", at, vec![message], 0)];
    }
    events
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_the_grammar(host: &str) -> Option<Server> {
        Some(Server::of(&host.parse().ok()?))
    }

    #[test]
    fn usual_hosts_are_plain() {
        for (host, name, port) in [
            ("localhost", "localhost", None),
            ("api.example.com:8443", "api.example.com", Some(8_443)),
            ("192.0.2.1:80", "192.0.2.1", Some(80)),
        ] {
            let host_and_port = Server {
                host: name.into(),
                port,
            };
            assert_eq!(Server::plain(host.as_bytes()), Some(host_and_port));
        }
        for host in ["[::1]:80", "user@host", "", ":80", "a:x", "a:99999"] {
            assert_eq!(Server::plain(host.as_bytes()), None, "{host}");
        }
    }

    #[test]
    fn what_was_asked_for_before_is_not_what_is_asked_for_now() {
        for (text, expected) in [
            ("a:1", Some("a")),
            ("a:1", Some("a")),
            ("b", Some("b")),
            ("", None),
            ("[", None),
            ("a", Some("a")),
        ] {
            let mut found = None;
            Server::with(text.as_bytes(), |server| found = Some(server.host.clone()));
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_short_way_says_what_the_grammar_says(
            host in "[a-z0-9.\\-_:@%\\[\\]]{0,12}(:[0-9]{0,6})?",
        ) {
            prop_assert_eq!(Server::parse(host.as_bytes()), by_the_grammar(&host));
        }
    }
}
