//! Tokens of outside issuers.

mod provider;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{self, Answer, attempts, read_me, send, tokens};
use crate::on_both;
use crate::support::raw_http::free_address;
use crate::support::{Backend, Builder, Service, eventually};
use crate::telemetry::{exporting, sink::Sink};
use provider::{AUDIENCE, Provider, issuer_at, message};

/// A service that accepts the tokens of an issuer.
fn trusting(backend: Backend, issuer: &str) -> Builder {
    trusting_too(Service::builder(backend), issuer)
}

fn trusting_too(builder: Builder, issuer: &str) -> Builder {
    builder
        .env("APP__AUTH__OIDC__ISSUER", issuer)
        .env("APP__AUTH__OIDC__AUDIENCE", AUDIENCE)
        .env("APP__AUTH__OIDC__ROLE_CLAIM", "realm_access.roles")
        .env("APP__AUTH__OIDC__ADMIN_VALUES", "operator,root")
}

async fn accounts(service: &Service, token: &str) -> Answer {
    let request = service.client.get(service.url("/api/v1/accounts"));
    send(request.bearer_auth(token)).await
}

async fn open_account(service: &Service, token: &str) -> Answer {
    let request = service.client.post(service.url("/api/v1/accounts"));
    let body = json!({"currency": "EUR", "name": "Savings"});
    send(request.bearer_auth(token).json(&body)).await
}

#[track_caller]
fn assert_refused(answer: &Answer, why: &str) {
    assert_eq!(answer.status.as_u16(), 401, "{why}: {answer:?}");
    answer.is_problem(401, "UNAUTHENTICATED");
    let challenge = "Bearer error=\"invalid_token\"";
    assert_eq!(answer.headers["www-authenticate"], challenge, "{why}");
}

on_both! {
    async fn a_token_of_the_provider_is_accepted(backend: Backend) {
        let provider = Provider::start();
        let service = trusting(backend, &provider.issuer()).start().await;
        let account = open_account(&service, &provider.token("ada")).await;
        account.is(201);
        // Another token of the user finds the account, and another user does not.
        let own = accounts(&service, &provider.token("ada")).await;
        assert_eq!(own.body["items"][0]["id"], account.body["id"], "{own:?}");
        let others = accounts(&service, &provider.token("grace")).await;
        assert_eq!(others.body["items"], json!([]));
        assert_eq!(attempts(&service, "provider_token", "success").await, 3.0);
        // Users of this service log in as before.
        let (token, _) = tokens(&service, "ada@example.com").await;
        read_me(&service, &token).await.is(200);
        assert_eq!(accounts(&service, &token).await.body["items"], json!([]));
        assert_eq!(attempts(&service, "provider_token", "success").await, 3.0);
    }

    async fn the_provider_manages_the_data_of_its_users(backend: Backend) {
        let provider = Provider::start();
        let service = trusting(backend, &provider.issuer()).start().await;
        let token = provider.token("ada");
        let password = json!({"current_password": client::PASSWORD});
        for (method, body) in [
            (Method::GET, Value::Null),
            (Method::PATCH, json!({"name": "Ada"})),
            (Method::DELETE, password),
        ] {
            let request = client::me(&service, method, &token).json(&body);
            send(request).await.is_problem(403, "MANAGED_BY_PROVIDER");
        }
        let url = service.url("/api/v1/users/me/password");
        let body = json!({"current_password": client::PASSWORD, "new_password": "another passphrase"});
        let request = service.client.post(url).bearer_auth(&token).json(&body);
        send(request).await.is_problem(403, "MANAGED_BY_PROVIDER");
        let request = service.client.post(service.url("/api/v1/api-keys"));
        let request = request.bearer_auth(&token).json(&json!({"name": "ci"}));
        send(request).await.is_problem(403, "MANAGED_BY_PROVIDER");
        // Its sessions are those of the provider.
        let sessions = service.client.get(service.url("/api/v1/sessions"));
        let answer = send(sessions.bearer_auth(&token)).await;
        answer.is(200);
        assert_eq!(answer.body["items"], json!([]));
    }

    async fn a_claim_makes_an_administrator(backend: Backend) {
        let provider = Provider::start();
        let service = trusting(backend, &provider.issuer()).start().await;
        let account = open_account(&service, &provider.token("ada")).await.text("id");
        let body = json!({"account": account, "amount": 1_250, "reference": "opening"});
        for (roles, status) in [(json!(["user"]), 403), (json!(["user", "operator"]), 201)] {
            let mut claims = provider.claims("grace");
            claims["realm_access"] = json!({"roles": roles});
            // These have no meaning for this issuer.
            claims["role"] = json!("admin");
            claims["roles"] = json!(["operator"]);
            let token = provider.sign(&provider.header(), &claims);
            let request = service.client.post(service.url("/api/v1/deposits"));
            let answer = send(request.bearer_auth(token).json(&body)).await;
            answer.is(status);
        }
    }
}

