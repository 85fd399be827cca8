//! The server span, made from the record when the request has ended.
//!
//! Sampled and late requests share this one way, so that a span says what the
//! metrics and the request line say. A sampled request differs in that its ids
//! were in the OpenTelemetry context while it ran: inner spans are its children.
//! Attributes follow the stable HTTP semantic conventions.

use opentelemetry::trace::{
    Event, Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};
use opentelemetry_semantic_conventions::attribute;

use super::line::MAX_PATH;
use super::propagation::Remote;
use super::visible::visible;
use super::{RequestContext, RequestRecord};

/// Bytes of a client's header or method that a span repeats.
const MAX_TEXT: usize = 256;
/// Why an unsampled request was exported.
const SAMPLING_REASON: &str = "sampling.reason";

/// The ids of a request's span as OpenTelemetry knows them.
pub(super) fn span_context(context: &RequestContext, remote: Option<&Remote>) -> SpanContext {
    let state = Remote::parent(remote)
        .map_or_else(TraceState::default, |parent| parent.trace_state().clone());
    SpanContext::new(
        context.trace_id,
        context.span_id,
        TraceFlags::SAMPLED,
        false,
        state,
    )
}

/// The span of a record; `reason` says why it is exported when it was not sampled.
pub(super) fn server_span(
    record: &RequestRecord,
    scope: InstrumentationScope,
    reason: Option<&'static str>,
) -> SpanData {
    let remote = record.remote.as_ref();
    let parent = Remote::parent(remote);
    let mut links = SpanLinks::default();
    if let Some(stranger) = remote.filter(|remote| !remote.believed) {
        links.links = vec![Link::with_context(stranger.context.clone())];
    }
    SpanData {
        span_context: span_context(&record.context, remote),
        parent_span_id: parent.map_or(SpanId::INVALID, SpanContext::span_id),
        parent_span_is_remote: parent.is_some(),
        span_kind: SpanKind::Server,
        name: name(record).into(),
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

/// `{method} {route}`; `HTTP` for a method that is none of the nine.
fn name(record: &RequestRecord) -> String {
    let method = match record.context.method {
        "other" => "HTTP",
        method => method,
    };
    match route(record) {
        Some(route) => format!("{method} {route}"),
        None => method.to_owned(),
    }
}

fn route(record: &RequestRecord) -> Option<&str> {
    let route = &*record.context.route;
    (route != "unmatched").then_some(route)
}

fn attributes(record: &RequestRecord, reason: Option<&'static str>) -> Vec<KeyValue> {
    let context = &record.context;
    let mut all = Vec::with_capacity(16);
    if context.method == "other" {
        let original = visible(record.method.as_str(), MAX_TEXT).into_owned();
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
    if route(record).is_some() {
        let route = opentelemetry::StringValue::from(std::sync::Arc::clone(&context.route));
        all.push(KeyValue::new(attribute::HTTP_ROUTE, route));
    }
    all.push(KeyValue::new(
        attribute::HTTP_RESPONSE_STATUS_CODE,
        i64::from(record.status),
    ));
    all.push(KeyValue::new(attribute::URL_SCHEME, record.scheme));
    let path = visible(record.path(), MAX_PATH).into_owned();
    all.push(KeyValue::new(attribute::URL_PATH, path));
    let version = record.protocol_version;
    all.push(KeyValue::new(attribute::NETWORK_PROTOCOL_VERSION, version));
    all.push(KeyValue::new(
        attribute::CLIENT_ADDRESS,
        context.client_address.to_string(),
    ));
    server(record, &mut all);
    let agent = record.user_agent.as_ref().and_then(|v| v.to_str().ok());
    if let Some(agent) = agent {
        let agent = visible(agent, MAX_TEXT).into_owned();
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

/// What the client took this service for (`Host`, `:authority`).
fn server(record: &RequestRecord, all: &mut Vec<KeyValue>) {
    let authority = record.authority.clone().or_else(|| {
        let host = record.host.as_ref()?.as_bytes();
        http::uri::Authority::try_from(host).ok()
    });
    let Some(authority) = authority else { return };
    let host = visible(authority.host(), MAX_TEXT).into_owned();
    all.push(KeyValue::new(attribute::SERVER_ADDRESS, host));
    if let Some(port) = authority.port_u16() {
        all.push(KeyValue::new(attribute::SERVER_PORT, i64::from(port)));
    }
}

/// The cause of a 5xx, with the words of the error event in the log.
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
