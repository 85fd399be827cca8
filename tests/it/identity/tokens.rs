//! Verification of access tokens.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

use super::client::{self, Answer, attempts, login, me, read_me, register, send, tokens};
use crate::on_both;
use crate::support::Service;
use reqwest::Method;

const SECRET: &[u8] = b"a secret of tests, of 32 bytes or more";

/// An HS256 key whose secret is known to the tests.
fn shared_key() -> String {
    let k = BASE64URL.encode(SECRET);
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "shared", "k": k}]}).to_string()
}

fn now() -> i64 {
    time::OffsetDateTime::now_utc().unix_timestamp()
}

/// Valid claims for a user.
fn claims(user: &str) -> Value {
    json!({
        "iss": env!("CARGO_PKG_NAME"),
        "aud": concat!(env!("CARGO_PKG_NAME"), "-api"),
        "exp": now() + 60, "nbf": now(), "iat": now(),
        "sub": user, "jti": user, "client_id": "test", "role": "admin",
    })
}

fn header() -> Value {
    json!({"typ": "at+jwt", "alg": "HS256", "kid": "shared"})
}

fn sign(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap()
}

#[track_caller]
fn assert_refused(answer: &Answer, why: &str) {
    assert_eq!(answer.status.as_u16(), 401, "{why}: {answer:?}");
    answer.is_problem(401, "UNAUTHENTICATED");
    assert_eq!(
        answer.headers["www-authenticate"], "Bearer error=\"invalid_token\"",
        "{why}"
    );
}

