//! Secrets do not leak. Marked values are put into every input of clients and operators, every
//! route is driven to success and to failure, and all outputs are searched for the marks.
//!
//! Data is not secret: names, references and the user's own e-mail address may appear in successful
//! responses to their owner. Problems and all other outputs must not contain a mark.

mod database;

use std::fmt::Write as _;

use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};

use crate::on_both;
use crate::support::service::ADMIN_PASSWORD;
use crate::support::{Backend, Service, TestDatabase};
use crate::telemetry::sink::Sink;
use database::{Role, execute, wrong};

/// Part of every marked value and of no other text.
const MARK: &str = "canary";
const EMAIL: &str = "canary@example.com";
const PASSWORD: &str = "canary correct horse";
/// The address of the first administrator.
const MARKED_ADMIN: &str = "canary-admin@example.com";
const ADMIN_TOKEN: &str = "canary-admin-token-0123456789abcdef";
/// Values that no response may contain.
const SECRETS: [&str; 6] = [
    PASSWORD,
    "canary-new-password",
    "canary-cookie",
    "canary-key",
    "canary-query",
    "canary-bearer",
];

/// All collected outputs, by origin.
#[derive(Default)]
struct Outputs(Vec<(String, String)>);

impl Outputs {
    fn add(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.0.push((what.into(), text.into()));
    }

    /// Fails if an output contains a mark, and if an output is empty.
    fn has_no_mark(&self) {
        let mut leaks = String::new();
        for (what, text) in &self.0 {
            assert!(
                !text.is_empty(),
                "{what} is empty: the search means nothing"
            );
            let lower = text.to_ascii_lowercase();
            // Lower-casing ASCII preserves positions. Three occurrences of a kind are enough.
            for (at, _) in lower.match_indices(MARK).take(3) {
                let bytes = &text.as_bytes()[at.saturating_sub(80)..text.len().min(at + 80)];
                let around = String::from_utf8_lossy(bytes);
                writeln!(leaks, "{what}: …{around}…").unwrap();
            }
        }
        assert!(leaks.is_empty(), "{leaks}");
    }
}

/// The query string of every URL.
const QUERY: &str = "?token=canary-query&limit=canary-query";

/// Adds marked headers to a request.
fn marked(request: RequestBuilder) -> RequestBuilder {
    request
        .header("cookie", "session=canary-cookie")
        .header("idempotency-key", "canary-idempotency")
        .header("user-agent", "canary@example.com")
        .header("baggage", "secret=canary-baggage")
        .header("referer", "https://example.com/?q=canary-query")
}

/// Sends a request and stores the response: problems completely, successes only for the search for
/// secrets.
async fn file(seen: &mut Outputs, what: &str, request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    let status = answer.status();
    let headers = format!("{:?}", answer.headers());
    let body = answer.text().await.unwrap();
    seen.add(format!("headers of {what}"), headers);
    if status.is_success() {
        for secret in SECRETS {
            assert!(!body.contains(secret), "{what} gives back {secret}");
        }
    } else if !body.is_empty() {
        seen.add(format!("{status} of {what}"), body.clone());
    }
    serde_json::from_str(&body).unwrap_or_default()
}

/// A body that matches a schema, with marks in every text.
fn body_of(document: &Value, schema: &Value, wrong: bool) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        let pointer = reference.trim_start_matches('#');
        return body_of(document, document.pointer(pointer).unwrap(), wrong);
    }
    let mut body = Map::new();
    let properties = schema["properties"].as_object().cloned();
    for (name, property) in properties.unwrap_or_default() {
        let is_text = property["type"] != "integer";
        let value = match (is_text, name.as_str()) {
            // A value of a wrong type, with a mark where an error message might repeat it.
            (true, _) if wrong => json!({"canary-member": "canary-value"}),
            (true, "email") => json!(EMAIL),
            (true, "password") => json!(PASSWORD),
            (true, _) => json!("canary-value"),
            (false, _) if wrong => json!("canary-number"),
            (false, _) => json!(1),
        };
        body.insert(name, value);
    }
    Value::Object(body)
}

/// Sends every operation with all kinds of invalid credentials and bodies.
async fn fail_everywhere(seen: &mut Outputs, service: &Service, token: &str) {
    let document = include_str!("../../docs/openapi.json");
    let document: Value = serde_json::from_str(document).unwrap();
    let mut operations = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let bodies = [
                String::new(),
                "{\"password\":\"canary-broken".to_owned(),
                "\"canary-text\"".to_owned(),
                json!({"canary-member": "canary-value"}).to_string(),
                body_of(&document, schema, false).to_string(),
                body_of(&document, schema, true).to_string(),
            ];
            let method: Method = method.to_uppercase().parse().unwrap();
            // The path as it is, and with an address in place of an id.
            for id in ["01a1fb90-0000-7000-8000-000000000001", EMAIL] {
                let url = service.url(&path.replace("{id}", id)) + QUERY;
                for body in &bodies {
                    let request = || {
                        let request = service.client.request(method.clone(), &url);
                        marked(request.header("if-match", "\"canary-tag\""))
                            .header("content-type", "application/json")
                            .body(body.clone())
                    };
                    let what = format!("{method} {path}");
                    let good = request().bearer_auth(token);
                    file(seen, &what, good).await;
                    let bearer = request().bearer_auth("canary-bearer.canary.canary");
                    file(seen, &what, bearer).await;
                    file(seen, &what, request().basic_auth(EMAIL, Some(PASSWORD))).await;
                    file(seen, &what, request().header("x-api-key", "canary-key")).await;
                }
            }
        }
    }
    assert!(operations >= 17, "{operations} operations");
}

