//! Selects the issuer of a token: an outside one, or this service.

use std::sync::Arc;

use async_trait::async_trait;
use quick_cache::sync::Cache;
use request::problem::codes;
use request::{AuthError, Authenticator, Credentials, Denied, Principal, Problem};
use serde::Deserialize;

use super::provider::{Provider, Providers, Rejection, VerifiedToken};
use crate::hash::sha256;
use crate::metrics::{AttemptCounters, IdentityMetrics, Outcome, OutcomeCounters};

/// Capacity of the cache of verified tokens.
const CACHE_CAPACITY: usize = 10_000;
/// Longest token of an outside issuer that is read, in bytes. Lists of roles make them long.
const MAX_TOKEN_BYTES: usize = 8_192;

/// Authenticates tokens of outside issuers, and passes all other credentials on.
pub struct ProviderAuthenticator {
    own: Arc<dyn Authenticator>,
    providers: Providers,
    /// By the SHA-256 of the token.
    verified_tokens: Cache<[u8; 32], (Arc<Provider>, VerifiedToken)>,
    outcomes: OutcomeCounters,
}

/// The claim that selects the issuer. It is not verified yet.
#[derive(Deserialize)]
struct IssuerClaim {
    iss: String,
}

impl ProviderAuthenticator {
    /// An authenticator with an empty cache. `own` authenticates all other credentials.
    #[must_use]
    pub fn new(
        own: Arc<dyn Authenticator>,
        providers: Providers,
        metrics: &IdentityMetrics,
    ) -> Self {
        Self {
            own,
            providers,
            verified_tokens: Cache::new(CACHE_CAPACITY),
            outcomes: AttemptCounters::new(metrics).provider_token,
        }
    }

    /// The outside issuer that a token names.
    fn issuer(&self, token: &str) -> Option<&Arc<Provider>> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let claim = jsonwebtoken::dangerous::insecure_decode_claims::<IssuerClaim>(token);
        self.providers.find(&claim.ok()?.iss)
    }

    fn cached(&self, token: &str) -> Option<Principal> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let key = sha256(token.as_bytes());
        let (provider, token) = self.verified_tokens.get(&key)?;
        if provider.is_still_valid(&token) {
            return Some(token.claims.principal.clone());
        }
        self.verified_tokens.remove(&key);
        None
    }

    async fn verify(&self, provider: &Arc<Provider>, token: &str) -> Result<Principal, AuthError> {
        match provider.verify(token).await {
            Ok(verified) => {
                let key = sha256(token.as_bytes());
                let principal = verified.claims.principal.clone();
                let cached = (Arc::clone(provider), verified);
                self.verified_tokens.insert(key, cached);
                Ok(principal)
            }
            Err(Rejection::Invalid(reason)) => {
                let issuer = provider.name();
                tracing::debug!(reason, issuer, "an access token was rejected");
                Err(AuthError::Refused)
            }
            Err(Rejection::Unavailable) => Err(AuthError::Unchecked(
                Problem::new(
                    codes::IDENTITY_PROVIDER_UNAVAILABLE,
                    "The keys of the identity provider are not known; try again.",
                )
                .retry_after(provider.retry_after()),
            )),
        }
    }
}

#[async_trait]
impl Authenticator for ProviderAuthenticator {
    fn cached_principal(&self, credentials: Credentials<'_>) -> Option<Principal> {
        if let Some(principal) = self.own.cached_principal(credentials) {
            return Some(principal);
        }
        let Credentials::Bearer(token) = credentials else {
            return None;
        };
        let principal = self.cached(token)?;
        self.outcomes.count(Outcome::Success);
        Some(principal)
    }

    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Principal, AuthError> {
        let Credentials::Bearer(token) = credentials else {
            return self.own.authenticate(credentials).await;
        };
        let Some(provider) = self.issuer(token) else {
            return self.own.authenticate(credentials).await;
        };
        let result = self.verify(provider, token).await;
        self.outcomes.count(match &result {
            Ok(_) => Outcome::Success,
            Err(AuthError::Refused) => Outcome::Failure,
            Err(AuthError::Unchecked(_)) => Outcome::Error,
        });
        result
    }

    async fn record_denial(&self, principal: &Principal, reason: Denied) {
        self.own.record_denial(principal, reason).await;
    }
}
