//! The queue of password hashes and its limit.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::future::join_all;
use serde_json::json;

use super::client::{PASSWORD, attempts, login, post, register, send, tokens};
use crate::on_both;
use crate::support::{Backend, Service, TestDatabase, eventually};

/// A service whose queue timeout exceeds the hashing time of a busy machine, because the test is
/// about the order and not about speed.
async fn with_long_queue(backend: Backend) -> Service {
    Service::builder(backend)
        .env("APP__AUTH__HASH_QUEUE_TIMEOUT", "60s")
        .start()
        .await
}

/// Runs honest logins while six tasks repeat `attack`. Returns the number of successful logins and
/// of attacks.
async fn honest_logins(service: &Service, attack: impl AsyncFn()) -> (usize, u32) {
    register(service, "grace@example.com").await.is(201);
    let (over, tried) = (AtomicBool::new(false), AtomicU32::new(0));
    let attackers = join_all((0..6).map(async |_| {
        while !over.load(Ordering::Relaxed) {
            attack().await;
            tried.fetch_add(1, Ordering::Relaxed);
        }
    }));
    let honest = async {
        let mut admitted = 0;
        for _ in 0..40 {
            let answer = login(service, "grace@example.com", PASSWORD).await;
            admitted += usize::from(answer.status == 200);
        }
        over.store(true, Ordering::Relaxed);
        admitted
    };
    let (admitted, _) = tokio::join!(honest, attackers);
    (admitted, tried.into_inner())
}

on_both! {
    /// The threads yield to those that answer probes and other requests.
    async fn hashes_run_at_a_low_priority(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let tasks = format!("/proc/{}/task", service.pid());
        // `comm` and the nice value, field 19 of `stat` (proc(5)).
        let priority = |task: std::fs::DirEntry| {
            let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
            let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
            let nice = stat.rsplit(')').next()?.split_whitespace().nth(16)?.to_owned();
            (name.trim() == "password-hash").then_some(nice)
        };
        let search = async {
            eventually("a thread hashes at nice 10", async || {
                let tasks = std::fs::read_dir(&tasks).unwrap();
                let mut found = tasks.filter_map(|task| priority(task.ok()?));
                found.any(|nice| nice == "10").then_some(())
            })
            .await;
        };
        let logins = async {
            loop {
                login(&service, "ada@example.com", PASSWORD).await.is(200);
            }
        };
        tokio::select! {
            () = search => {}
            () = logins => {}
        }
    }

    async fn guessing_clients_do_not_block_honest_logins(backend: Backend) {
        let service = with_long_queue(backend).await;
        let attack = async || {
            login(&service, "nobody@example.com", "some wrong passphrase").await;
        };
        let (admitted, tried) = honest_logins(&service, attack).await;
        assert!(tried > 40, "the attack went on: {tried}");
        assert_eq!(admitted, 40);
    }

    async fn password_changing_clients_do_not_block_honest_logins(backend: Backend) {
        let service = with_long_queue(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let url = service.url("/api/v1/users/me/password");
        let body = json!({
            "current_password": "some wrong passphrase", "new_password": "an even better passphrase",
        });
        let attack = async || {
            let request = service.client.post(&url).bearer_auth(&token).json(&body);
            send(request).await;
        };
        let (admitted, tried) = honest_logins(&service, attack).await;
        assert!(tried > 40, "the attack went on: {tried}");
        assert_eq!(admitted, 40);
    }

    async fn hashes_beyond_the_limit_are_queued(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__MAX_CONCURRENT_HASHES", "1")
            .env("APP__AUTH__HASH_QUEUE_TIMEOUT", "60s")
            .start()
            .await;
        let wrong = || login(&service, "nobody@example.com", PASSWORD);
        for answer in join_all((0..8).map(|_| wrong())).await {
            answer.is(401);
        }
        assert_eq!(attempts(&service, "login", "overloaded").await, 0.0);
        let samples = service.metrics().await;
        assert_eq!(samples.get("auth_hash_wait_seconds_count", &[]), Some(8.0));
    }

    async fn a_hash_without_memory_is_answered_as_overload(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        // A first process creates the administrator, so that the second one has not hashed
        // anything: memory stays in the address space after its first use.
        drop(Service::builder(backend).database(&database).start().await);
        let service = Service::builder(backend).database(&database).start().await;
        // Enough memory for a thread, for connections and for the allocator's next region, but not for
        // the 19 MiB of a hash.
        let limit = address_space(service.pid()) + (15 << 20);
        let set = Command::new("prlimit")
            .args([format!("--pid={}", service.pid()), format!("--as={limit}")])
            .status()
            .expect("prlimit runs");
        assert!(set.success());
        let body = json!({"email": "ada@example.com", "name": "Ada", "password": PASSWORD});
        for (path, body) in [
            ("/api/v1/auth/login", json!({"email": "ada@example.com", "password": PASSWORD})),
            ("/api/v1/auth/register", body),
        ] {
            let answer = post(&service, path, &body).await;
            answer.is_problem(503, "OVERLOADED");
            assert_eq!(answer.headers["retry-after"], "1");
        }
        let samples = service.metrics().await;
        let refused = samples.get("auth_hashes_refused_total", &[("reason", "memory")]);
        assert_eq!(refused, Some(2.0));
    }
}

/// Size of the address space of the process in bytes.
fn address_space(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib << 10
}
