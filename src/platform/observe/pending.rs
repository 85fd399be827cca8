//! A request between its head and the end of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use http::{HeaderMap, Request, Version};
use lifecycle::Lifecycle;
use opentelemetry::trace::{SpanContext, SpanId, TraceId};
use quanta::Instant;
use request::clock::now;
use request::ids::random_ids;
use request::propagation::{self, Remote};
use request::{BodyLimits, ContextSlot, RequestContext};
use telemetry::traces::context_of;

use super::head::{Head, lines, method_label};
use super::span::span_context;
use super::{Asked, Observer, RequestRecord};
use crate::platform::http::ClientAddress;

/// The status of a request whose client left before the end: nginx's word for it.
const CLIENT_CLOSED: u16 = 499;

/// What is needed to observe a request; shared by all of them.
pub struct Observation {
    /// Who writes the records.
    pub observer: Arc<Observer>,
    /// What stands inside, asked for its routes.
    pub router: Asked,
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

/// A request that has not ended; its record is written when this is dropped. In a box:
/// it moves with the answer from hand to hand.
pub(super) struct Pending {
    pub(super) shared: &'static Observation,
    /// Filled in as far as is known.
    pub(super) record: RequestRecord,
    pub(super) version: Version,
    /// When the last poll ended.
    polled_until: Instant,
    /// The first poll follows at once.
    is_fresh: bool,
    /// Known once the response's head is.
    pub(super) status: Option<u16>,
    /// The response body has ended.
    pub(super) complete: bool,
}

impl Pending {
    pub(super) fn begin(
        shared: &'static Observation,
        peer: IpAddr,
        request: &Request<Body>,
    ) -> Box<Self> {
        let (started, began) = now();
        let routes = &shared.observer.routes;
        let route = routes.find(&shared.router, request.method(), request.uri());
        let metrics = routes.metrics();
        let headers = request.headers();
        let head = Head::read(headers);
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
        let context = ContextSlot::new(RequestContext {
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
            stream: std::sync::OnceLock::new(),
            route: route.path(),
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
            shared,
            version,
            polled_until: began,
            // HTTP/1 polls where it calls; HTTP/2 gives each request a task.
            is_fresh: version < Version::HTTP_2,
            status: None,
            complete: false,
        })
    }

    /// Polls the inner work in the context of the request, and counts its time.
    pub(super) fn polled<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _entered = self.record.context.enter();
        let began = if std::mem::take(&mut self.is_fresh) {
            self.polled_until
        } else {
            Instant::now()
        };
        let result = work();
        self.polled_until = Instant::now();
        self.record.busy += self.polled_until - began;
        result
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared.observer.routes.metrics().in_flight.dec();
        let ended = if self.complete {
            // In the last poll, just now.
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
                unfinished(&self.shared.lifecycle, &mut record.context);
            }
        }
        self.shared.observer.record(record);
    }
}

/// Kept out of the way of the requests without a caller's trace.
#[inline(never)]
fn remote(headers: &HeaderMap, believed: bool) -> Option<Remote> {
    propagation::remote(|name| lines(headers, name), believed)
}

/// What inner spans of a sampled request find as their parent; with the baggage of
/// `headers`, where that is wanted.
#[inline(never)]
fn otel_context(
    span: SpanContext,
    headers: Option<&HeaderMap>,
    began: (SystemTime, Instant),
) -> opentelemetry::Context {
    let baggage = headers.map_or_else(opentelemetry::Context::new, |headers| {
        propagation::baggage(|name| lines(headers, name))
    });
    context_of(span, &baggage, began)
}

#[cold]
fn unfinished(lifecycle: &Lifecycle, context: &mut ContextSlot) {
    let name = format!("{} {}", context.method, context.route);
    let _entered = context.enter();
    lifecycle.unfinished("request", &name);
}
