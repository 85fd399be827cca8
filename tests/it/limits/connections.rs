//! Limits of connections by client, and exhaustion of file descriptors.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::support::raw_http::exchange_on;
use crate::support::{Backend, Service, eventually};

const PROBE: &str = "GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n";
const PING: &str = "GET /api/v1/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// Connects from an address of the loopback network.
async fn connect(service: &Service, from: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let connected = socket.connect(service.address().parse().unwrap());
    connected.await.unwrap()
}

async fn wait_for_connections(service: &Service, connections: f64) {
    let labels = [("listener", "public")];
    eventually(&format!("{connections} connections"), async || {
        let metrics = service.metrics().await;
        let now = metrics.get("http_connections_open", &labels)?;
        (now >= connections).then_some(())
    })
    .await;
}

async fn refused_count(service: &Service, reason: &str) -> f64 {
    let metrics = service.metrics().await;
    let refused = metrics.get("http_shed_total", &[("reason", reason)]);
    refused.expect("it is there from the start")
}

async fn wait_for_refused(service: &Service, reason: &str, at_least: f64) {
    eventually(&format!("{at_least} refused: {reason}"), async || {
        (refused_count(service, reason).await >= at_least).then_some(())
    })
    .await;
}

async fn ping(service: &Service) -> u16 {
    let answer = service.client.get(service.url("/api/v1/ping")).send();
    answer.await.unwrap().status().as_u16()
}

#[tokio::test]
async fn one_client_is_limited_to_its_share_of_connections() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_CONNECTIONS_PER_CLIENT", "3")
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(connect(&service, "127.0.0.2").await);
    }
    wait_for_connections(&service, 3.0).await;
    // Rejected immediately, whether or not the client has sent anything.
    let silent = exchange_on(connect(&service, "127.0.0.2").await, b"").await;
    assert!(silent.starts_with("HTTP/1.1 503 "), "{silent}");
    let loud = exchange_on(connect(&service, "127.0.0.2").await, PING.as_bytes()).await;
    assert!(loud.contains("retry-after: 1\r\n"), "{loud}");
    assert_eq!(refused_count(&service, "client_connections").await, 2.0);
    // A probe on the same connection is answered, and further requests are not.
    let both = exchange_on(
        connect(&service, "127.0.0.2").await,
        &[PROBE.as_bytes(), PING.as_bytes()].concat(),
    )
    .await;
    assert!(!both.contains("pong"), "{both}");
    let probe = exchange_on(connect(&service, "127.0.0.2").await, PROBE.as_bytes()).await;
    assert!(probe.starts_with("HTTP/1.1 200 "), "{probe}");
    assert!(probe.contains("connection: close\r\n"), "{probe}");
    // Other clients are served.
    assert_eq!(ping(&service).await, 200);
    let other = exchange_on(connect(&service, "127.0.0.3").await, PING.as_bytes()).await;
    assert!(other.contains("pong"), "{other}");
    drop(held.pop());
    eventually("its permit is free again", async || {
        let answer = exchange_on(connect(&service, "127.0.0.2").await, PING.as_bytes()).await;
        answer.contains("pong").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_connections_of_a_trusted_proxy_are_not_limited() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_CONNECTIONS_PER_CLIENT", "1")
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.2/32")
        .start()
        .await;
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(connect(&service, "127.0.0.2").await);
    }
    wait_for_connections(&service, 5.0).await;
    let answer = exchange_on(connect(&service, "127.0.0.2").await, PING.as_bytes()).await;
    assert!(answer.contains("pong"), "{answer}");
    assert_eq!(refused_count(&service, "client_connections").await, 0.0);
}

/// 512 descriptors, of which 360 are reserved.
#[tokio::test]
async fn descriptor_exhaustion_does_not_affect_admin_listener_and_probes() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_CONNECTIONS_PER_CLIENT", "10000")
        .open_files(256, 512)
        .start()
        .await;
    let metrics = service.metrics().await;
    assert_eq!(metrics.get("process_max_fds", &[]), Some(512.0));
    assert_eq!(metrics.get("http_connections_max", &[]), Some(152.0));
    let logs = service.logs();
    let lowered = logs.iter().find(|line| line["max_connections"] == 152);
    assert_eq!(lowered.expect("it is said")["level"], "warn");

    let mut held = Vec::new();
    for _ in 0..600 {
        held.push(connect(&service, "127.0.0.1").await);
    }
    // The test's own client holds one connection.
    wait_for_refused(&service, "connections", 600.0 - 152.0).await;
    wait_for_connections(&service, 152.0).await;
    for _ in 0..5 {
        // On new connections, like probers and scrapers.
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for url in [
            service.admin("/metrics"),
            service.admin("/health/ready"),
            service.admin("/health/live"),
            service.url("/health/ready"),
        ] {
            let answer = client.get(&url).header("connection", "close").send().await;
            assert_eq!(answer.unwrap().status(), 200, "{url}");
        }
    }
    assert_eq!(refused_count(&service, "file_descriptors").await, 0.0);
    drop(held);
    eventually("others are served again", async || {
        let answer = exchange_on(connect(&service, "127.0.0.1").await, PING.as_bytes()).await;
        answer.contains("pong").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_descriptor_limit_without_room_for_connections_fails_the_start() {
    let mut service = Service::builder(Backend::Sqlite)
        .open_files(100, 100)
        .spawn()
        .await;
    assert_eq!(service.wait().await.code(), Some(1));
    let said = service.stderr().join("\n");
    for part in ["the limit of open files is 100", "LimitNOFILE"] {
        assert!(said.contains(part), "{said}");
    }
}

/// The descriptor limit is lowered while the process runs.
#[tokio::test]
async fn connections_without_a_descriptor_are_closed_and_counted() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__HEADER_TIMEOUT", "1m")
        .start()
        .await;
    // The scrapes reuse the existing connection from now on.
    service.metrics().await;
    let folder = format!("/proc/{}/fd", service.pid());
    let numbers = std::fs::read_dir(folder).unwrap().map(|file| {
        let name = file.unwrap().file_name();
        name.to_str().unwrap().parse::<u64>().unwrap()
    });
    let last = numbers.max().unwrap();
    let pid = Pid::from_raw(i32::try_from(service.pid()).unwrap());
    let limit = |files: u64| {
        let limit = Rlimit {
            current: Some(files),
            maximum: Some(10_000),
        };
        prlimit(pid, Resource::Nofile, limit).unwrap();
    };
    limit(last + 1);
    // Free descriptor numbers below the limit are used up first.
    let mut held = Vec::new();
    eventually("none is free", async || {
        held.push(connect(&service, "127.0.0.1").await);
        (refused_count(&service, "file_descriptors").await >= 1.0).then_some(())
    })
    .await;
    let before = refused_count(&service, "file_descriptors").await;
    let mut closed = 0;
    eventually("ten are closed without a word", async || {
        // A descriptor that the process closes again (a scrape reads files) becomes available to
        // the next connection, which is then served and held.
        let mut stream = connect(&service, "127.0.0.1").await;
        let _sent = stream.write_all(PROBE.as_bytes()).await;
        let served = matches!(stream.read(&mut [0; 16]).await, Ok(1..));
        if served {
            held.push(stream);
        } else {
            closed += 1;
        }
        (closed == 10).then_some(())
    })
    .await;
    wait_for_refused(&service, "file_descriptors", before + 10.0).await;
    limit(1_000);
    let answer = exchange_on(connect(&service, "127.0.0.1").await, PING.as_bytes()).await;
    assert!(answer.contains("pong"), "{answer}");
}
