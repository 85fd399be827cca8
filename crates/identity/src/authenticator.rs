//! Finds the principal behind an access token, from a cache where that is safe.
//!
//! Two bounded caches save work. A verified token is cached by its SHA-256 until it expires or the
//! keys change, which saves the check of the signature. The role and the token epoch of a user are
//! cached for [`STATE_LIFE`], which saves a query. For that time a replica still accepts an erased
//! user, a withdrawn role or a token of an earlier epoch if another replica made the change.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_lc_rs::digest;
use db::DbError;
use quick_cache::sync::Cache;
use request::{AuthError, Authenticator, Credentials, Principal};
use uuid::Uuid;

use super::access::{AccessTokens, VerifiedToken};
use super::metrics::{Attempts, Outcome};
use super::store::{Access, IdentityStore};

/// Lifetime of a cached user state. The contract allows 10 s.
const STATE_LIFE: Duration = Duration::from_secs(5);
/// Capacity of each cache.
const REMEMBERED: usize = 10_000;
/// Longest access token that is read, in bytes. All tokens that the service signs are shorter.
const MAX_TOKEN: usize = 4_096;

/// The authenticator for access tokens.
pub struct TokenAuthenticator {
    tokens: AccessTokens,
    store: Arc<dyn IdentityStore>,
    verified: Cache<[u8; 32], VerifiedToken>,
    states: Cache<Uuid, UserState>,
    attempts: Attempts,
}

#[derive(Clone, Copy)]
struct UserState {
    /// `None` if the user is erased.
    access: Option<Access>,
    read_at: Instant,
}

impl TokenAuthenticator {
    /// An authenticator with empty caches.
    #[must_use]
    pub fn new(tokens: AccessTokens, store: Arc<dyn IdentityStore>, attempts: Attempts) -> Self {
        Self {
            tokens,
            store,
            verified: Cache::new(REMEMBERED),
            states: Cache::new(REMEMBERED),
            attempts,
        }
    }

    /// Removes a user from the cache after a change.
    pub fn forget(&self, user: Uuid) {
        self.states.remove(&user);
    }

    fn verify(&self, token: &str) -> Option<VerifiedToken> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let key: [u8; 32] = sha256(token.as_bytes());
        if let Some(verified) = self.verified_before(&key) {
            return Some(verified);
        }
        let verified = self.tokens.verify(token).ok()?;
        self.verified.insert(key, verified);
        Some(verified)
    }

    fn verified_before(&self, key: &[u8; 32]) -> Option<VerifiedToken> {
        let known = self.verified.get(key)?;
        if self.tokens.still_holds(&known) {
            return Some(known);
        }
        self.verified.remove(key);
        None
    }

    /// The cached state of the user of a token. A token with a later epoch proves that the cached
    /// state is old.
    fn state(&self, token: &VerifiedToken) -> Option<UserState> {
        let state = self.states.get(&token.user)?;
        let holds = state.read_at.elapsed() < STATE_LIFE
            && state
                .access
                .is_none_or(|access| access.epoch >= token.epoch);
        holds.then_some(state)
    }

    /// The present role and epoch of the user of a token.
    async fn access(&self, token: &VerifiedToken) -> Result<Option<Access>, DbError> {
        if let Some(state) = self.state(token) {
            return Ok(state.access);
        }
        // The lifetime starts before the query, because its result can be old on arrival.
        let read_at = Instant::now();
        let access = self.store.access(token.user).await?;
        self.states
            .insert(token.user, UserState { access, read_at });
        Ok(access)
    }

    async fn find(&self, credentials: Credentials<'_>) -> Result<Principal, AuthError> {
        let token = match credentials {
            Credentials::Bearer(token) => token,
            // API keys are not issued yet, so every key is refused.
            Credentials::ApiKey(_) => return Err(AuthError::Refused),
        };
        let token = self.verify(token).ok_or(AuthError::Refused)?;
        // Uses the present role, not the role at the time of signing.
        let access = self.access(&token).await.map_err(unchecked)?;
        principal(&token, access).ok_or(AuthError::Refused)
    }
}

fn unchecked(error: DbError) -> AuthError {
    AuthError::Unchecked(error.into())
}

/// A token is valid while its epoch equals the user's.
fn principal(token: &VerifiedToken, access: Option<Access>) -> Option<Principal> {
    let access = access.filter(|access| access.epoch == token.epoch)?;
    Some(Principal {
        user: token.user,
        role: access.role,
    })
}

#[async_trait]
impl Authenticator for TokenAuthenticator {
    fn remembered(&self, credentials: Credentials<'_>) -> Option<Principal> {
        let Credentials::Bearer(token) = credentials else {
            return None;
        };
        if token.len() > MAX_TOKEN {
            return None;
        }
        let token = self.verified_before(&sha256(token.as_bytes()))?;
        let found = principal(&token, self.state(&token)?.access)?;
        self.attempts.count(Outcome::Success);
        Some(found)
    }

    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Principal, AuthError> {
        let result = self.find(credentials).await;
        self.attempts.count(match &result {
            Ok(_) => Outcome::Success,
            Err(AuthError::Refused) => Outcome::Failure,
            Err(AuthError::Unchecked(_)) => Outcome::Error,
        });
        result
    }
}

