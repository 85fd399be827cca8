//! Tokens of a provider whose keys are known, and fetches from a provider on a local port.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use client::{Client, ClientMetrics, Limits, Tls};
use serde_json::{Value, json};
use settings::clock::SharedClock;
use settings::{Layers, Reader};
use telemetry::{Service, TelemetryMetrics, Traces};

use super::config::Issuer;
use super::key_set::KeySet;
use super::metadata::{FetchError, Fetched};
use super::provider::{Provider, Providers, Rejection};
use super::role::RoleRule;
use super::*;
use crate::access::tests::{FixedClock, NOW};
use crate::domain::outside_user;
use crate::metrics::IdentityMetrics;
use keys::TestKey;
use request::Role;
use std::sync::Arc;

pub(super) mod keys;

const ISSUER: &str = "https://issuer.example/realm";

fn issuer() -> Issuer {
    Issuer {
        name: "default",
        issuer: ISSUER.to_owned(),
        audience: "an-api".to_owned(),
        accept_plain_jwt: false,
        role: Some(RoleRule::new("roles".to_owned(), vec!["boss".to_owned()])),
        refresh_interval: Duration::from_mins(10),
        refetch_interval: Duration::from_mins(10),
        max_key_age: Duration::from_hours(1),
        fetch_timeout: Duration::from_secs(5),
        allows_http: false,
    }
}

fn new_client(limits: Limits, tls: Tls) -> Result<Client, client::CallError> {
    const SERVICE: Service = Service {
        name: "test",
        version: "0",
        revision: "0",
        modules: &[],
        packages: &[],
    };
    let registry = prometheus::Registry::new();
    let metrics = TelemetryMetrics::register(&registry).unwrap();
    let config = telemetry::Config::read(&mut Reader::new(Layers::default()));
    let variables = std::collections::BTreeMap::new();
    let traces = Traces::start(SERVICE, &config, &variables, &metrics).unwrap();
    let metrics = ClientMetrics::register(&registry).unwrap();
    let tls = if tls == Tls::System { Tls::Off } else { tls };
    Client::new("test", &SERVICE, (limits, tls), traces, metrics)
}

/// A provider that has fetched `keys`. `None` if its fetch failed.
fn provider(issuer: Issuer, keys: Option<&Value>) -> Arc<Provider> {
    let metrics = IdentityMetrics::register(&prometheus::Registry::new()).unwrap();
    let clock: SharedClock = Arc::new(FixedClock::at(NOW));
    let url = issuer.issuer.clone();
    let config = Config {
        issuers: vec![issuer],
    };
    let providers = Providers::new(&config, new_client, &metrics, &clock).unwrap();
    let provider = Arc::clone(providers.find(&url).unwrap());
    let fetched = keys.map_or(Err(FetchError::Metadata), |keys| {
        Ok(Fetched {
            keys: KeySet::parse(keys.to_string().as_bytes()).unwrap(),
            max_age: None,
        })
    });
    provider.ended_fetch(fetched);
    provider
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "an-api", "sub": "ada", "exp": NOW + 60, "nbf": NOW, "iat": NOW,
        "jti": "1", "client_id": "app", "roles": ["boss"],
    })
}

fn header(key: &TestKey) -> Value {
    json!({"typ": "at+jwt", "alg": key.algorithm(), "kid": "one"})
}

fn jwks(key: &TestKey) -> Value {
    json!({"keys": [key.jwk("one")]})
}

async fn verify(provider: &Provider, token: &str) -> Result<Role, Rejection> {
    let verified = provider.verify(token).await?;
    assert_eq!(verified.claims.principal.user, outside_user(ISSUER, "ada"));
    Ok(verified.claims.principal.role)
}

#[track_caller]
fn assert_invalid(result: &Result<Role, Rejection>, why: &str) {
    assert!(
        matches!(result, Err(Rejection::Invalid(_))),
        "{why}: {result:?}"
    );
}

#[tokio::test]
async fn every_asymmetric_algorithm_is_verified() {
    for key in TestKey::all() {
        let provider = provider(issuer(), Some(&jwks(&key)));
        for algorithm in key.algorithms() {
            let mut header = header(&key);
            header["alg"] = json!(algorithm);
            let token = key.sign(&header, &claims());
            assert_eq!(
                verify(&provider, &token).await,
                Ok(Role::Admin),
                "{algorithm}"
            );
        }
    }
}

