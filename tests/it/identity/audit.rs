//! The audit trail: an event for each change and refusal, append-only storage, verification,
//! retention.

use std::sync::Arc;

use identity::audit::{Action, AuditContext, AuditEvent};
use request::Role;
use reqwest::Method;
use serde_json::{Value, json};
use settings::clock::{Clock as _, SystemClock};

use super::client::{PASSWORD, leave, login, logout, me, read_me, refresh, register, send, tokens};
use super::erasure::{Slice, audit, new_user, store};
use super::sql::{try_execute, value};
use crate::on_both;
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};
use crate::support::{Answer, Backend, Service, TestDatabase, eventually};

async fn administrator(service: &Service) -> String {
    let answer = login(service, ADMIN_EMAIL, ADMIN_PASSWORD).await;
    answer.is(200);
    answer.text("access_token")
}

async fn list(service: &Service, token: &str, query: &str) -> Answer {
    let url = service.url(&format!("/api/v1/audit-events{query}"));
    send(service.client.get(url).bearer_auth(token)).await
}

/// Action and outcome of the events that concern a user, oldest first.
async fn events_of(service: &Service, user: &str) -> Vec<String> {
    let admin = administrator(service).await;
    let page = list(service, &admin, &format!("?limit=100&subject={user}")).await;
    page.is(200);
    let items = page.body["items"].as_array().unwrap().iter().rev();
    let word = |item: &Value| {
        let outcome = match item["outcome"].as_str().unwrap() {
            "success" => "",
            other => other,
        };
        format!("{} {outcome}", item["action"].as_str().unwrap())
            .trim()
            .to_owned()
    };
    items.map(word).collect()
}

async fn with_token(
    service: &Service,
    method: Method,
    token: &str,
    path: &str,
    body: Value,
) -> Answer {
    let request = service.client.request(method, service.url(path));
    send(request.bearer_auth(token).json(&body)).await
}

/// Runs `audit verify` on a database. Returns the exit code and the output.
async fn verify(backend: Backend, database: &Arc<TestDatabase>) -> (i32, String) {
    let mut process = Service::builder(backend)
        .database(database)
        .arguments(&["audit", "verify"])
        .spawn()
        .await;
    let code = process.wait().await.code().unwrap();
    (
        code,
        process.stdout().join("\n") + &process.stderr().join("\n"),
    )
}

/// Lets the owner of the tables change events, as an attacker with full access could.
async fn drop_protection(backend: Backend, service: &Service) {
    let statements: &[&'static str] = match backend {
        Backend::Sqlite => &[
            "DROP TRIGGER audit_events_no_update",
            "DROP TRIGGER audit_events_no_delete",
        ],
        Backend::Postgres => &["ALTER TABLE audit_events DISABLE TRIGGER USER"],
    };
    for statement in statements {
        try_execute(backend, service, statement).await.unwrap();
    }
}

