//! Blocked clients, files and servers do not delay the exit.

use std::os::unix::fs::OpenOptionsExt as _;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;

use super::drain::lines;
use crate::support::{Backend, Service, eventually};

#[tokio::test]
async fn an_unread_response_delays_the_exit_by_at_most_the_grace_period() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "500ms")
        .start()
        .await;
    let mut deaf = tokio::net::TcpStream::connect(service.address())
        .await
        .unwrap();
    // More than the buffers of both sides can hold.
    let requests = "GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2_000);
    let sending = tokio::time::timeout(Duration::from_secs(2), deaf.write_all(requests.as_bytes()));
    let _full = sending.await;
    // A response is counted after it was written completely. When the count stays the same and the
    // process has nothing to do, the last response is blocked by its reader.
    let answered = async || {
        let labels = [("path", "/openapi.json"), ("status", "200")];
        let metrics = service.metrics().await;
        metrics
            .get("http_requests_total", &labels)
            .unwrap_or_default()
    };
    let mut before = -1.0;
    eventually("no more answers are written", async || {
        let sleeps = all_threads_sleep(service.pid());
        let now = answered().await;
        let same = std::mem::replace(&mut before, now) == now;
        (sleeps && same && now > 0.0).then_some(())
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
    // The response is cut because its end could not be sent.
    assert_eq!(cuts[0]["kind"], "answer", "{cuts:#?}");
    drop(deaf);
}

/// Whether no thread of the process is running or could run.
fn all_threads_sleep(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state follows the name, which is in parentheses (proc_pid_stat(5)).
        stat.rsplit_once(") ")
            .is_none_or(|(_, fields)| fields.starts_with('S'))
    })
}

#[tokio::test]
async fn a_hanging_collector_delays_the_exit_by_at_most_the_flush_timeout() {
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
    // The public listener is closed before the process waits for the collector.
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

/// A service whose key file is replaced by a pipe without data, so that the thread that reads it
/// blocks forever.
#[tokio::test]
async fn a_blocked_file_does_not_delay_the_exit() {
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
        // Opening a pipe for writing fails as long as it has no reader.
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

/// The pool has a single connection. The second one is the worker's own, which requests the lock.
#[tokio::test]
async fn a_silent_database_blocks_neither_the_start_nor_a_worker() {
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
