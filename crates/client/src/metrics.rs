//! Metrics of outgoing calls.

use std::time::Duration;

use http::{Method, Response};
use prometheus::HistogramVec;
use telemetry::metrics;
use telemetry::metrics::LATENCY;

use crate::error::CallError;

metrics! {
    /// Outgoing HTTP calls.
    pub struct ClientMetrics {
        /// Duration of an outgoing HTTP request in seconds, to the last byte of the response. Each
        /// attempt of a call counts. `client` is the name of the client in the code. Outcomes: the
        /// class of the status (`2xx`), `connect`, `timeout`, `too_large`, `broken` (no complete
        /// response) and `request` (it could not be sent).
        pub duration: HistogramVec = "http_client_request_duration_seconds"["client", "method", "outcome"], buckets LATENCY;
    }
}

impl ClientMetrics {
    pub(crate) fn observe<B>(
        &self,
        client: &str,
        method: &Method,
        result: &Result<Response<B>, CallError>,
        took: Duration,
    ) {
        let outcome = match result {
            Ok(response) => class(response.status().as_u16()),
            Err(error) => error.kind(),
        };
        let labels = [client, method_name(method).unwrap_or("other"), outcome];
        let histogram = self.duration.with_label_values(&labels);
        histogram.observe(took.as_secs_f64());
    }
}

fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        5 => "5xx",
        _ => "other",
    }
}

/// The name of a standard method (RFC 9110 and RFC 5789). Others are not used as a label or as the
/// name of a span.
pub(crate) fn method_name(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::CONNECT => "CONNECT",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::PATCH => "PATCH",
        _ => return None,
    })
}