/// The life of a user, from registration to erasure.
async fn succeed_everywhere(seen: &mut Outputs, service: &Service) {
    let post = |path: &str, body: &Value| {
        let request = service.client.post(service.url(path)).json(body);
        request.header("cookie", "session=canary-cookie")
    };
    let registration = json!({"email": EMAIL, "name": "canary-name", "password": PASSWORD});
    let made = post("/api/v1/auth/register", &registration);
    assert_eq!(file(seen, "register", made).await["email"], EMAIL);
    let again = post("/api/v1/auth/register", &registration);
    file(seen, "register again", again).await;
    let login = |email: &str, password: &str| {
        post(
            "/api/v1/auth/login",
            &json!({"email": email, "password": password}),
        )
    };
    file(seen, "wrong login", login(EMAIL, "canary-wrong-password")).await;
    let tokens = file(seen, "login", login(EMAIL, PASSWORD)).await;
    let token = tokens["access_token"].as_str().unwrap();
    let admin = file(seen, "login", login(MARKED_ADMIN, ADMIN_PASSWORD)).await;
    let admin = admin["access_token"].as_str().unwrap();

    let mut accounts = Vec::new();
    for _ in 0..2 {
        let body = json!({"currency": "EUR", "name": "canary-account"});
        let made = post("/api/v1/accounts", &body).bearer_auth(token);
        let account = file(seen, "open", made).await;
        accounts.push(account["id"].as_str().unwrap().to_owned());
    }
    let deposit = json!({"account": accounts[0], "amount": 50, "reference": "canary-reference"});
    let deposit = post("/api/v1/deposits", &deposit).bearer_auth(admin);
    file(
        seen,
        "deposit",
        deposit.header("idempotency-key", "canary-idempotency-0"),
    )
    .await;
    // Created, replayed, misused, and beyond the balance.
    for (amount, key) in [(10, "1"), (10, "1"), (11, "1"), (1_000, "2")] {
        let body = json!({
            "from_account": accounts[0], "to_account": accounts[1], "amount": amount,
            "reference": "canary-reference",
        });
        let transfer = post("/api/v1/transfers", &body).bearer_auth(token);
        let key = format!("canary-idempotency-{key}");
        file(seen, "transfer", transfer.header("idempotency-key", key)).await;
    }
    let transfers = service.client.get(service.url("/api/v1/transfers"));
    let transfers = file(seen, "transfers", transfers.bearer_auth(token)).await;
    let transfer = transfers["items"][0]["id"]
        .as_str()
        .expect("a transfer")
        .to_owned();
    for path in [
        "/api/v1/accounts".to_owned(),
        format!("/api/v1/accounts/{}", accounts[0]),
        format!("/api/v1/transfers/{transfer}"),
        "/api/v1/users/me".to_owned(),
    ] {
        let request = service.client.get(service.url(&path)).bearer_auth(token);
        file(seen, &path, request).await;
    }
    end_of_the_user(seen, service, &tokens).await;
}

async fn end_of_the_user(seen: &mut Outputs, service: &Service, tokens: &Value) {
    let token = tokens["access_token"].as_str().unwrap();
    let old = tokens["refresh_token"].as_str().unwrap();
    let refresh = |token: &str| {
        let body = json!({"refresh_token": token});
        service
            .client
            .post(service.url("/api/v1/auth/refresh"))
            .json(&body)
    };
    let new = file(seen, "refresh", refresh(old)).await;
    let new = new["refresh_token"].as_str().unwrap().to_owned();
    file(seen, "unknown refresh", refresh("canary-refresh")).await;
    let me = service.url("/api/v1/users/me");
    let change = json!({"name": "canary-new-name"});
    let change = service.client.patch(&me).json(&change).bearer_auth(token);
    file(seen, "change", change).await;
    let body = json!({"refresh_token": new});
    let logout = service
        .client
        .post(service.url("/api/v1/auth/logout"))
        .json(&body);
    file(seen, "logout", logout).await;
    let passwords = json!({
        "current_password": PASSWORD, "new_password": "canary-new-password",
    });
    let password = service
        .client
        .post(format!("{me}/password"))
        .json(&passwords);
    file(seen, "password", password.bearer_auth(token)).await;
    file(seen, "erase", service.client.delete(&me).bearer_auth(token)).await;
    // The tokens themselves are searched for in all outputs.
    for secret in [token, old, &new] {
        for (what, text) in &seen.0 {
            assert!(!text.contains(secret), "a token stands in {what}");
        }
    }
}

