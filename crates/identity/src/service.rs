//! Operations of the slice, independent of HTTP: register, log in, refresh, log out, and the
//! operations of users on their own account.

mod own_user;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use db::DbError;
use request::Role;
use secrecy::{ExposeSecret as _, SecretString};
use settings::clock::{SharedClock, new_id};
use uuid::Uuid;

use super::access::AccessTokens;
use super::authenticator::{TokenAuthenticator, sha256};
use super::domain::{Email, Name, Password, User};
use super::error::IdentityError;
use super::metrics::{AttemptCounters, HashMetrics, IdentityMetrics, Outcome};
use super::password::{Hasher, Verified};
use super::store::{Access, IdentityStore, NewFamily, NewUser, Rotated, Rotation, TokenHash};
use super::throttle::{Account, Throttle};
use crate::Config;

/// Length of a refresh token in bytes. 256 bits are more than RFC 6749, section 10.10, asks for.
const REFRESH_BYTES: usize = 32;

/// The identity service.
pub struct Service {
    store: Arc<dyn IdentityStore>,
    hasher: Hasher,
    throttle: Throttle,
    tokens: AccessTokens,
    authenticator: Arc<TokenAuthenticator>,
    attempts: AttemptCounters,
    clock: SharedClock,
    refresh_ttl: Duration,
    refresh_grace: Duration,
}

/// A pair of tokens for a client.
pub struct Tokens {
    /// For `Authorization: Bearer`.
    pub access: SecretString,
    /// Lifetime of the access token.
    pub expires_in: Duration,
    /// For the next refresh.
    pub refresh: SecretString,
}

fn outcome<T>(result: &Result<T, IdentityError>) -> Outcome {
    match result {
        Ok(_) => Outcome::Success,
        Err(IdentityError::RefreshRotated) => Outcome::Rotated,
        Err(IdentityError::RateLimitExceeded(_)) => Outcome::Limited,
        Err(IdentityError::Overloaded) => Outcome::Overloaded,
        Err(IdentityError::Database(_) | IdentityError::Defect(_)) => Outcome::Error,
        Err(_) => Outcome::Failure,
    }
}

impl Service {
    /// A service over a store.
    #[must_use]
    pub fn new(
        config: &Config,
        store: Arc<dyn IdentityStore>,
        tokens: AccessTokens,
        metrics: &IdentityMetrics,
        throttle: Throttle,
        clock: SharedClock,
    ) -> Self {
        let attempts = AttemptCounters::new(metrics);
        let authenticator =
            TokenAuthenticator::new(tokens.clone(), Arc::clone(&store), attempts.token.clone());
        Self {
            store,
            hasher: Hasher::new(config, HashMetrics::new(metrics)),
            throttle,
            tokens,
            authenticator: Arc::new(authenticator),
            attempts,
            clock,
            refresh_ttl: config.refresh_ttl,
            refresh_grace: config.refresh_grace,
        }
    }

    /// The authenticator for the layer that authenticates requests.
    #[must_use]
    pub fn authenticator(&self) -> Arc<TokenAuthenticator> {
        Arc::clone(&self.authenticator)
    }

    /// The public keys, as a JWK set.
    #[must_use]
    pub fn public_keys(&self) -> serde_json::Value {
        self.tokens.keyring().present().keys.public()
    }

