//! Keys of tests that sign tokens.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, EncodingKey, crypto};
use serde_json::{Value, json};

pub(crate) enum TestKey {
    Rsa(Box<RsaKeyPair>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl TestKey {
    pub(crate) fn rsa() -> Self {
        Self::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()))
    }

    pub(crate) fn all() -> [Self; 3] {
        let ec = EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let ed = Ed25519KeyPair::generate();
        [Self::rsa(), Self::Ec(ec.unwrap()), Self::Ed(ed.unwrap())]
    }

    pub(crate) fn algorithms(&self) -> &'static [&'static str] {
        match self {
            Self::Rsa(_) => &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"],
            Self::Ec(_) => &["ES256"],
            Self::Ed(_) => &["EdDSA"],
        }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        self.algorithms()[0]
    }

    /// The public key without `alg`.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| BASE64URL.encode(bytes);
        match self {
            Self::Rsa(pair) => {
                let key = pair.public_key();
                let n = text(key.modulus().big_endian_without_leading_zero());
                let e = text(key.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": n, "e": e})
            }
            Self::Ec(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": text(x), "y": text(y)})
            }
            Self::Ed(pair) => {
                let x = text(pair.public_key().as_ref());
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x})
            }
        }
    }

    /// Bytes of the public key that an attacker could take for a secret.
    pub(crate) fn public_forms(&self) -> Vec<Vec<u8>> {
        let key = match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::Ec(pair) => pair.public_key().as_ref(),
            Self::Ed(pair) => pair.public_key().as_ref(),
        };
        let jwk = self.jwk("one");
        let text = jwk.get("n").or(jwk.get("x")).unwrap().as_str().unwrap();
        let decoded = BASE64URL.decode(text).unwrap();
        vec![
            key.to_vec(),
            decoded,
            text.as_bytes().to_vec(),
            jwk.to_string().into_bytes(),
            Vec::new(),
        ]
    }

    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let random = SystemRandom::new();
        let signature = match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let encoding = rsa_encoding(header["alg"].as_str().unwrap());
                let signed = pair.sign(encoding, &random, message.as_bytes(), &mut signature);
                signed.unwrap();
                signature
            }
            Self::Ec(pair) => {
                let signature = pair.sign(&random, message.as_bytes()).unwrap();
                signature.as_ref().to_vec()
            }
            Self::Ed(pair) => pair.sign(message.as_bytes()).as_ref().to_vec(),
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }
}

fn rsa_encoding(algorithm: &str) -> &'static dyn RsaEncoding {
    match algorithm {
        "RS384" => &signature::RSA_PKCS1_SHA384,
        "RS512" => &signature::RSA_PKCS1_SHA512,
        "PS256" => &signature::RSA_PSS_SHA256,
        "PS384" => &signature::RSA_PSS_SHA384,
        "PS512" => &signature::RSA_PSS_SHA512,
        _ => &signature::RSA_PKCS1_SHA256,
    }
}

fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| BASE64URL.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// A token with an empty signature.
pub(crate) fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.", message(header, claims))
}

/// A token that is signed with the HMAC algorithm of its header.
pub(crate) fn sign_with_secret(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let message = message(header, claims);
    let algorithm: Algorithm = header["alg"].as_str().unwrap().parse().unwrap();
    let key = EncodingKey::from_secret(secret);
    let signature = crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}
