//! A request between its head and the end of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::{HeaderMap, Request, Version};
use lifecycle::Lifecycle;
use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use quanta::Instant;
use request::ids::random_ids;
use request::propagation::{self, Remote};
use request::{BodyLimits, RequestContext};
use settings::clock::system_time;
use telemetry::traces::request_context;

use crate::client_address::ClientAddress;
use crate::observe::observer::Observer;
use crate::observe::request_head::{ObservedHeaders, lines, method_label};
use crate::observe::request_record::RequestRecord;
use crate::observe::routes::RouteLookup;
use crate::observe::span::span_context;

/// The status of a request whose client left before the end, as nginx names it.
const CLIENT_CLOSED: u16 = 499;

/// The parts that observe requests. All requests share them.
pub struct Observation {
    /// Writes the records.
    pub observer: Arc<Observer>,
    /// Returns the route that the inner router has for a request.
    pub router: RouteLookup,
    /// Finds the client behind proxies.
    pub client_address: Arc<ClientAddress>,
    /// Limits that extractors read.
    pub limits: BodyLimits,
    /// Whether answers carry `Server-Timing`.
    pub server_timing: bool,
    /// Whether clients use TLS.
    pub tls: bool,
    /// Lifecycle of the process. In a drain, HTTP/1.1 answers carry `Connection: close`. Requests
    /// that did not reach their end are reported to it.
    pub lifecycle: Lifecycle,
}

/// A request that has not ended. Its record is written when this is dropped. Boxed, because it
/// moves with the answer.
pub(crate) struct ObservedRequest {
    pub(crate) shared: Arc<Observation>,
    /// The record as far as it is complete.
    pub(crate) record: RequestRecord,
    pub(crate) version: Version,
    /// End of the last poll.
    polled_until: Instant,
    /// The first poll follows at once.
    is_fresh: bool,
    /// The status, when the response's head exists.
    pub(crate) status: Option<u16>,
    /// The response body has ended.
    pub(crate) complete: bool,
}

impl ObservedRequest {
    pub(crate) fn begin(
        shared: &Arc<Observation>,
        peer: IpAddr,
        request: &Request<Body>,
    ) -> Box<Self> {
        let (started, began) = (system_time(), Instant::now());
        let routes = &shared.observer.routes;
        let route = routes.find(&shared.router, request.method(), request.uri());
        let metrics = routes.metrics();
        let headers = request.headers();
        let head = ObservedHeaders::read(headers);
        let addresses = &shared.client_address;
        let resolved = addresses.resolve(peer, headers, head.addresses);
        if resolved.flaws.untrusted {
            metrics.untrusted_forwarded.inc();
        }
        if resolved.flaws.ignored {
            metrics.ignored_forwarded.inc();
        }
        if resolved.flaws.unreadable {
            metrics.unreadable_forwarded.inc();
        }
        metrics.in_flight.inc();
        let traces = &shared.observer.traces;
        let remote = (head.traced && traces.propagates_trace_context())
            .then(|| remote(headers, resolved.trusted))
            .flatten()
            .map(Box::new);
        let parent = Remote::parent(remote.as_deref());
        let (new_trace, new_span, random) = random_ids();
        let trace_id = parent.map_or(TraceId::from_bytes(new_trace), SpanContext::trace_id);
        let span_id = SpanId::from_bytes(new_span);
        let sampled = traces.decide(trace_id, parent.map(SpanContext::is_sampled));
        let span = sampled.then(|| {
            let baggage = (resolved.trusted && traces.reads_baggage()).then_some(headers);
            let span = span_context(trace_id, span_id, remote.as_deref());
            otel_context(span, baggage, (started, began))
        });
        let context = Arc::new(RequestContext {
            began,
            request_id: head.request_id(started, &random),
            trace_id,
            span_id,
            sampled,
            span,
            method: method_label(request.method()),
            client_address: resolved.address,
            limits: shared.limits,
            principal: std::sync::OnceLock::new(),
            api_key: std::sync::OnceLock::new(),
            stream: std::sync::OnceLock::new(),
            route: Arc::clone(route.path()),
        });
        let version = request.version();
        Box::new(Self {
            record: RequestRecord {
                context,
                route,
                method: request.method().clone(),
                target: request.uri().path_and_query().cloned(),
                authority: request.uri().authority().cloned(),
                host: head.host.cloned(),
                user_agent: head.user_agent.cloned(),
                remote,
                started,
                duration: Duration::ZERO,
                busy: Duration::ZERO,
                status: CLIENT_CLOSED,
                response_bytes: 0,
                scheme: if shared.tls { "https" } else { "http" },
                protocol_version: match version {
                    Version::HTTP_2 => "2",
                    Version::HTTP_10 => "1.0",
                    _ => "1.1",
                },
                failure: None,
            },
            shared: Arc::clone(shared),
            version,
            polled_until: began,
            // HTTP/1 polls right after the call. HTTP/2 spawns a task for each request.
            is_fresh: version < Version::HTTP_2,
            status: None,
            complete: false,
        })
    }

    /// Polls the inner work in the context of the request, and measures its time.
    pub(crate) fn polled<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = if std::mem::take(&mut self.is_fresh) {
            self.polled_until
        } else {
            Instant::now()
        };
        let result = self.record.context.enter(work);
        self.polled_until = Instant::now();
        self.record.busy += self.polled_until - began;
        result
    }
}

impl Drop for ObservedRequest {
    fn drop(&mut self) {
        self.shared.observer.routes.metrics().in_flight.dec();
        let ended = if self.complete {
            // The last poll ended the request.
            self.polled_until
        } else {
            Instant::now()
        };
        let record = &mut self.record;
        record.duration = ended - record.context.began;
        match self.status {
            Some(status) if self.complete => record.status = status,
            _ => {
                record.status = CLIENT_CLOSED;
                unfinished(&self.shared.lifecycle, &record.context);
            }
        }
        self.shared.observer.record(record);
    }
}

fn remote(headers: &HeaderMap, believed: bool) -> Option<Remote> {
    propagation::remote(|name| lines(headers, name), believed)
}

/// The parent context of the inner spans of a sampled request. It contains the baggage of
/// `headers`, if they are given.
fn otel_context(
    span: SpanContext,
    headers: Option<&HeaderMap>,
    began: (SystemTime, Instant),
) -> opentelemetry::Context {
    let baggage = headers.map_or_else(opentelemetry::Context::new, |headers| {
        propagation::baggage(|name| lines(headers, name))
    });
    request_context(span, &baggage, began)
}

fn unfinished(lifecycle: &Lifecycle, context: &Arc<RequestContext>) {
    let name = format!("{} {}", context.method, context.route);
    context.enter(|| lifecycle.report_unfinished("request", &name));
}
