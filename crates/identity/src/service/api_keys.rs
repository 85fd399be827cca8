//! Operations of users on their API keys.

use std::sync::Arc;

use request::page::{Page, PageRequest};
use secrecy::SecretString;
use settings::clock::new_id;
use settings::validation::InvalidValue;
use time::OffsetDateTime;
use uuid::Uuid;

use super::Service;
use crate::audit::AuditContext;
use crate::domain::{ApiKey, Name, PresentedKey};
use crate::error::IdentityError;
use crate::store::NewApiKey;

impl Service {
    /// Reads the names of scopes. Without a list the key has all scopes of the service.
    ///
    /// # Errors
    /// If a name is unknown, or the list is empty.
    pub fn parse_scopes(&self, names: Option<&[String]>) -> Result<Arc<[Box<str>]>, InvalidValue> {
        let Some(names) = names else {
            return Ok(self.scopes.iter().map(|scope| scope.name.into()).collect());
        };
        if names.is_empty() {
            return Err(InvalidValue {
                code: "TOO_SHORT",
                message: "must name a scope, or be left out for all scopes",
            });
        }
        let is_known = |name: &String| self.scopes.iter().any(|scope| scope.name == name);
        if !names.iter().all(is_known) {
            return Err(InvalidValue {
                code: "UNKNOWN_SCOPE",
                message: "must contain scopes that the API documents, and no others",
            });
        }
        let mut scopes: Vec<Box<str>> = names.iter().map(|name| name.as_str().into()).collect();
        scopes.sort_unstable();
        scopes.dedup();
        Ok(scopes.into())
    }

    /// Checks the expiry of a new key. Without one the key has the longest lifetime.
    ///
    /// # Errors
    /// If the time has passed or lies beyond the longest lifetime.
    pub fn parse_expiry(
        &self,
        expires_at: Option<OffsetDateTime>,
    ) -> Result<OffsetDateTime, InvalidValue> {
        let now = self.clock.now();
        let latest = now + self.api_keys.ttl;
        match expires_at {
            None => Ok(latest),
            Some(at) if at <= now => Err(InvalidValue {
                code: "IN_THE_PAST",
                message: "must be in the future",
            }),
            Some(at) if at > latest => Err(InvalidValue {
                code: "TOO_LATE",
                message: "must lie within the longest lifetime of API keys",
            }),
            Some(at) => Ok(at),
        }
    }

    /// Creates an API key. Its text is not stored and cannot be read again.
    ///
    /// # Errors
    /// [`IdentityError::TooManyApiKeys`], [`IdentityError::NoSuchUser`], or a failure.
    pub async fn create_api_key(
        &self,
        user: Uuid,
        name: Name,
        scopes: Arc<[Box<str>]>,
        expires_at: OffsetDateTime,
    ) -> Result<(ApiKey, SecretString), IdentityError> {
        let id = new_id();
        let generated = PresentedKey::generate(&self.api_keys.prefix, id);
        let (text, PresentedKey { secret_hash, .. }) =
            generated.map_err(|error| IdentityError::Defect(error.to_string()))?;
        let key = ApiKey {
            id,
            name,
            scopes,
            created_at: self.clock.now(),
            expires_at,
            last_used_at: None,
        };
        let new = NewApiKey {
            user,
            key: key.clone(),
            secret_hash,
            max_keys: self.api_keys.max_keys,
        };
        self.store
            .create_api_key(new, &AuditContext::current())
            .await?;
        Ok((key, text))
    }

    /// A page of the API keys of a user.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn list_api_keys(
        &self,
        user: Uuid,
        page: PageRequest,
    ) -> Result<Page<ApiKey>, IdentityError> {
        let now = self.clock.now();
        let keys = self.store.list_api_keys(user, page, now).await?;
        Ok(page.page(keys, |key| key.id))
    }

    /// Revokes an API key of a user: at once on this replica, and on others when their cached state
    /// of the key expires.
    ///
    /// # Errors
    /// [`IdentityError::NoSuchApiKey`], or a failure.
    pub async fn revoke_api_key(&self, user: Uuid, id: Uuid) -> Result<(), IdentityError> {
        let (now, audit) = (self.clock.now(), AuditContext::current());
        let deleted = self.store.delete_api_key(user, id, now, &audit);
        if !deleted.await? {
            return Err(IdentityError::NoSuchApiKey);
        }
        self.authenticator.evict_api_key(id);
        Ok(())
    }
}