/// SHA-256 (FIPS 180-4).
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    let digest = digest::digest(&digest::SHA256, bytes);
    // SHA-256 has 32 bytes by definition.
    for (to, from) in hash.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::{NOW, PLAIN, Stopped, USER, tokens};
    use crate::keys::KeySet;
    use crate::metrics::{AttemptCounters, IdentityMetrics};
    use crate::store::{PostgresIdentityStore, SqliteIdentityStore};
    use db::{Config, Database, DbMetrics};
    use settings::{Layers, Reader};
    use telemetry::Exemplars;

    /// An authenticator that has cached a token and the state of its user.
    struct Seen {
        authenticator: TokenAuthenticator,
        clock: Arc<Stopped>,
        metrics: IdentityMetrics,
        token: String,
    }

    impl Seen {
        fn new() -> Self {
            let (tokens, clock) = tokens(&KeySet::generate().unwrap());
            let token = tokens.sign(USER, PLAIN).unwrap();
            let metrics = IdentityMetrics::register(&prometheus::Registry::new()).unwrap();
            let attempts = AttemptCounters::new(&metrics).token;
            let seen = Self {
                authenticator: TokenAuthenticator::new(tokens, store(), attempts),
                clock,
                metrics,
                token,
            };
            seen.authenticator.verify(&seen.token).unwrap();
            seen.read(Some(PLAIN), Duration::ZERO);
            seen
        }

        /// Caches a state of the user that was read `age` ago.
        fn read(&self, access: Option<Access>, age: Duration) {
            let read_at = Instant::now().checked_sub(age).unwrap();
            let state = UserState { access, read_at };
            self.authenticator.states.insert(USER, state);
        }

        fn remembered(&self) -> Option<Principal> {
            self.authenticator
                .remembered(Credentials::Bearer(&self.token))
        }

        fn counted(&self, outcome: &str) -> u64 {
            let labels = ["token", outcome];
            self.metrics.attempts.with_label_values(&labels).get()
        }
    }

    static SCHEMA: db::Schema = db::Schema::without_migrations("test");

    /// A store that is never queried, because the tests read from the caches only.
    fn store() -> Arc<dyn IdentityStore> {
        let config = Config::read(&mut Reader::new(Layers::default()));
        let metrics = DbMetrics::register(&prometheus::Registry::new()).unwrap();
        match Database::new(&SCHEMA, &config, Arc::new(metrics), Exemplars::default()).unwrap() {
            Database::Sqlite(db) => Arc::new(SqliteIdentityStore::new(db, Vec::new())),
            Database::Postgres(db) => Arc::new(PostgresIdentityStore::new(db, Vec::new())),
        }
    }

    #[tokio::test]
    async fn a_principal_that_is_remembered_is_counted_as_any_other() {
        let seen = Seen::new();
        let principal = Principal {
            user: USER,
            role: PLAIN.role,
        };
        assert_eq!(seen.remembered(), Some(principal));
        assert_eq!(seen.counted("success"), 1);
        // A miss is not counted here. `authenticate` counts it.
        seen.authenticator.forget(USER);
        assert_eq!(seen.remembered(), None);
        let key = Credentials::ApiKey(&seen.token);
        assert_eq!(seen.authenticator.remembered(key), None);
        assert_eq!((seen.counted("success"), seen.counted("failure")), (1, 0));
    }

    #[tokio::test]
    async fn a_users_state_is_remembered_for_its_life_and_no_longer() {
        let seen = Seen::new();
        seen.read(Some(PLAIN), STATE_LIFE / 2);
        assert!(seen.remembered().is_some());
        seen.read(Some(PLAIN), STATE_LIFE);
        assert_eq!(seen.remembered(), None);
    }

    #[tokio::test]
    async fn only_a_token_of_the_users_epoch_is_remembered() {
        let seen = Seen::new();
        for (epoch, why) in [
            (PLAIN.epoch + 1, "tokens ended before their time"),
            (PLAIN.epoch - 1, "the state is older than the token"),
        ] {
            seen.read(Some(Access { epoch, ..PLAIN }), Duration::ZERO);
            assert_eq!(seen.remembered(), None, "{why}");
        }
        seen.read(None, Duration::ZERO);
        assert_eq!(seen.remembered(), None, "the user was erased");
    }

    #[tokio::test]
    async fn a_token_is_not_remembered_beyond_its_expiry_and_its_keys() {
        let seen = Seen::new();
        let ttl = i64::try_from(seen.authenticator.tokens.ttl().as_secs()).unwrap();
        seen.clock.put(NOW + ttl - 1);
        assert!(seen.remembered().is_some());
        seen.clock.put(NOW + ttl);
        assert_eq!(seen.remembered(), None, "it has expired");

        let seen = Seen::new();
        let keys = KeySet::parse(&KeySet::generate().unwrap()).unwrap();
        seen.authenticator.tokens.keyring().replace(keys);
        assert_eq!(seen.remembered(), None, "the keys are others");
    }
}
