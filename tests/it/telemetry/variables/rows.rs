//! Rows that a single run of a service can check.

use http::HeaderMap;

use super::{Row, ServiceRun, TRACE, check_rows};

/// Whether all exports have this header.
fn all(exports: &[(String, HeaderMap)], name: &str, value: &str) -> bool {
    !exports.is_empty() && exports.iter().all(|(_, headers)| has(headers, name, value))
}

fn none(exports: &[(String, HeaderMap)], name: &str) -> bool {
    !exports.is_empty()
        && exports
            .iter()
            .all(|(_, headers)| !headers.contains_key(name))
}

fn has(headers: &HeaderMap, name: &str, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found == value)
}

fn to(exports: &[(String, HeaderMap)], path: &str) -> bool {
    !exports.is_empty() && exports.iter().all(|(found, _)| found.ends_with(path))
}

const GRPC_TRACES: &str = "TraceService/Export";
const GRPC_LOGS: &str = "LogsService/Export";

const fn row(set: super::Variables, holds: fn(&ServiceRun) -> bool) -> Row {
    after(&[], set, holds)
}

const fn after(
    given: super::Variables,
    set: super::Variables,
    holds: fn(&ServiceRun) -> bool,
) -> Row {
    Row { given, set, holds }
}

#[tokio::test]
async fn variables_of_exporters_and_resource() {
    check_rows(&[
        row(&[("OTEL_SDK_DISABLED", "TRUE")], |seen| {
            seen.traces.is_empty() && seen.logs.is_empty()
        }),
        row(&[("OTEL_TRACES_EXPORTER", "none")], |seen| {
            seen.traces.is_empty() && !seen.lines.is_empty()
        }),
        row(&[("OTEL_LOGS_EXPORTER", "none")], |seen| {
            seen.logs.is_empty() && !seen.spans.is_empty()
        }),
        after(
            &[("OTEL_LOGS_EXPORTER", "")],
            &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "{sink}/v1/logs")],
            |seen| !seen.lines.is_empty(),
        ),
        row(&[("OTEL_SERVICE_NAME", "shop")], |seen| {
            seen.resource("service.name", "shop")
        }),
        row(&[("OTEL_RESOURCE_ATTRIBUTES", "team=a%2Cb, x=y")], |seen| {
            seen.resource("team", "a,b") && seen.resource("x", "y")
        }),
        row(
            &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=mall")],
            |seen| seen.resource("service.name", "mall"),
        ),
        after(
            &[("OTEL_RESOURCE_ATTRIBUTES", "service.name=mall")],
            &[("OTEL_SERVICE_NAME", "shop")],
            |seen| seen.resource("service.name", "shop"),
        ),
    ])
    .await;
}

#[tokio::test]
async fn variables_of_endpoints() {
    const PREFIX: &str = "{sink}/prefix";
    check_rows(&[
        row(&[("OTEL_EXPORTER_OTLP_ENDPOINT", PREFIX)], |seen| {
            to(&seen.traces, "/prefix/v1/traces") && to(&seen.logs, "/prefix/v1/logs")
        }),
        row(
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "{sink}/as/it/is")],
            |seen| to(&seen.traces, "/as/it/is") && to(&seen.logs, "/v1/logs"),
        ),
        row(
            &[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "{sink}/my/logs")],
            |seen| to(&seen.logs, "/my/logs") && to(&seen.traces, "/v1/traces"),
        ),
        row(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], |seen| {
            seen.both() && to(&seen.traces, GRPC_TRACES) && to(&seen.logs, GRPC_LOGS)
        }),
        row(&[("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc")], |seen| {
            to(&seen.traces, GRPC_TRACES) && to(&seen.logs, "/v1/logs")
        }),
        row(&[("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc")], |seen| {
            to(&seen.traces, "/v1/traces") && to(&seen.logs, GRPC_LOGS)
        }),
        after(
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "{at}"),
            ],
            &[("OTEL_EXPORTER_OTLP_INSECURE", "true")],
            ServiceRun::both,
        ),
        after(
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "{at}"),
            ],
            &[("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true")],
            |seen| !seen.spans.is_empty() && seen.lines.is_empty(),
        ),
        after(
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "{at}"),
            ],
            &[("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "true")],
            |seen| seen.spans.is_empty() && !seen.lines.is_empty(),
        ),
    ])
    .await;
}

