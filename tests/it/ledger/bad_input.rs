//! Responses to invalid input. The table is the test and the source of `docs/bad-input.md`.

use std::fmt::Write as _;

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::client::{Client, transfer};
use crate::documents::golden;
use crate::on_both;
use crate::support::Service;

/// A row: the error, the operation and the expected response.
struct Case {
    wrong: &'static str,
    operation: &'static str,
    status: u16,
    code: &'static str,
    /// The fields in `errors`.
    fields: &'static [&'static str],
    request: RequestBuilder,
}

/// The users and their accounts.
struct World {
    anna: Client,
    admin: Client,
    /// A client without credentials.
    http: reqwest::Client,
    url: String,
    /// Anna's account with 100 cents.
    euros: String,
    /// Anna's empty account.
    dollars: String,
    /// Ben's empty account.
    bens: String,
    /// Ben's account, one cent below the maximal balance.
    full: String,
    /// A transfer without Anna's participation.
    foreign: String,
}

const UNKNOWN: &str = "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f";
const TRANSFER: &str = "POST /api/v1/transfers";
const ACCOUNT: &str = "POST /api/v1/accounts";
const DEPOSIT: &str = "POST /api/v1/deposits";
const AMOUNT: &[&str] = &["amount"];

impl World {
    async fn new(service: &Service) -> Self {
        let anna = Client::register(service, "anna").await;
        let ben = Client::register(service, "ben").await;
        let admin = Client::admin(service).await;
        let (euros, dollars) = (anna.open("EUR").await, anna.open("USD").await);
        let (bens, full) = (ben.open("EUR").await, ben.open("EUR").await);
        admin.deposit(&euros, 100).await;
        let most = 1_000_000_000_000_000;
        for _ in 0..9 {
            admin.deposit(&full, most).await;
        }
        admin.deposit(&full, (1 << 53) - 2 - 9 * most).await;
        let list: Value = ben
            .get("/api/v1/transfers?limit=1")
            .await
            .json()
            .await
            .unwrap();
        let foreign = list["items"][0]["id"].as_str().unwrap().to_owned();
        Self {
            anna,
            admin,
            http: service.client.clone(),
            url: service.url(""),
            euros,
            dollars,
            bens,
            full,
            foreign,
        }
    }

    fn good(&self) -> Value {
        transfer(&self.euros, &self.bens, 1)
    }

    /// A transfer with one member replaced.
    fn with(&self, member: &str, value: Value) -> RequestBuilder {
        let mut body = self.good();
        body[member] = value;
        self.transfer().json(&body)
    }

    /// A transfer with this amount as JSON text.
    fn amount(&self, text: &str) -> RequestBuilder {
        let body = self
            .good()
            .to_string()
            .replace("\"amount\":1", &format!("\"amount\":{text}"));
        self.raw(body)
    }

    fn transfer(&self) -> RequestBuilder {
        self.anna.request("POST", "/api/v1/transfers")
    }

    fn raw(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.transfer()
            .header("content-type", "application/json")
            .body(body)
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.anna.request("GET", path)
    }

    fn account(&self, body: &Value) -> RequestBuilder {
        self.anna.request("POST", "/api/v1/accounts").json(body)
    }

    fn deposit(client: &Client, account: &str, amount: i64) -> RequestBuilder {
        let body = json!({ "account": account, "amount": amount, "reference": "" });
        client.request("POST", "/api/v1/deposits").json(&body)
    }

    fn keyed(&self, key: &[u8]) -> RequestBuilder {
        let key = reqwest::header::HeaderValue::from_bytes(key).unwrap();
        self.transfer()
            .json(&self.good())
            .header("idempotency-key", key)
    }
}

fn case(
    wrong: &'static str,
    operation: &'static str,
    (status, code): (u16, &'static str),
    fields: &'static [&'static str],
    request: RequestBuilder,
) -> Case {
    Case {
        wrong,
        operation,
        status,
        code,
        fields,
        request,
    }
}

const INVALID_JSON: (u16, &str) = (400, "INVALID_JSON");
const UNKNOWN_FIELD: (u16, &str) = (400, "UNKNOWN_FIELD");
const INVALID_HEADER: (u16, &str) = (400, "INVALID_HEADER");
const INVALID_QUERY: (u16, &str) = (400, "INVALID_QUERY");
const INVALID_CURSOR: (u16, &str) = (400, "INVALID_CURSOR");
const INVALID_PATH: (u16, &str) = (400, "INVALID_PATH");
const NOT_FOUND: (u16, &str) = (404, "NOT_FOUND");
const MEDIA_TYPE: (u16, &str) = (415, "UNSUPPORTED_MEDIA_TYPE");
const INVALID: (u16, &str) = (422, "VALIDATION_FAILED");

