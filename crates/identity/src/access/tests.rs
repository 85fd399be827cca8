use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey};
use request::Role;
use serde_json::{Value, json};
use settings::clock::Clock;
use settings::{Layers, RawValue, Reader, SecretSource, Setting as _};

use super::*;
use crate::signing_keys::SigningKeySet;

/// A clock that shows the time set by the test.
pub(crate) struct FixedClock(AtomicI64);

impl FixedClock {
    pub(crate) fn at(seconds: i64) -> Self {
        Self(AtomicI64::new(seconds))
    }

    pub(crate) fn set(&self, seconds: i64) {
        self.0.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for FixedClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(self.0.load(Ordering::Relaxed)).unwrap()
    }
}

pub(crate) const NOW: i64 = 1_800_000_000;
const ADMIN_CLAIMS: AuthorizationClaims = claims_of(Role::Admin);
pub(crate) const USER_CLAIMS: AuthorizationClaims = claims_of(Role::User);

const fn claims_of(role: Role) -> AuthorizationClaims {
    AuthorizationClaims { role, epoch: 3 }
}

pub(crate) const USER: Uuid = Uuid::from_u128(7);
pub(crate) const SESSION: Uuid = Uuid::from_u128(9);

pub(crate) fn tokens(keys: &str) -> (AccessTokens, Arc<FixedClock>) {
    let mut config = Config::read(&mut Reader::new(Layers::default()));
    config.keys = Some(SecretSource::parse(&RawValue::text(keys)).unwrap());
    config.issuer = "issuer".to_owned();
    config.audience = "audience".to_owned();
    let clock = Arc::new(FixedClock(AtomicI64::new(NOW)));
    let keyring = Keyring::new(&config).unwrap();
    (AccessTokens::new(&config, keyring, clock.clone()), clock)
}

fn decoded_part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).unwrap();
    serde_json::from_slice(&BASE64URL.decode(part).unwrap()).unwrap()
}

fn hs256(secret: &[u8]) -> String {
    let k = BASE64URL.encode(secret);
    json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "shared", "k": k}]}).to_string()
}

#[test]
fn a_token_has_the_shape_of_rfc_9068() {
    for keys in [SigningKeySet::generate().unwrap(), hs256(&[1; 32])] {
        let (tokens, _) = tokens(&keys);
        let token = tokens.sign(USER, SESSION, ADMIN_CLAIMS).unwrap();
        let header = decoded_part(&token, 0);
        assert_eq!(header["typ"], "at+jwt");
        assert_eq!(
            header["kid"],
            tokens.keyring.current().keys.signing_key().kid
        );
        let claims = decoded_part(&token, 1);
        assert_eq!(claims["iss"], "issuer");
        assert_eq!(claims["aud"], "audience");
        assert_eq!(claims["sub"], USER.to_string());
        assert_eq!(claims["role"], "admin");
        assert_eq!(claims["sid"], SESSION.to_string());
        assert_eq!(claims["token_epoch"], 3);
        assert_eq!(claims["iat"], NOW);
        assert_eq!(claims["nbf"], NOW);
        assert_eq!(claims["exp"], NOW + 15 * 60);
        assert!(claims["jti"].is_string() && claims["client_id"].is_string());
        let verified = tokens.verify(&token).unwrap();
        assert_eq!((verified.user, verified.epoch), (USER, 3));
    }
}

#[test]
fn times_are_compared_with_the_leeway() {
    let (tokens, clock) = tokens(&SigningKeySet::generate().unwrap());
    let token = tokens.sign(USER, SESSION, USER_CLAIMS).unwrap();
    let verified = tokens.verify(&token).unwrap();
    for (offset, valid) in [
        (-LEEWAY - 1, false),
        (-LEEWAY, true),
        (899, true),
        (900 + LEEWAY - 1, true),
        (900 + LEEWAY, false),
    ] {
        clock.set(NOW + offset);
        assert_eq!(tokens.verify(&token).is_ok(), valid, "{offset}");
    }
    clock.set(NOW + 899);
    assert!(tokens.is_still_valid(&verified));
    clock.set(NOW + 900);
    assert!(!tokens.is_still_valid(&verified), "valid after exp");
}

