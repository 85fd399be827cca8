//! Operations of the slice, independent of HTTP: register, log in, refresh, log out, the operations
//! of users on their own account, sessions and API keys, and those of administrators on any account.

mod administration;
mod api_keys;
mod audit;
mod own_user;
mod registration;
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use db::DbError;
use prometheus::IntCounter;
use request::Scope;
use secrecy::{ExposeSecret as _, SecretString};
use settings::clock::{SharedClock, new_id};
use uuid::Uuid;

use super::access::AccessTokens;
use super::audit::{Action, AuditContext};
use super::authenticator::TokenAuthenticator;
use super::domain::{BreachedPasswords, Email, Password, SessionOrigin};
use super::error::IdentityError;
use super::hash::sha256;
use super::metrics::{AttemptCounters, CacheMisses, HashMetrics, IdentityMetrics, Outcome};
use super::password::{PasswordHasher, PasswordVerification};
use super::store::{
    AuthorizationClaims, CLEANUP_BATCH, IdentityStore, NewTokenFamily, RefreshTokenHash,
    RotationOutcome, RotationRequest,
};
use super::throttle::{LoginAccount, PasswordThrottle};
use crate::Config;

/// Length of a refresh token in bytes. 256 bits are more than RFC 6749, section 10.10, asks for.
const REFRESH_TOKEN_BYTES: usize = 32;

/// The identity service.
pub struct Service {
    store: Arc<dyn IdentityStore>,
    hasher: PasswordHasher,
    throttle: PasswordThrottle,
    access_tokens: AccessTokens,
    authenticator: Arc<TokenAuthenticator>,
    attempts: AttemptCounters,
    clock: SharedClock,
    displaced_sessions: IntCounter,
    refresh_ttl: Duration,
    refresh_grace: Duration,
    session_max_age: Duration,
    max_sessions: u32,
    browser_sessions: bool,
    audit_retention: Duration,
    breached_passwords: BreachedPasswords,
    scopes: Vec<Scope>,
    api_keys: ApiKeyRules,
}

/// Rules for new API keys, from the configuration.
struct ApiKeyRules {
    prefix: String,
    ttl: Duration,
    max_keys: u32,
}

/// A pair of tokens for a client.
pub struct TokenPair {
    /// For `Authorization: Bearer`.
    pub access_token: SecretString,
    /// Lifetime of the access token.
    pub expires_in: Duration,
    /// For the next refresh.
    pub refresh_token: SecretString,
    /// Lifetime of the refresh token if it is not used.
    pub refresh_expires_in: Duration,
}

fn outcome<T>(result: &Result<T, IdentityError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(IdentityError::RefreshTokenRotated) => Outcome::Rotated,
        Err(IdentityError::RateLimited(_)) => Outcome::Limited,
        Err(IdentityError::Overloaded) => Outcome::Overloaded,
        Err(IdentityError::Database(_) | IdentityError::Defect(_)) => Outcome::Error,
        Err(_) => Outcome::Failure,
    }
}

impl Service {
    /// A service over a store. `scopes` are the scopes that API keys can have.
    #[must_use]
    pub fn new(
        config: &Config,
        store: Arc<dyn IdentityStore>,
        access_tokens: AccessTokens,
        metrics: &IdentityMetrics,
        throttle: PasswordThrottle,
        scopes: Vec<Scope>,
        clock: SharedClock,
    ) -> Self {
        let attempts = AttemptCounters::new(metrics);
        let authenticator = TokenAuthenticator::new(
            access_tokens.clone(),
            Arc::clone(&store),
            &attempts,
            CacheMisses::new(metrics),
        );
        Self {
            store,
            hasher: PasswordHasher::new(config, HashMetrics::new(metrics)),
            throttle,
            access_tokens,
            authenticator: Arc::new(authenticator),
            attempts,
            clock,
            refresh_ttl: config.refresh_ttl,
            refresh_grace: config.refresh_grace,
            session_max_age: config.session_max_age,
            max_sessions: config.max_sessions,
            browser_sessions: config.browser_sessions,
            audit_retention: config.audit_retention,
            // Reading the configuration has reported a file that cannot be read.
            breached_passwords: config.breached_passwords().unwrap_or_default(),
            scopes,
            api_keys: ApiKeyRules {
                prefix: config.api_key_prefix.clone(),
                ttl: config.api_key_ttl,
                max_keys: config.max_api_keys,
            },
            displaced_sessions: metrics.displaced_sessions.clone(),
        }
    }