#[tokio::test]
async fn other_tokens_are_refused() {
    let (provider, stranger) = (Provider::start(), Provider::start());
    let service = trusting(Backend::Sqlite, &provider.issuer()).start().await;
    accounts(&service, &provider.token("ada")).await.is(200);
    let with_claim = |name: &str, value: Value| {
        let mut claims = provider.claims("ada");
        claims[name] = value;
        provider.sign(&provider.header(), &claims)
    };
    let with_header = |name: &str, value: Value| {
        let mut header = provider.header();
        header[name] = value;
        provider.sign(&header, &provider.claims("ada"))
    };
    let mut none = provider.header();
    none["alg"] = json!("none");
    let mut symmetric = provider.header();
    symmetric["alg"] = json!("HS256");
    let claims = provider.claims("ada");
    let symmetric = message(&symmetric, &claims);
    let secret = EncodingKey::from_secret(&provider.public_key());
    let signature = crypto::sign(symmetric.as_bytes(), &secret, Algorithm::HS256).unwrap();
    for (token, why) in [
        (stranger.token("ada"), "an issuer that is not configured"),
        (
            stranger.sign(&provider.header(), &claims),
            "a key of somebody else",
        ),
        (with_claim("aud", json!("app")), "another audience"),
        (with_claim("exp", json!(1_700_000_000)), "expired"),
        (
            with_claim("iss", json!(format!("{}/", provider.issuer()))),
            "another issuer",
        ),
        (with_header("typ", json!("JWT")), "perhaps an ID token"),
        (with_header("crit", json!(["exp"])), "an unknown extension"),
        (with_header("alg", json!("ES384")), "another algorithm"),
        (format!("{}.", message(&none, &claims)), "no signature"),
        (
            format!("{symmetric}.{signature}"),
            "the public key as a secret",
        ),
    ] {
        assert_refused(&accounts(&service, &token).await, why);
    }
    // The audience and the roles of this service have no meaning at the provider.
    let (own, _) = tokens(&service, "ada@example.com").await;
    let (head, _) = own.rsplit_once('.').unwrap();
    let forged = BASE64URL.encode(json!({"iss": provider.issuer()}).to_string());
    let header = head.split_once('.').unwrap().0;
    assert_refused(
        &accounts(&service, &format!("{header}.{forged}.AAAA")).await,
        "no kid of the provider",
    );
}

#[tokio::test]
async fn rotated_keys_are_fetched_and_old_ones_end() {
    let provider = Provider::start();
    let service = trusting(Backend::Sqlite, &provider.issuer())
        .env("APP__AUTH__OIDC__REFETCH_INTERVAL", "100ms")
        .start()
        .await;
    let old = provider.token("ada");
    accounts(&service, &old).await.is(200);
    provider.rotate();
    let new = provider.token("ada");
    eventually("the new key", async || {
        (accounts(&service, &new).await.status == 200).then_some(())
    })
    .await;
    // Also from the cache of verified tokens.
    assert_refused(&accounts(&service, &old).await, "the key was replaced");
}

