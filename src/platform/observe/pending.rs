//! A request between its head and the end of its answer.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::body::Body;
use axum::extract::MatchedPath;
use http::{HeaderValue, Method, Request, Uri, Version, header};
use opentelemetry::trace::{SpanContext, SpanId, TraceId};

use super::context::Entered;
use super::head::{method_label, request_id};
use super::propagation;
use super::span::span_context;
use super::{BodyLimits, Observer, Remote, RequestContext, RequestRecord, RouteMetrics};
use crate::platform::http::ClientAddress;
use crate::platform::http::problem::Failure;
use crate::platform::lifecycle::Lifecycle;
use crate::platform::telemetry::traces::context_of;

/// What is needed to observe a request; shared by all of them.
pub struct Observation {
    /// Who writes the records.
    pub observer: Arc<Observer>,
    /// Finds the client behind proxies.
    pub client_address: Arc<ClientAddress>,
    /// Limits that extractors read.
    pub limits: BodyLimits,
    /// Whether answers say how long the work took.
    pub server_timing: bool,
    /// Whether clients come over TLS.
    pub tls: bool,
    /// In a drain, answers ask HTTP/1.1 clients to close their connection; hears of
    /// requests that did not get to their end.
    pub lifecycle: Lifecycle,
}

/// A request that has not ended; its record is written when this is dropped.
pub(super) struct Pending {
    pub(super) shared: Arc<Observation>,
    pub(super) context: Arc<RequestContext>,
    route: Arc<RouteMetrics>,
    /// Shared with the connection's buffer: no text of the request is copied.
    method: Method,
    uri: Uri,
    host: Option<HeaderValue>,
    user_agent: Option<HeaderValue>,
    remote: Option<Remote>,
    pub(super) version: Version,
    started: SystemTime,
    pub(super) clock: Instant,
    busy: Duration,
    /// Known once the response's head is.
    pub(super) status: Option<u16>,
    pub(super) failure: Option<Failure>,
    pub(super) response_bytes: u64,
    /// The response body has ended.
    pub(super) complete: bool,
}

impl Pending {
    pub(super) fn begin(shared: Arc<Observation>, request: &Request<Body>) -> Self {
        let matched = request.extensions().get::<MatchedPath>();
        let path = matched.map_or("unmatched", MatchedPath::as_str);
        let method = method_label(request.method());
        let route = shared.observer.routes.resolve(method, path);
        let metrics = shared.observer.routes.metrics();
        let resolved = shared.client_address.resolve(request);
        if resolved.untrusted_headers {
            metrics.untrusted_forwarded.inc();
        }
        metrics.in_flight.inc();
        let headers = request.headers();
        let traces = &shared.observer.traces;
        let remote = traces
            .propagates_trace_context()
            .then(|| propagation::remote(headers, resolved.trusted))
            .flatten();
        let parent = Remote::parent(remote.as_ref());
        let (new_trace, new_span): ([u8; 16], [u8; 8]) = rand::random();
        let trace_id = parent.map_or(TraceId::from_bytes(new_trace), SpanContext::trace_id);
        let parent_sampled = parent.map(SpanContext::is_sampled);
        let mut context = RequestContext {
            request_id: request_id(headers),
            trace_id,
            span_id: SpanId::from_bytes(new_span),
            sampled: traces.decide(trace_id, parent_sampled),
            span: None,
            method,
            client_address: resolved.address,
            limits: shared.limits,
            principal: std::sync::OnceLock::new(),
            stream: std::sync::OnceLock::new(),
            route: Arc::clone(route.path()),
        };
        if context.sampled {
            let baggage = if resolved.trusted && traces.reads_baggage() {
                propagation::baggage(headers)
            } else {
                opentelemetry::Context::new()
            };
            let span = span_context(&context, remote.as_ref());
            context.span = Some(context_of(span, &baggage));
        }
        Self {
            route,
            context: Arc::new(context),
            method: request.method().clone(),
            uri: request.uri().clone(),
            host: headers.get(header::HOST).cloned(),
            user_agent: headers.get(header::USER_AGENT).cloned(),
            remote,
            shared,
            version: request.version(),
            started: SystemTime::now(),
            clock: Instant::now(),
            busy: Duration::ZERO,
            status: None,
            failure: None,
            response_bytes: 0,
            complete: false,
        }
    }

    /// Polls the inner work in the context of the request, and counts its time.
    pub(super) fn polled<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _entered = Entered::new(&self.context);
        let began = Instant::now();
        let result = work();
        self.busy += began.elapsed();
        result
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared.observer.routes.metrics().in_flight.dec();
        // Only a failure, or a cut, writes a line that looks for its request.
        let quiet = self.complete && self.status.is_some_and(|status| status < 500);
        let _entered = (!quiet).then(|| Entered::new(&self.context));
        let status = match self.status {
            Some(status) if self.complete => status,
            _ => {
                let name = format!("{} {}", self.context.method, self.context.route);
                self.shared.lifecycle.unfinished("request", &name);
                499
            }
        };
        let record = RequestRecord {
            context: Arc::clone(&self.context),
            route: Arc::clone(&self.route),
            method: std::mem::take(&mut self.method),
            uri: std::mem::take(&mut self.uri),
            host: self.host.take(),
            user_agent: self.user_agent.take(),
            remote: self.remote.take(),
            started: self.started,
            duration: self.clock.elapsed(),
            busy: self.busy,
            status,
            response_bytes: self.response_bytes,
            protocol_version: if self.version == Version::HTTP_2 {
                "2"
            } else {
                "1.1"
            },
            failure: self.failure.take(),
        };
        self.shared.observer.record(&record);
    }
}