#[test]
fn a_token_verified_with_replaced_keys_is_no_longer_valid() {
    let (tokens, _) = tokens(&SigningKeySet::generate().unwrap());
    let token = tokens.sign(USER, SESSION, USER_CLAIMS).unwrap();
    let verified = tokens.verify(&token).unwrap();
    let keys = SigningKeySet::parse(&SigningKeySet::generate().unwrap()).unwrap();
    tokens.keyring.replace(keys);
    assert!(!tokens.is_still_valid(&verified));
    assert_eq!(tokens.verify(&token), Err(InvalidToken));
}

/// Signs `claims` under `header` with an HS256 secret.
fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let encode = |value: &Value| BASE64URL.encode(value.to_string());
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(secret);
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

fn claims() -> Value {
    json!({
        "iss": "issuer", "aud": "audience", "exp": NOW + 60, "nbf": NOW, "iat": NOW,
        "sub": USER, "jti": USER, "client_id": "c", "role": "admin",
    })
}

#[test]
fn every_verified_claim_is_required_and_compared() {
    let (tokens, _) = tokens(&hs256(&[1; 32]));
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": "shared"});
    let verified = tokens.verify(&forge(&header, &claims(), &[1; 32])).unwrap();
    assert_eq!(verified.epoch, 0, "of a release without epochs");
    for missing in [
        "iss",
        "aud",
        "exp",
        "nbf",
        "iat",
        "sub",
        "jti",
        "client_id",
        "role",
    ] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        let token = forge(&header, &claims, &[1; 32]);
        assert_eq!(tokens.verify(&token), Err(InvalidToken), "{missing}");
    }
    for (name, value) in [
        ("iss", json!("other")),
        ("aud", json!("other")),
        ("aud", json!(["other", "another"])),
        ("exp", json!(NOW - LEEWAY)),
        ("exp", json!("never")),
        ("exp", json!((NOW + 60).to_string())),
        ("nbf", json!(NOW + LEEWAY + 1)),
        ("nbf", json!(NOW.to_string())),
        ("iat", json!(NOW + LEEWAY + 1)),
        ("iat", json!(NOW.to_string())),
        ("sub", json!("ada")),
        ("jti", json!("")),
        ("jti", json!(7)),
        ("client_id", json!("")),
        ("client_id", json!(["c"])),
        ("role", json!("")),
        ("role", Value::Null),
    ] {
        let mut claims = claims();
        claims[name] = value;
        let token = forge(&header, &claims, &[1; 32]);
        assert_eq!(tokens.verify(&token), Err(InvalidToken), "{name}");
    }
}

#[test]
fn the_header_chooses_neither_type_nor_algorithm_nor_key() {
    let (tokens, _) = tokens(&hs256(&[1; 32]));
    for header in [
        json!({"alg": "HS256", "typ": "JWT", "kid": "shared"}),
        json!({"alg": "HS256", "kid": "shared"}),
        json!({"alg": "HS256", "typ": "at+jwt"}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "other"}),
        json!({"alg": "HS512", "typ": "at+jwt", "kid": "shared"}),
        json!({"alg": "none", "typ": "at+jwt", "kid": "shared"}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "shared", "crit": ["exp"]}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "shared", "crit": []}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": "shared", "crit": ["b64"], "b64": false}),
        json!({"alg": "hs256", "typ": "at+jwt", "kid": "shared"}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": 7}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": ""}),
    ] {
        let token = forge(&header, &claims(), &[1; 32]);
        assert_eq!(tokens.verify(&token), Err(InvalidToken), "{header}");
    }
    let good = json!({"alg": "HS256", "typ": "at+jwt", "kid": "shared"});
    let foreign = forge(&good, &claims(), &[2; 32]);
    assert_eq!(tokens.verify(&foreign), Err(InvalidToken));
    let (head, _) = foreign.rsplit_once('.').unwrap();
    for token in [head, &format!("{head}."), "", "a.b.c", "...."] {
        assert_eq!(tokens.verify(token), Err(InvalidToken), "{token}");
    }
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let keys = SigningKeySet::generate().unwrap();
    let (tokens, _) = tokens(&keys);
    let public = tokens.keyring.current().keys.public_jwk_set();
    let kid = public["keys"][0]["kid"].clone();
    let x = public["keys"][0]["x"].as_str().unwrap();
    let header = json!({"alg": "HS256", "typ": "at+jwt", "kid": kid});
    for secret in [x.as_bytes(), &BASE64URL.decode(x).unwrap()] {
        let token = forge(&header, &claims(), secret);
        assert_eq!(tokens.verify(&token), Err(InvalidToken));
    }
}
