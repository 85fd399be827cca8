//! Links from a run of background work to the requests that caused it.
//!
//! A run is the root of its own trace. It may serve many requests. These have ended before it and
//! may be sampled differently, so that none of them can be its parent.

use std::str::FromStr;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::propagation;

/// Attribute with the reason for a link.
const REASON: &str = "link.reason";

/// The span of the work that caused a later run. Its text is a `traceparent` (W3C Trace Context).
/// It can be stored beside the work if another process may do it.
#[derive(Debug, Clone, PartialEq)]
pub struct SpanLink(SpanContext);

impl SpanLink {
    /// The span of this thread's work. It is the innermost span of a sampled request or run, or
    /// that of an unsampled request, which may still be exported late.
    #[must_use]
    pub fn current() -> Option<Self> {
        propagation::current().map(Self)
    }

    /// Links the current run to this span. Has no effect outside of a span and in an unsampled one.
    pub fn link(&self, reason: &'static str) {
        let attributes = vec![KeyValue::new(REASON, reason)];
        tracing::Span::current().add_link_with_attributes(self.0.clone(), attributes);
    }
}

impl std::fmt::Display for SpanLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (trace, span) = (self.0.trace_id(), self.0.span_id());
        let flags = u8::from(self.0.is_sampled());
        write!(f, "00-{trace}-{span}-{flags:02x}")
    }
}

/// The text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is no traceparent")]
pub struct NotATraceparent;

impl FromStr for SpanLink {
    type Err = NotATraceparent;

    fn from_str(text: &str) -> Result<Self, NotATraceparent> {
        let lines = |name: &str| match name {
            propagation::TRACEPARENT => vec![text],
            _ => Vec::new(),
        };
        let remote = propagation::remote(lines, true).ok_or(NotATraceparent)?;
        Ok(Self(remote.context))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::Context;
    use opentelemetry::trace::TraceContextExt as _;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_link_outlives_its_process_as_text() {
        assert_eq!(SpanLink::current(), None);
        let cause: SpanLink = PARENT.parse().unwrap();
        assert_eq!(cause.to_string(), PARENT);
        let unsampled = PARENT.replace("-01", "-00");
        assert_eq!(
            unsampled.parse::<SpanLink>().unwrap().to_string(),
            unsampled
        );
        let context = Context::new().with_remote_span_context(cause.0.clone());
        let _attached = context.attach();
        assert_eq!(SpanLink::current(), Some(cause));
        for wrong in ["", "nonsense", "00-\n"] {
            assert_eq!(wrong.parse::<SpanLink>(), Err(NotATraceparent));
        }
    }
}
