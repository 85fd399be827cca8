//! Refresh tokens: rotation, reuse, logout, expiry.

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

use super::client::{PASSWORD, attempts, login, logout, post, read_me, refresh, register, tokens};
use super::sql::value;
use crate::on_both;
use crate::support::{Service, eventually};

const TOKENS: &str = "SELECT count(*) FROM refresh_tokens";
const FAMILIES: &str = "SELECT count(*) FROM refresh_families";

on_both! {
    async fn a_refresh_rotates_the_token(backend: Backend) {
        let service = Service::start(backend).await;
        let (_, first) = tokens(&service, "ada@example.com").await;
        let answer = refresh(&service, &first).await;
        answer.is(200);
        assert_eq!(answer.headers["cache-control"], "no-store");
        let second = answer.text("refresh_token");
        assert_ne!(first, second);
        read_me(&service, &answer.text("access_token")).await.is(200);
        refresh(&service, &second).await.is(200);
        assert_eq!(attempts(&service, "refresh", "success").await, 2.0);
    }

    async fn a_replay_within_the_grace_period_is_a_conflict_and_revokes_nothing(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__REFRESH_GRACE", "1h")
            .start()
            .await;
        let (_, first) = tokens(&service, "ada@example.com").await;
        let second = refresh(&service, &first).await.text("refresh_token");
        refresh(&service, &first).await.is_problem(409, "REFRESH_TOKEN_ROTATED");
        refresh(&service, &second).await.is(200);
        assert_eq!(attempts(&service, "refresh", "rotated").await, 1.0);
    }

    async fn a_replayed_refresh_token_revokes_its_family(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__REFRESH_GRACE", "0s")
            .start()
            .await;
        let (_, first) = tokens(&service, "ada@example.com").await;
        let other = login(&service, "ada@example.com", PASSWORD).await.text("refresh_token");
        let second = refresh(&service, &first).await.text("refresh_token");
        let replayed = refresh(&service, &first).await;
        replayed.is_problem(401, "INVALID_REFRESH_TOKEN");
        assert_eq!(replayed.headers["www-authenticate"], "Bearer");
        // The attacker's token and the owner's token.
        refresh(&service, &second).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        // Another login is another family.
        refresh(&service, &other).await.is(200);
        assert_eq!(attempts(&service, "refresh", "reused").await, 1.0);
        assert_eq!(attempts(&service, "refresh", "failure").await, 1.0);
        eventually("the warning", async || {
            service.logs().into_iter().find(|line| {
                line["level"] == "warn" && line["message"].as_str().is_some_and(|message| {
                    message.contains("its family was revoked")
                })
            })
        })
        .await;
    }

    async fn exactly_one_of_concurrent_refreshes_succeeds(backend: Backend) {
        let service = Service::start(backend).await;
        let (_, mut token) = tokens(&service, "ada@example.com").await;
        for _ in 0..5 {
            let racing =
                futures_util::future::join_all((0..8).map(|_| refresh(&service, &token))).await;
            let (won, lost): (Vec<_>, Vec<_>) =
                racing.iter().partition(|answer| answer.status == 200);
            assert_eq!(won.len(), 1);
            for answer in lost {
                answer.is_problem(409, "REFRESH_TOKEN_ROTATED");
            }
            token = won[0].text("refresh_token");
        }
    }

    async fn logout_revokes_the_family_and_may_be_repeated(backend: Backend) {
        let service = Service::start(backend).await;
        let (_, first) = tokens(&service, "ada@example.com").await;
        let second = refresh(&service, &first).await.text("refresh_token");
        // Also with a token that has been rotated in the meantime.
        logout(&service, &first).await.is(204);
        logout(&service, &first).await.is(204);
        logout(&service, "never issued").await.is(204);
        refresh(&service, &second).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        assert_eq!(attempts(&service, "logout", "success").await, 3.0);
    }

    async fn an_expired_or_unknown_refresh_token_is_refused(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__REFRESH_TTL", "1ms")
            .start()
            .await;
        let (_, token) = tokens(&service, "ada@example.com").await;
        refresh(&service, &token).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        refresh(&service, "").await.is_problem(401, "INVALID_REFRESH_TOKEN");
        refresh(&service, "never issued").await.is_problem(401, "INVALID_REFRESH_TOKEN");
        let body = json!({"refresh_token": token, "more": 1});
        post(&service, "/api/v1/auth/refresh", &body).await.is_problem(400, "UNKNOWN_FIELD");
    }

    async fn the_cleanup_removes_expired_tokens_only(backend: Backend) {
        let service = Service::start(backend).await;
        let (_, living) = tokens(&service, "ada@example.com").await;
        // A second process on the same database issues short-lived tokens and removes them.
        let cleaner = Service::builder(backend)
            .database(&service.database)
            .env("APP__AUTH__REFRESH_TTL", "1ms")
            .env("APP__WORKERS__CLEANUP_INTERVAL", "50ms")
            .start()
            .await;
        for _ in 0..3 {
            login(&cleaner, "ada@example.com", PASSWORD).await.is(200);
        }
        eventually("only the living token is left", async || {
            (value::<i64>(backend, &service, TOKENS).await == 1).then_some(())
        })
        .await;
        eventually("only its family is left", async || {
            (value::<i64>(backend, &service, FAMILIES).await == 1).then_some(())
        })
        .await;
        refresh(&service, &living).await.is(200);
        let samples = cleaner.metrics().await;
        let runs = [("worker", "cleanup"), ("outcome", "ok")];
        assert!(samples.get("worker_runs_total", &runs).unwrap() >= 1.0);
    }

    async fn only_hashes_of_refresh_tokens_are_stored(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let answer = login(&service, "ada@example.com", PASSWORD).await;
        let token = answer.text("refresh_token");
        assert_eq!(token.len(), 43, "256 bits in base64url");
        let query = "SELECT token_hash FROM refresh_tokens";
        let hash: Vec<u8> = value(backend, &service, query).await;
        assert_eq!(hash, digest(&SHA256, token.as_bytes()).as_ref());
    }
}
