//! The public keys of an issuer, as a JWK set (RFC 7517).
//!
//! Every key has the algorithms that it may verify. A token names one of them. Keys of other kinds
//! are skipped, because a provider may publish keys for other purposes in the same set.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// Limit of the keys in a set. Providers publish a handful.
const MAX_KEYS: usize = 64;
/// Shortest RSA modulus, in bytes (RFC 7518, section 3.3).
const MIN_MODULUS_BYTES: usize = 256;
/// Longest RSA modulus, in bytes. Verification of longer ones is slow.
const MAX_MODULUS_BYTES: usize = 1_024;

/// Reasons why a key set is rejected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeySetError {
    #[error("the keys are not a JWK set")]
    Syntax,
    #[error("the JWK set has more than {MAX_KEYS} keys")]
    TooMany,
}

/// The members of a JWK that select and verify. All other members are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Jwk {
    kty: String,
    kid: String,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// A key that verifies.
pub(super) struct PublicKey {
    jwk: Jwk,
    algorithms: &'static [Algorithm],
    /// The key for the library.
    pub(super) decoding_key: DecodingKey,
}

/// The usable keys of a set. It may be empty.
pub(super) struct KeySet {
    keys: Vec<PublicKey>,
}

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        let jwks = |set: &Self| {
            set.keys
                .iter()
                .map(|key| key.jwk.clone())
                .collect::<Vec<_>>()
        };
        jwks(self) == jwks(other)
    }
}

impl KeySet {
    /// Parses a JWK set.
    pub(super) fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct JwkSet {
            keys: Vec<serde_json::Value>,
        }
        let set: JwkSet = serde_json::from_slice(json).map_err(|_| KeySetError::Syntax)?;
        if set.keys.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut keys: Vec<PublicKey> = Vec::with_capacity(set.keys.len());
        for value in set.keys {
            let jwk = serde_json::from_value(value).ok();
            // Of keys with one name the first counts.
            if let Some(key) = jwk.and_then(PublicKey::from_jwk)
                && !keys.iter().any(|other| other.jwk.kid == key.jwk.kid)
            {
                keys.push(key);
            }
        }
        Ok(Self { keys })
    }

    /// The key with this `kid`.
    pub(super) fn find(&self, kid: &str) -> Option<&PublicKey> {
        self.keys.iter().find(|key| key.jwk.kid == kid)
    }

    /// Number of keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }
}

impl PublicKey {
    /// Whether the key verifies tokens with this algorithm.
    pub(super) fn verifies(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    /// `None` for a key that does not verify signatures, or not with a supported algorithm.
    fn from_jwk(jwk: Jwk) -> Option<Self> {
        let signs = jwk
            .purpose
            .as_deref()
            .is_none_or(|purpose| purpose == "sig");
        let verifies = jwk
            .key_ops
            .as_ref()
            .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if jwk.kid.is_empty() || !signs || !verifies {
            return None;
        }
        let algorithms = algorithms(&jwk)?;
        let decoding_key = decoding_key(&jwk)?;
        Some(Self {
            jwk,
            algorithms,
            decoding_key,
        })
    }
}

/// The algorithms that a key may verify: the one that it names, or those of its kind. Symmetric
/// algorithms are not among them, because a public key is no secret.
fn algorithms(jwk: &Jwk) -> Option<&'static [Algorithm]> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    const RSA: &[Algorithm] = &[RS256, RS384, RS512, PS256, PS384, PS512];
    let of_kind: &[Algorithm] = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", None) => RSA,
        ("EC", Some("P-256")) => &[ES256],
        ("EC", Some("P-384")) => &[ES384],
        ("OKP", Some("Ed25519")) => &[EdDSA],
        _ => return None,
    };
    let Some(name) = jwk.alg.as_deref() else {
        return Some(of_kind);
    };
    // RFC 9864 names the curve.
    let name = if name == "Ed25519" { "EdDSA" } else { name };
    let named: Algorithm = name.parse().ok()?;
    let position = of_kind.iter().position(|algorithm| *algorithm == named)?;
    of_kind.get(position..=position)
}

fn decoding_key(jwk: &Jwk) -> Option<DecodingKey> {
    let length = |member: &Option<String>| {
        let bytes = BASE64URL.decode(member.as_ref()?).ok()?;
        Some(bytes.len())
    };
    let (x, y) = (jwk.x.as_ref(), jwk.y.as_ref());
    let coordinate = match jwk.crv.as_deref() {
        Some("P-384") => 48,
        _ => 32,
    };
    match jwk.kty.as_str() {
        "RSA" => {
            let modulus = length(&jwk.n)?;
            // The first byte of a modulus is not zero (RFC 7518, section 6.3.1.1).
            if !(MIN_MODULUS_BYTES..=MAX_MODULUS_BYTES).contains(&modulus) {
                return None;
            }
            DecodingKey::from_rsa_components(jwk.n.as_ref()?, jwk.e.as_ref()?).ok()
        }
        "EC" if length(&jwk.x)? == coordinate && length(&jwk.y)? == coordinate => {
            DecodingKey::from_ec_components(x?, y?).ok()
        }
        "OKP" if length(&jwk.x)? == coordinate => DecodingKey::from_ed_components(x?).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