on_both! {
    async fn every_change_and_every_refusal_has_its_event(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__REFRESH_GRACE", "0s")
            .start()
            .await;
        let admin = administrator(&service).await;
        let id = register(&service, "ada@example.com").await.text("id");
        let refused = login(&service, "ada@example.com", "a wrong passphrase").await;
        let session = login(&service, "ada@example.com", PASSWORD).await;
        let renewed = refresh(&service, &session.text("refresh_token")).await;
        refresh(&service, &session.text("refresh_token")).await.is(401);
        logout(&service, &renewed.text("refresh_token")).await.is(204);
        let session = login(&service, "ada@example.com", PASSWORD).await;
        logout(&service, &session.text("refresh_token")).await.is(204);

        let token = login(&service, "ada@example.com", PASSWORD).await.text("access_token");
        let key = with_token(&service, Method::POST, &token, "/api/v1/api-keys", json!({"name": "k"})).await;
        let request = service.client.get(service.url("/api/v1/users/me"));
        send(request.header("x-api-key", key.text("key"))).await.is(200);
        let path = format!("/api/v1/api-keys/{}", key.text("id"));
        with_token(&service, Method::DELETE, &token, &path, json!({})).await.is(204);
        let change = json!({"email": "ada@example.org", "current_password": "a wrong passphrase"});
        send(me(&service, Method::PATCH, &token).json(&change)).await.is(403);
        let change = json!({"email": "ada@example.org", "current_password": PASSWORD});
        send(me(&service, Method::PATCH, &token).json(&change)).await.is(200);
        with_token(&service, Method::DELETE, &token, "/api/v1/sessions", json!({})).await.is(204);

        let path = format!("/api/v1/users/{id}");
        with_token(&service, Method::PATCH, &admin, &path, json!({"role": "admin"})).await.is(200);
        let token = login(&service, "ada@example.org", PASSWORD).await.text("access_token");
        let password = "/api/v1/users/me/password";
        let new = "an even better passphrase";
        let body = json!({"current_password": "a wrong passphrase", "new_password": new});
        with_token(&service, Method::POST, &token, password, body).await.is(403);
        let body = json!({"current_password": PASSWORD, "new_password": new});
        with_token(&service, Method::POST, &token, password, body).await.is(204);
        with_token(&service, Method::DELETE, &admin, &path, json!({})).await.is(204);

        let events = events_of(&service, &id).await;
        assert_eq!(events, [
            "user.registered",
            "session.started refused",
            "session.started",
            "session.refreshed",
            "session.refresh_token_reused refused",
            "session.started",
            "session.ended",
            "session.started",
            "api_key.created",
            "api_key.used",
            "api_key.revoked",
            "user.password_confirmed refused",
            "user.changed",
            "session.all_ended",
            "user.role_changed",
            "session.started",
            "user.password_changed refused",
            "user.password_changed",
            "user.erased",
        ]);

        let admin_id = read_me(&service, &admin).await.text("id");
        with_token(&service, Method::PATCH, &admin, &format!("/api/v1/users/{admin_id}"), json!({"role": "user"}))
            .await
            .is(409);
        let of_admin = events_of(&service, &admin_id).await;
        assert!(of_admin.contains(&"user.role_changed refused".to_owned()), "{of_admin:?}");
        assert!(of_admin.contains(&"administrator.created".to_owned()), "{of_admin:?}");

        // The originator, the request and the network.
        let page = list(&service, &admin, &format!("?subject={id}&action=user.role_changed")).await;
        let event = &page.body["items"][0];
        assert_eq!((&event["actor_kind"], &event["actor"]), (&json!("user"), &json!(admin_id)));
        assert_eq!((&event["detail"], &event["network"]), (&json!("admin"), &json!("127.0.0.0/24")));
        let page = list(&service, &admin, &format!("?subject={id}&action=session.started")).await;
        let of_refused = page.body["items"].as_array().unwrap().iter().find(|item| item["outcome"] == "refused");
        assert_eq!(of_refused.unwrap()["request_id"], refused.request_id());
        let page = list(&service, &admin, &format!("?subject={id}&action=api_key.used")).await;
        assert_eq!(page.body["items"][0]["api_key"], key.body["id"]);
        assert_eq!(page.body["items"][0]["actor"], id);
        let page = list(&service, &admin, &format!("?actor={admin_id}&limit=1")).await;
        assert!(page.body["next_cursor"].is_string());
        let page = list(&service, &admin, &format!("?subject={id}&action=user.changed")).await;
        assert_eq!(page.body["items"][0]["detail"], "email");
        list(&service, &admin, "?action=unknown").await.is_problem(422, "VALIDATION_FAILED");

        // The log has the same events, and neither has personal data or secrets.
        let lines: Vec<Value> =
            service.logs().into_iter().filter(|line| line["target"] == "audit").collect();
        assert!(lines.len() >= events.len(), "{}", lines.len());
        let written = serde_json::to_string(&lines).unwrap() + &page.body.to_string();
        for secret in ["ada@", "Ada", PASSWORD, new, &token, &key.text("key")] {
            assert!(!written.contains(secret), "{secret} in {written}");
        }
        let line = lines.iter().find(|line| line["action"] == "user.erased").unwrap();
        assert_eq!(line["subject"], json!(id));
        assert_eq!(line["hash"].as_str().unwrap().len(), 64);
        assert!(line["request_id"].is_string());
    }

    /// A client can repeat such requests without end, so an event of the same kind follows after a
    /// minute only.
    async fn a_request_without_the_permission_has_one_event(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let id = read_me(&service, &token).await.text("id");
        let body = json!({"name": "k", "scopes": ["profile:read"]});
        let key = with_token(&service, Method::POST, &token, "/api/v1/api-keys", body).await;
        let mut first = None;
        for _ in 0..3 {
            let refused = list(&service, &token, "").await;
            refused.is(403);
            first.get_or_insert(refused.request_id().to_owned());
            for path in ["/api/v1/accounts", "/api/v1/sessions"] {
                let request = service.client.get(service.url(path));
                send(request.header("x-api-key", key.text("key"))).await.is(403);
            }
        }
        let page = list(&service, &admin, &format!("?subject={id}&action=permission.denied")).await;
        let items = page.body["items"].as_array().unwrap();
        let details: Vec<_> = items.iter().map(|item| item["detail"].as_str().unwrap()).collect();
        assert_eq!(details, ["access token", "scope accounts:read", "role admin"]);
        for item in items {
            assert_eq!((&item["actor"], &item["outcome"]), (&json!(id), &json!("refused")));
        }
        assert_eq!(items[0]["api_key"], key.body["id"]);
        assert_eq!(items[2]["api_key"], Value::Null);
        assert_eq!(items[2]["request_id"], first.unwrap());
    }

    /// An event that cannot be written takes its change back.
    async fn there_is_no_change_without_its_event(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let refuse = match backend {
            Backend::Sqlite => {
                "CREATE TRIGGER refuse BEFORE INSERT ON audit_events
                 BEGIN SELECT RAISE(ABORT, 'refused'); END"
            }
            Backend::Postgres => "ALTER TABLE audit_events ADD CONSTRAINT refuse CHECK (sequence < 0) NOT VALID",
        };
        try_execute(backend, &service, refuse).await.unwrap();
        let before = value::<i64>(backend, &service, "SELECT count(*) FROM refresh_families").await;
        login(&service, "ada@example.com", PASSWORD).await.is(500);
        assert_eq!(value::<i64>(backend, &service, "SELECT count(*) FROM refresh_families").await, before);
        leave(&service, &token).await.is(500);
        read_me(&service, &token).await.is(200);
        // A refusal is not answered before it is recorded.
        login(&service, "ada@example.com", "a wrong passphrase").await.is(500);
    }

    async fn events_are_only_added(backend: Backend) {
        let service = Service::start(backend).await;
        tokens(&service, "ada@example.com").await;
        let mut statements = vec![
            "UPDATE audit_events SET outcome = 'success'",
            "UPDATE audit_events SET detail = 'x' WHERE sequence = 1",
            "DELETE FROM audit_events",
            "DELETE FROM audit_events WHERE sequence = 1",
            "DELETE FROM audit_head",
            "UPDATE audit_head SET sequence = sequence - 1",
            "UPDATE audit_head SET expired_through = sequence",
        ];
        if backend == Backend::Postgres {
            statements.extend(["TRUNCATE audit_events", "TRUNCATE audit_head"]);
        }
        let count = "SELECT count(*) FROM audit_events";
        let events = value::<i64>(backend, &service, count).await;
        for statement in statements {
            let refused = try_execute(backend, &service, statement).await;
            let error = refused.expect_err(statement).to_string();
            let named = error.contains("accepts additions only") || error.contains("moves forward only");
            assert!(named, "{statement}: {error}");
        }
        assert_eq!(value::<i64>(backend, &service, count).await, events);
    }

    async fn verification_finds_changed_and_missing_events(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let service = Service::builder(backend).database(&database).start().await;
        for name in ["ada", "grace", "emmy"] {
            tokens(&service, &format!("{name}@example.com")).await;
        }
        let (code, output) = verify(backend, &database).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("7 audit events are unchanged and complete, from 1 to 7"), "{output}");
        let last = eventually("the line of the last event is written", async || {
            let is_last = |line: &Value| line["target"] == "audit" && line["sequence"] == 7;
            service.logs().into_iter().find(is_last)
        })
        .await;
        assert!(output.contains(last["hash"].as_str().unwrap()), "{output}");

        drop_protection(backend, &service).await;
        let expect = async |statement: &'static str, message: &str| {
            try_execute(backend, &service, statement).await.unwrap();
            let (code, output) = verify(backend, &database).await;
            assert_eq!(code, 1, "{output}");
            assert!(output.contains(message), "{statement}: {output}");
        };
        expect("UPDATE audit_events SET outcome = 'refused' WHERE sequence = 3", "the event 3 was changed").await;
        try_execute(backend, &service, "UPDATE audit_events SET outcome = 'success' WHERE sequence = 3").await.unwrap();
        assert_eq!(verify(backend, &database).await.0, 0);
        expect("UPDATE audit_events SET subject_id = NULL WHERE sequence = 5", "the event 5 was changed").await;
        expect("DELETE FROM audit_events WHERE sequence = 4", "the event 4 is missing").await;
        // The end of the trail is known too.
        expect("DELETE FROM audit_events WHERE sequence >= 4", "the event 4 is missing").await;
    }

    async fn old_events_are_removed_and_the_rest_stays_verifiable(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        // Without an administrator there is no event yet.
        let service = Service::builder(backend)
            .database(&database)
            .env("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", "")
            .env("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", "")
            .start()
            .await;
        let store = store(&service, Slice::default());
        let now = SystemClock.now();
        let day = |days| now - time::Duration::days(days);
        for days in [60, 50, 40, 10, 50] {
            let event = AuditEvent::new(Action::RoleChanged, AuditContext::operator(), day(days));
            store.append_audit_event(event).await.unwrap();
        }
        // Events behind a younger one stay, so that the chain has no gap.
        assert_eq!(store.expire_audit_events(day(45), now).await.unwrap(), 2);
        assert_eq!(store.expire_audit_events(day(45), now).await.unwrap(), 0);
        let (code, output) = verify(backend, &database).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("4 audit events are unchanged and complete, from 3 to 6"), "{output}");
        let removal = "SELECT detail FROM audit_events WHERE action = 'audit.expired'";
        assert_eq!(value::<String>(backend, &service, removal).await, "2");
        // The database keeps young events, also against a request of the service.
        let refused = store.expire_audit_events(day(1), now).await;
        assert!(refused.is_err(), "{refused:?}");
        assert_eq!(verify(backend, &database).await.0, 0);
    }

    async fn concurrent_changes_have_one_chain(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let service = Service::builder(backend).database(&database).start().await;
        let store = store(&service, Slice::default());
        let create = |_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                store.create_user(new_user(Role::User), &audit()).await.unwrap();
            })
        };
        let tasks: Vec<_> = (0..40).map(create).collect();
        for task in tasks {
            task.await.unwrap();
        }
        let (code, output) = verify(backend, &database).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.contains("41 audit events"), "{output}");
    }
}
