//! Limits of password guessing.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::client::{Answer, PASSWORD, attempts, me, read_me, register, send};
use crate::limits::redis_server::common_url;
use crate::on_both;
use crate::support::{Backend, Builder, Service, TestDatabase, eventually};

const WRONG: &str = "not the passphrase";

/// Limits that do not refill during the test. The client addresses are those of `X-Forwarded-For`.
fn limited(backend: Backend, by_address: &str, by_account: &str) -> Builder {
    Service::builder(backend)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__AUTH__PER_SECOND", "0.001")
        .env("APP__RATE_LIMIT__AUTH__BURST", by_address)
        .env("APP__RATE_LIMIT__ACCOUNT__PER_SECOND", "0.001")
        .env("APP__RATE_LIMIT__ACCOUNT__BURST", by_account)
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
}

async fn login_from(service: &Service, client: &str, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    let url = service.url("/api/v1/auth/login");
    let request = service.client.post(url).header("x-forwarded-for", client);
    send(request.json(&body)).await
}

async fn change_from(service: &Service, client: &str, token: &str, current: &str) -> Answer {
    let url = service.url("/api/v1/users/me/password");
    let body = json!({"current_password": current, "new_password": "an even better passphrase"});
    let request = service.client.post(url).header("x-forwarded-for", client);
    send(request.bearer_auth(token).json(&body)).await
}

async fn patch_from(service: &Service, client: &str, token: &str, body: Value) -> Answer {
    let request = me(service, Method::PATCH, token).header("x-forwarded-for", client);
    send(request.json(&body)).await
}

#[track_caller]
fn assert_refused_by(answer: &Answer, limiter: &str) {
    answer.is_problem(429, "RATE_LIMITED");
    for name in ["ratelimit", "ratelimit-policy"] {
        let value = answer.headers[name].to_str().unwrap();
        assert!(
            value.starts_with(&format!("\"{limiter}\";")),
            "{name}: {value}"
        );
    }
    assert!(answer.headers.contains_key("retry-after"));
}

