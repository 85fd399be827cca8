//! The own sessions: list, end, limits.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{PASSWORD, logout, read_me, refresh, register, send, tokens};
use crate::on_both;
use crate::support::{Answer, Backend, Service, TestDatabase, eventually};

async fn log_in_with(service: &Service, device: &str) -> Answer {
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    let request = service.client.post(service.url("/api/v1/auth/login"));
    send(request.header("user-agent", device).json(&body)).await
}

/// A request to `/api/v1/sessions` and the rest of a path.
async fn sessions(service: &Service, method: Method, token: &str, rest: &str) -> Answer {
    let url = service.url(&format!("/api/v1/sessions{rest}"));
    send(service.client.request(method, url).bearer_auth(token)).await
}

/// The items of the list of sessions.
async fn list(service: &Service, token: &str) -> Vec<Value> {
    let answer = sessions(service, Method::GET, token, "").await;
    answer.is(200);
    answer.body["items"].as_array().unwrap().clone()
}

fn id(session: &Value) -> &str {
    session["id"].as_str().unwrap()
}

on_both! {
    async fn a_session_shows_its_device_and_its_use(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        tokens(&service, "grace@example.com").await;
        let first = log_in_with(&service, "phone/1").await;
        let second = log_in_with(&service, "laptop/2").await;
        let token = second.text("access_token");
        let seen = list(&service, &token).await;
        let devices: Vec<_> = seen.iter().map(|session| session["device"].clone()).collect();
        assert_eq!(devices, ["laptop/2", "phone/1"], "newest first, and of this user only");
        let current: Vec<_> = seen.iter().map(|session| session["current"].clone()).collect();
        assert_eq!(current, [true, false]);
        assert_eq!(seen[0]["address_prefix"], "127.0.0.0/24");
        assert_eq!(seen[1]["created_at"], seen[1]["last_used_at"]);

        let body = json!({"refresh_token": first.text("refresh_token")});
        let request = service.client.post(service.url("/api/v1/auth/refresh"));
        let request = request.header("user-agent", "phone/2");
        let renewed = send(request.json(&body)).await;
        renewed.is(200);
        let seen = list(&service, &renewed.text("access_token")).await;
        assert_eq!(seen.len(), 2, "a refresh goes on with its session");
        assert_eq!((&seen[1]["device"], &seen[1]["current"]), (&json!("phone/2"), &json!(true)));
        assert_ne!(seen[1]["created_at"], seen[1]["last_used_at"]);

        let page = sessions(&service, Method::GET, &token, "?limit=1").await;
        let next = page.text("next_cursor");
        let page = sessions(&service, Method::GET, &token, &format!("?cursor={next}")).await;
        assert_eq!(page.body["items"][0]["device"], "phone/2");
        assert_eq!(page.body["next_cursor"], Value::Null);
    }

    async fn the_end_of_a_session_ends_its_tokens(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let lost = log_in_with(&service, "lost").await;
        let kept = log_in_with(&service, "kept").await.text("access_token");
        let (stranger, _) = tokens(&service, "grace@example.com").await;
        let seen = list(&service, &kept).await;
        let path = format!("/{}", id(&seen[1]));
        // The state of the session is in the cache.
        let token = lost.text("access_token");
        read_me(&service, &token).await.is(200);

        let foreign = sessions(&service, Method::DELETE, &stranger, &path).await;
        foreign.is_problem(404, "NOT_FOUND");
        read_me(&service, &token).await.is(200);
        sessions(&service, Method::DELETE, &kept, &path).await.is(204);
        read_me(&service, &token).await.is_problem(401, "UNAUTHENTICATED");
        let renewal = refresh(&service, &lost.text("refresh_token")).await;
        renewal.is_problem(401, "INVALID_REFRESH_TOKEN");
        read_me(&service, &kept).await.is(200);
        assert_eq!(list(&service, &kept).await.len(), 1);
        let again = sessions(&service, Method::DELETE, &kept, &path).await;
        again.is_problem(404, "NOT_FOUND");
        let malformed = sessions(&service, Method::DELETE, &kept, "/x").await;
        malformed.is_problem(400, "INVALID_PATH");
    }

    async fn all_sessions_end_at_once(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let one = log_in_with(&service, "one").await;
        let two = log_in_with(&service, "two").await;
        let (stranger, _) = tokens(&service, "grace@example.com").await;
        read_me(&service, &one.text("access_token")).await.is(200);
        let ended = sessions(&service, Method::DELETE, &two.text("access_token"), "").await;
        ended.is(204);
        for session in [one, two] {
            read_me(&service, &session.text("access_token")).await.is(401);
            refresh(&service, &session.text("refresh_token")).await.is(401);
        }
        read_me(&service, &stranger).await.is(200);
        let token = log_in_with(&service, "three").await.text("access_token");
        assert_eq!(list(&service, &token).await.len(), 1);
    }

    /// A logout and a replayed refresh token end the session, and so its access tokens.
    async fn access_tokens_end_with_their_refresh_tokens(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__REFRESH_GRACE", "0s")
            .start()
            .await;
        let (token, renewal) = tokens(&service, "ada@example.com").await;
        read_me(&service, &token).await.is(200);
        logout(&service, &renewal).await.is(204);
        read_me(&service, &token).await.is_problem(401, "UNAUTHENTICATED");

        let (_, renewal) = tokens(&service, "grace@example.com").await;
        let renewed = refresh(&service, &renewal).await;
        let token = renewed.text("access_token");
        read_me(&service, &token).await.is(200);
        refresh(&service, &renewal).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        read_me(&service, &token).await.is_problem(401, "UNAUTHENTICATED");
    }

    async fn a_login_beyond_the_limit_ends_the_oldest_session(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__MAX_SESSIONS", "2")
            .start()
            .await;
        register(&service, "ada@example.com").await.is(201);
        let mut logins = Vec::new();
        for device in ["one", "two", "three"] {
            logins.push(log_in_with(&service, device).await);
        }
        let token = logins[2].text("access_token");
        let seen = list(&service, &token).await;
        let devices: Vec<_> = seen.iter().map(|session| session["device"].clone()).collect();
        assert_eq!(devices, ["three", "two"]);
        refresh(&service, &logins[0].text("refresh_token")).await.is(401);
        read_me(&service, &logins[0].text("access_token")).await.is(401);
        let metrics = service.metrics().await;
        assert_eq!(metrics.get("auth_sessions_displaced_total", &[]), Some(1.0));
    }

    async fn a_refresh_does_not_prolong_a_session_beyond_its_age(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__SESSION_MAX_AGE", "2s")
            .env("APP__AUTH__REFRESH_GRACE", "0s")
            .start()
            .await;
        let (_, mut renewal) = tokens(&service, "ada@example.com").await;
        let mut renewals = 0;
        eventually("the session ends", async || {
            let answer = refresh(&service, &renewal).await;
            if answer.status == 401 {
                answer.is_problem(401, "INVALID_REFRESH_TOKEN");
                return Some(());
            }
            answer.is(200);
            renewal = answer.text("refresh_token");
            renewals += 1;
            None
        })
        .await;
        assert!(renewals > 1, "{renewals}");
    }
}

/// Only Postgres supports several processes.
#[tokio::test]
async fn the_end_of_a_session_reaches_every_replica_within_ten_seconds() {
    let keys = super::keys::keygen().await;
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let replica = || {
        Service::builder(Backend::Postgres)
            .database(&database)
            .env("APP__AUTH__KEYS", &keys)
    };
    let (one, other) = tokio::join!(replica().start(), replica().start());
    let (token, _) = tokens(&one, "ada@example.com").await;
    read_me(&other, &token).await.is(200);
    let session = list(&one, &token).await.remove(0);
    let path = format!("/{}", id(&session));
    sessions(&one, Method::DELETE, &token, &path).await.is(204);
    eventually("the other replica refuses the token", async || {
        (read_me(&other, &token).await.status == 401).then_some(())
    })
    .await;
}