on_both! {
    async fn no_output_contains_a_secret(backend: Backend) {
        let sink = Sink::start();
        let database = std::sync::Arc::new(TestDatabase::create(backend).await);
        let role = match backend {
            Backend::Postgres => Some(Role::create(&database).await),
            Backend::Sqlite => None,
        };
        let url = role.as_ref().map(|role| role.url("canary-database"));
        let url = url.unwrap_or_else(|| database.url().to_owned());
        let configured = |url: &str| {
            Service::builder(backend)
                .database(&database)
                .env("APP__DATABASE__URL", url)
                .env("APP__ADMIN__TOKEN", ADMIN_TOKEN)
                .env("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", MARKED_ADMIN)
                .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://me:canary@{}", sink.address()))
                .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20canary-collector")
                .env("OTEL_LOGS_EXPORTER", "otlp")
                .env("OTEL_BSP_SCHEDULE_DELAY", "20")
                .env("OTEL_BSP_MAX_QUEUE_SIZE", "100000")
                .env("OTEL_BLRP_SCHEDULE_DELAY", "20")
                .env("OTEL_BLRP_MAX_QUEUE_SIZE", "100000")
                // All settings that an operator may enable in production.
                .env("APP__TELEMETRY__LOG_FILTER", "debug")
        };
        let mut seen = Outputs::default();
        let mut service = configured(&url).start().await;
        succeed_everywhere(&mut seen, &service).await;
        let login = json!({"email": MARKED_ADMIN, "password": ADMIN_PASSWORD});
        let login = service.client.post(service.url("/api/v1/auth/login")).json(&login);
        let tokens = file(&mut seen, "login", login).await;
        let token = tokens["access_token"].as_str().unwrap();
        fail_everywhere(&mut seen, &service, token).await;
        defects(&mut seen, &service, &database).await;

        for (path, accept) in [
            ("/metrics", "text/plain"),
            ("/metrics", "application/openmetrics-text"),
            ("/info", "*/*"),
            ("/health/ready", "*/*"),
            ("/trace-sampling", "*/*"),
            ("/log-filter", "*/*"),
            ("/faults", "*/*"),
            ("/debug/tasks", "*/*"),
        ] {
            let request = service.client.get(service.admin(path)).header("accept", accept);
            let answer = request.bearer_auth(ADMIN_TOKEN).send().await.unwrap();
            seen.add(format!("{path} as {accept}"), answer.text().await.unwrap());
        }
        assert_eq!(service.terminate().await, Some(0));
        seen.add("standard output", service.stdout().join("\n"));
        // Empty, or the banner. Neither contains a mark.
        seen.add("standard error", format!("| {}", service.stderr().join("\n")));
        let spans = sink.spans();
        assert!(spans.iter().any(|span| span.span.name == "POST /api/v1/transfers"));
        assert!(spans.iter().any(crate::telemetry::sink::ReceivedSpan::is_error));
        seen.add("spans", format!("{spans:?}"));
        let lines = sink.lines();
        for target in ["request", "sqlx::query"] {
            assert!(lines.iter().any(|line| line.target == target), "{target}");
        }
        seen.add("log lines by OTLP", format!("{lines:?}"));
        for arguments in [&["config"][..], &["check"], &["migrate"]] {
            for url in [url.as_str(), &wrong(&url)] {
                let mut command = configured(url).arguments(arguments).spawn().await;
                command.wait().await;
                let said = format!("{:?}{:?}", command.stdout(), command.stderr());
                seen.add(format!("{arguments:?}"), said);
            }
        }
        let mut refused = configured("canary://canary:canary@canary")
            .env("APP__DATABASE__MAX_CONNECTIONS", "canary")
            .spawn()
            .await;
        assert_eq!(refused.wait().await.code(), Some(64));
        seen.add("a refused configuration", refused.stderr().join("\n"));
        seen.has_no_mark();
        if let Some(role) = role {
            role.remove().await;
        }
    }
}

/// Database errors contain values, which belong in the log only.
async fn defects(seen: &mut Outputs, service: &Service, database: &TestDatabase) {
    // Postgres adds `Key (name)=(canary-name) already exists` to its error.
    execute(database, "CREATE UNIQUE INDEX surprise ON users (name)").await;
    let mut answers = Vec::new();
    for email in ["canary-1@example.com", "canary-2@example.com"] {
        let body = json!({"email": email, "password": PASSWORD, "name": "canary-name"});
        let url = service.url("/api/v1/auth/register") + QUERY;
        let request = service.client.post(url).json(&body);
        answers.push(file(seen, "register", marked(request)).await);
    }
    assert_eq!(answers[1]["status"], 500, "{answers:?}");
    execute(database, "ALTER TABLE users RENAME TO gone").await;
    let url = service.url("/api/v1/auth/login") + QUERY;
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let request = service.client.post(url).json(&body);
    let answer = file(seen, "login", marked(request)).await;
    assert_eq!(answer["status"], 500, "{answer:?}");
    execute(database, "ALTER TABLE gone RENAME TO users").await;
}
