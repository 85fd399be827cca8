//! Writes the records of requests.

use request::{ErrorEvents, ReportedProblem, ServerError};
use telemetry::exposition::Exemplar;
use telemetry::{Logs, Traces};

use crate::observe::request_record::RequestRecord;
use crate::observe::routes::RouteTable;
use crate::observe::{request_line, span};

/// Writes records to metrics, the request line and the span.
pub struct Observer {
    /// Routes and their instruments.
    pub routes: RouteTable,
    /// Decides about sampling, and exports spans.
    pub traces: Traces,
    logs: Logs,
    error_events: ErrorEvents,
}

impl Observer {
    /// An observer that writes to these. It logs at most `events_per_second` error events of one
    /// kind.
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

    /// Writes the record of one request.
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
        request_line::write(record, &self.logs);
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

    fn count_problem(&self, failure: &ReportedProblem) {
        self.routes
            .metrics()
            .errors
            .with_label_values(&[&failure.code.code.to_ascii_lowercase()])
            .inc();
    }

    fn report(&self, record: &RequestRecord) {
        // The error event reads the ids from the current context.
        let error = ServerError {
            route: &record.context.route,
            status: record.status,
            failure: record.failure.as_ref(),
            at: record.started + record.duration,
        };
        record.context.enter(|| self.error_events.report(&error));
    }

    fn trace(&self, record: &RequestRecord) {
        record.route.exemplify(Exemplar {
            trace_id: record.context.trace_id,
            value: record.duration.as_secs_f64(),
            at: record.started + record.duration,
        });
        let span = span::server_span(record, self.traces.scope(), None);
        self.traces.export(span, false);
    }

    fn trace_late(&self, record: &RequestRecord, failed: bool) {
        let reason = if failed { "error" } else { "slow" };
        let span = span::server_span(record, self.traces.scope(), Some(reason));
        self.traces.export(span, true);
    }
}
