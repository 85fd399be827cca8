//! Tests of the encoder.

use std::time::Duration;

use opentelemetry::trace::TraceId;
use prometheus::{
    Gauge, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use super::*;

fn page(registry: &Registry, exemplars: &Exemplars) -> String {
    encode(&registry.gather(), exemplars)
}

#[test]
fn counters_lose_their_suffix_in_the_family_and_labels_are_escaped() {
    let registry = Registry::new();
    let counter = IntCounterVec::new(Opts::new("a_total", "Say \"a\\b\"\nc."), &["x"]).unwrap();
    registry.register(Box::new(counter.clone())).unwrap();
    counter.with_label_values(&["q\"\\\n"]).inc();
    assert_eq!(
        page(&registry, &Exemplars::default()),
        "# TYPE a counter\n# HELP a Say \\\"a\\\\b\\\"\\nc.\na_total{x=\"q\\\"\\\\\\n\"} 1\n# EOF\n"
    );
}

#[test]
fn units_are_declared_and_special_values_are_formatted() {
    let registry = Registry::new();
    let busy = IntCounter::new("busy_seconds_total", "b").unwrap();
    let gauge = Gauge::new("g", "g").unwrap();
    gauge.set(f64::NAN);
    let bytes = IntGauge::new("m_bytes", "m").unwrap();
    let odd = IntCounter::new("odd", "o").unwrap();
    registry.register(Box::new(busy)).unwrap();
    registry.register(Box::new(gauge)).unwrap();
    registry.register(Box::new(bytes)).unwrap();
    registry.register(Box::new(odd)).unwrap();
    assert_eq!(
        page(&registry, &Exemplars::default()),
        "# TYPE busy_seconds counter\n# UNIT busy_seconds seconds\n# HELP busy_seconds b\n\
         busy_seconds_total 0\n# TYPE g gauge\n# HELP g g\ng NaN\n# TYPE m_bytes gauge\n\
         # UNIT m_bytes bytes\n# HELP m_bytes m\nm_bytes 0\n# TYPE odd unknown\n# HELP odd o\n\
         odd 0\n# EOF\n"
    );
}

#[test]
fn a_bucket_carries_the_exemplar_of_its_own_series() {
    let registry = Registry::new();
    let bounds: &'static [f64] = &[0.5, 1.0];
    let opts = HistogramOpts::new("t_seconds", "t").buckets(bounds.to_vec());
    let histogram = HistogramVec::new(opts, &["path", "method"]).unwrap();
    registry.register(Box::new(histogram.clone())).unwrap();
    histogram.with_label_values(&["/a", "GET"]).observe(0.75);
    histogram.with_label_values(&["/b", "GET"]).observe(0.75);
    let exemplars = Exemplars::default();
    let labels = [("path", "/a"), ("method", "GET")];
    exemplars.slots("t_seconds", &labels, bounds).put(Exemplar {
        trace_id: TraceId::from_bytes([0xab; 16]),
        value: 0.75,
        at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_025),
    });
    let text = page(&registry, &exemplars);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let trace = "ab".repeat(16);
    let expected = [
        "t_seconds_bucket{method=\"GET\",path=\"/a\",le=\"0.5\"} 0".to_owned(),
        format!(
            "t_seconds_bucket{{method=\"GET\",path=\"/a\",le=\"1.0\"}} 1 \
             # {{trace_id=\"{trace}\"}} 0.75 1700000000.025"
        ),
        "t_seconds_bucket{method=\"GET\",path=\"/a\",le=\"+Inf\"} 1".to_owned(),
        "t_seconds_count{method=\"GET\",path=\"/a\"} 1".to_owned(),
        "t_seconds_sum{method=\"GET\",path=\"/a\"} 0.75".to_owned(),
    ];
    assert_eq!(lines[..5], expected);
    assert!(!lines[5..].iter().any(|line| line.contains('#')));
}
