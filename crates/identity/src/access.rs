//! Access tokens: JWTs in the shape of RFC 9068.

use std::time::Duration;

use jsonwebtoken::{Header, Validation};
use serde::{Deserialize, Serialize};
use settings::clock::{SharedClock, new_id};
use time::OffsetDateTime;
use uuid::Uuid;

use super::keyring::Keyring;
use super::store::AuthorizationClaims;
use crate::Config;

/// Tolerated difference between the clocks of issuer and service, in seconds. The contract allows 5 s.
pub(crate) const LEEWAY: i64 = 2;
/// Media type of access tokens (RFC 9068, section 2.1).
const TOKEN_TYPE: &str = "at+jwt";
/// `client_id` of tokens from `/auth/login`. All clients of the service share it.
const CLIENT_ID: &str = "first-party";

/// Signs and verifies access tokens.
#[derive(Clone)]
pub struct AccessTokens {
    keyring: Keyring,
    issuer: String,
    audience: String,
    ttl: Duration,
    clock: SharedClock,
}

/// Claims of a token: those of RFC 9068, section 2.2, the role, the session, and the user's token
/// epoch.
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
    /// The session, in the claim that `OpenID` Connect Front-Channel Logout 1.0 defines.
    sid: Uuid,
    token_epoch: i64,
}

/// Claims that verification reads. All but session and epoch are required (RFC 9068, section 2.2, where
/// `nbf` and `role` are additions of this service). The library compares issuer and audience. The
/// times are compared here, so that they follow the service's clock. They are whole seconds.
#[derive(Deserialize)]
struct DecodedClaims {
    exp: i64,
    nbf: i64,
    iat: i64,
    sub: Uuid,
    jti: String,
    client_id: String,
    role: String,
    /// Missing in tokens of releases that had no sessions.
    #[serde(default)]
    sid: Option<Uuid>,
    /// Missing in tokens of releases that had no epochs.
    #[serde(default)]
    token_epoch: i64,
}

/// A token with a valid signature and valid claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The user of the token.
    pub user: Uuid,
    /// The session of the token.
    pub session: Option<Uuid>,
    /// `exp`, in seconds since the epoch.
    pub expires_at: i64,
    /// Token epoch of the user at the time of signing.
    pub epoch: i64,
    /// Number of the key generation that verified the token.
    pub key_generation: u64,
}

/// The token was not issued by this service, or is not valid now. Clients do not get the reason.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the access token is not valid")]
pub struct InvalidToken;

/// Logs the reason at debug, because the client does not get it. The reason is a constant, because
/// an error of the parser may repeat parts of the token.
fn invalid(reason: &'static str) -> InvalidToken {
    tracing::debug!(reason, "an access token was rejected");
    InvalidToken
}

pub(crate) fn rejection_reason(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::InvalidIssuer => "issuer",
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::InvalidAlgorithm => "algorithm",
        ErrorKind::MissingRequiredClaim(_) => "missing claim",
        _ => "malformed",
    }
}

/// Whether a `typ` is that of access tokens (RFC 9068, section 2.1).
pub(crate) fn is_access_token_type(found: &str) -> bool {
    let found = found.to_ascii_lowercase();
    found == TOKEN_TYPE || found.strip_prefix("application/") == Some(TOKEN_TYPE)
}

impl AccessTokens {
    /// Access tokens with the issuer, audience and lifetime of the configuration.
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

    /// The keys that sign and verify.
    #[must_use]
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Lifetime of a token.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Signs a token.
    ///
    /// # Errors
    /// If the key cannot sign, which is a defect.
    pub fn sign(
        &self,
        user: Uuid,
        session: Uuid,
        authorization: AuthorizationClaims,
    ) -> jsonwebtoken::errors::Result<String> {
        let now = self.clock.now().unix_timestamp();
        let generation = self.keyring.current();
        let key = generation.keys.signing_key();
        let header = Header {
            typ: Some(TOKEN_TYPE.to_owned()),
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
            client_id: CLIENT_ID,
            role: authorization.role.as_str(),
            sid: session,
            token_epoch: authorization.epoch,
        };
        jsonwebtoken::encode(&header, &claims, &key.encoding_key)
    }

    /// Verifies signature, type, issuer, audience and times.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn verify(&self, token: &str) -> Result<VerifiedToken, InvalidToken> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| invalid("malformed"))?;
        // Other JWTs of this issuer are not accepted as access tokens (RFC 9068, section 4).
        // Extensions in `crit` are not supported, so such tokens are rejected (RFC 7515, section
        // 4.1.11).
        let is_access_token = header.typ.as_deref().is_some_and(is_access_token_type);
        if !is_access_token || header.crit.is_some() {
            return Err(invalid("not an access token"));
        }
        let generation = self.keyring.current();
        // The `kid` selects the key, and the key has one algorithm. The `alg` of the header selects
        // nothing.
        let key = header
            .kid
            .as_deref()
            .and_then(|kid| generation.keys.find(kid))
            .ok_or_else(|| invalid("unknown key"))?;
        let mut validation = Validation::new(key.algorithm);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.validate_exp = false;
        validation.validate_nbf = false;
        let claims = jsonwebtoken::decode::<DecodedClaims>(token, &key.decoding_key, &validation)
            .map_err(|error| invalid(rejection_reason(&error)))?
            .claims;
        if [&claims.jti, &claims.client_id, &claims.role]
            .iter()
            .any(|claim| claim.is_empty())
        {
            return Err(invalid("empty claim"));
        }
        let now = self.clock.now().unix_timestamp();
        let latest_start = claims.nbf.max(claims.iat);
        if claims.exp.saturating_add(LEEWAY) <= now || latest_start.saturating_sub(LEEWAY) > now {
            return Err(invalid("expired or not yet valid"));
        }
        Ok(VerifiedToken {
            user: claims.sub,
            session: claims.sid,
            expires_at: claims.exp,
            epoch: claims.token_epoch,
            key_generation: generation.number,
        })
    }

    /// Whether a token that was verified earlier is still valid: it has not expired and the keys
    /// are the same.
    #[must_use]
    pub fn is_still_valid(&self, token: &VerifiedToken) -> bool {
        token.expires_at > self.now().unix_timestamp()
            && token.key_generation == self.keyring.current().number
    }

    /// The time of the service's clock.
    pub(crate) fn now(&self) -> OffsetDateTime {
        self.clock.now()
    }
}

#[cfg(test)]
pub(crate) mod tests;
