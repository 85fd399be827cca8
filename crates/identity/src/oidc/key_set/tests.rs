use serde_json::{Value, json};

use super::*;
use crate::oidc::tests::keys::TestKey;

/// The algorithms of the key with these members.
fn algorithms(jwk: &Value) -> Option<&'static [Algorithm]> {
    let set = KeySet::parse(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    set.find("one").map(|key| key.algorithms)
}

fn with(key: &TestKey, name: &str, value: Value) -> Value {
    let mut jwk = key.jwk("one");
    jwk[name] = value;
    jwk
}

#[test]
fn a_key_verifies_the_algorithms_of_its_kind_or_the_one_that_it_names() {
    let [rsa, ec, ed] = TestKey::all();
    assert_eq!(algorithms(&rsa.jwk("one")).unwrap().len(), 6);
    for (key, name, algorithm) in [
        (&rsa, "RS256", Algorithm::RS256),
        (&rsa, "PS512", Algorithm::PS512),
        (&ec, "ES256", Algorithm::ES256),
        (&ed, "EdDSA", Algorithm::EdDSA),
        (&ed, "Ed25519", Algorithm::EdDSA),
    ] {
        let named = algorithms(&with(key, "alg", json!(name)));
        assert_eq!(named, Some(&[algorithm][..]), "{name}");
    }
    assert_eq!(algorithms(&ec.jwk("one")), Some(&[Algorithm::ES256][..]));
}

#[test]
fn other_keys_are_skipped() {
    let [rsa, ec, ed] = TestKey::all();
    let short = BASE64URL.encode([0xff; 128]);
    let long = BASE64URL.encode(vec![0xff; 2_048]);
    for jwk in [
        json!({"kty": "oct", "kid": "one", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "alg": "HS256"}),
        json!({"kty": "oct", "kid": "one", "k": "c2VjcmV0"}),
        with(&rsa, "alg", json!("HS256")),
        with(&rsa, "alg", json!("ES256")),
        with(&rsa, "alg", json!("RSA-OAEP")),
        with(&rsa, "alg", json!("none")),
        with(&rsa, "use", json!("enc")),
        with(&rsa, "key_ops", json!(["encrypt"])),
        with(&rsa, "n", json!(short)),
        with(&rsa, "n", json!(long)),
        with(&rsa, "n", json!("%")),
        with(&rsa, "kid", json!("")),
        with(&rsa, "kid", Value::Null),
        with(&rsa, "kid", json!(1)),
        with(&ec, "crv", json!("P-384")),
        with(&ec, "crv", json!("secp256k1")),
        with(&ec, "y", Value::Null),
        with(&ed, "crv", json!("X25519")),
        with(&ed, "x", json!("AAAA")),
        json!("one"),
    ] {
        assert_eq!(algorithms(&jwk), None, "{jwk}");
        // The others of the set stay usable.
        let keys = json!({"keys": [jwk, ec.jwk("two")]}).to_string();
        let set = KeySet::parse(keys.as_bytes()).unwrap();
        assert!(set.find("two").is_some() && set.len() == 1, "{jwk}");
    }
}

#[test]
fn of_keys_with_one_name_the_first_counts() {
    let [rsa, ec, _] = TestKey::all();
    let keys = json!({"keys": [ec.jwk("one"), rsa.jwk("one")]}).to_string();
    let set = KeySet::parse(keys.as_bytes()).unwrap();
    assert_eq!(set.len(), 1);
    assert!(set.find("one").unwrap().verifies(Algorithm::ES256));
}

#[test]
fn the_number_of_keys_is_limited() {
    let [_, ec, _] = TestKey::all();
    let parse = |count: usize| {
        let keys: Vec<_> = (0..count).map(|n| ec.jwk(&n.to_string())).collect();
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes()).map(|set| set.len())
    };
    assert_eq!(parse(0), Ok(0));
    assert_eq!(parse(64), Ok(64));
    assert_eq!(parse(65), Err(KeySetError::TooMany));
}
