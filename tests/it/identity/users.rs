//! The user's own account: entity tags, changes, passwords, deletion.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{
    Answer, PASSWORD, attempts, leave, login, me, post, read_me, refresh, register, send, tokens,
};
use crate::on_both;
use crate::support::{Backend, Service, TestDatabase, eventually};

async fn patch(service: &Service, token: &str, body: Value) -> Answer {
    send(me(service, Method::PATCH, token).json(&body)).await
}

async fn change_password(service: &Service, token: &str, current: &str, new: &str) -> Answer {
    let url = service.url("/api/v1/users/me/password");
    let body = json!({"current_password": current, "new_password": new});
    send(service.client.post(url).bearer_auth(token).json(&body)).await
}

on_both! {
    async fn an_etag_avoids_the_body_and_protects_changes(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let first = read_me(&service, &token).await;
        let tag = first.etag();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "strong: {tag}");
        assert!(first.headers["vary"].to_str().unwrap().contains("authorization"));

        for same in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}"), "*".to_owned()] {
            let request = me(&service, Method::GET, &token).header("if-none-match", &same);
            let answer = send(request).await;
            answer.is(304);
            assert_eq!(answer.etag(), tag);
            assert_eq!(answer.body, Value::Null);
        }
        let request = me(&service, Method::PATCH, &token)
            .header("if-match", &tag)
            .json(&json!({"name": " Ada King "}));
        let changed = send(request).await;
        changed.is(200);
        assert_eq!(changed.body["name"], "Ada King");
        assert_eq!(changed.body["email"], "ada@example.com");
        assert_ne!(changed.etag(), tag);
        assert_eq!(read_me(&service, &token).await.etag(), changed.etag());

        let request = me(&service, Method::GET, &token).header("if-none-match", &tag);
        send(request).await.is(200);
        for stale in [tag.as_str(), "\"x\"", &format!("W/{}", changed.etag())] {
            for (method, body) in [
                (Method::PATCH, json!({"name": "Eve"})),
                (Method::PATCH, json!({"email": "eve@example.com", "current_password": PASSWORD})),
                (Method::DELETE, json!({"current_password": PASSWORD})),
            ] {
                let request = me(&service, method, &token).header("if-match", stale);
                let answer = send(request.json(&body)).await;
                answer.is_problem(412, "PRECONDITION_FAILED");
            }
        }
        assert_eq!(read_me(&service, &token).await.body["name"], "Ada King");
        let request = me(&service, Method::PATCH, &token).header("if-match", "3");
        send(request.json(&json!({}))).await.is_problem(400, "INVALID_HEADER");
    }

    async fn a_change_affects_the_given_fields_only(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        register(&service, "grace@example.com").await.is(201);
        let before = read_me(&service, &token).await;
        let nothing = patch(&service, &token, json!({})).await;
        nothing.is(200);
        assert_eq!((nothing.etag(), &nothing.body), (before.etag(), &before.body));
        let to = |email: &str| json!({"email": email, "current_password": PASSWORD});
        let moved = patch(&service, &token, to("Countess@Example.com")).await;
        assert_eq!(moved.body["email"], "countess@example.com");
        login(&service, "ada@example.com", PASSWORD).await.is(401);
        login(&service, "countess@example.com", PASSWORD).await.is(200);
        let conflict = patch(&service, &token, to("grace@example.com")).await;
        conflict.is_problem(409, "EMAIL_TAKEN");
        let bad = patch(&service, &token, json!({"email": "x", "name": ""})).await;
        bad.is_problem(422, "VALIDATION_FAILED");
        assert_eq!(bad.body["errors"].as_array().unwrap().len(), 3);
        patch(&service, &token, json!({"role": "admin"})).await.is_problem(400, "UNKNOWN_FIELD");
    }

    async fn exactly_one_of_concurrent_changes_succeeds(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let tag = read_me(&service, &token).await.etag();
        let racing = futures_util::future::join_all((0..6).map(|n| {
            let request = me(&service, Method::PATCH, &token).header("if-match", &tag);
            send(request.json(&json!({"name": format!("Ada {n}")})))
        }))
        .await;
        let won = racing.iter().filter(|answer| answer.status == 200).count();
        let lost = racing.iter().filter(|answer| answer.status == 412).count();
        assert_eq!((won, lost), (1, 5));
    }

    async fn a_new_password_replaces_the_old_and_revokes_every_refresh_token(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, first) = tokens(&service, "ada@example.com").await;
        let second = login(&service, "ada@example.com", PASSWORD).await.text("refresh_token");
        let new = "an even better passphrase";
        change_password(&service, &token, "not the passphrase", new)
            .await
            .is_problem(403, "WRONG_PASSWORD");
        change_password(&service, &token, PASSWORD, "short")
            .await
            .is_problem(422, "VALIDATION_FAILED");
        refresh(&service, &first).await.is(200);
        change_password(&service, &token, PASSWORD, new).await.is(204);
        // All access tokens of the user end, including the one that was used.
        read_me(&service, &token).await.is_problem(401, "UNAUTHENTICATED");
        refresh(&service, &second).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        login(&service, "ada@example.com", PASSWORD).await.is(401);
        let next = login(&service, "ada@example.com", new).await.text("access_token");
        read_me(&service, &next).await.is(200);
    }

    async fn a_new_address_and_the_erasure_need_the_password(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let before = read_me(&service, &token).await;
        let missing = patch(&service, &token, json!({"email": "eve@example.com"})).await;
        missing.is_problem(422, "VALIDATION_FAILED");
        let erase = async |body: Option<Value>| {
            let request = me(&service, Method::DELETE, &token);
            send(match body {
                Some(body) => request.json(&body),
                None => request,
            })
            .await
        };
        for answer in [missing, erase(None).await, erase(Some(json!({}))).await] {
            answer.is_problem(422, "VALIDATION_FAILED");
            let error = &answer.body["errors"][0];
            assert_eq!(error["field"], "current_password");
            assert_eq!(error["code"], "REQUIRED");
        }
        let wrong = "not the passphrase";
        let body = json!({"email": "eve@example.com", "current_password": wrong});
        patch(&service, &token, body).await.is_problem(403, "WRONG_PASSWORD");
        // Without the password the response does not even reveal whether an address is taken.
        let body = json!({"email": "admin@example.com", "current_password": wrong});
        patch(&service, &token, body).await.is_problem(403, "WRONG_PASSWORD");
        erase(Some(json!({"current_password": wrong}))).await.is_problem(403, "WRONG_PASSWORD");
        let untyped = me(&service, Method::DELETE, &token).body("{}");
        send(untyped).await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
        assert_eq!(read_me(&service, &token).await.body, before.body);
        assert_eq!(attempts(&service, "confirmation", "failure").await, 3.0);
        leave(&service, &token).await.is(204);
        assert_eq!(attempts(&service, "confirmation", "success").await, 1.0);
    }

    async fn a_deleted_user_is_gone_and_the_address_is_free(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, refresh_token) = tokens(&service, "ada@example.com").await;
        let id = read_me(&service, &token).await.text("id");
        leave(&service, &token).await.is(204);
        // Immediately on the replica that made the change.
        let answer = read_me(&service, &token).await;
        answer.is_problem(401, "UNAUTHENTICATED");
        assert_eq!(answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
        refresh(&service, &refresh_token).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        login(&service, "ada@example.com", PASSWORD).await.is_problem(401, "INVALID_CREDENTIALS");
        let again = register(&service, "ada@example.com").await;
        again.is(201);
        assert_ne!(again.text("id"), id);
        read_me(&service, &token).await.is(401);
    }

    async fn a_deleted_user_leaves_no_personal_data(backend: Backend) {
        let service = Service::start(backend).await;
        let body = json!({
            "email": "uniquely@example.com", "name": "Uniquely Named", "password": PASSWORD,
        });
        let id = post(&service, "/api/v1/auth/register", &body).await.text("id");
        let answer = login(&service, "uniquely@example.com", PASSWORD).await;
        let row = user_row(backend, &service, &id).await;
        assert_eq!(row, Some((Some("uniquely@example.com".into()), Some("Uniquely Named".into()), true)));
        leave(&service, &answer.text("access_token")).await.is(204);
        // The row remains because other tables reference it.
        assert_eq!(user_row(backend, &service, &id).await, Some((None, None, false)));
    }
}

