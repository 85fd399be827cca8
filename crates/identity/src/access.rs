//! Access tokens: JWTs in the shape of RFC 9068.

use std::time::Duration;

use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use settings::clock::{SharedClock, new_id};
use time::OffsetDateTime;
use uuid::Uuid;

use super::keyring::Keyring;
use super::store::Access;
use crate::Config;

/// How far the clocks of two replicas may differ (the contract allows 5 s).
const LEEWAY: i64 = 2;
/// Media type of access tokens (RFC 9068, section 2.1).
const TYPE: &str = "at+jwt";
/// `client_id` of tokens from `/auth/login`: the service's own clients.
const CLIENT: &str = "first-party";

/// Signs and verifies access tokens.
#[derive(Clone)]
pub struct AccessTokens {
    keyring: Keyring,
    issuer: String,
    audience: String,
    ttl: Duration,
    clock: SharedClock,
}

/// What a token says (RFC 9068, section 2.2), the role, and the user's token epoch.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    exp: i64,
    nbf: i64,
    iat: i64,
    sub: Uuid,
    jti: Uuid,
    client_id: &'a str,
    role: &'a str,
    token_epoch: i64,
}

/// What verification reads. All but the epoch is required; issuer and audience are
/// compared by the library, times by us, so that they follow our clock.
#[derive(Deserialize)]
struct Verifiable {
    exp: i64,
    nbf: i64,
    sub: Uuid,
    /// Releases before there were epochs signed none.
    #[serde(default)]
    token_epoch: i64,
}

/// A token whose signature and claims hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedToken {
    /// Whose it is.
    pub user: Uuid,
    /// `exp`, in seconds since the epoch.
    pub expires_at: i64,
    /// The user's token epoch when it was signed.
    pub epoch: i64,
    /// Under which keys it was verified.
    pub generation: u64,
}

/// The token is not one of ours, or not valid now; why is nobody's business.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the token was refused")]
pub struct TokenRefused;

/// Tells at debug what the client does not hear. The reason is constant: an error of the
/// parser may repeat what stands in the token.
fn refused(reason: &'static str) -> TokenRefused {
    tracing::debug!(reason, "an access token is refused");
    TokenRefused
}

fn reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::InvalidIssuer => "issuer",
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::InvalidAlgorithm => "algorithm",
        ErrorKind::MissingRequiredClaim(_) => "a claim is missing",
        _ => "malformed",
    }
}

impl AccessTokens {
    /// Tokens as the configuration wants them.
    #[must_use]
    pub fn new(config: &Config, keyring: Keyring, clock: SharedClock) -> Self {
        Self {
            keyring,
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            ttl: config.access_ttl,
            clock,
        }
    }

    /// The keys.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Life of a token.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Signs a token.
    ///
    /// # Errors
    /// When the key cannot sign: a defect.
    pub fn sign(&self, user: Uuid, access: Access) -> jsonwebtoken::errors::Result<String> {
        let now = self.clock.now().unix_timestamp();
        let generation = self.keyring.present();
        let key = generation.keys.signing();
        let header = Header {
            typ: Some(TYPE.to_owned()),
            kid: Some(key.kid.clone()),
            ..Header::new(key.algorithm)
        };
        let ttl = i64::try_from(self.ttl.as_secs().max(1)).unwrap_or(i64::MAX);
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            exp: now.saturating_add(ttl),
            nbf: now,
            iat: now,
            sub: user,
            jti: new_id(),
            client_id: CLIENT,
            role: access.role.as_str(),
            token_epoch: access.epoch,
        };
        jsonwebtoken::encode(&header, &claims, &key.encoding)
    }

    /// Verifies signature, type, issuer, audience and times.
    ///
    /// # Errors
    /// [`TokenRefused`].
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, TokenRefused> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("malformed"))?;
        // No other JWT of this issuer passes for an access token (RFC 9068, section
        // 4), and no extension that we would not honour (RFC 7515, section 4.1.11).
        let is_access_token = header.typ.as_deref().is_some_and(|found| {
            let found = found.to_ascii_lowercase();
            found == TYPE || found.strip_prefix("application/") == Some(TYPE)
        });
        if !is_access_token || header.crit.is_some() {
            return Err(refused("no access token"));
        }
        let generation = self.keyring.present();
        // The kid names the key, and the key its one algorithm: the header's `alg`
        // chooses nothing.
        let key = header
            .kid
            .as_deref()
            .and_then(|kid| generation.keys.find(kid))
            .ok_or_else(|| refused("unknown key"))?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<Verifiable>(token, &key.decoding, &validation)
            .map_err(|error| refused(reason(&error)))?
            .claims;
        let now = self.clock.now().unix_timestamp();
        if claims.exp.saturating_add(LEEWAY) <= now || claims.nbf.saturating_sub(LEEWAY) > now {
            return Err(refused("expired or not yet valid"));
        }
        Ok(VerifiedToken {
            user: claims.sub,
            expires_at: claims.exp,
            epoch: claims.token_epoch,
            generation: generation.number,
        })
    }

    /// Whether a token that was verified before still is: its time has not come
    /// and the keys are the same.
    #[must_use]
    pub fn still_holds(&self, token: &VerifiedToken) -> bool {
        token.expires_at > self.now().unix_timestamp()
            && token.generation == self.keyring.present().number
    }

    fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }
}

#[cfg(test)]
pub(super) mod tests;