    /// The authenticator for the layer that authenticates requests.
    #[must_use]
    pub fn authenticator(&self) -> Arc<TokenAuthenticator> {
        Arc::clone(&self.authenticator)
    }

    /// Whether browsers can log in with cookies.
    #[must_use]
    pub fn browser_sessions(&self) -> bool {
        self.browser_sessions
    }

    /// The public keys, as a JWK set.
    #[must_use]
    pub fn public_keys(&self) -> serde_json::Value {
        self.access_tokens.keyring().current().keys.public_jwk_set()
    }

    /// Removes expired refresh tokens and returns their number. Also removes expired sessions, API
    /// keys and audit events.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn remove_expired_tokens(&self) -> Result<u64, DbError> {
        let now = self.clock.now();
        let removed = self.store.remove_expired_tokens(now).await?;
        let before = now - self.audit_retention;
        while !workers::stopping() {
            let events = self.store.expire_audit_events(before, now).await?;
            if events < u64::from(CLEANUP_BATCH) {
                break;
            }
        }
        Ok(removed)
    }

    /// Logs in and creates a family of refresh tokens. `emails` are the possible forms of one
    /// address. The first form that belongs to a user counts. Without any form, the login takes as
    /// long as one with an unknown address and gets the same answer.
    ///
    /// # Errors
    /// [`IdentityError::InvalidCredentials`], [`IdentityError::RateLimited`],
    /// [`IdentityError::Overloaded`], or a failure.
    pub async fn login(
        &self,
        emails: impl Iterator<Item = Email> + Send,
        password: Password,
        origin: SessionOrigin,
    ) -> Result<TokenPair, IdentityError> {
        let result = self.log_in(emails, password, origin).await;
        self.attempts.login.count(outcome(&result));
        result
    }

    async fn log_in(
        &self,
        emails: impl Iterator<Item = Email> + Send,
        password: Password,
        origin: SessionOrigin,
    ) -> Result<TokenPair, IdentityError> {
        let (mut credentials, mut unknown) = (None, None);
        for email in emails {
            credentials = self.store.credentials(&email).await?;
            if credentials.is_some() {
                break;
            }
            // A login counts as one attempt, even if its address has two forms.
            unknown.get_or_insert(email);
        }
        let account = match (&credentials, &unknown) {
            (Some(credentials), _) => Some(LoginAccount::Known(credentials.user)),
            (None, Some(email)) => Some(LoginAccount::Unknown(email)),
            (None, None) => None,
        };
        let permit = match account {
            Some(account) => Some(self.throttle.login(account).await?),
            None => None,
        };
        let known = credentials.as_ref().map(|credentials| credentials.user);
        let hash = credentials
            .as_ref()
            .map(|stored| stored.password_hash.clone());
        let verification = self.hasher.verify(password, hash).await?;
        let (Some(credentials), PasswordVerification::Right { upgraded_hash }) =
            (credentials, verification)
        else {
            let event = self.audit_event(Action::LoggedIn);
            let subject = known.map_or(event.clone(), |user| event.subject(user));
            self.audit_refusal(subject).await?;
            return Err(IdentityError::InvalidCredentials);
        };
        if let Some(permit) = permit {
            permit.succeeded();
        }
        let now = self.clock.now();
        let (refresh_token, token_hash) = new_refresh_token()?;
        let session = new_id();
        let family = NewTokenFamily {
            id: session,
            user: credentials.user,
            verified_hash: credentials.password_hash,
            upgraded_hash,
            origin,
            max_sessions: self.max_sessions,
            token: token_hash,
            expires_at: now + self.refresh_ttl.min(self.session_max_age),
            now,
        };
        let audit = AuditContext::current();
        let displaced = self.store.create_token_family(family, &audit).await?;
        let displaced = displaced.ok_or(IdentityError::InvalidCredentials)?;
        self.displaced_sessions.inc_by(displaced);
        self.token_pair(credentials.user, session, credentials.claims, refresh_token)
    }

    /// Rotates a refresh token.
    ///
    /// # Errors
    /// [`IdentityError::InvalidRefreshToken`], [`IdentityError::RefreshTokenRotated`], or a failure.
    pub async fn refresh(
        &self,
        refresh_token: &SecretString,
        origin: SessionOrigin,
    ) -> Result<TokenPair, IdentityError> {
        let (result, outcome) = match self.rotate(refresh_token, origin).await {
            Ok((RotationOutcome::Reused { user, family }, _)) => {
                tracing::warn!(
                    %user,
                    %family,
                    "a refresh token was reused after its rotation; its family was revoked"
                );
                self.authenticator.evict_session(family);
                (Err(IdentityError::InvalidRefreshToken), Outcome::Reused)
            }
            Ok((
                RotationOutcome::Rotated {
                    user,
                    family,
                    claims,
                },
                successor,
            )) => {
                let result = self.token_pair(user, family, claims, successor);
                let outcome = outcome(&result);
                (result, outcome)
            }
            Ok((RotationOutcome::WithinGrace, _)) => {
                (Err(IdentityError::RefreshTokenRotated), Outcome::Rotated)
            }
            Ok((RotationOutcome::Invalid, _)) => {
                let event = self.audit_event(Action::SessionRefreshed);
                self.audit_refusal(event).await?;
                (Err(IdentityError::InvalidRefreshToken), Outcome::Failure)
            }
            Err(error) => (Err(error), Outcome::Error),
        };
        self.attempts.refresh.count(outcome);
        result
    }

    /// Asks the store to rotate a refresh token. Also returns the successor.
    async fn rotate(
        &self,
        refresh_token: &SecretString,
        origin: SessionOrigin,
    ) -> Result<(RotationOutcome, SecretString), IdentityError> {
        let now = self.clock.now();
        let (successor, successor_hash) = new_refresh_token()?;
        let request = RotationRequest {
            token: sha256(refresh_token.expose_secret().as_bytes()),
            successor: successor_hash,
            expires_at: now + self.refresh_ttl,
            max_age: self.session_max_age,
            origin,
            grace: self.refresh_grace,
            now,
        };
        let audit = AuditContext::current();
        let rotated = self.store.rotate(request, &audit).await?;
        Ok((rotated, successor))
    }

    fn token_pair(
        &self,
        user: Uuid,
        session: Uuid,
        claims: AuthorizationClaims,
        refresh_token: SecretString,
    ) -> Result<TokenPair, IdentityError> {
        let access_token = self
            .access_tokens
            .sign(user, session, claims)
            .map_err(|error| IdentityError::Defect(error.to_string()))?;
        Ok(TokenPair {
            access_token: access_token.into(),
            expires_in: self.access_tokens.ttl(),
            refresh_token,
            refresh_expires_in: self.refresh_ttl,
        })
    }

    /// Ends the session of a refresh token. An unknown token is not an error.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn logout(&self, refresh_token: &SecretString) -> Result<(), IdentityError> {
        let token = sha256(refresh_token.expose_secret().as_bytes());
        let result = self
            .store
            .revoke_token_family(token, self.clock.now(), &AuditContext::current())
            .await
            .map_err(IdentityError::from);
        self.attempts.logout.count(outcome(&result));
        if let Some(session) = result? {
            self.authenticator.evict_session(session);
        }
        Ok(())
    }
}

/// Generates a refresh token and the hash that is stored.
fn new_refresh_token() -> Result<(SecretString, RefreshTokenHash), IdentityError> {
    let mut bytes = [0; REFRESH_TOKEN_BYTES];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| IdentityError::Defect("no randomness".to_owned()))?;
    let token = BASE64URL.encode(bytes);
    let hash = sha256(token.as_bytes());
    Ok((token.into(), hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refresh_tokens_are_256_random_bits_and_stored_as_a_hash() {
        let (token, hash) = new_refresh_token().unwrap();
        let text = token.expose_secret();
        assert_eq!(BASE64URL.decode(text).unwrap().len(), 32);
        assert_eq!(hash, sha256(text.as_bytes()));
        let (other, _) = new_refresh_token().unwrap();
        assert_ne!(text, other.expose_secret());
    }
}
