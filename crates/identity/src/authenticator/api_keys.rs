//! API keys as credentials. A key has the present role of its user. It stays valid when the password
//! of the user changes, and ends with its revocation, its expiry and the erasure of the user.

use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use db::DbError;
use request::{AuthError, Credential, Principal};
use uuid::Uuid;

use super::{STATE_TTL, TokenAuthenticator, UserState, unchecked};
use crate::audit::{Actor, AuditContext};
use crate::domain::PresentedKey;
use crate::store::{AuthorizationClaims, StoredApiKey};

/// Time between two writes of the last use of a key, each with its audit event. Each replica writes
/// by itself.
const USE_RESOLUTION: time::Duration = time::Duration::MINUTE;

/// A key as of a short time ago.
#[derive(Clone)]
pub(super) struct ApiKeyState {
    /// `None` if there is no such key.
    key: Option<Arc<StoredApiKey>>,
    read_at: Instant,
}

impl TokenAuthenticator {
    /// Removes the state of an API key from the cache after its revocation.
    pub fn evict_api_key(&self, id: Uuid) {
        self.api_keys.remove(&id);
    }

    /// The principal of a key that was verified a moment ago.
    pub(super) fn cached_key_principal(&self, text: &str) -> Option<Principal> {
        let presented = PresentedKey::parse(text)?;
        let key = self.cached_key(presented.id)?.key?;
        let key = self.verified(&presented, key)?;
        let claims = self.cached_user(key.user)?.claims?;
        Some(principal(&key, claims))
    }

    /// Verifies a key.
    pub(super) async fn key_principal(&self, text: &str) -> Result<Principal, AuthError> {
        let presented = PresentedKey::parse(text).ok_or(AuthError::Refused)?;
        let key = self.key(presented.id).await.map_err(unchecked)?;
        let key = key.and_then(|key| self.verified(&presented, key));
        let key = key.ok_or(AuthError::Refused)?;
        let claims = self.user_claims(key.user).await.map_err(unchecked)?;
        let claims = claims.ok_or(AuthError::Refused)?;
        self.record_use(&key).await;
        Ok(principal(&key, claims))
    }

    /// The cached state of a key, if it is recent.
    fn cached_key(&self, id: Uuid) -> Option<ApiKeyState> {
        let state = self.api_keys.get(&id)?;
        (state.read_at.elapsed() < STATE_TTL).then_some(state)
    }

    async fn key(&self, id: Uuid) -> Result<Option<Arc<StoredApiKey>>, DbError> {
        if let Some(state) = self.cached_key(id) {
            return Ok(state.key);
        }
        self.misses.api_key.inc();
        // The lifetime starts before the query, because its result can be old on arrival.
        let read_at = Instant::now();
        let key = self.store.api_key(id).await?.map(Arc::new);
        let state = ApiKeyState {
            key: key.clone(),
            read_at,
        };
        self.api_keys.insert(id, state);
        Ok(key)
    }

    async fn user_claims(&self, user: Uuid) -> Result<Option<AuthorizationClaims>, DbError> {
        if let Some(state) = self.cached_user(user) {
            return Ok(state.claims);
        }
        self.misses.state.inc();
        let read_at = Instant::now();
        let claims = self.store.access_state(user, None).await?.user;
        self.user_states.insert(user, UserState { claims, read_at });
        Ok(claims)
    }

    /// The key, if the secret is right and the key has not expired.
    fn verified(
        &self,
        presented: &PresentedKey,
        key: Arc<StoredApiKey>,
    ) -> Option<Arc<StoredApiKey>> {
        let right = verify_slices_are_equal(&presented.secret_hash, &key.secret_hash).is_ok();
        (right && key.key.expires_at > self.tokens.now()).then_some(key)
    }

    /// Writes the time of this use, unless a recent one is stored. A failure does not refuse the
    /// request, because the key is right.
    async fn record_use(&self, key: &StoredApiKey) {
        let now = self.tokens.now();
        let is_recent = |at| now - at < USE_RESOLUTION;
        if key.key.last_used_at.is_some_and(is_recent) {
            return;
        }
        let api_key = Some(key.key.id);
        let id = key.user;
        let audit = AuditContext {
            actor: Actor::User { id, api_key },
            ..AuditContext::current()
        };
        let recorded = self.store.record_api_key_use(key.key.id, now, &audit);
        if let Err(error) = recorded.await {
            tracing::debug!(%error, "the use of an API key was not recorded");
        }
    }
}

fn principal(key: &StoredApiKey, claims: AuthorizationClaims) -> Principal {
    Principal {
        user: key.user,
        role: claims.role,
        credential: Credential::ApiKey {
            id: key.key.id,
            scopes: Arc::clone(&key.key.scopes),
        },
    }
}