on_both! {
    async fn access_tokens_have_the_shape_of_rfc_9068(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__ISSUER", "https://issuer.example")
            .env("APP__AUTH__AUDIENCE", "an-api")
            .env("APP__AUTH__ACCESS_TTL", "2m")
            .start()
            .await;
        let user = register(&service, "ada@example.com").await;
        let answer = login(&service, "ada@example.com", client::PASSWORD).await;
        assert_eq!(answer.body["expires_in"], 120);
        let token = answer.text("access_token");
        let header = part(&token, 0);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!("EdDSA")));
        let jwks = send(service.client.get(service.url("/.well-known/jwks.json"))).await;
        assert_eq!(header["kid"], jwks.body["keys"][0]["kid"]);
        let claims = part(&token, 1);
        assert_eq!(claims["iss"], "https://issuer.example");
        assert_eq!(claims["aud"], "an-api");
        assert_eq!(claims["sub"], user.body["id"]);
        assert_eq!(claims["role"], "user");
        let time = |name: &str| claims[name].as_i64().unwrap();
        assert_eq!(time("exp") - time("iat"), 120);
        assert_eq!(time("nbf"), time("iat"));
        assert!(claims["jti"].is_string() && claims["client_id"].is_string());
    }

    async fn the_challenge_without_credentials_has_no_error(backend: Backend) {
        let service = Service::start(backend).await;
        let answer = send(service.client.get(service.url("/api/v1/users/me"))).await;
        answer.is_problem(401, "UNAUTHENTICATED");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        for (name, value) in [
            ("authorization", "Basic YTpi"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("x-api-key", "whatever"),
        ] {
            let request = service.client.get(service.url("/api/v1/users/me"));
            assert_refused(&send(request.header(name, value)).await, value);
        }
    }

    async fn a_refused_token_is_refused_before_the_body_is_read(backend: Backend) {
        let service = Service::start(backend).await;
        let request = me(&service, Method::PATCH, "x").body("not JSON");
        assert_refused(&send(request).await, "a broken body");
    }

    async fn every_claim_of_a_token_is_verified(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__KEYS", shared_key())
            .start()
            .await;
        let user = register(&service, "ada@example.com").await.text("id");
        let good = sign(&header(), &claims(&user), SECRET);
        read_me(&service, &good).await.is(200);

        for (name, value) in [
            ("exp", json!(now() - 6)),
            ("exp", Value::Null),
            ("nbf", json!(now() + 60)),
            ("nbf", Value::Null),
            ("iss", json!("somebody-else")),
            ("iss", Value::Null),
            ("aud", json!("another-api")),
            ("aud", Value::Null),
            ("sub", json!("0199aaaa-0000-7000-8000-000000000000")),
            ("sub", Value::Null),
            ("iat", json!(now() + 60)),
            ("iat", json!(now().to_string())),
            ("iat", Value::Null),
            ("jti", Value::Null),
            ("client_id", Value::Null),
            ("role", Value::Null),
        ] {
            let mut claims = claims(&user);
            match &value {
                Value::Null => { claims.as_object_mut().unwrap().remove(name); }
                value => claims[name] = value.clone(),
            }
            let answer = read_me(&service, &sign(&header(), &claims, SECRET)).await;
            assert_refused(&answer, &format!("{name} = {value}"));
        }
        for (name, value) in [
            ("typ", json!("JWT")),
            ("kid", json!("another")),
            ("alg", json!("HS384")),
            ("alg", json!("EdDSA")),
            ("alg", json!("none")),
            ("crit", json!(["exp"])),
        ] {
            let mut header = header();
            header[name] = value.clone();
            let answer = read_me(&service, &sign(&header, &claims(&user), SECRET)).await;
            assert_refused(&answer, &format!("{name} = {value}"));
        }
        let none = BASE64URL.encode(json!({"typ": "at+jwt", "alg": "none", "kid": "shared"}).to_string());
        let payload = good.split('.').nth(1).unwrap();
        assert_refused(&read_me(&service, &format!("{none}.{payload}.")).await, "alg none, unsigned");
        assert_refused(
            &read_me(&service, &sign(&header(), &claims(&user), b"another secret of 32 bytes or more")).await,
            "another secret",
        );
        let (_, refresh) = tokens(&service, "grace@example.com").await;
        assert_refused(&read_me(&service, &refresh).await, "a refresh token");
        // One claim is changed, and the signature is kept.
        let signature = good.rsplit('.').next().unwrap();
        let mut changed = claims(&user);
        changed["exp"] = json!(now() + 6_000);
        let unsigned = sign(&header(), &changed, SECRET);
        let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
        assert_refused(&read_me(&service, &format!("{unsigned}.{signature}")).await, "tampered");
        assert!(attempts(&service, "token", "failure").await >= 25.0);
    }

    async fn a_public_key_is_not_accepted_as_shared_secret(backend: Backend) {
        let service = Service::start(backend).await;
        let user = register(&service, "ada@example.com").await.text("id");
        let jwks = send(service.client.get(service.url("/.well-known/jwks.json"))).await;
        let key = &jwks.body["keys"][0];
        let x = key["x"].as_str().unwrap();
        let mut header = header();
        header["kid"] = key["kid"].clone();
        for secret in [x.as_bytes(), &BASE64URL.decode(x).unwrap(), key.to_string().as_bytes()] {
            let token = sign(&header, &claims(&user), secret);
            assert_refused(&read_me(&service, &token).await, "the public key as HMAC secret");
        }
    }

    async fn the_role_is_read_from_the_database(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__KEYS", shared_key())
            .start()
            .await;
        let user = register(&service, "ada@example.com").await.text("id");
        // A correctly signed token that claims the role of an administrator.
        let token = sign(&header(), &claims(&user), SECRET);
        let answer = read_me(&service, &token).await;
        assert_eq!(answer.body["role"], "user");
    }

    async fn a_cached_token_is_rejected_after_its_expiry(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__ACCESS_TTL", "1s")
            .start()
            .await;
        let (access, _) = tokens(&service, "ada@example.com").await;
        let exp = part(&access, 1)["exp"].as_i64().unwrap();
        let answer = crate::support::eventually("the token expires", async || {
            let answer = read_me(&service, &access).await;
            (answer.status == 401).then_some(answer)
        })
        .await;
        assert_refused(&answer, "expired");
        assert!((exp..=exp + 5).contains(&now()), "leeway is 5 s at most");
    }
}
