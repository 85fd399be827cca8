//! Export of log lines by OTLP: the lines of standard output, off by default.

use super::sink::{Line, Sink, hex};
use super::{exporting, get, logging_to, request_line};
use crate::support::eventually;

async fn line_of(sink: &Sink, request_id: &str) -> Line {
    eventually("the line by OTLP", async || {
        sink.lines().into_iter().find(|line| {
            line.target == "request" && line.text("request_id").as_deref() == Some(request_id)
        })
    })
    .await
}

#[tokio::test]
async fn exported_lines_equal_those_on_standard_output() {
    for protocol in ["http/protobuf", "grpc"] {
        let sink = Sink::start();
        let service = logging_to(&sink)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_SERVICE_NAME", "shop")
            .start()
            .await;
        let answer = get(&service, "/api/v1/ping?secret=canary", &[]).await;
        let line = line_of(&sink, answer.request_id()).await;
        let printed = request_line(&service, answer.request_id()).await;
        assert_eq!(line.body().as_deref(), printed["message"].as_str());
        assert_eq!(line.record.severity_text, "info");
        assert_eq!(line.record.severity_number, 9);
        assert_eq!(hex(&line.record.trace_id), printed["trace_id"]);
        assert_eq!(hex(&line.record.span_id), printed["span_id"]);
        assert_eq!(line.record.flags & 1, 1, "sampled");
        assert_eq!(line.resource("service.name").as_deref(), Some("shop"));
        let span = sink.span_of(answer.request_id()).await;
        let instance = "service.instance.id";
        assert_eq!(line.resource(instance), span.resource(instance));
        let head = [
            "timestamp",
            "level",
            "message",
            "target",
            "trace_id",
            "span_id",
        ];
        let fields = printed.as_object().unwrap();
        for name in fields.keys().filter(|name| !head.contains(&name.as_str())) {
            assert!(line.text(name).is_some(), "{name}");
        }
        let others = line.record.attributes.iter();
        let unknown: Vec<_> = others
            .filter(|one| !fields.contains_key(&one.key))
            .collect();
        assert!(unknown.is_empty(), "{unknown:?}");
        assert_eq!(line.text("status").as_deref(), Some("200"));
        assert!(!format!("{:?}", sink.lines()).contains("canary"));
    }
}

#[tokio::test]
async fn the_last_lines_arrive_at_shutdown_and_are_counted() {
    let sink = Sink::start();
    let mut service = logging_to(&sink)
        .env("OTEL_BLRP_SCHEDULE_DELAY", "3600000")
        .env("APP__TELEMETRY__LOG_FILTER", "debug")
        .start()
        .await;
    let answer = get(&service, "/api/v1/ping", &[]).await;
    assert!(sink.lines().is_empty());
    assert_eq!(service.terminate().await, Some(0));
    line_of(&sink, answer.request_id()).await;
    // Lines about the exporter's own sockets would cause further exports.
    let printed = service.logs();
    assert!(sink.lines().len() <= printed.len());
    let fed = sink.lines().into_iter().find(|line| {
        let target = line.target.as_str();
        target.starts_with("hyper_util::client") || target.starts_with("opentelemetry")
    });
    assert!(fed.is_none(), "{fed:?}");
}

#[tokio::test]
async fn filter_and_limits_apply_to_exported_lines() {
    let sink = Sink::start();
    let mut service = logging_to(&sink)
        .env("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "3")
        .env("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "5")
        .env("APP__TELEMETRY__LOG_FILTER", "info,request=off")
        .start()
        .await;
    get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    let lines = sink.lines();
    assert!(!lines.is_empty());
    for line in lines {
        assert_ne!(line.target, "request");
        assert!(line.record.attributes.len() <= 3);
        for attribute in &line.record.attributes {
            let text = line.text(&attribute.key).unwrap();
            let is_number = text.starts_with("DoubleValue") || text.parse::<i64>().is_ok();
            assert!(is_number || text.chars().count() <= 5, "{text}");
        }
    }
}

#[tokio::test]
async fn the_common_endpoint_exports_spans_only() {
    let sink = Sink::start();
    let mut service = exporting(&sink).start().await;
    get(&service, "/api/v1/ping", &[]).await;
    assert_eq!(service.terminate().await, Some(0));
    assert_eq!(sink.spans().len(), 1);
    assert!(sink.lines().is_empty());
}
