//! `kill -9` under load: no acknowledged transfer is lost, none is repeated, and no key stays in
//! progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::Value;

use super::client::{Client, id, transfer};
use super::number;
use crate::on_both;
use crate::support::{Service, TestDatabase};

/// Number of users, each with one account and this many connections.
const USERS: [&str; 3] = ["anna", "ben", "eve"];
const CONNECTIONS: usize = 3;
/// Acknowledged transfers before the kill.
const ENOUGH: usize = 80;
const OPENING: i64 = 1_000_000;

/// A request and its response, if there was one.
struct LoadRequest {
    user: usize,
    to: usize,
    amount: i64,
    key: String,
    acknowledged: Option<String>,
}

/// Sends requests until the process is gone. The last request of each connection is unanswered.
async fn load(
    client: Client,
    user: usize,
    prefix: String,
    accounts: Vec<String>,
    acknowledged: Arc<AtomicUsize>,
) -> Vec<LoadRequest> {
    let mut sent = Vec::new();
    for index in 0.. {
        let to = (user + 1 + index % (USERS.len() - 1)) % USERS.len();
        let amount = i64::try_from(index % 7).unwrap() + 1;
        let mut request = LoadRequest {
            user,
            to,
            amount,
            key: format!("{prefix}-{index}"),
            acknowledged: None,
        };
        let answer = post(&client, &accounts, &request).await;
        let body: Option<Value> = match answer {
            Ok(answer) => {
                assert_eq!(answer.status(), StatusCode::CREATED);
                answer.json().await.ok()
            }
            Err(_) => None,
        };
        request.acknowledged = body.as_ref().map(id);
        let open = request.acknowledged.is_none();
        sent.push(request);
        if open {
            break;
        }
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    sent
}

async fn post(
    client: &Client,
    accounts: &[String],
    sent: &LoadRequest,
) -> Result<reqwest::Response, reqwest::Error> {
    let body = transfer(&accounts[sent.user], &accounts[sent.to], sent.amount);
    let post = client.request("POST", "/api/v1/transfers").json(&body);
    post.header("idempotency-key", &sent.key).send().await
}

on_both! {
    async fn a_killed_process_neither_loses_nor_repeats_transfers(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let start = || Service::builder(backend).database(&database).start();
        let mut service = start().await;
        let mut clients = Vec::new();
        let mut accounts = Vec::new();
        let admin = Client::admin(&service).await;
        for user in USERS {
            let client = Client::register(&service, user).await;
            let account = client.open("EUR").await;
            admin.deposit(&account, OPENING).await;
            accounts.push(account);
            clients.push(client);
        }
        let mut sent = Vec::new();
        for round in 0..2 {
            let acknowledged = Arc::new(AtomicUsize::new(0));
            let mut running = Vec::new();
            for connection in 0..USERS.len() * CONNECTIONS {
                let user = connection % USERS.len();
                running.push(tokio::spawn(load(
                    clients[user].clone(),
                    user,
                    format!("r{round}c{connection}"),
                    accounts.clone(),
                    Arc::clone(&acknowledged),
                )));
            }
            crate::support::eventually("enough load", async || {
                (acknowledged.load(Ordering::Relaxed) >= ENOUGH).then_some(())
            })
            .await;
            service.signal("KILL");
            for connection in running {
                sent.extend(connection.await.expect("the load ends"));
            }
            service.wait().await;
            service = start().await;
            // A new process has new signing keys, so new tokens are needed.
            for (client, user) in clients.iter_mut().zip(USERS) {
                *client = Client::login(&service, user).await;
            }
        }
        let open = sent.iter().filter(|request| request.acknowledged.is_none()).count();
        assert_eq!(open, 2 * USERS.len() * CONNECTIONS, "every connection was cut in a request");
        for request in &sent {
            let answer = repeat_until_answered(&clients[request.user], &accounts, request).await;
            if let Some(first) = &request.acknowledged {
                assert_eq!(&id(&answer), first, "an acknowledged transfer was lost");
            }
        }
        let mut expected = [OPENING; USERS.len()];
        for request in &sent {
            expected[request.user] -= request.amount;
            expected[request.to] += request.amount;
        }
        for (index, client) in clients.iter().enumerate() {
            assert_eq!(client.balance(&accounts[index]).await, expected[index]);
        }
        let made = number(database.url(), "SELECT count(*) FROM transfers").await;
        assert_eq!(made, i64::try_from(sent.len() + USERS.len()).unwrap());
        let sum = "SELECT CAST(sum(balance) AS BIGINT) FROM accounts";
        assert_eq!(number(database.url(), sum).await, 0);
    }
}

/// Repeats a request until it is answered, honouring `Retry-After`. The server needs a moment to
/// notice that the transaction of a killed client is gone.
async fn repeat_until_answered(
    client: &Client,
    accounts: &[String],
    request: &LoadRequest,
) -> Value {
    for _ in 0..5 {
        let answer = post(client, accounts, request).await.unwrap();
        if answer.status() == StatusCode::CREATED {
            return answer.json().await.unwrap();
        }
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        let wait = answer.headers()["retry-after"]
            .to_str()
            .unwrap()
            .parse()
            .unwrap();
        tokio::time::sleep(Duration::from_secs(wait)).await;
    }
    panic!("the key {} stays in progress", request.key);
}
