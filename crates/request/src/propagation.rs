//! The trace that a caller says a request belongs to, and the one that this service
//! tells whomever it calls (W3C Trace Context, Baggage).

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceState};
use opentelemetry::{Context, baggage::BaggageExt as _};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use telemetry::Traces;

use crate::context::RequestContext;

/// The header, or metadata, with the ids of the caller's span.
pub const TRACEPARENT: &str = "traceparent";
/// The header, or metadata, with what vendors add to it.
pub const TRACESTATE: &str = "tracestate";
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

/// Metadata as the propagators read it: the lines of one name are joined, in their order
/// (RFC 9110, section 5.3; both specifications allow `tracestate` and `baggage` to be split).
fn carrier<'a, const N: usize>(
    lines: impl Fn(&str) -> Vec<&'a str>,
    names: [&str; N],
) -> HashMap<String, String> {
    let all = names.map(|name| (name.to_owned(), lines(name)));
    let present = all.into_iter().filter(|(_, lines)| !lines.is_empty());
    present
        .map(|(name, lines)| (name, lines.join(",")))
        .collect()
}

/// The caller's span; nothing when there is none, more than one, or it is malformed.
/// `lines` gives the lines of the request's metadata by lower-case name.
pub fn remote<'a>(lines: impl Fn(&str) -> Vec<&'a str>, believed: bool) -> Option<Remote> {
    if lines(TRACEPARENT).len() != 1 {
        return None;
    }
    let carrier = carrier(lines, [TRACEPARENT, TRACESTATE]);
    let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
    let context = context.span().span_context().clone();
    context.is_valid().then_some(Remote { context, believed })
}

/// A context with the caller's baggage, for calls that this service makes.
pub fn baggage<'a>(lines: impl Fn(&str) -> Vec<&'a str>) -> Context {
    let carrier = carrier(lines, [BAGGAGE]);
    if carrier.is_empty() {
        return Context::new();
    }
    let context = BaggagePropagator::new().extract_with_context(&Context::new(), &carrier);
    // An empty one costs every lookup and says nothing.
    if context.baggage().is_empty() {
        return Context::new();
    }
    context
}

/// The work that this thread does: inside of a sampled request or worker run its
/// innermost span, inside of an unsampled request the request with its decision.
#[must_use]
pub fn current() -> Option<SpanContext> {
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

/// `traceparent` and `tracestate` of the work that this thread does, for a call to
/// another service; nothing when `OTEL_PROPAGATORS` says so, or outside of all work.
/// The caller removes the two from what it sends first.
///
/// The callee of an unsampled request learns that, so that it decides the same, and
/// its lines carry the same trace. Baggage came from a trusted peer for this
/// service, and is not handed on: the callee may be anyone.
#[must_use]
pub fn outgoing(traces: &Traces) -> HashMap<String, String> {
    let mut carrier = HashMap::new();
    if let Some(span) = current().filter(|_| traces.propagates_trace_context()) {
        let context = Context::new().with_remote_span_context(span);
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        // An empty one says nothing.
        carrier.retain(|_, value| !value.is_empty());
    }
    carrier
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;

    use opentelemetry::trace::{SpanId, TraceId};
    use settings::{Layers, Reader};
    use telemetry::{Service, TelemetryMetrics};

    use super::*;
    use crate::context::ContextSlot;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const SERVICE: Service = Service {
        name: "test",
        version: "0",
        revision: "0",
        modules: &[],
        packages: &[],
    };

    /// Looks lines up by their name.
    fn of<'a>(lines: &[(&'a str, &'a str)]) -> impl Fn(&str) -> Vec<&'a str> {
        move |name| {
            let named = lines.iter().filter(|(own, _)| *own == name);
            named.map(|(_, line)| *line).collect()
        }
    }

    /// Traces with these variables and the defaults of everything else.
    fn traces_with(variables: &[(&str, &str)]) -> Traces {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let metrics = TelemetryMetrics::register(&prometheus::Registry::new()).unwrap();
        let nowhere = Path::new("/nonexistent");
        let config = telemetry::Config::read(&mut Reader::new(Layers::load(nowhere, nowhere, [])));
        Traces::start(SERVICE, &config, &variables, &metrics).unwrap()
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
        let remote = remote(of(&lines), true).unwrap();
        assert_eq!(remote.context.trace_state().header(), "a=1,b=2");
        assert_eq!(baggage(of(&lines)).baggage().len(), 2);
    }

    #[test]
    fn a_wellformed_parent_is_read() {
        let remote = remote(of(&[("traceparent", PARENT)]), true).unwrap();
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
            assert!(remote(of(lines), true).is_none(), "{lines:?}");
        }
    }

    #[test]
    fn calls_carry_the_span_that_they_are_made_in() {
        let traces = traces_with(&[]);
        assert!(outgoing(&traces).is_empty(), "outside of all work");
        let caller = remote(of(&[("traceparent", PARENT)]), true).unwrap();
        let context = Context::new().with_remote_span_context(caller.context);
        let _attached = context.attach();
        let expected = HashMap::from([("traceparent".to_owned(), PARENT.to_owned())]);
        assert_eq!(outgoing(&traces), expected);
        let hidden = traces_with(&[("OTEL_PROPAGATORS", "baggage")]);
        assert!(outgoing(&hidden).is_empty(), "no trace is told");
    }

    #[test]
    fn calls_of_an_unsampled_request_carry_its_decision() {
        let mut request = ContextSlot::new(RequestContext {
            trace_id: TraceId::from_bytes([0xab; 16]),
            span_id: SpanId::from_bytes([0xcd; 8]),
            ..RequestContext::new(Ipv4Addr::LOCALHOST.into())
        });
        let _entered = request.enter();
        let expected = format!("00-{}-{}-00", "ab".repeat(16), "cd".repeat(8));
        let carried = outgoing(&traces_with(&[]));
        assert_eq!(carried.get("traceparent"), Some(&expected));
        assert_eq!(carried.len(), 1);
    }
}