/// Bodies as bytes.
#[rustfmt::skip] // A row a line.
fn bodies(w: &World) -> Vec<Case> {
    let good = w.good().to_string();
    let twice = good.replace("\"amount\":1", "\"amount\":1,\"amount\":2");
    let surrogate = good.replace("rent", "\\ud800");
    let deep = |member: &str| {
        good.replace(
            "\"rent\"",
            &format!("{}{}", "[".repeat(200), "]".repeat(200)),
        )
        .replace("reference", member)
    };
    let mut no_utf8 = good.clone().into_bytes();
    let rent = good.find("rent").unwrap();
    no_utf8[rent] = 0xff;
    let padded = format!("{good}{}", " ".repeat(1 << 20));
    let typed = |media_type: &str| {
        w.transfer()
            .header("content-type", media_type)
            .body(good.clone())
    };
    let encoded = |coding: &str| w.raw(good.clone()).header("content-encoding", coding);
    vec![
        case("no body", TRANSFER, INVALID_JSON, &[], w.raw("")),
        case("truncated JSON", TRANSFER, INVALID_JSON, &[], w.raw(good[..20].to_owned())),
        case("text after the JSON", TRANSFER, INVALID_JSON, &[], w.raw(format!("{good}x"))),
        case("invalid UTF-8", TRANSFER, INVALID_JSON, &[], w.raw(no_utf8)),
        case("an unpaired surrogate", TRANSFER, INVALID_JSON, &[], w.raw(surrogate)),
        case("nesting beyond 128 levels", TRANSFER, INVALID_JSON, &[], w.raw(deep("reference"))),
        case("nesting in an unknown field", TRANSFER, INVALID_JSON, &[], w.raw(deep("other"))),
        case("a number beyond the range of floats", TRANSFER, INVALID_JSON, &[], w.amount("1e999")),
        case("an unknown field", TRANSFER, UNKNOWN_FIELD, &[], w.with("note", json!("x"))),
        case("a duplicate field", TRANSFER, UNKNOWN_FIELD, &[], w.raw(twice)),
        case("an array instead of an object", TRANSFER, INVALID, &[""], w.raw(format!("[\"{}\",\"{}\",1,\"\"]", w.euros, w.bens))),
        case("`null` instead of an object", TRANSFER, INVALID, &[""], w.raw("null")),
        case("no `Content-Type`", TRANSFER, MEDIA_TYPE, &[], w.transfer().body(good.clone())),
        case("a wrong `Content-Type`", TRANSFER, MEDIA_TYPE, &[], typed("text/plain")),
        case("an unknown `Content-Encoding`", TRANSFER, MEDIA_TYPE, &[], encoded("compress")),
        case("a body that does not match `Content-Encoding`", TRANSFER, (400, "INVALID_BODY"), &[], encoded("gzip")),
        case("a body beyond `http.max_body_bytes`", TRANSFER, (413, "BODY_TOO_LARGE"), &[], w.raw(padded)),
    ]
}

/// Members of the body.
#[rustfmt::skip] // A row a line.
fn values(w: &World) -> Vec<Case> {
    let mut missing = w.good();
    missing.as_object_mut().unwrap().remove("amount");
    let several = json!({ "from_account": "x", "to_account": "y", "amount": 0, "reference": "\n" });
    let account =
        |currency: &str, name: &str| w.account(&json!({ "currency": currency, "name": name }));
    vec![
        case("a missing field", TRANSFER, INVALID, AMOUNT, w.transfer().json(&missing)),
        case("`null` instead of a value", TRANSFER, INVALID, AMOUNT, w.amount("null")),
        case("a text instead of a number", TRANSFER, INVALID, AMOUNT, w.amount("\"1\"")),
        case("a number instead of a text", TRANSFER, INVALID, &["reference"], w.with("reference", json!(1))),
        case("a fraction", TRANSFER, INVALID, AMOUNT, w.amount("12.5")),
        case("zero", TRANSFER, INVALID, AMOUNT, w.amount("0")),
        case("a negative amount", TRANSFER, INVALID, AMOUNT, w.amount("-1")),
        case("an amount above 10^15", TRANSFER, INVALID, AMOUNT, w.amount("1000000000000001")),
        case("the largest `i64`", TRANSFER, INVALID, AMOUNT, w.amount("9223372036854775807")),
        case("the smallest `i64`", TRANSFER, INVALID, AMOUNT, w.amount("-9223372036854775808")),
        case("beyond `i64`", TRANSFER, INVALID, AMOUNT, w.amount("9223372036854775808")),
        case("an id that is not a UUID", TRANSFER, INVALID, &["to_account"], w.with("to_account", json!("x"))),
        case("a UUID without hyphens", TRANSFER, INVALID, &["to_account"], w.with("to_account", json!(w.bens.replace('-', "")))),
        case("a reference of 141 characters", TRANSFER, INVALID, &["reference"], w.with("reference", json!("x".repeat(141)))),
        case("a control character", TRANSFER, INVALID, &["reference"], w.with("reference", json!("a\u{0}"))),
        case("several fields at once", TRANSFER, INVALID, &["from_account", "to_account", "amount", "reference"], w.transfer().json(&several)),
        case("an unsupported currency", ACCOUNT, INVALID, &["currency"], account("XXX", "Savings")),
        case("a currency in lower case", ACCOUNT, INVALID, &["currency"], account("eur", "Savings")),
        case("an empty name", ACCOUNT, INVALID, &["name"], account("EUR", "")),
        case("a name of 101 characters", ACCOUNT, INVALID, &["name"], account("EUR", &"x".repeat(101))),
        case("the largest `i64`", DEPOSIT, INVALID, AMOUNT, World::deposit(&w.admin, &w.euros, i64::MAX)),
        case("a negative amount", DEPOSIT, INVALID, AMOUNT, World::deposit(&w.admin, &w.euros, -1)),
    ]
}