/// Address, name, and whether a password hash is stored.
async fn user_row(
    backend: Backend,
    service: &Service,
    id: &str,
) -> Option<(Option<String>, Option<String>, bool)> {
    use sqlx::Connection as _;
    let url = service.database.url();
    let id: uuid::Uuid = id.parse().unwrap();
    match backend {
        Backend::Sqlite => {
            let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
            sqlx::query_as("SELECT email, name, password_hash IS NOT NULL FROM users WHERE id = ?1")
                .bind(id)
                .fetch_optional(&mut connection)
                .await
                .unwrap()
        }
        Backend::Postgres => {
            let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::query_as("SELECT email, name, password_hash IS NOT NULL FROM users WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut connection)
                .await
                .unwrap()
        }
    }
}

/// Two processes on one database with a user that both have cached. Only Postgres supports several
/// processes. The request verifies neither the user's row nor the signature of the token again.
async fn replicas() -> (Service, Service, String) {
    let keys = super::keys::keygen().await;
    let database = Arc::new(TestDatabase::create(Backend::Postgres).await);
    let replica = || {
        Service::builder(Backend::Postgres)
            .database(&database)
            .env("APP__AUTH__KEYS", &keys)
    };
    let (one, two) = tokio::join!(replica().start(), replica().start());
    let (token, _) = tokens(&one, "ada@example.com").await;
    assert_eq!(accounts(&one, &token).await, 200);
    assert_eq!(accounts(&two, &token).await, 200);
    (one, two, token)
}

async fn accounts(service: &Service, token: &str) -> u16 {
    let request = service.client.get(service.url("/api/v1/accounts"));
    send(request.bearer_auth(token)).await.status.as_u16()
}

/// Asserts that the token is rejected within ten seconds, the bound of `eventually`.
async fn ends_in_time(service: &Service, token: &str) {
    eventually("the other replica refuses the token", async || {
        (accounts(service, token).await == 401).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deletion_reaches_every_replica_within_ten_seconds() {
    let (one, two, token) = replicas().await;
    leave(&one, &token).await.is(204);
    assert_eq!(
        accounts(&one, &token).await,
        401,
        "at once where it happened"
    );
    ends_in_time(&two, &token).await;
}

#[tokio::test]
async fn a_new_password_ends_access_tokens_on_every_replica_within_ten_seconds() {
    let (one, two, token) = replicas().await;
    let new = "an even better passphrase";
    change_password(&one, &token, PASSWORD, new).await.is(204);
    assert_eq!(
        accounts(&one, &token).await,
        401,
        "at once where it happened"
    );
    ends_in_time(&two, &token).await;
    // A newer token is accepted immediately, also where the user is cached.
    let next = login(&one, "ada@example.com", new)
        .await
        .text("access_token");
    assert_eq!(accounts(&two, &next).await, 200);
    change_password(&one, &next, new, PASSWORD).await.is(204);
    let last = login(&one, "ada@example.com", PASSWORD)
        .await
        .text("access_token");
    assert_eq!(accounts(&two, &last).await, 200);
    assert_eq!(
        accounts(&two, &next).await,
        401,
        "what was remembered went with it"
    );
}
