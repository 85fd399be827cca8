use std::time::Duration;

use super::*;

fn read(variables: &[(&str, &str)]) -> TraceSettings {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    TraceSettings::read(&variables)
}

fn endpoint(variables: &[(&str, &str)]) -> Option<String> {
    read(variables).exporter.map(|exporter| exporter.endpoint)
}

#[test]
fn the_export_is_off_by_default() {
    assert!(read(&[]).exporter.is_none());
    assert!(endpoint(&[("OTEL_EXPORTER_OTLP_HEADERS", "a=b")]).is_none());
    let both = [
        ("OTEL_TRACES_EXPORTER", "none"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
    ];
    assert!(endpoint(&both).is_none());
}

#[test]
fn only_common_http_endpoints_are_extended_by_a_path() {
    for (value, expected) in [
        ("http://c:4318", "http://c:4318/v1/traces"),
        ("http://c:4318/", "http://c:4318/v1/traces"),
        ("http://c/otlp", "http://c/otlp/v1/traces"),
    ] {
        let found = endpoint(&[("OTEL_EXPORTER_OTLP_ENDPOINT", value)]);
        assert_eq!(found.as_deref(), Some(expected));
    }
    let own = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1/as/is"),
    ];
    assert_eq!(endpoint(&own).as_deref(), Some("http://t:1/as/is"));
    let grpc = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    assert_eq!(endpoint(&grpc).as_deref(), Some("http://c:4317"));
    assert_eq!(
        endpoint(&[("OTEL_TRACES_EXPORTER", "otlp")]).as_deref(),
        Some("http://localhost:4318/v1/traces")
    );
}

#[test]
fn invalid_values_are_ignored_with_a_warning() {
    let settings = read(&[
        ("OTEL_SDK_DISABLED", "yes"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "not a url with secret"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "-1"),
        ("OTEL_PROPAGATORS", "b3,tracecontext"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=b,broken"),
        ("OTEL_SPAN_EVENT_COUNT_LIMIT", ""),
    ]);
    assert!(!settings.disabled && settings.exporter.is_none() && settings.sampler.is_none());
    assert_eq!(settings.batch.queue, 2_048);
    assert_eq!(settings.limits.max_links_per_span, 128);
    assert!(settings.propagators.trace_context && !settings.propagators.baggage);
    assert!(settings.resource.is_empty());
    assert_eq!(settings.warnings.len(), 8, "{:?}", settings.warnings);
    assert!(!settings.warnings.iter().any(|w| w.contains("secret")));
}

#[test]
fn the_case_of_values_is_ignored() {
    let settings = read(&[
        ("OTEL_TRACES_EXPORTER", "Console,OTLP"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "GRPC"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "GZip"),
        ("OTEL_TRACES_SAMPLER", "ParentBased_Always_Off"),
        ("OTEL_PROPAGATORS", "TraceContext"),
    ]);
    let exporter = settings.exporter.unwrap();
    assert!(exporter.gzip && exporter.endpoint.ends_with(":4317"));
    assert!(
        settings
            .sampler
            .is_some_and(|it| it.parent_based && it.ratio < 0.1)
    );
    assert!(settings.propagators.trace_context && !settings.propagators.baggage);
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
    assert!(
        read(&[("OTEL_TRACES_EXPORTER", "NONE"), ENDPOINT])
            .exporter
            .is_none()
    );
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");

#[test]
fn unknown_propagators_count_as_unset() {
    let settings = read(&[("OTEL_PROPAGATORS", "b3,b3multi")]);
    assert!(settings.propagators.trace_context && settings.propagators.baggage);
    assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
}

#[test]
fn a_timeout_of_zero_is_no_limit() {
    let settings = read(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_BSP_EXPORT_TIMEOUT", "0"),
    ]);
    let day = Duration::from_hours(24);
    assert!(settings.exporter.unwrap().timeout > day && settings.batch.timeout > day);
    assert_eq!(settings.warnings, Vec::<String>::new());
    // The longest timeout fits into a clock.
    let long = read(&[
        ENDPOINT,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "18446744073709551615"),
    ]);
    assert!(long.exporter.unwrap().timeout < 1_000 * day);
}

