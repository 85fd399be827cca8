//! The ids that connect a log line with the work during which it is written.

use opentelemetry::trace::{SpanId, TraceId};

/// Ids of the work on the current thread.
#[derive(Debug, Clone, Copy)]
pub struct Correlation<'a> {
    /// Trace of the work.
    pub trace_id: TraceId,
    /// Span of the work.
    pub span_id: SpanId,
    /// Whether the trace is recorded.
    pub sampled: bool,
    /// Id of the request.
    pub request_id: &'a str,
}

/// Calls back with the [`Correlation`] of the work on the current thread, or `None`. Implemented by
/// the code that tracks the work.
pub type Correlate = fn(&mut dyn FnMut(Option<Correlation<'_>>));
