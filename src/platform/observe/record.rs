//! The end of a request, and who writes it down.

use std::time::{Duration, SystemTime};

use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method};
use request::propagation::Remote;
use request::{ContextSlot, ErrorEvents, Failure, ServerError};
use telemetry::exposition::Exemplar;
use telemetry::{Logs, Traces};

use super::{RouteMetrics, RouteTable, line, span};

/// All that is written of a request when it has ended.
pub struct RequestRecord {
    /// Who asked for what.
    pub context: ContextSlot,
    /// Instruments of its route.
    pub route: &'static RouteMetrics,
    /// The method as it was sent.
    pub method: Method,
    /// What was asked for. Its query string goes into no signal.
    pub target: Option<PathAndQuery>,
    /// `:authority` of HTTP/2.
    pub authority: Option<Authority>,
    /// `Host`, as the client named this service.
    pub host: Option<HeaderValue>,
    /// `User-Agent`.
    pub user_agent: Option<HeaderValue>,
    /// The caller's span, if there is one.
    pub remote: Option<Box<Remote>>,
    /// When its head had arrived.
    pub started: SystemTime,
    /// From then to the end of the response body.
    pub duration: Duration,
    /// Time spent polling it.
    pub busy: Duration,
    /// Status that was sent; 499 when the client left before the end.
    pub status: u16,
    /// Bytes of the response body.
    pub response_bytes: u64,
    /// `http`, or `https` where this service ends TLS itself.
    pub scheme: &'static str,
    /// `1.0`, `1.1` or `2`.
    pub protocol_version: &'static str,
    /// The problem that was answered.
    pub failure: Option<Failure>,
}

impl RequestRecord {
    /// The path that was asked for; empty where there is none.
    pub(super) fn path(&self) -> &str {
        self.target.as_ref().map_or("", PathAndQuery::path)
    }
}

/// Writes records to metrics, the request line and the span.
pub struct Observer {
    /// Routes and their instruments.
    pub routes: RouteTable,
    /// Decides what is sampled, and takes spans.
    pub traces: Traces,
    logs: Logs,
    error_events: ErrorEvents,
}

impl Observer {
    /// An observer that writes to these; of error events of one kind at most as many a
    /// second.
    #[must_use]
    pub fn new(routes: RouteTable, logs: Logs, traces: Traces, events_per_second: u32) -> Self {
        let suppressed = routes.metrics().error_events_suppressed.clone();
        Self {
            routes,
            traces,
            logs,
            error_events: ErrorEvents::new(events_per_second, suppressed),
        }
    }

    /// Writes one request.
    pub fn record(&self, record: &RequestRecord) {
        record.route.record(
            record.status,
            record.duration.as_secs_f64(),
            record.busy.as_secs_f64(),
            record.response_bytes,
        );
        if let Some(failure) = &record.failure {
            self.count_problem(failure);
        }
        line::write(record, &self.logs);
        let failed = record.status >= 500;
        if failed {
            self.report(record);
        }
        if record.context.sampled {
            self.trace(record);
        } else if self.traces.exports_late(failed, record.duration) {
            self.trace_late(record, failed);
        }
    }

    // What follows is not for every request. The code of those that are is larger than
    // a processor keeps at hand; it should hold nothing else.

    #[cold]
    fn count_problem(&self, failure: &Failure) {
        self.routes
            .metrics()
            .errors
            .with_label_values(&[&failure.code.code.to_ascii_lowercase()])
            .inc();
    }

    #[cold]
    fn report(&self, record: &RequestRecord) {
        // A line that looks for its request.
        let mut context = record.context.share();
        let _entered = context.enter();
        self.error_events.report(&ServerError {
            route: record.context.route,
            status: record.status,
            failure: record.failure.as_ref(),
            at: record.started + record.duration,
        });
    }

    #[inline(never)]
    fn trace(&self, record: &RequestRecord) {
        record.route.exemplify(Exemplar {
            trace_id: record.context.trace_id,
            value: record.duration.as_secs_f64(),
            at: record.started + record.duration,
        });
        let span = span::server_span(record, self.traces.scope(), None);
        self.traces.export(span, false);
    }

    #[cold]
    fn trace_late(&self, record: &RequestRecord, failed: bool) {
        let reason = if failed { "error" } else { "slow" };
        let span = span::server_span(record, self.traces.scope(), Some(reason));
        self.traces.export(span, true);
    }
}
