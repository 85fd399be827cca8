//! Compares the encoder with the generated types of `opentelemetry-proto`.

use std::borrow::Cow;

use opentelemetry::StringValue;
use opentelemetry::trace::{TraceFlags, TraceId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::trace::{SpanEvents, SpanLinks};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn by_generated_types(resource: &Resource, spans: &[SpanData]) -> ExportTraceServiceRequest {
    let resource = ResourceAttributesWithSchema::from(resource);
    ExportTraceServiceRequest {
        resource_spans: group_spans_by_resource_and_scope(spans.to_vec(), &resource),
    }
}

fn assert_equals_generated_types(resource: &Resource, spans: &[SpanData]) {
    let expected = by_generated_types(resource, spans);
    let written = SpanEncoder::new(resource).request(spans.iter());
    let read = ExportTraceServiceRequest::decode(&written[..]).expect("a request");
    assert_eq!(read, expected);
    // The bytes are equal as well, so lengths are minimal.
    assert!(
        written == expected.encode_to_vec(),
        "the same, otherwise written"
    );
}

/// Texts that are empty, short, and long enough for lengths of two and three bytes.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zäß]{0,12}",
        2 => (100_usize..140).prop_map(|length| "y".repeat(length)),
        1 => (16_300_usize..16_400).prop_map(|length| "z".repeat(length)),
    ]
}

fn values() -> impl Strategy<Value = Value> {
    let string = || texts().prop_map(StringValue::from);
    // NaN is excluded because it does not equal itself.
    let float =
        || prop_oneof![Just(0.0), Just(-0.0), any::<f64>()].prop_filter("NaN", |f| !f.is_nan());
    let int = || prop_oneof![Just(0), Just(-1), 0..300_i64, any::<i64>()];
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        int().prop_map(Value::from),
        float().prop_map(Value::from),
        string().prop_map(Value::from),
        vec(any::<bool>(), 0..4).prop_map(|all| Value::Array(all.into())),
        vec(int(), 0..4).prop_map(|all| Value::Array(all.into())),
        vec(float(), 0..4).prop_map(|all| Value::Array(all.into())),
        vec(string(), 0..4).prop_map(|all| Value::Array(all.into())),
    ]
}

fn pairs() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (texts(), values()).prop_map(|(name, value)| KeyValue::new(name, value));
    vec(pair, 0..5)
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..300_u32, any::<u32>()]
}

fn times() -> impl Strategy<Value = SystemTime> {
    let epoch = SystemTime::UNIX_EPOCH;
    prop_oneof![
        Just(epoch),
        Just(epoch - Duration::from_nanos(1)),
        // Includes times beyond 64 bits of nanoseconds.
        (0..20_000_000_000_u64, 0..1_000_000_000_u32)
            .prop_map(move |(seconds, nanos)| epoch + Duration::new(seconds, nanos)),
    ]
}

fn span_ids() -> impl Strategy<Value = SpanId> {
    let any_id = any::<[u8; 8]>().prop_map(SpanId::from_bytes);
    prop_oneof![Just(SpanId::INVALID), any_id]
}

fn contexts() -> impl Strategy<Value = SpanContext> {
    let trace_ids = any::<[u8; 16]>().prop_map(TraceId::from_bytes);
    let states = prop_oneof![Just(""), Just("vendor=1"), Just("a=1,b=2")];
    (trace_ids, span_ids(), any::<u8>(), any::<bool>(), states).prop_map(
        |(trace_id, span_id, flags, is_remote, state)| {
            let state: TraceState = state.parse().expect("a trace state");
            SpanContext::new(trace_id, span_id, TraceFlags::new(flags), is_remote, state)
        },
    )
}

fn events() -> impl Strategy<Value = SpanEvents> {
    let event = (texts(), times(), pairs(), counts())
        .prop_map(|(name, at, attributes, dropped)| Event::new(name, at, attributes, dropped));
    (vec(event, 0..3), counts()).prop_map(|(all, dropped)| {
        let mut events = SpanEvents::default();
        events.events = all;
        events.dropped_count = dropped;
        events
    })
}