#[tokio::test]
async fn the_algorithm_of_a_token_must_be_one_of_its_key() {
    let [rsa, ec, ed] = TestKey::all();
    // The key names one algorithm, and the token has another one of the same kind.
    let mut jwk = rsa.jwk("one");
    jwk["alg"] = json!("RS256");
    let named = provider(issuer(), Some(&json!({"keys": [jwk]})));
    let with = |key: &TestKey, algorithm: &str| {
        let mut header = header(key);
        header["alg"] = json!(algorithm);
        key.sign(&header, &claims())
    };
    assert_eq!(verify(&named, &with(&rsa, "RS256")).await, Ok(Role::Admin));
    assert_invalid(
        &verify(&named, &with(&rsa, "PS256")).await,
        "PS256 for RS256",
    );
    assert_invalid(
        &verify(&named, &with(&ec, "ES256")).await,
        "ES256 for RS256",
    );
    let open = provider(issuer(), Some(&jwks(&ed)));
    assert_invalid(
        &verify(&open, &with(&rsa, "RS256")).await,
        "RS256 for EdDSA",
    );
}

/// Attackers have the public key, so it must never be used as a secret (RFC 8725, section
/// 2.1).
#[tokio::test]
async fn a_public_key_is_no_secret() {
    for key in TestKey::all() {
        let provider = provider(issuer(), Some(&jwks(&key)));
        for secret in key.public_forms() {
            for algorithm in ["HS256", "HS384", "HS512"] {
                let header = json!({"typ": "at+jwt", "alg": algorithm, "kid": "one"});
                let token = keys::sign_with_secret(&header, &claims(), &secret);
                assert_invalid(&verify(&provider, &token).await, algorithm);
            }
        }
    }
}

#[tokio::test]
async fn a_token_needs_its_signature() {
    let [key, _, _] = TestKey::all();
    let provider = provider(issuer(), Some(&jwks(&key)));
    let good = key.sign(&header(&key), &claims());
    assert_eq!(verify(&provider, &good).await, Ok(Role::Admin));
    for algorithm in ["none", "None", "NONE", ""] {
        let header = json!({"typ": "at+jwt", "alg": algorithm, "kid": "one"});
        let token = keys::unsigned(&header, &claims());
        assert_invalid(&verify(&provider, &token).await, algorithm);
    }
    let (message, _) = good.rsplit_once('.').unwrap();
    assert_invalid(
        &verify(&provider, &format!("{message}.")).await,
        "no signature",
    );
    let other = TestKey::rsa().sign(&header(&key), &claims());
    assert_invalid(&verify(&provider, &other).await, "the key of somebody else");
}

#[tokio::test]
async fn every_claim_is_verified() {
    let [_, key, _] = TestKey::all();
    let provider = provider(issuer(), Some(&jwks(&key)));
    for (name, value, why) in [
        (
            "iss",
            json!("https://issuer.example/realm/"),
            "another issuer",
        ),
        ("iss", json!([ISSUER]), "a list of issuers"),
        ("iss", Value::Null, "no issuer"),
        ("aud", json!("another-api"), "another audience"),
        ("aud", json!(["another-api"]), "other audiences"),
        ("aud", Value::Null, "no audience"),
        ("sub", json!(""), "an empty subject"),
        ("sub", json!(7), "a number as subject"),
        ("sub", Value::Null, "no subject"),
        ("exp", json!(NOW - 2), "expired"),
        ("exp", json!("never"), "no time"),
        ("exp", Value::Null, "no end"),
        ("nbf", json!(NOW + 3), "not yet valid"),
        ("nbf", json!("now"), "no time"),
        ("iat", json!(NOW + 3), "issued in the future"),
    ] {
        let mut claims = claims();
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value;
        }
        assert_invalid(
            &verify(&provider, &key.sign(&header(&key), &claims)).await,
            why,
        );
    }
    for (name, value) in [
        ("aud", json!(["another-api", "an-api"])),
        ("exp", json!(NOW - 1)),
        ("exp", json!(f64::from(i32::MAX) + 0.5)),
        ("nbf", json!(NOW + 2)),
        ("jti", Value::Null),
    ] {
        let mut claims = claims();
        claims[name] = value;
        let token = key.sign(&header(&key), &claims);
        assert_eq!(verify(&provider, &token).await, Ok(Role::Admin), "{claims}");
    }
}

#[tokio::test]
async fn the_header_is_verified() {
    let [_, _, key] = TestKey::all();
    let strict = provider(issuer(), Some(&jwks(&key)));
    let plain = Issuer {
        accept_plain_jwt: true,
        ..issuer()
    };
    let plain = provider(plain, Some(&jwks(&key)));
    let with = |name: &str, value: Value| {
        let mut header = header(&key);
        if value.is_null() {
            header.as_object_mut().unwrap().remove(name);
        } else {
            header[name] = value;
        }
        key.sign(&header, &claims())
    };
    for (typ, strictly, plainly) in [
        (json!("at+jwt"), true, true),
        (json!("application/at+JWT"), true, true),
        (json!("JWT"), false, true),
        (Value::Null, false, true),
        (json!("logout+jwt"), false, false),
        (json!("dpop+jwt"), false, false),
    ] {
        let token = with("typ", typ.clone());
        for (provider, accepted) in [(&strict, strictly), (&plain, plainly)] {
            assert_eq!(verify(provider, &token).await.is_ok(), accepted, "{typ}");
        }
    }
    for provider in [&strict, &plain] {
        assert_invalid(
            &verify(provider, &with("crit", json!(["exp"]))).await,
            "crit",
        );
        assert_invalid(&verify(provider, &with("kid", Value::Null)).await, "no kid");
        assert_invalid(
            &verify(provider, &with("kid", json!("two"))).await,
            "another kid",
        );
    }
}