/// Well-formed requests that violate the rules of the ledger.
#[rustfmt::skip] // A row a line.
fn rules(w: &World) -> Vec<Case> {
    let pay = |from: &str, to: &str, amount: i64| w.transfer().json(&transfer(from, to, amount));
    vec![
        case("an unknown source account", TRANSFER, NOT_FOUND, &[], pay(UNKNOWN, &w.bens, 1)),
        case("a source account of another user", TRANSFER, NOT_FOUND, &[], pay(&w.full, &w.bens, 1)),
        case("an unknown target account", TRANSFER, NOT_FOUND, &[], pay(&w.euros, UNKNOWN, 1)),
        case("the same account on both sides", TRANSFER, (422, "SAME_ACCOUNT"), &[], pay(&w.euros, &w.euros, 1)),
        case("accounts of different currencies", TRANSFER, (422, "CURRENCY_MISMATCH"), &[], pay(&w.euros, &w.dollars, 1)),
        case("an amount above the balance", TRANSFER, (422, "INSUFFICIENT_FUNDS"), &[], pay(&w.euros, &w.bens, 101)),
        case("a balance above the limit", TRANSFER, (422, "BALANCE_LIMIT_EXCEEDED"), &[], pay(&w.euros, &w.full, 2)),
        case("a balance above the limit", DEPOSIT, (422, "BALANCE_LIMIT_EXCEEDED"), &[], World::deposit(&w.admin, &w.full, 2)),
        case("an unknown account", DEPOSIT, NOT_FOUND, &[], World::deposit(&w.admin, UNKNOWN, 1)),
        case("a user without the administrator role", DEPOSIT, (403, "FORBIDDEN"), &[], World::deposit(&w.anna, &w.euros, 1)),
    ]
}

