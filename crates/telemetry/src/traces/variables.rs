//! The `OTEL_*` variables about traces.
//!
//! They are read from the configuration instead of the environment, so that `.env` applies as well.
//! As specified, an empty value counts as unset, and an invalid value is ignored with a warning.
//! Warnings do not repeat endpoints and headers, which may contain credentials.

use std::collections::BTreeMap;

use opentelemetry_sdk::trace::SpanLimits;

use crate::otlp::{self, Batch, Reader, Signal, pairs};

/// The sampler of `OTEL_TRACES_SAMPLER`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sampler {
    pub(super) ratio: f64,
    pub(super) parent_based: bool,
}

/// The enabled propagators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Propagators {
    pub(super) trace_context: bool,
    pub(super) baggage: bool,
}

/// All settings of traces.
#[derive(Debug)]
pub(super) struct TraceSettings {
    pub(super) disabled: bool,
    pub(super) exporter: Option<otlp::ExporterSettings>,
    pub(super) sampler: Option<Sampler>,
    pub(super) batch: Batch,
    pub(super) limits: SpanLimits,
    /// Limit of text attributes in characters.
    pub(super) value_length: Option<usize>,
    pub(super) resource: Vec<(String, String)>,
    pub(super) propagators: Propagators,
    /// Warnings about ignored variables.
    pub(super) warnings: Vec<String>,
}

impl TraceSettings {
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
            read.ignore("OTEL_TRACES_SAMPLER", "is not a supported sampler");
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

/// `OTEL_SERVICE_NAME` has precedence over `service.name` in `OTEL_RESOURCE_ATTRIBUTES`.
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
            "supports tracecontext, baggage and none, other values are ignored",
        );
    }
    // If all names are unknown, the variable counts as unset.
    let has = |name: &str| names.is_empty() || names.iter().any(|known| known == name);
    Propagators {
        trace_context: has("tracecontext"),
        baggage: has("baggage"),
    }
}

#[cfg(test)]
#[path = "variables_tests.rs"]
mod tests;