#[test]
fn credentials_of_an_endpoint_become_a_header() {
    let own = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s%40cret@c:4318");
    let exporter = read(&[own]).exporter.unwrap();
    assert_eq!(exporter.endpoint, "http://c:4318/v1/traces");
    let basic = ("authorization".to_owned(), "Basic bWU6c0BjcmV0".to_owned());
    assert_eq!(exporter.headers, [basic]);
    let header = ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x");
    let headers = read(&[own, header]).exporter.unwrap().headers;
    assert_eq!(
        headers,
        [("Authorization".to_owned(), "Bearer x".to_owned())]
    );
}

#[test]
fn invalid_headers_are_ignored_with_a_warning() {
    for text in ["bad name=x", "x=a%0Ab", "x=%+1", "x=%zz"] {
        let settings = read(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_HEADERS", text)]);
        assert!(settings.exporter.unwrap().headers.is_empty(), "{text}");
        assert_eq!(settings.warnings.len(), 1, "{text}");
    }
}

#[test]
fn the_argument_applies_to_ratio_samplers() {
    let sampler = |name, argument| {
        read(&[
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ])
        .sampler
        .map(|sampler| (sampler.ratio, sampler.parent_based))
    };
    assert_eq!(sampler("always_off", ""), Some((0.0, false)));
    assert_eq!(sampler("parentbased_always_on", "0.3"), Some((1.0, true)));
    assert_eq!(sampler("traceidratio", "0.25"), Some((0.25, false)));
    assert_eq!(sampler("parentbased_traceidratio", "2"), Some((1.0, true)));
}

#[test]
fn variables_of_a_signal_have_precedence() {
    let settings = read(&[
        ("OTEL_TRACES_EXPORTER", "otlp"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "ignored=1"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "authorization=Bearer%20x, b=2",
        ),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=lost,region=eu%2Cwest",
        ),
        ("OTEL_SERVICE_NAME", "kept"),
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "7"),
        ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "5"),
        ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "9"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
    ]);
    let exporter = settings.exporter.unwrap();
    let headers: Vec<_> = exporter.headers.iter().map(|(n, v)| (&**n, &**v)).collect();
    assert_eq!(headers, [("authorization", "Bearer x"), ("b", "2")]);
    assert_eq!(exporter.timeout, Duration::from_millis(1_500));
    assert!(exporter.gzip);
    let resource: Vec<_> = settings
        .resource
        .iter()
        .map(|(n, v)| (&**n, &**v))
        .collect();
    assert_eq!(resource, [("region", "eu,west"), ("service.name", "kept")]);
    assert_eq!(settings.limits.max_attributes_per_span, 5);
    assert_eq!(settings.limits.max_attributes_per_link, 7);
    assert_eq!(settings.value_length, Some(9));
    assert_eq!((settings.batch.queue, settings.batch.size), (10, 10));
    assert!(settings.warnings.is_empty(), "{:?}", settings.warnings);
}

#[test]
fn the_common_endpoint_does_not_enable_the_export_of_lines() {
    let lines = |variables: &[(&str, &str)]| {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut read = Reader::new(&variables);
        let exporter = Signal::LOGS.exporter(&mut read);
        exporter.map(|exporter| exporter.endpoint)
    };
    let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let own = ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://l:1/as/is");
    let chosen = ("OTEL_LOGS_EXPORTER", "otlp");
    assert_eq!(lines(&[]), None);
    assert_eq!(lines(&[all]), None);
    assert_eq!(lines(&[("OTEL_LOGS_EXPORTER", "none"), own]), None);
    assert_eq!(lines(&[all, own]).as_deref(), Some("http://l:1/as/is"));
    assert_eq!(
        lines(&[all, chosen]).as_deref(),
        Some("http://c:4318/v1/logs")
    );
    assert_eq!(
        lines(&[chosen]).as_deref(),
        Some("http://localhost:4318/v1/logs")
    );
}