#[tokio::test]
async fn invented_keys_cause_no_load_at_the_provider() {
    let provider = Provider::start();
    let service = trusting(Backend::Sqlite, &provider.issuer()).start().await;
    accounts(&service, &provider.token("ada")).await.is(200);
    let fetches = provider.fetches().len();
    for number in 0..50 {
        let mut header = provider.header();
        header["kid"] = json!(number.to_string());
        let token = provider.sign(&header, &provider.claims("ada"));
        assert_refused(&accounts(&service, &token).await, "an invented key");
    }
    assert_eq!(provider.fetches().len(), fetches);
    assert_eq!(fetches, 1);
    let labels = [("issuer", "default"), ("outcome", "success")];
    let metrics = service.metrics().await;
    let counted = metrics.get("identity_provider_fetches_total", &labels);
    assert_eq!(counted, Some(1.0));
    assert_eq!(
        metrics.get("identity_provider_keys", &[("issuer", "default")]),
        Some(1.0)
    );
}

#[tokio::test]
async fn the_service_starts_without_the_provider() {
    let address = free_address();
    let service = trusting(Backend::Sqlite, &issuer_at(address))
        .env("APP__AUTH__OIDC__REFETCH_INTERVAL", "200ms")
        .start()
        .await;
    // The service is ready, and its own users are served.
    let (own, _) = tokens(&service, "ada@example.com").await;
    read_me(&service, &own).await.is(200);
    let check = [("check", "identity_provider_default")];
    let is_up = async || service.metrics().await.get("readiness_check_up", &check);
    eventually("a failed check", async || {
        (is_up().await == Some(0.0)).then_some(())
    })
    .await;

    let early = Provider::start();
    let mut claims = early.claims("ada");
    claims["iss"] = json!(issuer_at(address));
    let answer = accounts(&service, &early.sign(&early.header(), &claims)).await;
    answer.is_problem(503, "IDENTITY_PROVIDER_UNAVAILABLE");
    assert!(answer.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert!(attempts(&service, "provider_token", "error").await >= 1.0);

    let provider = Provider::start_at(address);
    eventually("the keys", async || {
        (accounts(&service, &provider.token("ada")).await.status == 200).then_some(())
    })
    .await;
    eventually("a good check", async || {
        (is_up().await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn keys_stay_in_use_for_a_time_while_the_provider_fails() {
    let provider = Provider::start();
    let service = trusting(Backend::Sqlite, &provider.issuer())
        .env("APP__AUTH__OIDC__REFRESH_INTERVAL", "100ms")
        .env("APP__AUTH__OIDC__REFETCH_INTERVAL", "100ms")
        .env("APP__AUTH__OIDC__MAX_KEY_AGE", "3s")
        .start()
        .await;
    let token = provider.token("ada");
    accounts(&service, &token).await.is(200);
    provider.fail(true);
    let failures = [("issuer", "default"), ("outcome", "failure")];
    eventually("failed fetches", async || {
        let metrics = service.metrics().await;
        let count = metrics.get("identity_provider_fetches_total", &failures);
        (count >= Some(3.0)).then_some(())
    })
    .await;
    accounts(&service, &token).await.is(200);
    accounts(&service, &provider.token("grace")).await.is(200);
    let old = eventually("the age of the keys", async || {
        let answer = accounts(&service, &token).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    old.is_problem(503, "IDENTITY_PROVIDER_UNAVAILABLE");
    provider.fail(false);
    eventually("the keys", async || {
        (accounts(&service, &token).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn several_issuers_are_accepted_at_once() {
    let [first, second, third] = [(); 3].map(|()| Provider::start());
    let mut builder = trusting(Backend::Sqlite, &first.issuer())
        .env("APP__AUTH__OIDC__ISSUERS", "partner,branch_2");
    for (name, provider) in [("PARTNER", &second), ("BRANCH_2", &third)] {
        builder = builder
            .env(
                &format!("APP__AUTH__OIDC__{name}__ISSUER"),
                provider.issuer(),
            )
            .env(&format!("APP__AUTH__OIDC__{name}__AUDIENCE"), AUDIENCE);
    }
    let service = builder.start().await;
    // The same subject at another issuer is another user.
    for provider in [&first, &second, &third] {
        let token = provider.token("ada");
        assert_eq!(accounts(&service, &token).await.body["items"], json!([]));
        open_account(&service, &token).await.is(201);
    }
    // The key of one issuer does not sign for another, also under the name of its key.
    let claims = first.claims("ada");
    for header in [first.header(), second.header()] {
        let forged = second.sign(&header, &claims);
        assert_refused(
            &accounts(&service, &forged).await,
            "the key of another issuer",
        );
    }
    // The claim of the role is that of each issuer.
    let mut claims = second.claims("ada");
    claims["realm_access"] = json!({"roles": ["operator"]});
    let token = second.sign(&second.header(), &claims);
    let request = service.client.post(service.url("/api/v1/deposits"));
    let body = json!({"account": uuid::Uuid::now_v7(), "amount": 1, "reference": "opening"});
    let answer = send(request.bearer_auth(token).json(&body)).await;
    answer.is_problem(403, "FORBIDDEN");
    let metrics = service.metrics().await;
    for name in ["default", "partner", "branch_2"] {
        let keys = metrics.get("identity_provider_keys", &[("issuer", name)]);
        assert_eq!(keys, Some(1.0), "{name}");
    }
}

#[tokio::test]
async fn a_provider_without_rfc_9068_is_accepted_where_the_configuration_says_so() {
    let provider = Provider::start();
    let service = trusting(Backend::Sqlite, &provider.issuer())
        .env("APP__AUTH__OIDC__ACCEPT_PLAIN_JWT", "true")
        .start()
        .await;
    let mut header = provider.header();
    header["typ"] = json!("JWT");
    let plain = provider.sign(&header, &provider.claims("ada"));
    accounts(&service, &plain).await.is(200);
}

#[tokio::test]
async fn a_fetch_is_traced_and_names_the_service() {
    let (sink, provider) = (Sink::start(), Provider::start());
    let service = trusting_too(exporting(&sink), &provider.issuer())
        .start()
        .await;
    accounts(&service, &provider.token("ada")).await.is(200);
    let run = sink
        .span("the fetch", |it| {
            it.span.name == "fetch identity provider keys"
        })
        .await;
    let url = provider.issuer().replace("/realm", "/keys");
    let call = sink
        .span("the call", |it| it.text("url.full") == Some(url.clone()))
        .await;
    assert_eq!((&*call.span.name, call.span.kind), ("GET", 3), "CLIENT");
    assert_eq!(call.parent(), run.span_id());
    let port = provider.port().to_string();
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("server.address", "127.0.0.1"),
        ("server.port", &port),
    ] {
        assert_eq!(call.text(name).as_deref(), Some(value), "{name}");
    }
    let headers = &provider.fetches()[0];
    let parent = format!("00-{}-{}-01", call.trace_id(), call.span_id());
    assert_eq!(headers["traceparent"], parent);
    let agent = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));
    assert_eq!(headers["user-agent"], agent);
    let labels = [
        ("client", "identity_provider"),
        ("method", "GET"),
        ("outcome", "2xx"),
    ];
    let metrics = service.metrics().await;
    let calls = metrics.get("http_client_request_duration_seconds_count", &labels);
    assert_eq!(calls, Some(2.0), "metadata and keys");
}

#[tokio::test]
async fn check_reaches_the_provider() {
    let provider = Provider::start();
    let check = async || {
        let mut check = trusting(Backend::Sqlite, &provider.issuer())
            .arguments(&["check"])
            .spawn()
            .await;
        let code = check.wait().await.code();
        (code, check.stderr().join("\n"))
    };
    assert_eq!(check().await.0, Some(0));
    provider.fail(true);
    let (code, output) = check().await;
    assert_eq!(code, Some(1));
    let line = "identity provider default: metadata: status 500";
    assert!(output.contains(line), "{output}");
}