/// Path, query and headers.
#[rustfmt::skip] // A row a line.
fn heads(w: &World) -> Vec<Case> {
    const ACCOUNT_BY_ID: &str = "GET /api/v1/accounts/{id}";
    const TRANSFER_BY_ID: &str = "GET /api/v1/transfers/{id}";
    const ACCOUNTS: &str = "GET /api/v1/accounts";
    const TRANSFERS: &str = "GET /api/v1/transfers";
    let list = |query: &str| w.get(&format!("/api/v1/transfers?{query}"));
    let account = |id: &str| w.get(&format!("/api/v1/accounts/{id}"));
    let two_keys = w.keyed(b"a").header("idempotency-key", "b");
    let anonymous = w.http.get(format!("{}/api/v1/accounts", w.url));
    let forged = w
        .http
        .get(format!("{}/api/v1/accounts", w.url))
        .bearer_auth("x.y.z");
    vec![
        case("an id that is not a UUID", ACCOUNT_BY_ID, INVALID_PATH, &[], account("x")),
        case("an unknown id", ACCOUNT_BY_ID, NOT_FOUND, &[], account(UNKNOWN)),
        case("an id of another user", ACCOUNT_BY_ID, NOT_FOUND, &[], account(&w.bens)),
        case("a malformed `If-None-Match`", ACCOUNT_BY_ID, INVALID_HEADER, &[], account(&w.euros).header("if-none-match", "x")),
        case("an id that is not a UUID", TRANSFER_BY_ID, INVALID_PATH, &[], w.get("/api/v1/transfers/x")),
        case("an unknown id", TRANSFER_BY_ID, NOT_FOUND, &[], w.get(&format!("/api/v1/transfers/{UNKNOWN}"))),
        case("an id of another user", TRANSFER_BY_ID, NOT_FOUND, &[], w.get(&format!("/api/v1/transfers/{}", w.foreign))),
        case("an invalid cursor", TRANSFERS, INVALID_CURSOR, &[], list("cursor=x")),
        case("an empty cursor", TRANSFERS, INVALID_CURSOR, &[], list("cursor=")),
        case("an invalid cursor", ACCOUNTS, INVALID_CURSOR, &[], w.get("/api/v1/accounts?cursor=AAAA")),
        case("a limit of 0", TRANSFERS, INVALID_QUERY, &[], list("limit=0")),
        case("a limit of 101", TRANSFERS, INVALID_QUERY, &[], list("limit=101")),
        case("a negative limit", TRANSFERS, INVALID_QUERY, &[], list("limit=-1")),
        case("a limit that is not a number", TRANSFERS, INVALID_QUERY, &[], list("limit=ten")),
        case("a duplicate parameter", TRANSFERS, INVALID_QUERY, &[], list("limit=1&limit=2")),
        case("an unknown parameter", TRANSFERS, INVALID_QUERY, &[], list("offset=1")),
        case("an empty `Idempotency-Key`", TRANSFER, INVALID_HEADER, &[], w.keyed(b"")),
        case("a blank in the `Idempotency-Key`", TRANSFER, INVALID_HEADER, &[], w.keyed(b"a b")),
        case("an `Idempotency-Key` beyond ASCII", TRANSFER, INVALID_HEADER, &[], w.keyed("ä".as_bytes())),
        case("an `Idempotency-Key` of 256 characters", TRANSFER, INVALID_HEADER, &[], w.keyed(&[b'k'; 256])),
        case("two `Idempotency-Key` headers", TRANSFER, INVALID_HEADER, &[], two_keys),
        case("no credentials", ACCOUNTS, (401, "UNAUTHENTICATED"), &[], anonymous),
        case("invalid credentials", ACCOUNTS, (401, "UNAUTHENTICATED"), &[], forged),
        case("an unsupported method", "PUT /api/v1/transfers", (405, "METHOD_NOT_ALLOWED"), &[], w.anna.request("PUT", "/api/v1/transfers")),
        case("an unknown path", "GET /api/v1/nothing", NOT_FOUND, &[], w.get("/api/v1/nothing")),
    ]
}

on_both! {
    async fn every_bad_input_has_the_documented_response(backend: Backend) {
        let service = Service::start(backend).await;
        let world = World::new(&service).await;
        let mut document = String::from(
            "# Bad input\n\nGenerated by `make docs` from the test that sends these requests \
             (`tests/it/ledger/bad_input.rs`). The codes are explained in [errors.md](errors.md). \
             None of these requests transfers money, and no response repeats the input.\n\n\
             | error | operation | status | code | `errors` |\n| --- | --- | --- | --- | --- |\n",
        );
        let table = [bodies(&world), values(&world), rules(&world), heads(&world)];
        for case in table.into_iter().flatten() {
            let name = format!("{}: {}", case.operation, case.wrong);
            let answer = case.request.send().await.unwrap();
            assert_eq!(answer.status().as_u16(), case.status, "{name}");
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{name}");
            let problem: Value = answer.json().await.unwrap();
            assert_eq!(problem["code"], case.code, "{name}");
            assert_eq!(problem["status"], case.status, "{name}");
            let errors = problem["errors"].as_array().unwrap();
            let fields: Vec<_> = errors.iter().map(|error| error["field"].as_str().unwrap()).collect();
            assert_eq!(fields, case.fields, "{name}");
            let errors: Vec<_> = errors
                .iter()
                .map(|error| match (error["field"].as_str().unwrap(), error["code"].as_str().unwrap()) {
                    ("", code) => format!("`{code}`"),
                    (field, code) => format!("`{field}`: `{code}`"),
                })
                .collect();
            let Case { wrong, operation, status, code, .. } = case;
            let errors = errors.join(", ");
            writeln!(document, "| {wrong} | `{operation}` | {status} | `{code}` | {errors} |").unwrap();
        }
        assert_eq!(world.anna.balance(&world.euros).await, 100);
        let list: Value = world.anna.get("/api/v1/transfers").await.json().await.unwrap();
        assert_eq!(list["items"].as_array().unwrap().len(), 1, "the deposit alone");
        golden("docs/bad-input.md", &document);
    }
}
