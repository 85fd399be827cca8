//! Logs, traces and metrics as seen from outside of the process.

mod bad_collectors;
mod collector;
mod collector_responses;
mod debug_lines;
mod inner_spans;
mod log_export;
mod log_format;
mod logs;
mod openmetrics;
pub mod sink;
mod spans;
mod variables;

use serde_json::Value;

use crate::support::{Answer, Backend, Builder, Service, send};
use sink::Sink;

/// A service that exports to this collector every 20 ms.
pub fn exporting(sink: &Sink) -> Builder {
    exporting_on(sink, Backend::Sqlite)
}

fn exporting_on(sink: &Sink, backend: Backend) -> Builder {
    Service::builder(backend)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url())
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
}

/// A service that exports log lines as well.
fn logging_to(sink: &Sink) -> Builder {
    exporting(sink)
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
}

async fn get(service: &Service, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = service.client.get(service.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request).await
}

/// Waits for the log line of a request.
async fn request_line(service: &Service, request_id: &str) -> Value {
    crate::support::eventually("the request line", async || {
        service
            .logs()
            .into_iter()
            .find(|line| line["target"] == "request" && line["request_id"] == request_id)
    })
    .await
}
