//! What ties a log line to the work during which it is written.

use opentelemetry::trace::{SpanId, TraceId};

/// Ids of the work that this thread is doing.
#[derive(Debug, Clone, Copy)]
pub struct Correlation<'a> {
    /// Trace that the work belongs to.
    pub trace_id: TraceId,
    /// Its own span.
    pub span_id: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// Id of the request.
    pub request_id: &'a str,
}

/// Calls back with the [`Correlation`] of the work that this thread is doing; without
/// one when it does none. The code that keeps track of the work provides it.
pub type Correlate = fn(&mut dyn FnMut(Option<Correlation<'_>>));
