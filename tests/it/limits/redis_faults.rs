//! Failures of the Redis server while requests arrive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::redis_server::RedisServer;
use super::{limited, ping_status};
use crate::support::{Service, eventually};

const DEADLINE: Duration = Duration::from_millis(200);
/// Tolerance for busy machines. A request that waited for the server would take longer.
const SLACK: Duration = Duration::from_secs(2);

async fn start(server: &RedisServer) -> Arc<Service> {
    let builder = limited("1000", "1000")
        .env("APP__RATE_LIMIT__BACKEND", "redis")
        .env("APP__RATE_LIMIT__REDIS_URL", server.url())
        .env("APP__RATE_LIMIT__REDIS_TIMEOUT", "200ms");
    Arc::new(builder.start().await)
}

async fn wait_for_backend(service: &Service, up: f64) {
    eventually(&format!("rate_limit_backend_up is {up}"), async || {
        let value = service.metrics().await.get("rate_limit_backend_up", &[]);
        (value == Some(up)).then_some(())
    })
    .await;
}

/// Clients that send one request after the other.
struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    slowest: Arc<AtomicU64>,
}

impl Load {
    fn start(service: &Arc<Service>) -> Self {
        let mut load = Self {
            clients: JoinSet::new(),
            stop: Arc::default(),
            answers: Arc::default(),
            slowest: Arc::default(),
        };
        for client in 0..4 {
            let (service, stop) = (Arc::clone(service), Arc::clone(&load.stop));
            let (answers, slowest) = (Arc::clone(&load.answers), Arc::clone(&load.slowest));
            load.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    let status = ping_status(&service, &format!("192.0.2.{client}")).await;
                    assert!(matches!(status, 200 | 429), "{status}");
                    let took = u64::try_from(began.elapsed().as_millis()).unwrap();
                    slowest.fetch_max(took, Ordering::Relaxed);
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        load
    }

    /// Waits for the given number of further responses.
    async fn wait_for_answers(&self, more: u64) {
        let goal = self.answers.load(Ordering::Relaxed) + more;
        eventually("answers", async || {
            (self.answers.load(Ordering::Relaxed) >= goal).then_some(())
        })
        .await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.expect("every request was answered");
        }
        let slowest = Duration::from_millis(self.slowest.load(Ordering::Relaxed));
        assert!(slowest < DEADLINE + SLACK, "a request took {slowest:?}");
    }
}

/// Number of log lines with this message.
fn logged(service: &Service, message: &str) -> usize {
    let lines = service.logs();
    lines
        .iter()
        .filter(|line| line["message"] == message)
        .count()
}

const AWAY: &str = "rate limits are not shared: the local limiter decides";
const BACK: &str = "rate limits are shared";

/// Applies a fault and its end under load. No request may wait, and each transition is logged once.
async fn assert_no_delay(
    server: &mut RedisServer,
    fault: impl AsyncFnOnce(&mut RedisServer),
    end: impl AsyncFnOnce(&mut RedisServer),
) {
    let service = start(server).await;
    wait_for_backend(&service, 1.0).await;
    let load = Load::start(&service);
    load.wait_for_answers(50).await;
    fault(server).await;
    wait_for_backend(&service, 0.0).await;
    load.wait_for_answers(50).await;
    let health = service.client.get(service.admin("/health/ready"));
    assert_eq!(health.send().await.unwrap().status(), 200);
    end(server).await;
    wait_for_backend(&service, 1.0).await;
    load.wait_for_answers(50).await;
    load.end().await;

    eventually("both lines", async || {
        (logged(&service, BACK) >= 2).then_some(())
    })
    .await;
    let metrics = service.metrics().await;
    let failures = metrics.sum("rate_limit_backend_failures_total", &[]);
    let lines = u32::try_from(logged(&service, AWAY)).unwrap();
    assert_eq!(f64::from(lines), failures);
    assert!(lines <= 3, "{lines} for one fault");
}

#[tokio::test]
async fn a_killed_redis_delays_no_request_and_is_used_again() {
    let mut server = RedisServer::start().await;
    let kill = async |server: &mut RedisServer| server.kill();
    let restart = async |server: &mut RedisServer| server.restart().await;
    assert_no_delay(&mut server, kill, restart).await;
}

#[tokio::test]
async fn a_frozen_redis_delays_no_request_and_is_used_again() {
    let mut server = RedisServer::start().await;
    let freeze = async |server: &mut RedisServer| server.freeze();
    let thaw = async |server: &mut RedisServer| server.thaw();
    assert_no_delay(&mut server, freeze, thaw).await;
}

#[tokio::test]
async fn a_redis_without_memory_is_not_used_until_it_has_room() {
    let mut server = RedisServer::start().await;
    let room = async |server: &RedisServer, bytes: &str| {
        let ok: String = server.command(&["CONFIG", "SET", "maxmemory", bytes]).await;
        assert_eq!(ok, "OK");
    };
    let fill = async |server: &mut RedisServer| room(server, "1").await;
    let empty = async |server: &mut RedisServer| room(server, "0").await;
    assert_no_delay(&mut server, fill, empty).await;
}
