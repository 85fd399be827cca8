//! The rules for tokens of outside issuers: RFC 9068, section 4, and RFC 8725.

use jsonwebtoken::{Algorithm, Header, Validation};
use request::{Credential, Principal, Role};
use serde::Deserialize;
use serde_json::{Map, Number, Value};

use super::config::Issuer;
use super::key_set::PublicKey;
use crate::access::{LEEWAY, is_access_token_type};
use crate::domain::outside_user;

/// The claims that are read. The others are for the rule of the role.
#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: Number,
    nbf: Option<Number>,
    iat: Option<Number>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A token with a valid signature and valid claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VerifiedClaims {
    pub(super) principal: Principal,
    /// `exp`, in seconds since the epoch.
    pub(super) expires_at: i64,
}

/// Reasons for the log. Clients do not get them.
pub(super) type Reason = &'static str;

/// Checks the header and returns the name of the key. The `alg` of the header selects nothing. It
/// has to be one that the key allows.
pub(super) fn check_header<'a>(issuer: &Issuer, header: &'a Header) -> Result<&'a str, Reason> {
    let has_type = match header.typ.as_deref() {
        Some(found) if is_access_token_type(found) => true,
        Some(found) => issuer.accept_plain_jwt && found.eq_ignore_ascii_case("jwt"),
        None => issuer.accept_plain_jwt,
    };
    // Extensions in `crit` are not supported, so such tokens are rejected (RFC 7515, section
    // 4.1.11).
    if !has_type || header.crit.is_some() {
        return Err("not an access token");
    }
    header.kid.as_deref().ok_or("no key id")
}

/// Verifies the signature, and the claims at the time `now`.
pub(super) fn verify(
    issuer: &Issuer,
    key: &PublicKey,
    algorithm: Algorithm,
    token: &str,
    now: i64,
) -> Result<VerifiedClaims, Reason> {
    if !key.verifies(algorithm) {
        return Err("algorithm");
    }
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[&issuer.issuer]);
    validation.set_audience(&[&issuer.audience]);
    // The times are compared here, so that they follow the service's clock.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding_key, &validation);
    let claims = claims.map_err(|error| crate::access::rejection_reason(&error))?;
    let claims = claims.claims;
    if claims.sub.is_empty() {
        return Err("no subject");
    }
    let expires_at = seconds(&claims.exp).ok_or("malformed")?;
    let mut latest_start = i64::MIN;
    for time in [&claims.nbf, &claims.iat].into_iter().flatten() {
        latest_start = latest_start.max(seconds(time).ok_or("malformed")?);
    }
    if expires_at.saturating_add(LEEWAY) <= now || latest_start.saturating_sub(LEEWAY) > now {
        return Err("expired or not yet valid");
    }
    let rule = issuer.role.as_ref();
    let principal = Principal {
        user: outside_user(&claims.iss, &claims.sub),
        role: rule.map_or(Role::User, |rule| rule.role(&claims.others)),
        // Its session, if there is one, is the provider's.
        credential: Credential::AccessToken { session: None },
    };
    Ok(VerifiedClaims {
        principal,
        expires_at,
    })
}

/// Whole seconds of a `NumericDate`, which may have a fraction (RFC 7519, section 2).
fn seconds(date: &Number) -> Option<i64> {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the conversion saturates, and the fraction has no use"
    )]
    let whole = |date: f64| date as i64;
    date.as_i64().or_else(|| date.as_f64().map(whole))
}
