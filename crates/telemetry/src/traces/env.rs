//! What the `OTEL_*` variables of the SDK specification say about traces.
//!
//! They are read from the configuration, not from the environment, so that a
//! variable of `.env` counts as well. As the specification asks, an empty value is
//! no value, and an invalid one is warned of and ignored. Warnings never repeat
//! endpoints and headers, which may carry credentials.

use std::collections::BTreeMap;

use opentelemetry_sdk::trace::SpanLimits;

use crate::otlp::{self, Batch, Reader, Signal, pairs};

/// How traces are sampled when `OTEL_TRACES_SAMPLER` says so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    pub(super) ratio: f64,
    pub(super) parent_based: bool,
}

/// Which headers of a request carry its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Propagators {
    pub(super) trace_context: bool,
    pub(super) baggage: bool,
}

/// All of it.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) disabled: bool,
    pub(super) exporter: Option<otlp::Settings>,
    pub(super) sampler: Option<Sampler>,
    pub(super) batch: Batch,
    pub(super) limits: SpanLimits,
    /// Characters of a text attribute that are exported at most.
    pub(super) value_length: Option<usize>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) propagators: Propagators,
    /// What was ignored and why.
    pub(super) warnings: Vec<String>,
}

impl Settings {
    pub(super) fn read(variables: &BTreeMap<String, String>) -> Self {
        let mut read = Reader::new(variables);
        Self {
            disabled: read.boolean("OTEL_SDK_DISABLED"),
            exporter: Signal::TRACES.exporter(&mut read),
            sampler: sampler(&mut read),
            batch: Signal::TRACES.batch(&mut read),
            limits: limits(&mut read),
            value_length: read
                .number("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT")
                .or_else(|| read.number("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT")),
            resource: resource(&mut read),
            propagators: propagators(&mut read),
            warnings: {
                let mut warnings = read.warnings;
                warnings.extend(otlp::without_effect(variables));
                warnings
            },
        }
    }
}

fn sampler(read: &mut Reader<'_>) -> Option<Sampler> {
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    let name = read.text("OTEL_TRACES_SAMPLER");
    let name = name.map(str::to_ascii_lowercase);
    let takes_argument = name
        .as_ref()
        .is_some_and(|name| name.ends_with("traceidratio"));
    if !takes_argument && read.text(ARGUMENT).is_some() {
        read.ignore(ARGUMENT, "has no effect without a sampler that takes one");
    }
    let name = name?;
    let (parent_based, kind) = match name.strip_prefix("parentbased_") {
        Some(kind) => (true, kind),
        None => (false, &*name),
    };
    let ratio = match kind {
        "always_on" => 1.0,
        "always_off" => 0.0,
        "traceidratio" => {
            let argument = read.number::<f64>(ARGUMENT);
            let in_range = argument.filter(|ratio| (0.0..=1.0).contains(ratio));
            if argument.is_some() && in_range.is_none() {
                read.ignore(ARGUMENT, "is not between 0 and 1");
            }
            in_range.unwrap_or(1.0)
        }
        _ => {
            read.ignore("OTEL_TRACES_SAMPLER", "is no sampler of this service");
            return None;
        }
    };
    Some(Sampler {
        ratio,
        parent_based,
    })
}

fn limits(read: &mut Reader<'_>) -> SpanLimits {
    let default = SpanLimits::default();
    let general = read
        .number("OTEL_ATTRIBUTE_COUNT_LIMIT")
        .unwrap_or(default.max_attributes_per_span);
    let mut limit = |name: &str, default: u32| read.number(name).unwrap_or(default);
    SpanLimits {
        max_attributes_per_span: limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", general),
        max_events_per_span: limit("OTEL_SPAN_EVENT_COUNT_LIMIT", default.max_events_per_span),
        max_links_per_span: limit("OTEL_SPAN_LINK_COUNT_LIMIT", default.max_links_per_span),
        max_attributes_per_event: limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", general),
        max_attributes_per_link: limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", general),
    }
}

/// `OTEL_SERVICE_NAME` wins over `service.name` of `OTEL_RESOURCE_ATTRIBUTES`.
fn resource(read: &mut Reader<'_>) -> Vec<(String, String)> {
    let mut attributes = match read.text("OTEL_RESOURCE_ATTRIBUTES") {
        None => Vec::new(),
        Some(text) => pairs(text).unwrap_or_else(|| {
            read.ignore(
                "OTEL_RESOURCE_ATTRIBUTES",
                "is not a list of name=value pairs",
            );
            Vec::new()
        }),
    };
    if let Some(name) = read.text("OTEL_SERVICE_NAME") {
        attributes.retain(|(key, _)| key != "service.name");
        attributes.push(("service.name".to_owned(), name.to_owned()));
    }
    attributes
}

fn propagators(read: &mut Reader<'_>) -> Propagators {
    const KNOWN: [&str; 3] = ["tracecontext", "baggage", "none"];
    let mut names = read.words("OTEL_PROPAGATORS");
    let all = names.len();
    names.retain(|name| KNOWN.contains(&name.as_str()));
    if names.len() < all {
        read.ignore(
            "OTEL_PROPAGATORS",
            "knows tracecontext, baggage and none; the rest is ignored",
        );
    }
    // With all of it ignored nothing is set.
    let has = |name: &str| names.is_empty() || names.iter().any(|known| known == name);
    Propagators {
        trace_context: has("tracecontext"),
        baggage: has("baggage"),
    }
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
