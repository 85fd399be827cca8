//! Who and what must not hold the exit: clients, files, servers that stand still.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use super::drain::lines;
use crate::support::{Backend, Service, eventually};

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_exit_no_longer_than_the_grace_period() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "500ms")
        .start()
        .await;
    let mut deaf = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    let began = Instant::now();
    // More than the buffers of both sides hold.
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2_000);
    let sending = tokio::time::timeout(Duration::from_secs(2), deaf.write_all(requests.as_bytes()));
    let _full = sending.await;
    // Each answer is written as a whole and then counted. The last one waits for its
    // reader when the count stands still for the time of ten others.
    let answered = async || {
        let labels = [("path", "/openapi.json"), ("status", "200")];
        let metrics = service.metrics().await;
        metrics
            .get("http_requests_total", &labels)
            .unwrap_or_default()
    };
    let (mut count, mut counted) = (0.0, began);
    eventually("no more answers are written", async || {
        let now = answered().await;
        if now > count {
            (count, counted) = (now, Instant::now());
        }
        let ten_others = (counted - began).mul_f64(10.0 / count.max(1.0));
        (count > 0.0 && counted.elapsed() > ten_others).then_some(())
    })
    .await;
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(70));
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let logs = service.logs();
    let cuts = lines(&logs, "cut: it outlived the grace period");
    assert_eq!(cuts.len(), 1, "{cuts:#?}");
    // Not one byte of it was lost on purpose: its end could not be sent.
    assert_eq!(cuts[0]["kind"], "answer", "{cuts:#?}");
    drop(deaf);
}

#[tokio::test]
async fn a_collector_that_hangs_holds_the_exit_no_longer_than_the_flush() {
    let hanging = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut service = Service::builder(Backend::Sqlite)
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", hanging.local_addr().unwrap()),
        )
        .env("APP__TELEMETRY__FLUSH_TIMEOUT", "2s")
        .start()
        .await;
    let answer = service
        .client
        .get(service.url("/api/v1/ping"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    service.signal("TERM");
    let began = Instant::now();
    // While it waits for the collector, the public listener is closed long since.
    eventually("only the admin listener is left", async || {
        let connected = tokio::net::TcpStream::connect(service.address()).await;
        connected.is_err().then_some(())
    })
    .await;
    let metrics = service.metrics().await;
    assert_eq!(
        metrics.get("lifecycle_state", &[("state", "stopping")]),
        Some(1.0)
    );
    assert_eq!(service.wait().await.code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
}

/// A service whose key file has become a pipe that somebody holds open and never
/// writes to: the thread that reads it is lost.
#[tokio::test]
async fn a_file_that_cannot_be_read_to_its_end_does_not_hold_the_exit() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys.json");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(["keygen", "--out"])
        .arg(&keys)
        .status();
    assert!(made.unwrap().success());
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__AUTH__KEYS_FILE", keys.to_str().unwrap())
        .start()
        .await;
    std::fs::remove_file(&keys).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&keys).status();
    assert!(made.unwrap().success());
    let pipe = eventually("the service opens the pipe", async || {
        // Without a reader there is nobody to write to, and it fails.
        let mut writer = std::fs::OpenOptions::new();
        writer.write(true).custom_flags(NON_BLOCKING);
        writer.open(&keys).ok()
    })
    .await;
    let began = Instant::now();
    assert_eq!(
        service.terminate().await,
        Some(0),
        "reading is no work to cut"
    );
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(pipe);
}

/// `O_NONBLOCK`.
const NON_BLOCKING: i32 = 0o4000;

/// The pool may open one connection; the second one is the worker's own, which asks
/// for its turn.
#[tokio::test]
async fn a_database_that_never_answers_holds_neither_the_start_nor_a_worker() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__DATABASE__URL", format!("postgres://x@{address}/x"))
        .env("APP__DATABASE__ACQUIRE_TIMEOUT", "1m")
        .env("APP__DATABASE__MAX_CONNECTIONS", "1")
        .env("APP__WORKERS__CLEANUP_INTERVAL", "50ms")
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .spawn()
        .await;
    let mut open = Vec::new();
    for _ in 0..2 {
        let accepted = tokio::time::timeout(Duration::from_secs(10), silent.accept());
        open.push(accepted.await.expect("a connection").unwrap());
    }
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}