#[tokio::test]
async fn variables_of_headers_and_compression() {
    const ALL: (&str, &str) = ("OTEL_EXPORTER_OTLP_HEADERS", "x-team=a%20b");
    const GZIP: (&str, &str) = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    const GRPC: (&str, &str) = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    check_rows(&[
        row(&[ALL], |seen| {
            all(&seen.traces, "x-team", "a b") && all(&seen.logs, "x-team", "a b")
        }),
        after(
            &[ALL],
            &[("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-own=1")],
            |seen| {
                all(&seen.traces, "x-own", "1")
                    && none(&seen.traces, "x-team")
                    && all(&seen.logs, "x-team", "a b")
            },
        ),
        after(
            &[ALL],
            &[("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "x-own=1")],
            |seen| {
                all(&seen.logs, "x-own", "1")
                    && none(&seen.logs, "x-team")
                    && all(&seen.traces, "x-team", "a b")
            },
        ),
        after(&[GRPC], &[ALL], |seen| {
            all(&seen.traces, "x-team", "a b") && all(&seen.logs, "x-team", "a b")
        }),
        // Some endpoints receive the credentials in the URL, others in headers.
        row(
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:s%40cret@{at}")],
            |seen| {
                all(&seen.traces, "authorization", "Basic bWU6c0BjcmV0")
                    && all(&seen.logs, "authorization", "Basic bWU6c0BjcmV0")
            },
        ),
        row(&[GZIP], |seen| {
            seen.both()
                && all(&seen.traces, "x-encoding", "gzip")
                && all(&seen.logs, "x-encoding", "gzip")
        }),
        row(
            &[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")],
            |seen| all(&seen.traces, "x-encoding", "gzip") && none(&seen.logs, "x-encoding"),
        ),
        row(&[("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "gzip")], |seen| {
            all(&seen.logs, "x-encoding", "gzip") && none(&seen.traces, "x-encoding")
        }),
        after(
            &[GZIP],
            &[("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none")],
            |seen| none(&seen.traces, "x-encoding") && all(&seen.logs, "x-encoding", "gzip"),
        ),
        after(&[GRPC], &[GZIP], |seen| {
            seen.both()
                && all(&seen.traces, "grpc-encoding", "gzip")
                && all(&seen.logs, "grpc-encoding", "gzip")
        }),
        after(
            &[GRPC, GZIP],
            &[("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none")],
            |seen| {
                seen.both()
                    && all(&seen.traces, "grpc-encoding", "gzip")
                    && none(&seen.logs, "grpc-encoding")
            },
        ),
    ])
    .await;
}

#[tokio::test]
async fn variables_of_samplers_and_propagators() {
    const NEVER: (&str, &str) = ("APP__TELEMETRY__TRACE_RATIO", "0");
    const SAMPLER: &str = "OTEL_TRACES_SAMPLER";
    const ARGUMENT: &str = "OTEL_TRACES_SAMPLER_ARG";
    const ALL: [&str; 5] = ["alone", "sampled", "unsampled", "stranger", "failed"];
    const BUT_THE_UNSAMPLED: [&str; 4] = ["alone", "sampled", "stranger", "failed"];
    let no_parent = |seen: &ServiceRun| {
        let span = seen.span("sampled");
        span.is_some_and(|span| span.parent().is_empty() && span.trace_id() != TRACE)
    };
    let no_parent: fn(&ServiceRun) -> bool = no_parent;
    check_rows(&[
        after(&[NEVER], &[(SAMPLER, "always_on")], |seen| {
            seen.sampled() == ALL
        }),
        row(&[(SAMPLER, "always_off")], |seen| seen.spans.is_empty()),
        after(&[NEVER], &[(SAMPLER, "parentbased_always_on")], |seen| {
            seen.sampled() == BUT_THE_UNSAMPLED
        }),
        row(&[(SAMPLER, "parentbased_always_off")], |seen| {
            seen.sampled() == ["sampled"]
        }),
        // The sampler has ratio 1 without its argument.
        after(&[NEVER], &[(SAMPLER, "traceidratio")], |seen| {
            seen.sampled() == ALL
        }),
        after(&[(SAMPLER, "traceidratio")], &[(ARGUMENT, "0")], |seen| {
            seen.spans.is_empty()
        }),
        after(&[NEVER], &[(SAMPLER, "parentbased_traceidratio")], |seen| {
            seen.sampled() == BUT_THE_UNSAMPLED
        }),
        after(
            &[(SAMPLER, "parentbased_traceidratio")],
            &[(ARGUMENT, "0.0")],
            |seen| seen.sampled() == ["sampled"],
        ),
        row(&[("OTEL_PROPAGATORS", "none")], no_parent),
        row(&[("OTEL_PROPAGATORS", "baggage")], no_parent),
    ])
    .await;
}

#[tokio::test]
async fn limits() {
    check_rows(&[
        row(&[("OTEL_ATTRIBUTE_COUNT_LIMIT", "3")], |seen| {
            seen.both() && seen.attributes() == (3, 3)
        }),
        row(&[("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "3")], |seen| {
            let (spans, lines) = seen.attributes();
            spans == 3 && lines > 3
        }),
        row(&[("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3")], |seen| {
            let (spans, lines) = seen.attributes();
            spans > 3 && lines == 3
        }),
        row(&[("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")], |seen| {
            seen.both() && seen.longest() == (4, 4)
        }),
        row(&[("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")], |seen| {
            let (spans, lines) = seen.longest();
            spans == 4 && lines > 4
        }),
        row(
            &[("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")],
            |seen| {
                let (spans, lines) = seen.longest();
                spans > 4 && lines == 4
            },
        ),
        row(&[("OTEL_SPAN_LINK_COUNT_LIMIT", "0")], |seen| {
            let span = seen.span("stranger").map(|span| &span.span);
            span.is_some_and(|span| span.links.is_empty() && span.dropped_links_count == 1)
        }),
        row(&[("OTEL_SPAN_EVENT_COUNT_LIMIT", "0")], |seen| {
            let span = seen.span("failed").map(|span| &span.span);
            span.is_some_and(|span| span.events.is_empty() && span.dropped_events_count == 1)
        }),
        row(&[("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", "0")], |seen| {
            let event = seen
                .span("failed")
                .and_then(|span| span.span.events.first());
            event.is_some_and(|event| {
                event.attributes.is_empty() && event.dropped_attributes_count == 1
            })
        }),
    ])
    .await;
}
