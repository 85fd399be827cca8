//! The trace that a caller says a request belongs to, and the one that this service
//! tells whomever it calls (W3C Trace Context, Baggage).

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Injector, TextMapPropagator as _};
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceState};
use opentelemetry::{Context, baggage::BaggageExt as _};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use telemetry::Traces;

use super::RequestContext;

pub(super) const TRACEPARENT: &str = "traceparent";
const TRACESTATE: &str = "tracestate";
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

/// Headers as the propagators read them: the lines of one are joined, in their order
/// (RFC 9110, section 5.3; both specifications allow `tracestate` and `baggage` to be split).
fn carrier<const N: usize>(headers: &HeaderMap, names: [&str; N]) -> HashMap<String, String> {
    let mut carrier = HashMap::with_capacity(N);
    for name in names {
        let lines = headers.get_all(name).iter();
        let lines: Vec<_> = lines.filter_map(|line| line.to_str().ok()).collect();
        if !lines.is_empty() {
            carrier.insert(name.to_owned(), lines.join(","));
        }
    }
    carrier
}

/// The caller's span; nothing when there is none, more than one, or it is malformed.
#[inline(never)]
pub(super) fn remote(headers: &HeaderMap, believed: bool) -> Option<Remote> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    lines.next()?;
    if lines.next().is_some() {
        return None;
    }
    let carrier = carrier(headers, [TRACEPARENT, TRACESTATE]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let context = context.span().span_context().clone();
    context.is_valid().then_some(Remote { context, believed })
}

/// A context with the caller's baggage, for calls that this service makes.
#[inline(never)]
pub(super) fn baggage(headers: &HeaderMap) -> Context {
    if !headers.contains_key(BAGGAGE) {
        return Context::new();
    }
    let carrier = carrier(headers, [BAGGAGE]);
    let context = BaggagePropagator::new().extract_with_context(&Context::new(), &carrier);
    // An empty one costs every lookup and says nothing.
    if context.baggage().is_empty() {
        return Context::new();
    }
    context
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = HeaderName::try_from(key);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// The work that this thread does: inside of a sampled request or worker run its
/// innermost span, inside of an unsampled request the request with its decision.
pub(super) fn current() -> Option<SpanContext> {
    let span = Context::map_current(|context| context.span().span_context().clone());
    if span.is_valid() {
        return Some(span);
    }
    RequestContext::with(|request| {
        request.map(|request| {
            let flags = TraceFlags::default().with_sampled(request.sampled);
            let (trace, span) = (request.trace_id, request.span_id);
            SpanContext::new(trace, span, flags, false, TraceState::default())
        })
    })
}

/// Writes `traceparent` and `tracestate` of the work that this thread does into the
/// headers of a call to another service, unless `OTEL_PROPAGATORS` says otherwise;
/// what stood there is removed.
///
/// The callee of an unsampled request learns that, so that it decides the same, and
/// its lines carry the same trace. Baggage came from a trusted peer for this
/// service, and is not handed on: the callee may be anyone.
pub fn inject(traces: &Traces, headers: &mut HeaderMap) {
    headers.remove(TRACEPARENT);
    headers.remove(TRACESTATE);
    if traces.propagates_trace_context() {
        write(headers);
    }
}

fn write(headers: &mut HeaderMap) {
    let Some(span) = current() else { return };
    let context = Context::new().with_remote_span_context(span);
    TraceContextPropagator::new().inject_context(&context, &mut HeadersMut(headers));
    // An empty one says nothing.
    if headers.get(TRACESTATE).is_some_and(HeaderValue::is_empty) {
        headers.remove(TRACESTATE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::{Layers, Reader};
    use telemetry::TelemetryMetrics;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// Traces with these variables and the defaults of everything else.
    fn traces_with(variables: &[(&str, &str)]) -> Traces {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let metrics = TelemetryMetrics::register(&prometheus::Registry::new()).unwrap();
        let nowhere = std::path::Path::new("/nonexistent");
        let config = telemetry::Config::read(&mut Reader::new(Layers::load(nowhere, nowhere, [])));
        Traces::start(crate::SERVICE, &config, &variables, &metrics).unwrap()
    }

    #[test]
    fn a_state_or_baggage_in_several_lines_is_one() {
        let lines = [
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("baggage", "x=1"),
            ("baggage", "y=2"),
        ];
        let remote = remote(&headers(&lines), true).unwrap();
        assert_eq!(remote.context.trace_state().header(), "a=1,b=2");
        assert_eq!(baggage(&headers(&lines)).baggage().len(), 2);
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

    #[test]
    fn calls_carry_the_span_that_they_are_made_in() {
        let traces = traces_with(&[]);
        let stale = headers(&[("traceparent", "stale"), ("tracestate", "stale=1")]);
        let mut outgoing = stale.clone();
        inject(&traces, &mut outgoing);
        assert!(outgoing.is_empty(), "outside of all work there is no trace");

        let caller = remote(&headers(&[("traceparent", PARENT)]), true).unwrap();
        let context = Context::new().with_remote_span_context(caller.context);
        let _attached = context.attach();
        inject(&traces, &mut outgoing);
        assert_eq!(outgoing, headers(&[("traceparent", PARENT)]));

        let mut outgoing = stale;
        inject(
            &traces_with(&[("OTEL_PROPAGATORS", "baggage")]),
            &mut outgoing,
        );
        assert!(outgoing.is_empty(), "nobody may know of the trace");
    }

    #[test]
    fn calls_of_an_unsampled_request_carry_its_decision() {
        let mut request = Some(std::sync::Arc::new(RequestContext {
            began: quanta::Instant::now(),
            request_id: "r".into(),
            trace_id: opentelemetry::trace::TraceId::from_bytes([0xab; 16]),
            span_id: opentelemetry::trace::SpanId::from_bytes([0xcd; 8]),
            sampled: false,
            span: None,
            method: "GET",
            route: "/",
            client_address: std::net::Ipv4Addr::LOCALHOST.into(),
            limits: super::super::BodyLimits::default(),
            principal: std::sync::OnceLock::new(),
            stream: std::sync::OnceLock::new(),
        }));
        let _entered = super::super::context::Entered::new(&mut request);
        let mut outgoing = HeaderMap::new();
        inject(&traces_with(&[]), &mut outgoing);
        let expected = format!("00-{}-{}-00", "ab".repeat(16), "cd".repeat(8));
        assert_eq!(outgoing["traceparent"], expected.as_str());
        assert_eq!(outgoing.len(), 1);
    }
}
