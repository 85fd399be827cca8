//! API keys: creation, use, scopes, limits, revocation.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::client::{PASSWORD, attempts, leave, login, read_me, register, send, tokens};
use super::keys::keygen;
use super::sql::{execute, value};
use crate::on_both;
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};
use crate::support::{Answer, Backend, Service, TestDatabase, eventually};

/// A request to `/api/v1/api-keys` and the rest of a path.
fn keys(service: &Service, method: Method, token: &str, rest: &str) -> RequestBuilder {
    let url = service.url(&format!("/api/v1/api-keys{rest}"));
    service.client.request(method, url).bearer_auth(token)
}

async fn create(service: &Service, token: &str, body: Value) -> Answer {
    send(keys(service, Method::POST, token, "").json(&body)).await
}

/// Creates a key with these scopes. Returns its id and its text.
async fn key_with(service: &Service, token: &str, scopes: &[&str]) -> (String, String) {
    let body = json!({"name": "a key", "scopes": scopes});
    let created = create(service, token, body).await;
    created.is(201);
    (created.text("id"), created.text("key"))
}

/// A request with an API key.
async fn with_key(service: &Service, key: &str, method: Method, path: &str) -> Answer {
    let request = service.client.request(method, service.url(path));
    send(request.header("x-api-key", key).json(&json!({}))).await
}

async fn me_with_key(service: &Service, key: &str) -> Answer {
    with_key(service, key, Method::GET, "/api/v1/users/me").await
}

async fn revoke(service: &Service, token: &str, id: &str) -> Answer {
    send(keys(service, Method::DELETE, token, &format!("/{id}"))).await
}