on_both! {
    /// A guess is counted when its hash starts, so that a client gains nothing by leaving early.
    async fn a_guess_counts_although_its_client_disconnected(backend: Backend) {
        let service = limited(backend, "1000", "3").start().await;
        register(&service, "ada@example.com").await.is(201);
        let body = json!({"email": "ada@example.com", "password": WRONG}).to_string();
        let head = format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 192.0.2.1\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let hashes = async || {
            let samples = service.metrics().await;
            samples.get("auth_hash_wait_seconds_count", &[]).unwrap_or_default()
        };
        let before = hashes().await;
        for guess in 1..=3 {
            let mut stream = TcpStream::connect(service.address()).await.unwrap();
            stream.write_all((head.clone() + &body).as_bytes()).await.unwrap();
            eventually("the hash starts", async || {
                (hashes().await >= before + f64::from(guess)).then_some(())
            })
            .await;
            drop(stream);
        }
        let refused = login_from(&service, "192.0.2.2", "ada@example.com", WRONG).await;
        assert_refused_by(&refused, "account");
    }

    async fn guesses_of_an_account_are_limited_across_addresses(backend: Backend) {
        let service = limited(backend, "1000", "3").start().await;
        register(&service, "ada@example.com").await.is(201);
        // For existing and unknown users alike.
        for email in ["ada@example.com", "nobody@example.com"] {
            for client in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
                login_from(&service, client, email, WRONG).await.is(401);
            }
            let refused = login_from(&service, "192.0.2.3", email, WRONG).await;
            assert_refused_by(&refused, "account");
        }
        // Other accounts are not affected, and another spelling of an address is the same account.
        login_from(&service, "192.0.2.3", "grace@example.com", WRONG).await.is(401);
        let form = login_from(&service, "192.0.2.4", "ADA@example.com", WRONG).await;
        assert_refused_by(&form, "account");
        assert_eq!(attempts(&service, "login", "limited").await, 3.0);
        let samples = service.metrics().await;
        let labels = [("limiter", "account"), ("decision", "rejected")];
        assert_eq!(samples.get("rate_limit_decisions_total", &labels), Some(3.0));
    }

    async fn the_owner_is_not_locked_out_at_a_known_address(backend: Backend) {
        let service = limited(backend, "1000", "3").start().await;
        register(&service, "ada@example.com").await.is(201);
        let home = "198.51.100.7";
        let token = login_from(&service, home, "ada@example.com", PASSWORD).await;
        let token = token.text("access_token");
        for client in 1..8 {
            login_from(&service, &format!("192.0.2.{client}"), "ada@example.com", WRONG).await;
        }
        let elsewhere = login_from(&service, "192.0.2.99", "ada@example.com", PASSWORD).await;
        assert_refused_by(&elsewhere, "account");
        // The owner may log in as often as desired, with occasional mistakes.
        for _ in 0..4 {
            login_from(&service, home, "ada@example.com", WRONG).await.is(401);
            login_from(&service, home, "ada@example.com", PASSWORD).await.is(200);
        }
        // The limit of failed logins does not affect users who are logged in.
        change_from(&service, "192.0.2.99", &token, PASSWORD).await.is(204);
        // The owner's allowance does not help an attacker at the same address.
        for _ in 0..3 {
            login_from(&service, home, "ada@example.com", WRONG).await.is(401);
        }
        let beyond = login_from(&service, home, "ada@example.com", WRONG).await;
        assert_refused_by(&beyond, "account");
    }

    async fn password_confirmation_is_subject_to_both_limits(backend: Backend) {
        let service = limited(backend, "4", "3").start().await;
        register(&service, "ada@example.com").await.is(201);
        let token = login_from(&service, "192.0.2.1", "ada@example.com", PASSWORD).await;
        let token = token.text("access_token");
        for _ in 0..3 {
            change_from(&service, "192.0.2.2", &token, WRONG).await.is_problem(403, "WRONG_PASSWORD");
        }
        assert_refused_by(&change_from(&service, "192.0.2.3", &token, WRONG).await, "account");
        assert_refused_by(&change_from(&service, "192.0.2.2", &token, WRONG).await, "account");
        assert_refused_by(&change_from(&service, "192.0.2.2", &token, WRONG).await, "auth");
        for (outcome, count) in [("failure", 3.0), ("limited", 3.0), ("success", 0.0)] {
            assert_eq!(attempts(&service, "confirmation", outcome).await, count, "{outcome}");
        }
        read_me(&service, &token).await.is(200);
    }

    async fn changing_the_address_is_subject_to_the_strict_limit(backend: Backend) {
        let service = limited(backend, "2", "1000").start().await;
        register(&service, "ada@example.com").await.is(201);
        let token = login_from(&service, "192.0.2.1", "ada@example.com", PASSWORD).await;
        let token = token.text("access_token");
        let to = |email| json!({"email": email, "current_password": PASSWORD});
        for _ in 0..2 {
            let answer = patch_from(&service, "192.0.2.2", &token, to("admin@example.com")).await;
            answer.is_problem(409, "EMAIL_TAKEN");
        }
        for email in ["admin@example.com", "grace@example.com"] {
            assert_refused_by(&patch_from(&service, "192.0.2.2", &token, to(email)).await, "auth");
        }
        // The response does not reveal whether a user exists.
        for name in ["Ada", "Ada King", "Ada Lovelace"] {
            patch_from(&service, "192.0.2.2", &token, json!({"name": name})).await.is(200);
        }
    }

    async fn the_erasure_is_subject_to_both_limits(backend: Backend) {
        let service = limited(backend, "3", "2").start().await;
        register(&service, "ada@example.com").await.is(201);
        let token = login_from(&service, "192.0.2.1", "ada@example.com", PASSWORD).await;
        let token = token.text("access_token");
        let erase = async |password: &str| {
            let request = me(&service, Method::DELETE, &token).header("x-forwarded-for", "192.0.2.2");
            send(request.json(&json!({"current_password": password}))).await
        };
        for _ in 0..2 {
            erase(WRONG).await.is_problem(403, "WRONG_PASSWORD");
        }
        assert_refused_by(&erase(PASSWORD).await, "account");
        assert_refused_by(&erase(PASSWORD).await, "auth");
    }
}

/// Only Postgres supports several processes. Redis shares the buckets between them.
#[tokio::test]
async fn guesses_of_an_account_are_limited_across_replicas() {
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let prefix = format!("test:{}", uuid::Uuid::now_v7().simple());
    let replica = || {
        limited(Backend::Postgres, "1000", "3")
            .database(&database)
            .env("APP__RATE_LIMIT__BACKEND", "redis")
            .env("APP__RATE_LIMIT__REDIS_URL", common_url())
            .env("APP__RATE_LIMIT__REDIS_PREFIX", &prefix)
            .env("APP__RATE_LIMIT__REDIS_TIMEOUT", "1s")
    };
    let (one, two) = tokio::join!(replica().start(), replica().start());
    register(&one, "ada@example.com").await.is(201);
    let guess = |service| login_from(service, "192.0.2.1", "ada@example.com", WRONG);
    for service in [&one, &two, &one] {
        guess(service).await.is(401);
    }
    for service in [&one, &two] {
        assert_refused_by(&guess(service).await, "account");
    }
}
