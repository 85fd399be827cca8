//! Debug lines that the documentation recommends for incidents.

use serde_json::{Value, json};

use crate::identity::client::tokens;
use crate::on_both;
use crate::support::{Backend, Service, eventually};

/// The JSON body of the command in a document.
fn documented(file: &str) -> Value {
    let path = format!("{}/docs/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let command = text
        .split("```sh\n")
        .find(|fence| fence.contains("gantry=debug"));
    let (_, body) = command.unwrap().split_once("--json '").unwrap();
    serde_json::from_str(body.split('\'').next().unwrap()).unwrap()
}

async fn filter(service: &Service, body: &Value) -> Value {
    let request = service.client.put(service.admin("/log-filter"));
    let answer = request.json(body).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.json().await.unwrap()
}

/// The first debug line with this message.
fn line(service: &Service, message: &str) -> Option<Value> {
    let lines = service.logs();
    let found = |line: &&Value| line["level"] == "debug" && line["message"] == message;
    lines.iter().find(found).cloned()
}

async fn ask(service: &Service, token: &str) -> u16 {
    let request = service.client.get(service.url("/api/v1/users/me"));
    let answer = request.bearer_auth(token).send().await.unwrap();
    answer.status().as_u16()
}

on_both! {
    async fn the_documented_filter_logs_overload_decisions(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__DATABASE__MAX_CONNECTIONS", "1")
            .env("APP__HTTP__MAX_IN_FLIGHT", "40")
            .start()
            .await;
        let (token, _) = tokens(&service, "load@example.com").await;
        assert_eq!(ask(&service, "no.such.token").await, 401);
        let quiet = service.logs();
        assert!(quiet.iter().all(|line| line["level"] != "debug"), "nothing before");

        for document in ["logging.md", "operations.md"] {
            let state = filter(&service, &documented(document)).await;
            assert_eq!(state["returns_to"], "info", "{document}");
            assert!(state["hint"].is_null(), "{document}: {state}");
        }
        assert_eq!(ask(&service, "no.such.token").await, 401);
        assert_eq!(ask(&service, &token).await, 200);
        // More requests than permits, all of which wait for the single connection.
        let load = async || {
            let asked = (0..80).map(|_| ask(&service, &token));
            futures_util::future::join_all(asked).await
        };
        let decisions = [
            ("an authentication attempt has ended", "identity::"),
            ("an access token was rejected", "identity::"),
            ("waited for a database connection", "db::"),
            ("refused by a concurrency limit", "limits::concurrency"),
        ];
        for (message, target) in decisions {
            let found = eventually(message, async || {
                let found = line(&service, message);
                if found.is_none() {
                    load().await;
                }
                found
            })
            .await;
            assert!(found["target"].as_str().unwrap().contains(target), "{found}");
            assert_eq!(found["request_id"].as_str().map(str::len), Some(36), "{found}");
        }
        let refused = line(&service, "an access token was rejected").unwrap();
        assert_eq!(refused["reason"], "malformed");
        // No line contains the token.
        assert!(!service.stdout().concat().contains(&token));
    }
}

#[tokio::test]
async fn a_rate_limit_refusal_is_explained_at_debug_level() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__RATE_LIMIT__ENABLED", "true")
        .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", "1")
        .env("APP__RATE_LIMIT__DEFAULT__BURST", "2")
        .start()
        .await;
    filter(&service, &documented("logging.md")).await;
    let found = eventually("a refusal", async || {
        let url = service.url("/api/v1/ping");
        service.client.get(url).send().await.unwrap();
        line(&service, "refused by a rate limit")
    })
    .await;
    assert_eq!(found["limiter"], "address");
    assert!(found["wait"].as_str().is_some(), "{found}");
}

#[tokio::test]
async fn an_unknown_target_is_answered_with_a_hint() {
    let service = Service::builder(Backend::Sqlite)
        .env("RUST_LOG", "info,gantri=debug")
        .start()
        .await;
    let warned = service.logs().into_iter().find(|line| {
        let hint = line["hint"].as_str().unwrap_or_default();
        line["level"] == "warn" && hint.contains("Did you mean `gantry`?")
    });
    assert!(warned.is_some());
    for (given, meant) in [
        ("info,gantri=debug", "`gantry`"),
        ("info,gantry::srve=debug", "`gantry::serve"),
        ("requset=off", "`request`"),
    ] {
        let state = filter(&service, &json!({ "filter": given })).await;
        assert_eq!(state["filter"], given);
        let hint = state["hint"].as_str().unwrap_or_default();
        assert!(hint.contains(meant), "{given}: {state}");
    }
    for given in ["info", "info,gantry=debug", "warn,sqlx=debug,request=off"] {
        let state = filter(&service, &json!({ "filter": given })).await;
        assert!(state["hint"].is_null(), "{given}: {state}");
    }
}
