//! A misbehaving collector does not harm the service: every kind, by both protocols, with one and
//! with two worker threads.

use std::time::{Duration, Instant};

use super::get;
use super::sink::Sink;
use crate::support::raw_http::free_address;
use crate::support::{Backend, Builder, Samples, Service, eventually};

/// Far above the expected durations, and far below the timeouts of the exporter.
const START: Duration = Duration::from_secs(8);
const ANSWER: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(4);
/// Limit of memory growth under load. The queues alone take a few MiB.
const MEMORY: f64 = 64.0 * 1024.0 * 1024.0;

/// A service that exports spans and log lines, with queues that fill up quickly.
fn exporting_to(url: &str, protocol: &str, threads: &str) -> Builder {
    Service::builder(Backend::Sqlite)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        .env("OTEL_LOGS_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_TIMEOUT", "300")
        .env("OTEL_BSP_SCHEDULE_DELAY", "20")
        .env("OTEL_BSP_MAX_QUEUE_SIZE", "16")
        .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
        .env("OTEL_BLRP_MAX_QUEUE_SIZE", "16")
        .env("APP__TELEMETRY__FLUSH_TIMEOUT", "500ms")
        .env("TOKIO_WORKER_THREADS", threads)
}

const MATRIX: [(&str, &str); 4] = [
    ("http/protobuf", "1"),
    ("http/protobuf", "2"),
    ("grpc", "1"),
    ("grpc", "2"),
];

async fn start_in_time(builder: Builder) -> Service {
    let began = Instant::now();
    let service = builder.start().await;
    let took = began.elapsed();
    assert!(took < START, "the start took {took:?}");
    service
}

/// Sends 200 requests. Each must be answered in time, and memory must stay bounded.
async fn assert_healthy(service: &Service) {
    let resident = "process_resident_memory_bytes";
    let before = service.metrics().await.get(resident, &[]).unwrap();
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(get(service, "/api/v1/ping", &[]).await.status, 200);
        let took = began.elapsed();
        assert!(took < ANSWER, "an answer took {took:?}");
    }
    let after = service.metrics().await.get(resident, &[]).unwrap();
    assert!(after - before < MEMORY, "{before} grew to {after}");
}

async fn assert_exit(mut service: Service) {
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(0));
    let took = began.elapsed();
    assert!(took < END, "the end took {took:?}");
}

fn outcome(metrics: &Samples, family: &str, outcome: &str) -> f64 {
    metrics.get(family, &[("outcome", outcome)]).unwrap()
}

/// Waits until spans and log lines have this outcome.
async fn wait_for_outcome(service: &Service, fate: &str) {
    eventually(&format!("{fate} spans and lines"), async || {
        let metrics = service.metrics().await;
        let both = ["trace_spans_total", "log_export_total"]
            .iter()
            .all(|family| outcome(&metrics, family, fate) > 0.0);
        both.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refusing_collector_harms_nothing() {
    for (protocol, threads) in MATRIX {
        let url = format!("http://{}", free_address());
        let service = start_in_time(exporting_to(&url, protocol, threads)).await;
        assert_healthy(&service).await;
        wait_for_outcome(&service, "failed").await;
        assert_exit(service).await;
    }
}

#[tokio::test]
async fn a_collector_that_stops_answering_harms_nothing() {
    for (protocol, threads) in MATRIX {
        // The collector answers first, and then only accepts what fits into its backlog.
        let sink = Sink::start();
        let address = sink.address();
        let service = start_in_time(exporting_to(&sink.url(), protocol, threads)).await;
        let answer = get(&service, "/api/v1/ping", &[]).await;
        sink.span_of(answer.request_id()).await;
        sink.stop().await;
        let hole = std::net::TcpListener::bind(address).unwrap();
        assert_healthy(&service).await;
        wait_for_outcome(&service, "failed").await;
        wait_for_outcome(&service, "dropped").await;
        assert_exit(service).await;
        drop(hole);
    }
}

#[tokio::test]
async fn a_restarted_collector_receives_later_items() {
    for (protocol, threads) in MATRIX {
        let sink = Sink::start();
        let address = sink.address();
        let service = start_in_time(exporting_to(&sink.url(), protocol, threads)).await;
        let answer = get(&service, "/api/v1/ping", &[]).await;
        sink.span_of(answer.request_id()).await;
        sink.stop().await;
        get(&service, "/api/v1/ping", &[]).await;
        wait_for_outcome(&service, "failed").await;
        let again = Sink::start_at(address, Duration::ZERO);
        eventually("spans and lines at the new collector", async || {
            get(&service, "/api/v1/ping", &[]).await;
            (!again.spans().is_empty() && !again.lines().is_empty()).then_some(())
        })
        .await;
        for signal in ["spans", "log lines"] {
            let back = format!("the collector accepts {signal} again");
            eventually(&back, async || {
                let mut logs = service.logs().into_iter();
                logs.any(|line| line["message"] == back.as_str())
                    .then_some(())
            })
            .await;
        }
        assert_exit(service).await;
    }
}

#[tokio::test]
async fn a_slow_collector_harms_nothing() {
    for (protocol, threads) in MATRIX {
        let sink = Sink::slow(Duration::from_millis(150));
        let service = start_in_time(exporting_to(&sink.url(), protocol, threads)).await;
        assert_healthy(&service).await;
        wait_for_outcome(&service, "dropped").await;
        wait_for_outcome(&service, "exported").await;
        assert_exit(service).await;
    }
}
