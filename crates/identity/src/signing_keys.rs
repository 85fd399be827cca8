//! Signing keys as a JWK set (RFC 7517). The first key signs, all of them verify.
//!
//! EdDSA over Ed25519 (RFC 8037) is the default. HS256 is the alternative for a single service.
//! RS256 is left out: its keys are large, its signing is slow, and no client depends on it, because
//! all of them can verify Ed25519.

use aws_lc_rs::encoding::AsBigEndian as _;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};

/// Shortest HS256 secret, in bytes (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Reasons why a key set is rejected. No variant repeats key material.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The text is not a JWK set.
    #[error("is not a JWK set: expected {{\"keys\": [...]}} with kid, alg and private members")]
    Syntax,
    /// The set is empty, so no key could sign.
    #[error("has no key")]
    Empty,
    /// A key cannot be used.
    #[error("has an unusable key at position {position}: {reason}")]
    UnusableKey {
        /// Position in the set, starting at 1.
        position: usize,
        /// The rule that the key breaks.
        reason: &'static str,
    },
}

#[derive(Serialize, Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

/// The members of a JWK that this service reads and writes.
#[derive(Serialize, Deserialize)]
struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    alg: String,
    kid: String,
    #[serde(
        rename = "use",
        default = "signature",
        skip_serializing_if = "String::is_empty"
    )]
    purpose: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    d: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    k: Option<String>,
}

fn signature() -> String {
    "sig".to_owned()
}

/// A key that can sign and verify.
pub struct SigningKey {
    /// Name of the key in token headers.
    pub kid: String,
    /// EdDSA or HS256.
    pub algorithm: Algorithm,
    /// The key for signing.
    pub encoding_key: EncodingKey,
    /// The key for verification.
    pub decoding_key: DecodingKey,
    /// The public JWK. `None` for HS256.
    public_jwk: Option<serde_json::Value>,
}

/// A set of keys that is never empty.
pub struct SigningKeySet {
    keys: Vec<SigningKey>,
}

impl std::fmt::Debug for SigningKeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|key| &key.kid))
            .finish()
    }
}

impl SigningKeySet {
    /// Parses a JWK set with private keys.
    ///
    /// # Errors
    /// If the text is not a JWK set, or the set is empty. Also if a key is malformed, too short, of
    /// another algorithm, or has the same `kid` as another key.
    pub fn parse(json: &str) -> Result<Self, KeySetError> {
        let set: JwkSet = serde_json::from_str(json).map_err(|_| KeySetError::Syntax)?;
        let mut keys: Vec<SigningKey> = Vec::with_capacity(set.keys.len());
        for (index, jwk) in set.keys.into_iter().enumerate() {
            let key = SigningKey::from_jwk(jwk)
                .and_then(|key| {
                    if keys.iter().any(|other| other.kid == key.kid) {
                        Err("another key has the same kid")
                    } else {
                        Ok(key)
                    }
                })
                .map_err(|reason| KeySetError::UnusableKey {
                    position: index + 1,
                    reason,
                })?;
            keys.push(key);
        }
        if keys.is_empty() {
            Err(KeySetError::Empty)
        } else {
            Ok(Self { keys })
        }
    }

    /// Generates a set of one Ed25519 key, as the JSON that [`SigningKeySet::parse`] reads.
    ///
    /// # Errors
    /// If the operating system has no randomness.
    pub fn generate() -> anyhow::Result<String> {
        let pair = Ed25519KeyPair::generate().map_err(|_| anyhow::anyhow!("no randomness"))?;
        let seed = pair.seed().map_err(|_| anyhow::anyhow!("no seed"))?;
        let seed = seed.as_be_bytes().map_err(|_| anyhow::anyhow!("no seed"))?;
        let jwk = Jwk {
            kty: "OKP".to_owned(),
            crv: Some("Ed25519".to_owned()),
            alg: "EdDSA".to_owned(),
            kid: uuid::Uuid::now_v7().simple().to_string(),
            purpose: signature(),
            x: Some(BASE64URL.encode(pair.public_key())),
            d: Some(BASE64URL.encode(seed.as_ref())),
            k: None,
        };
        Ok(serde_json::to_string(&JwkSet { keys: vec![jwk] })?)
    }

