//! Warnings about OpenTelemetry variables without effect.

use std::collections::BTreeMap;

use settings::nearest_name;

/// Variables that are read in this crate.
const SUPPORTED: [&str; 21] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_PROPAGATORS",
    "OTEL_TRACES_EXPORTER",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_LOGS_EXPORTER",
    "OTEL_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    "OTEL_SPAN_EVENT_COUNT_LIMIT",
    "OTEL_SPAN_LINK_COUNT_LIMIT",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT",
    // Values that describe the built-in behaviour.
    "OTEL_METRICS_EXPORTER=none",
    "OTEL_METRICS_EXPORTER=prometheus",
    "OTEL_METRICS_EXEMPLAR_FILTER=trace_based",
];

/// Suffixes of variables, see [`FAMILIES`].
const BATCH: [&str; 4] = [
    "SCHEDULE_DELAY",
    "EXPORT_TIMEOUT",
    "MAX_QUEUE_SIZE",
    "MAX_EXPORT_BATCH_SIZE",
];
const OTLP: [&str; 9] = [
    "ENDPOINT",
    "PROTOCOL",
    "HEADERS",
    "TIMEOUT",
    "COMPRESSION",
    "INSECURE",
    "CERTIFICATE",
    "CLIENT_CERTIFICATE",
    "CLIENT_KEY",
];

/// Prefixes of variables that are read, with their suffixes.
const FAMILIES: [(&str, &[&str]); 5] = [
    ("OTEL_BSP_", &BATCH),
    ("OTEL_BLRP_", &BATCH),
    ("OTEL_EXPORTER_OTLP_TRACES_", &OTLP),
    ("OTEL_EXPORTER_OTLP_LOGS_", &OTLP),
    ("OTEL_EXPORTER_OTLP_", &OTLP),
];

/// Prefixes of variables of the specification without effect, and the reasons.
const UNSUPPORTED: [(&str, &str); 9] = [
    (
        "OTEL_METRICS_EXEMPLAR_FILTER",
        "exemplars are always taken from sampled traces",
    ),
    ("OTEL_METRIC", "metrics are scraped and not pushed"),
    (
        "OTEL_EXPORTER_OTLP_METRICS_",
        "metrics are scraped and not pushed",
    ),
    (
        "OTEL_EXPORTER_PROMETHEUS_",
        "metrics are on the admin listener, `admin.addr`",
    ),
    ("OTEL_EXPORTER_ZIPKIN_", "spans are exported by OTLP only"),
    ("OTEL_EXPORTER_JAEGER_", "spans are exported by OTLP only"),
    (
        "OTEL_LOG_LEVEL",
        "`telemetry.log_filter` also filters the lines of the exporter",
    ),
    (
        "OTEL_CONFIG_FILE",
        "telemetry is configured by variables only",
    ),
    (
        "OTEL_SEMCONV_STABILITY_OPT_IN",
        "spans follow the stable conventions",
    ),
];

/// Names of all variables that are read.
pub(crate) fn names() -> Vec<String> {
    let plain = SUPPORTED
        .iter()
        .map(|read| read.split_once('=').map_or(*read, |(name, _)| name));
    let families = FAMILIES.iter().flat_map(|(prefix, settings)| {
        let settings = settings.iter();
        settings.map(move |setting| format!("{prefix}{setting}"))
    });
    plain.map(str::to_owned).chain(families).collect()
}

fn is_read(name: &str, value: &str) -> bool {
    let both = format!("{name}={}", value.to_ascii_lowercase());
    SUPPORTED.iter().any(|read| *read == name || *read == both)
        || FAMILIES.iter().any(|(prefix, settings)| {
            let setting = name.strip_prefix(prefix);
            setting.is_some_and(|setting| settings.contains(&setting))
        })
}

/// Whether the variable is one that Kubernetes sets for a service named `otel-…`.
fn is_service_link(name: &str, value: &str) -> bool {
    ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"]
        .iter()
        .any(|part| name.contains(part))
        || (name.ends_with("_PORT") && value.contains("://"))
}

/// A warning for each variable without effect. Values are not repeated because they may be secret.
pub(crate) fn without_effect(variables: &BTreeMap<String, String>) -> Vec<String> {
    let set = variables
        .iter()
        .filter(|(_, value)| !value.trim().is_empty());
    let names = names();
    set.filter(|(name, value)| !is_read(name, value.trim()) && !is_service_link(name, value))
        .map(|(name, _)| {
            let apart = UNSUPPORTED
                .iter()
                .find(|(prefix, _)| name.starts_with(prefix));
            match apart {
                Some((_, why)) => format!("{name} has no effect: {why}"),
                None => match nearest_name(name, names.iter()) {
                    Some(meant) => format!("{name} is not known, did you mean {meant}?"),
                    None => format!("{name} is not known"),
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(variables: &[(&str, &str)]) -> Vec<String> {
        let variables = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        without_effect(&variables)
    }

    #[test]
    fn only_variables_without_effect_are_warned_about() {
        let read = [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "5"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "x"),
            ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x"),
            ("OTEL_METRICS_EXPORTER", " None "),
            ("OTEL_LOG_LEVEL", ""),
        ];
        assert_eq!(warnings(&read), Vec::<String>::new());
        for (name, value, why) in [
            ("OTEL_METRICS_EXPORTER", "otlp", "scraped"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1", "scraped"),
            ("OTEL_METRICS_EXEMPLAR_FILTER", "always_on", "sampled"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "secret", "scraped"),
            ("OTEL_EXPORTER_PROMETHEUS_PORT", "9464", "admin.addr"),
            ("OTEL_EXPORTER_ZIPKIN_ENDPOINT", "x", "OTLP only"),
            ("OTEL_LOG_LEVEL", "debug", "telemetry.log_filter"),
            ("OTEL_CONFIG_FILE", "x", "variables"),
            ("OTEL_SEMCONV_STABILITY_OPT_IN", "http/dup", "stable"),
            (
                "OTEL_EXPORTER_OTLP_ENDPIONT",
                "secret",
                "mean OTEL_EXPORTER_OTLP_ENDPOINT?",
            ),
            (
                "OTEL_EXPORTER_OTLP_ENDPOIN",
                "x",
                "mean OTEL_EXPORTER_OTLP_ENDPOINT?",
            ),
            ("OTEL_TRACE_SAMPLER", "x", "mean OTEL_TRACES_SAMPLER?"),
            ("OTEL_BSP_QUEUE", "x", "is not known"),
        ] {
            let warnings = warnings(&[(name, value)]);
            assert_eq!(warnings.len(), 1, "{name}");
            assert!(warnings[0].starts_with(name) && warnings[0].contains(why));
            assert!(!warnings[0].contains("secret"));
        }
    }

    #[test]
    fn service_links_of_kubernetes_are_not_warned_about() {
        let links = [
            ("OTEL_COLLECTOR_SERVICE_HOST", "10.0.0.1"),
            ("OTEL_COLLECTOR_SERVICE_PORT_OTLP", "4317"),
            ("OTEL_COLLECTOR_PORT", "tcp://10.0.0.1:4317"),
            ("OTEL_COLLECTOR_PORT_4317_TCP_ADDR", "10.0.0.1"),
        ];
        assert_eq!(warnings(&links), Vec::<String>::new());
    }
}
