//! The end of a request, and who writes it down.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::platform::http::problem::Failure;

use super::{RequestContext, RouteMetrics, RouteTable};

/// All that is written of a request when it has ended.
pub struct RequestRecord {
    /// Who asked for what.
    pub context: Arc<RequestContext>,
    /// Instruments of its route.
    pub route: Arc<RouteMetrics>,
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
    /// `1.1` or `2`.
    pub protocol_version: &'static str,
    /// The problem that was answered.
    pub failure: Option<Failure>,
}

/// Writes records to metrics, the request line and the span.
pub struct Observer {
    /// Routes and their instruments.
    pub routes: RouteTable,
}

impl Observer {
    /// Writes one request.
    pub fn record(&self, record: &RequestRecord) {
        let seconds = record.duration.as_secs_f64();
        record.route.record(
            record.status,
            seconds,
            record.busy.as_secs_f64(),
            record.response_bytes,
        );
        let code = record.failure.as_ref().map(|failure| failure.code.code);
        if let Some(code) = code {
            self.routes
                .metrics()
                .errors
                .with_label_values(&[&code.to_ascii_lowercase()])
                .inc();
        }
        let context = &record.context;
        tracing::info!(
            target: "request",
            method = context.method,
            route = &*context.route,
            status = record.status,
            duration_ms = seconds * 1_000.0,
            client_address = %context.client_address,
            response_bytes = record.response_bytes,
            protocol_version = record.protocol_version,
            principal = context.principal.get().map(tracing::field::display),
            code,
            "request"
        );
        if record.status >= 500 {
            let cause = record
                .failure
                .as_ref()
                .and_then(|failure| failure.cause.as_deref());
            tracing::error!(
                code,
                route = &*context.route,
                error = cause.map(tracing::field::display),
                "request failed"
            );
        }
    }
}
