//! The API of the ledger.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};

use super::client::{Client, id, members, transfer};
use super::number;
use crate::on_both;
use crate::support::{Service, eventually};

on_both! {
    async fn accounts_deposits_and_transfers_have_the_shapes_of_the_contract(backend: Backend) {
        let service = Service::start(backend).await;
        let anna = Client::register(&service, "anna").await;
        let body = json!({ "currency": "EUR", "name": "Savings" });
        let answer = anna.post("/api/v1/accounts", &body).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        let account: Value = answer.json().await.unwrap();
        assert_eq!(members(&account), ["balance", "created_at", "currency", "id", "name"]);
        assert_eq!(account["balance"], 0);
        assert_eq!(location, format!("/api/v1/accounts/{}", id(&account)));
        let read: Value = anna.get(&location).await.json().await.unwrap();
        assert_eq!(read, account);

        let ben = Client::register(&service, "ben").await;
        let (from, to) = (id(&account), ben.open("EUR").await);
        let admin = Client::admin(&service).await;
        let body = json!({ "account": from, "amount": 1250, "reference": "opening" });
        let answer = admin.post("/api/v1/deposits", &body).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let deposit: Value = answer.json().await.unwrap();
        assert_eq!(deposit["to_account"], from.as_str());

        let answer = anna.post("/api/v1/transfers", &transfer(&from, &to, 250)).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        let location = answer.headers()["location"].to_str().unwrap().to_owned();
        assert!(!answer.headers().contains_key("idempotency-replayed"));
        let made: Value = answer.json().await.unwrap();
        let shape =
            ["amount", "created_at", "currency", "from_account", "id", "reference", "to_account"];
        assert_eq!(members(&made), shape);
        assert_eq!(members(&deposit), shape);
        assert_eq!((&made["amount"], &made["currency"]), (&json!(250), &json!("EUR")));
        for client in [&anna, &ben] {
            let read: Value = client.get(&location).await.json().await.unwrap();
            assert_eq!(read, made);
        }
        assert_eq!((anna.balance(&from).await, ben.balance(&to).await), (1000, 250));
        let list: Value = ben.get("/api/v1/transfers").await.json().await.unwrap();
        assert_eq!(list, json!({ "items": [made], "next_cursor": null }));
        let list: Value = anna.get("/api/v1/transfers?limit=1").await.json().await.unwrap();
        let cursor = list["next_cursor"].as_str().unwrap();
        let rest = anna.get(&format!("/api/v1/transfers?limit=1&cursor={cursor}")).await;
        let rest: Value = rest.json().await.unwrap();
        assert_eq!(rest, json!({ "items": [deposit], "next_cursor": null }));
    }

    async fn an_unchanged_account_is_304(backend: Backend) {
        let service = Service::start(backend).await;
        let anna = Client::register(&service, "anna").await;
        let account = anna.open("EUR").await;
        let path = format!("/api/v1/accounts/{account}");
        let tag = anna.get(&path).await.headers()["etag"].clone();
        let conditional = || anna.request("GET", &path).header("if-none-match", &tag).send();
        let answer = conditional().await.unwrap();
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
        assert_eq!(answer.headers()["etag"], tag);
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
        Client::admin(&service).await.deposit(&account, 1).await;
        let answer = conditional().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_ne!(answer.headers()["etag"], tag);
    }

    async fn a_key_replays_status_and_body(backend: Backend) {
        let service = Service::start(backend).await;
        let anna = Client::register(&service, "anna").await;
        let (from, to) = (anna.open("EUR").await, anna.open("EUR").await);
        let admin = Client::admin(&service).await;
        let send = async |client: &Client, path: &str, key: &str, body: &Value| {
            let answer = client.request("POST", path).header("idempotency-key", key).json(body);
            let answer = answer.send().await.unwrap();
            let replayed = answer.headers().contains_key("idempotency-replayed");
            (answer.status().as_u16(), replayed, answer.text().await.unwrap())
        };
        let path = "/api/v1/transfers";
        let body = transfer(&from, &to, 10);
        // Refused first and on every replay, even if the money arrives later.
        let first = send(&anna, path, "a", &body).await;
        admin.deposit(&from, 100).await;
        let again = send(&anna, path, "a", &body).await;
        assert_eq!((first.0, again.0), (422, 422));
        let (first, again): (Value, Value) =
            (serde_json::from_str(&first.2).unwrap(), serde_json::from_str(&again.2).unwrap());
        assert_eq!(first["code"], "INSUFFICIENT_FUNDS");
        for member in ["type", "title", "status", "detail", "code"] {
            assert_eq!(first[member], again[member]);
        }
        for member in ["request_id", "trace_id"] {
            assert_ne!(first[member], again[member], "the ids are the new request's");
        }
        // Executed once and replayed afterwards. White space does not change the body.
        let first = send(&anna, path, "b", &body).await;
        let spaced = anna.request("POST", path).header("idempotency-key", "b");
        let spaced = spaced.header("content-type", "application/json");
        let spaced = spaced.body(serde_json::to_string_pretty(&body).unwrap()).send().await;
        let spaced = spaced.unwrap();
        assert_eq!((first.0, first.1, spaced.status().as_u16()), (201, false, 201));
        assert_eq!(spaced.headers()["idempotency-replayed"], "true");
        assert_eq!(first.2, spaced.text().await.unwrap());
        assert_eq!(anna.balance(&from).await, 90);
        let other = send(&anna, path, "b", &transfer(&from, &to, 11)).await;
        assert_eq!(other.0, 422);
        assert!(other.2.contains("IDEMPOTENCY_MISMATCH"), "{}", other.2);
        // A request that was not executed leaves the key free.
        let invalid = send(&anna, path, "c", &transfer(&from, &to, -1)).await;
        assert_eq!(invalid.0, 422);
        assert_eq!(send(&anna, path, "c", &body).await.0, 201);
        // The same holds for deposits.
        let body = json!({ "account": from, "amount": 5, "reference": "" });
        let first = send(&admin, "/api/v1/deposits", "d", &body).await;
        let again = send(&admin, "/api/v1/deposits", "d", &body).await;
        assert_eq!((first.0, &first.2), (201, &again.2));
        assert_eq!((first.1, again.1), (false, true));
        assert_eq!(anna.balance(&from).await, 85);
    }

    async fn concurrent_posts_with_one_key_make_one_transfer(backend: Backend) {
        let service = Service::start(backend).await;
        let anna = Client::register(&service, "anna").await;
        let (from, to) = (anna.open("EUR").await, anna.open("EUR").await);
        Client::admin(&service).await.deposit(&from, 1_000).await;
        let posts = (0..50).map(|_| {
            let (anna, body) = (anna.clone(), transfer(&from, &to, 10));
            tokio::spawn(async move {
                for _ in 0..10 {
                    let post = anna.request("POST", "/api/v1/transfers").json(&body);
                    let answer = post.header("idempotency-key", "one").send().await.unwrap();
                    if answer.status() == StatusCode::CREATED {
                        return answer.text().await.unwrap();
                    }
                    assert_eq!(answer.status(), StatusCode::CONFLICT);
                    let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                    let problem: Value = answer.json().await.unwrap();
                    assert_eq!(problem["code"], "IDEMPOTENCY_IN_PROGRESS");
                    tokio::time::sleep(Duration::from_secs(wait)).await;
                }
                panic!("the key stays in progress");
            })
        });
        let bodies = futures_util::future::join_all(posts).await;
        let bodies: BTreeSet<_> = bodies.into_iter().map(Result::unwrap).collect();
        assert_eq!(bodies.len(), 1, "{bodies:?}");
        assert_eq!((anna.balance(&from).await, anna.balance(&to).await), (990, 10));
        let metrics = service.metrics().await;
        let count = |outcome| metrics.get("ledger_transfers_total", &[("outcome", outcome)]);
        // One of them is the deposit.
        assert_eq!(count("created"), Some(2.0));
        assert_eq!(count("replayed"), Some(49.0));
    }

    async fn outcomes_are_counted_from_zero(backend: Backend) {
        let service = Service::start(backend).await;
        let metrics = service.metrics().await;
        let outcomes =
            ["created", "replayed", "insufficient_funds", "refused", "mismatch", "in_progress", "failed"];
        for outcome in outcomes {
            let born = metrics.get("ledger_transfers_total", &[("outcome", outcome)]);
            assert_eq!(born, Some(0.0), "{outcome}");
        }
        let anna = Client::register(&service, "anna").await;
        let (from, to) = (anna.open("EUR").await, anna.open("EUR").await);
        for body in [transfer(&from, &to, 1), transfer(&from, &from, 1)] {
            anna.post("/api/v1/transfers", &body).await;
        }
        let metrics = service.metrics().await;
        for (outcome, expected) in [("insufficient_funds", 1.0), ("refused", 1.0), ("created", 0.0)] {
            let counted = metrics.get("ledger_transfers_total", &[("outcome", outcome)]);
            assert_eq!(counted, Some(expected), "{outcome}");
        }
    }

    async fn a_user_leaves_with_empty_accounts_only(backend: Backend) {
        let service = Service::start(backend).await;
        let (anna, ben) =
            (Client::register(&service, "anna").await, Client::register(&service, "ben").await);
        let admin = Client::admin(&service).await;
        let (annas, bens) = (anna.open("EUR").await, ben.open("EUR").await);
        admin.deposit(&annas, 10).await;
        let answer = anna.leave().await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "ACCOUNT_NOT_EMPTY");
        let answer = anna.post("/api/v1/transfers", &transfer(&annas, &bens, 10)).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(anna.leave().await.status(), StatusCode::NO_CONTENT);
        let answer = ben.post("/api/v1/transfers", &transfer(&bens, &annas, 1)).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "ACCOUNT_CLOSED");
        // The other party keeps the transfer.
        let list: Value = ben.get("/api/v1/transfers").await.json().await.unwrap();
        assert_eq!(list["items"][0]["from_account"], annas.as_str());
    }

    async fn expired_keys_are_removed_by_the_worker(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__LEDGER__IDEMPOTENCY_TTL", "50ms")
            .env("APP__WORKERS__CLEANUP_INTERVAL", "100ms")
            .start()
            .await;
        let admin = Client::admin(&service).await;
        let account = admin.open("EUR").await;
        let body = json!({ "account": account, "amount": 5, "reference": "" });
        let post = admin.request("POST", "/api/v1/deposits").header("idempotency-key", "k");
        assert_eq!(post.json(&body).send().await.unwrap().status(), StatusCode::CREATED);
        let url = service.database.url();
        eventually("the key is removed", async || {
            let keys = number(url, "SELECT count(*) FROM idempotency_keys").await;
            (keys == 0).then_some(())
        })
        .await;
        assert_eq!(number(url, "SELECT count(*) FROM transfers").await, 1);
    }
}