on_both! {
    async fn a_key_is_shown_once_and_acts_for_its_user(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let created = create(&service, &token, json!({"name": " Nightly "})).await;
        created.is(201);
        assert_eq!(created.header("cache-control"), "no-store");
        assert_eq!((&created.body["name"], &created.body["last_used_at"]), (&json!("Nightly"), &Value::Null));
        let key = created.text("key");
        let parts: Vec<_> = key.split('_').collect();
        assert_eq!((parts[0], parts[1].len(), parts[2].len()), ("gty", 32, 64));

        let user = me_with_key(&service, &key).await;
        user.is(200);
        assert_eq!(user.text("email"), "ada@example.com");
        assert_eq!(me_with_key(&service, &key).await.text("id"), user.text("id"));
        assert_eq!(attempts(&service, "api_key", "success").await, 2.0);
        let misses = service.metrics().await.get("auth_cache_misses_total", &[("cache", "api_key")]);
        assert_eq!(misses, Some(1.0), "the second request finds the key in the cache");

        let listed = send(keys(&service, Method::GET, &token, "")).await;
        listed.is(200);
        let item = &listed.body["items"][0];
        assert_eq!(item["id"], created.body["id"]);
        assert!(item.get("key").is_none(), "the text is shown once: {item}");
        assert!(item["last_used_at"].is_string(), "{item}");
        let logs = service.logs().iter().map(ToString::to_string).collect::<String>();
        assert!(!logs.contains(parts[2]), "the secret is in no log line");
        let line = eventually("the request line names the key", async || {
            let named = |line: &&Value| line["api_key"] == created.body["id"] && line["target"] == "request";
            service.logs().iter().find(named).cloned()
        })
        .await;
        assert_eq!(line["principal"], user.body["id"]);
    }

    async fn a_wrong_key_is_refused(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let (_, key) = key_with(&service, &token, &["profile:read"]).await;
        let (stem, secret) = key.rsplit_once('_').unwrap();
        let other = if secret.starts_with('0') { "1" } else { "0" };
        let changed = format!("{stem}_{other}{}", &secret[1..]);
        let unknown = format!("gty_{}_{secret}", "0".repeat(32));
        for wrong in [changed.as_str(), &unknown, "gty", "", &key.to_uppercase(), &token] {
            let answer = me_with_key(&service, wrong).await;
            answer.is_problem(401, "UNAUTHENTICATED");
            assert!(answer.headers.contains_key("www-authenticate"), "{wrong}");
        }
        // The right key works after the wrong ones, and a key is no bearer token.
        me_with_key(&service, &key).await.is(200);
        me_with_key(&service, &changed).await.is_problem(401, "UNAUTHENTICATED");
        read_me(&service, &key).await.is_problem(401, "UNAUTHENTICATED");
        assert!(attempts(&service, "api_key", "failure").await >= 6.0);
    }

    async fn a_key_has_its_scopes_only(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let (id, key) = key_with(&service, &token, &["accounts:read"]).await;
        with_key(&service, &key, Method::GET, "/api/v1/accounts").await.is(200);
        for (method, path) in [
            (Method::POST, "/api/v1/accounts".to_owned()),
            (Method::GET, "/api/v1/users/me".to_owned()),
            // No scope gives these rights.
            (Method::PATCH, "/api/v1/users/me".to_owned()),
            (Method::DELETE, "/api/v1/users/me".to_owned()),
            (Method::POST, "/api/v1/users/me/password".to_owned()),
            (Method::POST, "/api/v1/api-keys".to_owned()),
            (Method::GET, "/api/v1/api-keys".to_owned()),
            (Method::DELETE, format!("/api/v1/api-keys/{id}")),
            (Method::GET, "/api/v1/sessions".to_owned()),
            (Method::DELETE, "/api/v1/sessions".to_owned()),
        ] {
            let answer = with_key(&service, &key, method, &path).await;
            answer.is_problem(403, "INSUFFICIENT_SCOPE");
        }

        // A scope is no role.
        let (_, key) = key_with(&service, &token, &["users:read"]).await;
        with_key(&service, &key, Method::GET, "/api/v1/users").await.is_problem(403, "FORBIDDEN");
        let admin = login(&service, ADMIN_EMAIL, ADMIN_PASSWORD).await.text("access_token");
        let (_, key) = key_with(&service, &admin, &["users:read"]).await;
        with_key(&service, &key, Method::GET, "/api/v1/users").await.is(200);
        let user = read_me(&service, &token).await.text("id");
        let path = format!("/api/v1/users/{user}");
        let change = with_key(&service, &key, Method::PATCH, &path).await;
        change.is_problem(403, "INSUFFICIENT_SCOPE");
    }

    async fn the_fields_of_a_key_are_checked(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__API_KEY_TTL", "2d")
            .env("APP__AUTH__API_KEY_PREFIX", "acme1")
            .start()
            .await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let day = |days| {
            let at = time::OffsetDateTime::now_utc() + time::Duration::days(days);
            at.format(&time::format_description::well_known::Rfc3339).unwrap()
        };
        for (body, field) in [
            (json!({"name": " "}), "name"),
            (json!({"name": "a", "scopes": []}), "scopes"),
            (json!({"name": "a", "scopes": ["everything"]}), "scopes"),
            (json!({"name": "a", "expires_at": day(-1)}), "expires_at"),
            (json!({"name": "a", "expires_at": day(3)}), "expires_at"),
        ] {
            let answer = create(&service, &token, body).await;
            answer.is_problem(422, "VALIDATION_FAILED");
            assert_eq!(answer.body["errors"][0]["field"], field);
        }
        let unknown = create(&service, &token, json!({"name": "a", "user_id": "x"})).await;
        unknown.is_problem(400, "UNKNOWN_FIELD");
        let body = json!({"name": "a", "scopes": ["profile:read", "profile:read"], "expires_at": day(1)});
        let created = create(&service, &token, body).await;
        created.is(201);
        assert_eq!(created.body["scopes"], json!(["profile:read"]));
        assert!(created.text("key").starts_with("acme1_"));
    }

    async fn a_key_ends_with_its_revocation_its_expiry_and_its_user(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let (stranger, _) = tokens(&service, "grace@example.com").await;
        let (id, key) = key_with(&service, &token, &["profile:read"]).await;
        me_with_key(&service, &key).await.is(200);
        revoke(&service, &stranger, &id).await.is_problem(404, "NOT_FOUND");
        me_with_key(&service, &key).await.is(200);
        revoke(&service, &token, &id).await.is(204);
        me_with_key(&service, &key).await.is_problem(401, "UNAUTHENTICATED");
        revoke(&service, &token, &id).await.is_problem(404, "NOT_FOUND");

        let soon = time::OffsetDateTime::now_utc() + time::Duration::seconds(2);
        let soon = soon.format(&time::format_description::well_known::Rfc3339).unwrap();
        let created = create(&service, &token, json!({"name": "short", "expires_at": soon})).await;
        let key = created.text("key");
        me_with_key(&service, &key).await.is(200);
        eventually("the key expires", async || {
            (me_with_key(&service, &key).await.status == 401).then_some(())
        })
        .await;
        let listed = send(keys(&service, Method::GET, &token, "")).await;
        assert_eq!(listed.body["items"], json!([]));

        let (_, key) = key_with(&service, &token, &["profile:read"]).await;
        me_with_key(&service, &key).await.is(200);
        leave(&service, &token).await.is(204);
        me_with_key(&service, &key).await.is_problem(401, "UNAUTHENTICATED");
        let kept = "SELECT count(*) FROM api_keys WHERE name = 'a key'";
        assert_eq!(value::<i64>(backend, &service, kept).await, 0);
    }

    async fn a_user_has_a_limited_number_of_keys(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__MAX_API_KEYS", "2")
            .start()
            .await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        // Requests at the same time do not pass the limit.
        let body = || json!({"name": "a key"});
        let made = tokio::join!(
            create(&service, &token, body()),
            create(&service, &token, body()),
            create(&service, &token, body()),
            create(&service, &token, body()),
        );
        let made = [made.0, made.1, made.2, made.3];
        let created: Vec<_> = made.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(created.len(), 2);
        create(&service, &token, body()).await.is_problem(409, "TOO_MANY_API_KEYS");
        // An expired key does not count.
        let expire = "UPDATE api_keys SET expires_at = created_at WHERE name = $1";
        execute(backend, &service, expire, "a key".to_owned()).await;
        create(&service, &token, body()).await.is(201);
    }

    /// The keys of a user do not use up the limit of the user or of each other.
    async fn a_key_has_a_limit_of_its_own(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__RATE_LIMIT__ENABLED", "true")
            .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", "0.01")
            .env("APP__RATE_LIMIT__DEFAULT__BURST", "4")
            .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.0/8")
            .start()
            .await;
        // Each request has an address of its own, so that the limit by address never refuses.
        let mut last_address = 0;
        let mut read = async |header: &str, value: String| {
            last_address += 1;
            let request = service.client.get(service.url("/api/v1/users/me"));
            let request = request.header("x-forwarded-for", format!("192.0.2.{last_address}"));
            send(request.header(header, value)).await
        };
        let (token, _) = tokens(&service, "ada@example.com").await;
        let (_, one) = key_with(&service, &token, &["profile:read"]).await;
        let (_, two) = key_with(&service, &token, &["profile:read"]).await;
        for _ in 0..4 {
            read("x-api-key", one.clone()).await.is(200);
        }
        let refused = read("x-api-key", one).await;
        refused.is_problem(429, "RATE_LIMITED");
        read("x-api-key", two).await.is(200);
        read("authorization", format!("Bearer {token}")).await.is(200);
    }
}

/// Only Postgres supports several processes.
#[tokio::test]
async fn a_revocation_reaches_every_replica_within_ten_seconds() {
    let keys = keygen().await;
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let replica = || {
        Service::builder(Backend::Postgres)
            .database(&database)
            .env("APP__AUTH__KEYS", &keys)
    };
    let (one, other) = tokio::join!(replica().start(), replica().start());
    register(&one, "ada@example.com").await.is(201);
    let token = login(&one, "ada@example.com", PASSWORD)
        .await
        .text("access_token");
    let (id, key) = key_with(&one, &token, &["profile:read"]).await;
    me_with_key(&other, &key).await.is(200);
    revoke(&one, &token, &id).await.is(204);
    eventually("the other replica refuses the key", async || {
        (me_with_key(&other, &key).await.status == 401).then_some(())
    })
    .await;
}
