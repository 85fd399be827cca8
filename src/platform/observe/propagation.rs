//! The trace that a caller says a request belongs to (W3C Trace Context, Baggage).

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use opentelemetry::{Context, baggage::BaggageExt as _};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};

const TRACEPARENT: &str = "traceparent";
const BAGGAGE: &str = "baggage";

/// A span of the caller's.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its ids and its sampling decision.
    pub context: SpanContext,
    /// The caller lies inside the trusted networks: its trace is continued. Anyone
    /// else's is linked to.
    pub believed: bool,
}

impl Remote {
    /// The caller whose trace is continued.
    #[must_use]
    pub fn parent(remote: Option<&Self>) -> Option<&SpanContext> {
        remote
            .filter(|remote| remote.believed)
            .map(|remote| &remote.context)
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// The caller's span; nothing when there is none, more than one, or it is malformed.
pub(super) fn remote(headers: &HeaderMap, believed: bool) -> Option<Remote> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    let context =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    let context = context.span().span_context().clone();
    context.is_valid().then_some(Remote { context, believed })
}

/// A context with the caller's baggage, for calls that this service makes.
pub(super) fn baggage(headers: &HeaderMap) -> Context {
    if !headers.contains_key(BAGGAGE) {
        return Context::new();
    }
    let context = BaggagePropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    // An empty one costs every lookup and says nothing.
    if context.baggage().is_empty() {
        return Context::new();
    }
    context
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn a_wellformed_parent_is_read() {
        let remote = remote(&headers(&[("traceparent", PARENT)]), true).unwrap();
        assert!(remote.context.is_sampled() && remote.context.is_remote());
        assert_eq!(remote.context.span_id().to_string(), "b7ad6b7169203331");
    }

    #[test]
    fn anything_else_is_no_parent() {
        let zero = "00-00000000000000000000000000000000-b7ad6b7169203331-01";
        for lines in [
            &[][..],
            &[("traceparent", "nonsense")],
            &[("traceparent", zero)],
            &[("traceparent", PARENT), ("traceparent", PARENT)],
        ] {
            assert!(remote(&headers(lines), true).is_none(), "{lines:?}");
        }
    }
}