#[tokio::test]
async fn without_keys_a_token_is_not_decided() {
    let [key, _, _] = TestKey::all();
    let token = key.sign(&header(&key), &claims());
    let unknown = provider(issuer(), None);
    assert_eq!(verify(&unknown, &token).await, Err(Rejection::Unavailable));
    let too_old = Issuer {
        max_key_age: Duration::ZERO,
        ..issuer()
    };
    let too_old = provider(too_old, Some(&jwks(&key)));
    assert_eq!(verify(&too_old, &token).await, Err(Rejection::Unavailable));
}

/// A provider that answers the metadata, and then `keys`. `{self}` is its URL.
fn served(metadata: &'static str, keys: String) -> Issuer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let own = url.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map(Result::unwrap) {
            let mut lines = BufReader::new(&stream).lines().map(Result::unwrap);
            let target = lines.next().unwrap_or_default();
            lines.take_while(|line| !line.is_empty()).for_each(drop);
            let body = if target.contains("/.well-known/openid-configuration") {
                metadata.replace("{self}", &own)
            } else {
                keys.clone()
            };
            let answer = if body.starts_with("HTTP/1.1 ") {
                body
            } else {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
            };
            // A client may close the connection early.
            let _written = (&stream).write_all(answer.as_bytes());
        }
    });
    Issuer {
        issuer: url,
        ..issuer()
    }
}

const GOOD: &str = r#"{"issuer": "{self}", "jwks_uri": "{self}/keys?set=1", "more": 1}"#;

async fn fetch(issuer: &Issuer) -> Result<(), String> {
    Provider::check(issuer, new_client).await
}

#[tokio::test]
async fn keys_are_fetched_from_the_place_that_the_metadata_name() {
    let [key, _, _] = TestKey::all();
    fetch(&served(GOOD, jwks(&key).to_string())).await.unwrap();
    let unusable = fetch(&served(GOOD, json!({"keys": []}).to_string())).await;
    assert_eq!(
        unusable,
        Err("keys: none of them can verify tokens".to_owned())
    );
}

#[tokio::test]
async fn metadata_of_another_issuer_are_refused() {
    let [key, _, _] = TestKey::all();
    for (metadata, why) in [
        (
            r#"{"issuer": "{self}/", "jwks_uri": "{self}/keys"}"#,
            "another issuer",
        ),
        (
            r#"{"issuer": "{self}", "jwks_uri": "http://keys.example/"}"#,
            "https",
        ),
        (
            r#"{"issuer": "{self}", "jwks_uri": "file:///etc/passwd"}"#,
            "not a URL",
        ),
        (r#"{"issuer": "{self}"}"#, "not a metadata document"),
        ("<html>", "not a metadata document"),
    ] {
        let error = fetch(&served(metadata, jwks(&key).to_string())).await;
        assert!(
            error.clone().unwrap_err().contains(why),
            "{metadata}: {error:?}"
        );
    }
}

#[tokio::test]
async fn large_answers_and_redirects_are_refused() {
    let [key, _, _] = TestKey::all();
    let keys: Vec<_> = (0..65).map(|n| key.jwk(&n.to_string())).collect();
    let redirect = "HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n";
    for (keys, why) in [
        (json!({"keys": keys}).to_string(), "more than 64 keys"),
        (" ".repeat((256 << 10) + 1), "more than 262144 bytes"),
        (redirect.to_owned(), "status 302"),
        ("{}".to_owned(), "not a JWK set"),
    ] {
        let error = fetch(&served(GOOD, keys)).await.unwrap_err();
        assert!(error.contains(why), "{why}: {error}");
    }
    let error = fetch(&served(redirect, String::new())).await.unwrap_err();
    assert!(error.contains("metadata: status 302"), "{error}");
}

#[tokio::test]
async fn a_slow_provider_ends_a_fetch_at_its_time_limit() {
    // Accepts connections and answers nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = Issuer {
        issuer: format!("http://{}", listener.local_addr().unwrap()),
        fetch_timeout: Duration::from_millis(100),
        ..issuer()
    };
    let error = fetch(&silent).await.unwrap_err();
    assert!(error.contains("within 100ms"), "{error}");
}