fn links() -> impl Strategy<Value = SpanLinks> {
    let link = (contexts(), pairs(), counts())
        .prop_map(|(context, attributes, dropped)| Link::new(context, attributes, dropped));
    (vec(link, 0..3), counts()).prop_map(|(all, dropped)| {
        let mut links = SpanLinks::default();
        links.links = all;
        links.dropped_count = dropped;
        links
    })
}

fn statuses() -> impl Strategy<Value = Status> {
    let error = texts().prop_map(Status::error);
    prop_oneof![Just(Status::Unset), Just(Status::Ok), error]
}

fn kinds() -> impl Strategy<Value = SpanKind> {
    prop_oneof![
        Just(SpanKind::Internal),
        Just(SpanKind::Server),
        Just(SpanKind::Client),
        Just(SpanKind::Producer),
        Just(SpanKind::Consumer),
    ]
}

/// Few different scopes, so that spans share them.
fn scopes() -> impl Strategy<Value = InstrumentationScope> {
    let (name, version) = (0..2_usize, proptest::option::of(0..2_usize));
    (name, version, any::<bool>(), any::<bool>()).prop_map(|(name, version, schema, attributes)| {
        let mut scope = InstrumentationScope::builder(["", "service"][name]);
        if let Some(version) = version {
            scope = scope.with_version(["", "1.2.3"][version]);
        }
        if schema {
            scope = scope.with_schema_url("https://example.com/scope/1");
        }
        if attributes {
            scope = scope.with_attributes([KeyValue::new("a", 1), KeyValue::new("b", true)]);
        }
        scope.build()
    })
}

fn spans() -> impl Strategy<Value = SpanData> {
    let who = (contexts(), span_ids(), any::<bool>(), kinds(), texts());
    let what = (times(), times(), pairs(), counts(), events(), links());
    (who, what, statuses(), scopes()).prop_map(|(who, what, status, scope)| SpanData {
        span_context: who.0,
        parent_span_id: who.1,
        parent_span_is_remote: who.2,
        span_kind: who.3,
        name: Cow::Owned(who.4),
        start_time: what.0,
        end_time: what.1,
        attributes: what.2,
        dropped_attributes_count: what.3,
        events: what.4,
        links: what.5,
        status,
        instrumentation_scope: scope,
    })
}

fn resources() -> impl Strategy<Value = Resource> {
    (pairs(), any::<bool>()).prop_map(|(attributes, schema)| {
        let resource = Resource::builder_empty();
        if schema {
            resource
                .with_schema_url(attributes, "https://example.com/resource/1")
                .build()
        } else {
            resource.with_attributes(attributes).build()
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn spans_are_encoded_like_by_the_generated_types(
        resource in resources(),
        spans in vec(spans(), 0..8),
    ) {
        assert_equals_generated_types(&resource, &spans);
    }
}

/// A span with these attributes and defaults for everything else.
pub(crate) fn span_with(attributes: Vec<KeyValue>) -> SpanData {
    SpanData {
        span_context: SpanContext::empty_context(),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Server,
        name: "x".into(),
        start_time: SystemTime::UNIX_EPOCH,
        end_time: SystemTime::UNIX_EPOCH,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::default(),
    }
}

/// Lengths around the limit of a one-byte length.
#[test]
fn attributes_of_any_length_are_encoded() {
    let resource = Resource::builder_empty().build();
    let names = [0, 1, 2, 60].into_iter().chain(110..130);
    let spans: Vec<_> = names
        .map(|length| {
            let name = "n".repeat(length);
            let texts = (0..130_usize).map(|length| Value::from("v".repeat(length)));
            let powers = (0..64).map(|bit| 1_i64 << bit);
            let numbers =
                powers.flat_map(|power| [power, power.wrapping_sub(1), power.wrapping_neg()]);
            let all = texts.chain(numbers.map(Value::from));
            span_with(
                all.map(|value| KeyValue::new(name.clone(), value))
                    .collect(),
            )
        })
        .collect();
    assert_equals_generated_types(&resource, &spans);
}

/// The length of the request takes one to four bytes.
#[test]
fn requests_of_any_length_are_encoded() {
    let resource = Resource::builder_empty().build();
    let span = span_with(vec![KeyValue::new("name", "v".repeat(1_000))]);
    for count in [0, 1, 10, 20, 2_000, 2_500] {
        assert_equals_generated_types(&resource, &vec![span.clone(); count]);
    }
}
