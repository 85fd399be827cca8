//! Encoder of `OpenMetrics` 1.0.0.
//!
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
//! Differences to text 0.0.4: the family of a counter has no `_total` suffix, units are declared,
//! bounds are floats, buckets can have exemplars, and the page ends with `# EOF`.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use prometheus::proto::{Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::{Exemplar, Exemplars, SeriesExemplars};
use crate::metrics::unit;

/// The exemplars of a metric by label values.
type Found = HashMap<Vec<String>, Arc<SeriesExemplars>>;

/// Encodes the page.
pub(super) fn encode(families: &[MetricFamily], exemplars: &Exemplars) -> String {
    let mut out = String::with_capacity(64 * 1_024);
    for family in families {
        write_family(&mut out, family, exemplars);
    }
    out.push_str("# EOF\n");
    out
}

fn write_family(out: &mut String, family: &MetricFamily, exemplars: &Exemplars) {
    let (name, kind) = match family.get_field_type() {
        MetricType::COUNTER => match family.name().strip_suffix("_total") {
            Some(name) => (name, "counter"),
            // Counters must end in `_total`. Others are exposed as `unknown`.
            None => (family.name(), "unknown"),
        },
        MetricType::GAUGE => (family.name(), "gauge"),
        MetricType::HISTOGRAM => (family.name(), "histogram"),
        // The catalogue has neither of these types.
        MetricType::SUMMARY | MetricType::UNTYPED => return,
    };
    line(out, &["# TYPE ", name, " ", kind]);
    if let Some(unit) = unit(name) {
        line(out, &["# UNIT ", name, " ", unit]);
    }
    if !family.help().is_empty() {
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escape(out, family.help());
        out.push('\n');
    }
    let slots = exemplars.of_family(family.name()).unwrap_or_default();
    for metric in family.get_metric() {
        match (family.get_field_type(), kind) {
            (MetricType::COUNTER, "counter") => {
                sample(
                    out,
                    name,
                    "_total",
                    metric,
                    metric.get_counter().get_value(),
                );
            }
            (MetricType::COUNTER, _) => {
                sample(out, name, "", metric, metric.get_counter().get_value());
            }
            (MetricType::HISTOGRAM, _) => write_histogram(out, name, metric, &slots),
            _ => sample(out, name, "", metric, metric.get_gauge().get_value()),
        }
    }
}

fn line(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
    out.push('\n');
}

fn sample(out: &mut String, name: &str, suffix: &str, metric: &Metric, value: f64) {
    series(out, name, suffix, metric.get_label(), None);
    number(out, value);
    out.push('\n');
}

fn write_histogram(out: &mut String, name: &str, metric: &Metric, slots: &Found) {
    let histogram = metric.get_histogram();
    let slots = of_series(metric, slots);
    let bounds = bounds(histogram);
    for (at, (bound, count)) in bounds.enumerate() {
        series(out, name, "_bucket", metric.get_label(), Some(bound));
        let _infallible = write!(out, "{count}");
        if let Some(exemplar) = slots.and_then(|slots| slots.get(at)) {
            write_exemplar(out, &exemplar);
        }
        out.push('\n');
    }
    series(out, name, "_count", metric.get_label(), None);
    let _infallible = writeln!(out, "{}", histogram.get_sample_count());
    sample(out, name, "_sum", metric, histogram.get_sample_sum());
}

/// Upper bounds and cumulative counts, `+Inf` last.
fn bounds(histogram: &Histogram) -> impl Iterator<Item = (f64, u64)> {
    let finite = histogram
        .get_bucket()
        .iter()
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()))
        .filter(|(bound, _)| bound.is_finite());
    finite.chain(std::iter::once((
        f64::INFINITY,
        histogram.get_sample_count(),
    )))
}

fn of_series<'a>(metric: &Metric, slots: &'a Found) -> Option<&'a SeriesExemplars> {
    if slots.is_empty() {
        return None;
    }
    // The registry sorts labels by name, like the table of exemplars.
    let values = metric
        .get_label()
        .iter()
        .map(|pair| pair.value().to_owned());
    slots.get(&values.collect::<Vec<_>>()).map(Arc::as_ref)
}

/// Name, labels and the space before the value.
fn series(out: &mut String, name: &str, suffix: &str, labels: &[LabelPair], bound: Option<f64>) {
    out.push_str(name);
    out.push_str(suffix);
    if !labels.is_empty() || bound.is_some() {
        out.push('{');
        for (at, pair) in labels.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(pair.name());
            out.push_str("=\"");
            escape(out, pair.value());
            out.push('"');
        }
        if let Some(bound) = bound {
            out.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
            float(out, bound);
            out.push('"');
        }
        out.push('}');
    }
    out.push(' ');
}

fn write_exemplar(out: &mut String, exemplar: &Exemplar) {
    let since = exemplar.at.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let _infallible = write!(out, " # {{trace_id=\"{}\"}} ", exemplar.trace_id);
    number(out, exemplar.value);
    let _infallible = write!(out, " {}.{:03}", since.as_secs(), since.subsec_millis());
}

/// A sample value. Integers have no fraction.
fn number(out: &mut String, value: f64) {
    if value.is_finite() {
        let _infallible = write!(out, "{value}");
    } else {
        float(out, value);
    }
}

/// A bucket bound. Always a float, so that all writers produce the same label value `1.0`.
fn float(out: &mut String, value: f64) {
    if value.is_nan() {
        out.push_str("NaN");
    } else if value.is_infinite() {
        out.push_str(if value > 0.0 { "+Inf" } else { "-Inf" });
    } else {
        let _infallible = write!(out, "{value:?}");
    }
}

/// Escapes backslash, newline and quote in label values and help texts.
fn escape(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(['\\', '\n', '"']) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => "\\\\",
            b'\n' => "\\n",
            _ => "\\\"",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
#[path = "openmetrics_tests.rs"]
mod tests;