    /// Removes expired refresh tokens and returns their number.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn remove_expired_tokens(&self) -> Result<u64, DbError> {
        self.store.remove_expired_tokens(self.clock.now()).await
    }

    /// Creates a user.
    ///
    /// # Errors
    /// [`IdentityError::EmailTaken`], [`IdentityError::Overloaded`], or a failure.
    pub async fn register(
        &self,
        email: Email,
        name: Name,
        password: Password,
    ) -> Result<User, IdentityError> {
        let result = self.create(email, name, password).await;
        self.attempts.register.count(outcome(&result));
        result
    }

    async fn create(
        &self,
        email: Email,
        name: Name,
        password: Password,
    ) -> Result<User, IdentityError> {
        let password_hash = self.hasher.hash(password).await?;
        let user = User {
            id: new_id(),
            email,
            name,
            role: Role::User,
            created_at: self.clock.now(),
            version: 1,
        };
        let new = NewUser {
            user: user.clone(),
            password_hash,
        };
        self.store.create_user(new).await?;
        Ok(user)
    }

    /// Counts a registration that was rejected before it was tried.
    pub fn registration_refused(&self) {
        self.attempts.register.count(Outcome::Failure);
    }

    /// Logs in and opens a family of refresh tokens. `emails` are the possible forms of one
    /// address. The first form that belongs to a user counts. Without any form, the login takes as
    /// long as one with an unknown address and gets the same answer.
    ///
    /// # Errors
    /// [`IdentityError::InvalidCredentials`], [`IdentityError::RateLimitExceeded`],
    /// [`IdentityError::Overloaded`], or a failure.
    pub async fn login(
        &self,
        emails: impl Iterator<Item = Email> + Send,
        password: Password,
    ) -> Result<Tokens, IdentityError> {
        let result = self.open(emails, password).await;
        self.attempts.login.count(outcome(&result));
        result
    }

    async fn open(
        &self,
        emails: impl Iterator<Item = Email> + Send,
        password: Password,
    ) -> Result<Tokens, IdentityError> {
        let (mut found, mut unknown) = (None, None);
        for email in emails {
            found = self.store.credentials(&email).await?;
            if found.is_some() {
                break;
            }
            // A login counts as one attempt, even if its address has two forms.
            unknown.get_or_insert(email);
        }
        let account = match (&found, &unknown) {
            (Some(found), _) => Some(Account::Of(found.user)),
            (None, Some(email)) => Some(Account::Unknown(email)),
            (None, None) => None,
        };
        let guess = match account {
            Some(account) => Some(self.throttle.login(account).await?),
            None => None,
        };
        let hash = found.as_ref().map(|found| found.password_hash.clone());
        let verified = self.hasher.verify(password, hash).await?;
        let (Some(found), Verified::Right { rehashed }) = (found, verified) else {
            return Err(IdentityError::InvalidCredentials);
        };
        if let Some(guess) = guess {
            guess.was_right();
        }
        let now = self.clock.now();
        let (refresh, token) = new_refresh_token()?;
        let family = NewFamily {
            id: new_id(),
            user: found.user,
            verified_hash: found.password_hash,
            rehashed,
            token,
            expires_at: now + self.refresh_ttl,
            now,
        };
        if !self.store.open_family(family).await? {
            return Err(IdentityError::InvalidCredentials);
        }
        self.tokens(found.user, found.access, refresh)
    }

    /// Rotates a refresh token.
    ///
    /// # Errors
    /// [`IdentityError::RefreshRefused`], [`IdentityError::RefreshRotated`], or a failure.
    pub async fn refresh(&self, presented: &SecretString) -> Result<Tokens, IdentityError> {
        let (result, outcome) = match self.rotate(presented).await {
            Ok((Rotated::Reused { user, family }, _)) => {
                tracing::warn!(
                    %user,
                    %family,
                    "a refresh token was used again after its rotation: its family is revoked"
                );
                (Err(IdentityError::RefreshRefused), Outcome::Reused)
            }
            Ok((Rotated::Done { user, access }, refresh)) => {
                let result = self.tokens(user, access, refresh);
                let outcome = outcome(&result);
                (result, outcome)
            }
            Ok((Rotated::WithinGrace, _)) => (Err(IdentityError::RefreshRotated), Outcome::Rotated),
            Ok((Rotated::Refused, _)) => (Err(IdentityError::RefreshRefused), Outcome::Failure),
            Err(error) => (Err(error), Outcome::Error),
        };
        self.attempts.refresh.count(outcome);
        result
    }

    async fn rotate(
        &self,
        presented: &SecretString,
    ) -> Result<(Rotated, SecretString), IdentityError> {
        let now = self.clock.now();
        let (refresh, successor) = new_refresh_token()?;
        let rotation = Rotation {
            presented: sha256(presented.expose_secret().as_bytes()),
            successor,
            expires_at: now + self.refresh_ttl,
            grace: self.refresh_grace,
            now,
        };
        Ok((self.store.rotate(rotation).await?, refresh))
    }

    fn tokens(
        &self,
        user: Uuid,
        access: Access,
        refresh: SecretString,
    ) -> Result<Tokens, IdentityError> {
        let access = self
            .tokens
            .sign(user, access)
            .map_err(|error| IdentityError::Defect(error.to_string()))?;
        Ok(Tokens {
            access: access.into(),
            expires_in: self.tokens.ttl(),
            refresh,
        })
    }

    /// Revokes the family of a refresh token. An unknown token is not an error.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn logout(&self, presented: &SecretString) -> Result<(), IdentityError> {
        let token = sha256(presented.expose_secret().as_bytes());
        let result = self
            .store
            .revoke_family(token, self.clock.now())
            .await
            .map_err(IdentityError::from);
        self.attempts.logout.count(outcome(&result));
        result
    }
}

/// Generates a refresh token and the hash that is stored.
fn new_refresh_token() -> Result<(SecretString, TokenHash), IdentityError> {
    let mut bytes = [0; REFRESH_BYTES];
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
