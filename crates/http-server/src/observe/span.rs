//! The server span, made from the record when the request has ended.
//!
//! Sampled and late requests share this code, so that a span agrees with the metrics and the
//! request line. The ids of a sampled request were in the OpenTelemetry context while it ran. So
//! inner spans are its children. Attributes follow the stable HTTP semantic conventions.

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

fn route(record: &RequestRecord) -> Option<&Arc<str>> {
    let route = &record.context.route;
    (**route != *UNMATCHED).then_some(route)
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
        let route = StringValue::from(Arc::clone(route));
        all.push(KeyValue::new(attribute::HTTP_ROUTE, route));
    }
    all.push(KeyValue::new(
        attribute::HTTP_RESPONSE_STATUS_CODE,
        i64::from(record.status),
    ));
    all.push(KeyValue::new(attribute::URL_SCHEME, record.scheme));
    let path = match route {
        // A template without parameters is its only path and contains no data of the client.
        Some(route) if **route == *record.path() => StringValue::from(Arc::clone(route)),
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

/// Adds the server that the client addressed (`Host`, `:authority`).
fn server(record: &RequestRecord, all: &mut Vec<KeyValue>) {
    let text = match (&record.authority, &record.host) {
        (Some(authority), _) => authority.as_str().as_bytes(),
        (None, Some(host)) => host.as_bytes(),
        (None, None) => return,
    };
    let Ok(authority) = Authority::try_from(text) else {
        return;
    };
    let host = redact(authority.host(), MAX_TEXT).into_owned();
    all.push(KeyValue::new(attribute::SERVER_ADDRESS, host));
    if let Some(port) = authority.port_u16() {
        all.push(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
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
