//! The request line of a record.

use request::redact;
use telemetry::Logs;
use telemetry::logs::{RequestFields, RequestLine};

use crate::observe::request_record::{MAX_PATH, RequestRecord};

/// Writes the request line, if request lines are enabled.
pub(crate) fn write(record: &RequestRecord, logs: &Logs) {
    if !logs.wants_requests() {
        return;
    }
    let context = &record.context;
    let path = record.path();
    // A path that equals its template contains no e-mail address, so it is left out.
    let path = (path != &*context.route).then(|| redact(path, MAX_PATH));
    logs.request(&RequestLine {
        facts: RequestFields {
            at: record.started + record.duration,
            trace_id: context.trace_id,
            span_id: context.span_id,
            sampled: context.sampled,
            method: context.method,
            status: record.status,
            duration: record.duration,
            busy: record.busy,
            response_bytes: record.response_bytes,
            protocol_version: record.protocol_version,
            client_address: context.client_address,
            principal: context.principal.get().copied(),
            api_key: context.api_key.get().copied(),
            code: record.failure.as_ref().map(|failure| failure.code.code),
        },
        request_id: &context.request_id,
        route: &context.route,
        path: path.as_deref(),
    });
}
