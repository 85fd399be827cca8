//! The trace of the caller, and the trace that outgoing calls carry (W3C Trace Context, Baggage).

use std::collections::HashMap;

use opentelemetry::propagation::TextMapPropagator as _;
use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceFlags, TraceState};
use opentelemetry::{Context, baggage::BaggageExt as _};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use telemetry::Traces;

use crate::context::RequestContext;

/// The header or metadata with the ids of the caller's span.
pub const TRACEPARENT: &str = "traceparent";
/// The header or metadata with additions of vendors.
pub const TRACESTATE: &str = "tracestate";
const BAGGAGE: &str = "baggage";

/// A span of the caller.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its ids and its sampling decision.
    pub context: SpanContext,
    /// True if the caller is inside the trusted networks. Its trace is then continued. Traces of
    /// other callers are linked.
    pub believed: bool,
}

impl Remote {
    /// The span of a caller whose trace is continued.
    #[must_use]
    pub fn parent(remote: Option<&Self>) -> Option<&SpanContext> {
        remote
            .filter(|remote| remote.believed)
            .map(|remote| &remote.context)
    }
}

/// Metadata in the form of the propagators. The lines of one name are joined in their order (RFC
/// 9110, section 5.3). Both specifications allow `tracestate` and `baggage` to be split.
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

/// The caller's span. `None` if there is none or more than one, or if it is malformed. `lines`
/// returns the lines of the request's metadata by lower-case name.
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
    // Empty baggage would make every lookup slower and has no use.
    if context.baggage().is_empty() {
        return Context::new();
    }
    context
}

/// The span of this thread's work. In a sampled request or worker run it is the innermost span. In
/// an unsampled request it has the ids of the request and its sampling decision.
#[must_use]
pub fn current() -> Option<SpanContext> {
    let span = Context::map_current(|context| context.span().span_context().clone());
    if span.is_valid() {
        return Some(span);
    }
    RequestContext::with(|request| {
        let flags = TraceFlags::default().with_sampled(request.sampled);
        let (trace, span) = (request.trace_id, request.span_id);
        SpanContext::new(trace, span, flags, false, TraceState::default())
    })
}

/// `traceparent` and `tracestate` of this thread's work, for a call to another service. Empty
/// outside of all work, and if `OTEL_PROPAGATORS` excludes them. The caller first removes both from
/// the metadata that it sends.
///
/// The callee of an unsampled request receives the decision, so that it decides the same and its
/// log lines carry the same trace. Baggage is not passed on. A trusted peer sent it for this
/// service, and the callee may be any service.
#[must_use]
pub fn outgoing(traces: &Traces) -> HashMap<String, String> {
    let mut carrier = HashMap::new();
    if let Some(span) = current().filter(|_| traces.propagates_trace_context()) {
        let context = Context::new().with_remote_span_context(span);
        TraceContextPropagator::new().inject_context(&context, &mut carrier);
        // An empty value has no use.
        carrier.retain(|_, value| !value.is_empty());
    }
    carrier
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::path::Path;
    use std::sync::Arc;

    use opentelemetry::trace::{SpanId, TraceId};
    use settings::{Layers, Reader};
    use telemetry::{Service, TelemetryMetrics};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const SERVICE: Service = Service {
        name: "test",
        version: "0",
        revision: "0",
        modules: &[],
        packages: &[],
    };

    /// Returns the lines of a name.
    fn of<'a>(lines: &[(&'a str, &'a str)]) -> impl Fn(&str) -> Vec<&'a str> {
        move |name| {
            let named = lines.iter().filter(|(own, _)| *own == name);
            named.map(|(_, line)| *line).collect()
        }
    }

    /// Traces with these variables and the defaults of all other settings.
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
        let request = Arc::new(RequestContext {
            trace_id: TraceId::from_bytes([0xab; 16]),
            span_id: SpanId::from_bytes([0xcd; 8]),
            ..RequestContext::new(Ipv4Addr::LOCALHOST.into())
        });
        let expected = format!("00-{}-{}-00", "ab".repeat(16), "cd".repeat(8));
        let carried = request.enter(|| outgoing(&traces_with(&[])));
        assert_eq!(carried.get("traceparent"), Some(&expected));
        assert_eq!(carried.len(), 1);
    }
}