    /// The key that signs.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        // `parse` rejects an empty set.
        &self.keys[0]
    }

    /// The key with this `kid`.
    #[must_use]
    pub fn find(&self, kid: &str) -> Option<&SigningKey> {
        self.keys.iter().find(|key| key.kid == kid)
    }

    /// The public keys as `/.well-known/jwks.json` serves them. The secrets of HS256 are not
    /// included.
    #[must_use]
    pub fn public_jwk_set(&self) -> serde_json::Value {
        let keys: Vec<_> = self
            .keys
            .iter()
            .filter_map(|key| key.public_jwk.clone())
            .collect();
        serde_json::json!({ "keys": keys })
    }
}

impl SigningKey {
    fn from_jwk(jwk: Jwk) -> Result<Self, &'static str> {
        if jwk.kid.is_empty() {
            return Err("kid is empty");
        }
        match (jwk.kty.as_str(), jwk.alg.as_str()) {
            ("OKP", "EdDSA") => Self::ed25519(jwk),
            ("oct", "HS256") => Self::hs256(jwk),
            _ => Err("only OKP with EdDSA and oct with HS256 are supported"),
        }
    }

    fn ed25519(jwk: Jwk) -> Result<Self, &'static str> {
        if jwk.crv.as_deref() != Some("Ed25519") {
            return Err("crv is not Ed25519");
        }
        let member = |text: Option<&String>| text.and_then(|text| BASE64URL.decode(text).ok());
        let seed = member(jwk.d.as_ref()).ok_or("d, the private key, is missing or malformed")?;
        let public = member(jwk.x.as_ref()).ok_or("x, the public key, is missing or malformed")?;
        let pair = Ed25519KeyPair::from_seed_and_public_key(&seed, &public)
            .map_err(|_| "d and x do not belong together")?;
        let der = pair
            .to_pkcs8()
            .map_err(|_| "the private key cannot be used")?;
        let x = BASE64URL.encode(pair.public_key());
        let decoding_key =
            DecodingKey::from_ed_components(&x).map_err(|_| "the public key cannot be used")?;
        let public_jwk = serde_json::json!({
            "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": jwk.kid, "x": x,
        });
        Ok(Self {
            kid: jwk.kid,
            algorithm: Algorithm::EdDSA,
            encoding_key: EncodingKey::from_ed_der(der.as_ref()),
            decoding_key,
            public_jwk: Some(public_jwk),
        })
    }

    fn hs256(jwk: Jwk) -> Result<Self, &'static str> {
        let secret = jwk
            .k
            .and_then(|text| BASE64URL.decode(text).ok())
            .ok_or("k, the secret, is missing or malformed")?;
        if secret.len() < MIN_SECRET_BYTES {
            return Err("the secret is shorter than 32 bytes");
        }
        Ok(Self {
            kid: jwk.kid,
            algorithm: Algorithm::HS256,
            encoding_key: EncodingKey::from_secret(&secret),
            decoding_key: DecodingKey::from_secret(&secret),
            public_jwk: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_set_parses_and_publishes_no_private_key() {
        let json = SigningKeySet::generate().unwrap();
        let set = SigningKeySet::parse(&json).unwrap();
        assert_eq!(set.signing_key().algorithm, Algorithm::EdDSA);
        let public = set.public_jwk_set();
        assert_eq!(public["keys"][0]["kid"], set.signing_key().kid.as_str());
        assert!(public["keys"][0].get("d").is_none());
    }

    #[test]
    fn short_duplicate_and_unsupported_keys_are_rejected() {
        let oct = |kid: &str, secret: &[u8]| {
            format!(
                r#"{{"kty":"oct","alg":"HS256","kid":"{kid}","k":"{}"}}"#,
                BASE64URL.encode(secret)
            )
        };
        let set =
            |keys: &[String]| SigningKeySet::parse(&format!(r#"{{"keys":[{}]}}"#, keys.join(",")));
        assert!(set(&[oct("a", &[1; 32])]).is_ok());
        for bad in [
            set(&[]),
            set(&[oct("a", &[1; 31])]),
            set(&[oct("", &[1; 32])]),
            set(&[oct("a", &[1; 32]), oct("a", &[2; 32])]),
            set(&[r#"{"kty":"RSA","alg":"RS256","kid":"r"}"#.to_owned()]),
            SigningKeySet::parse("secret"),
        ] {
            assert!(bad.is_err());
        }
    }

    #[test]
    fn hs256_keys_are_not_published() {
        let json = format!(
            r#"{{"keys":[{{"kty":"oct","alg":"HS256","kid":"a","k":"{}"}}]}}"#,
            BASE64URL.encode([7; 32])
        );
        let public = SigningKeySet::parse(&json).unwrap().public_jwk_set();
        assert_eq!(public, serde_json::json!({ "keys": [] }));
    }
}
