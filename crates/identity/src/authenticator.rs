//! Finds the principal behind an access token or an API key, from a cache where that is safe.
//!
//! Bounded caches save work. A verified token is cached by its SHA-256 until it expires or the keys
//! change, which saves the check of the signature. The role and the token epoch of a user, and
//! whether a session is open, are cached for `STATE_TTL`, which saves a query. For that time a
//! replica still accepts an erased user, a withdrawn role, a token of an earlier epoch or of an ended
//! session if another replica made the change. An API key is cached for the same time.

mod api_keys;
mod denials;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use db::DbError;
use quick_cache::sync::Cache;
use request::{AuthError, Authenticator, Credential, Credentials, Denied, Principal};
use uuid::Uuid;

use self::api_keys::ApiKeyState;
use self::denials::Denial;
use super::access::{AccessTokens, VerifiedToken};
use super::hash::sha256;
use super::metrics::{AttemptCounters, CacheMisses, Outcome, OutcomeCounters};
use super::store::{AccessState, AuthorizationClaims, IdentityStore};

/// Lifetime of the cached state of a user or session. The contract allows 10 s.
const STATE_TTL: Duration = Duration::from_secs(5);
/// Capacity of each cache.
const CACHE_CAPACITY: usize = 10_000;
/// Longest access token that is read, in bytes. All tokens that the service signs are shorter.
const MAX_TOKEN_BYTES: usize = 4_096;

/// The authenticator for access tokens and API keys.
pub struct TokenAuthenticator {
    tokens: AccessTokens,
    store: Arc<dyn IdentityStore>,
    /// By the SHA-256 of the token.
    verified_tokens: Cache<[u8; 32], VerifiedToken>,
    user_states: Cache<Uuid, UserState>,
    session_states: Cache<Uuid, SessionState>,
    /// By the id of the key.
    api_keys: Cache<Uuid, ApiKeyState>,
    token_outcomes: OutcomeCounters,
    api_key_outcomes: OutcomeCounters,
    misses: CacheMisses,
    /// The time of the last event.
    denials: Cache<Denial, Instant>,
}

#[derive(Clone, Copy)]
struct UserState {
    /// `None` if the user is erased.
    claims: Option<AuthorizationClaims>,
    read_at: Instant,
}

#[derive(Clone, Copy)]
struct SessionState {
    is_open: bool,
    read_at: Instant,
}

impl TokenAuthenticator {
    /// An authenticator with empty caches.
    #[must_use]
    pub fn new(
        tokens: AccessTokens,
        store: Arc<dyn IdentityStore>,
        attempts: &AttemptCounters,
        misses: CacheMisses,
    ) -> Self {
        Self {
            tokens,
            store,
            verified_tokens: Cache::new(CACHE_CAPACITY),
            user_states: Cache::new(CACHE_CAPACITY),
            session_states: Cache::new(CACHE_CAPACITY),
            api_keys: Cache::new(CACHE_CAPACITY),
            token_outcomes: attempts.token.clone(),
            api_key_outcomes: attempts.api_key.clone(),
            misses,
            denials: Cache::new(CACHE_CAPACITY),
        }
    }

    /// Removes the state of a user from the cache after a change.
    pub fn evict_user(&self, user: Uuid) {
        self.user_states.remove(&user);
    }

    /// Removes the state of a session from the cache after its end.
    pub fn evict_session(&self, session: Uuid) {
        self.session_states.remove(&session);
    }

    fn verify(&self, token: &str) -> Option<VerifiedToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let key: [u8; 32] = sha256(token.as_bytes());
        if let Some(verified) = self.cached_token(&key) {
            return Some(verified);
        }
        self.misses.token.inc();
        let verified = self.tokens.verify(token).ok()?;
        self.verified_tokens.insert(key, verified);
        Some(verified)
    }

    fn cached_token(&self, key: &[u8; 32]) -> Option<VerifiedToken> {
        let cached = self.verified_tokens.get(key)?;
        if self.tokens.is_still_valid(&cached) {
            return Some(cached);
        }
        self.verified_tokens.remove(key);
        None
    }

    /// The cached role and epoch of a user, if they are recent.
    fn cached_user(&self, user: Uuid) -> Option<UserState> {
        let state = self.user_states.get(&user)?;
        (state.read_at.elapsed() < STATE_TTL).then_some(state)
    }

    /// The cached state of the user and of the session of a token. A token with a later epoch proves
    /// that the cached state is out of date.
    fn cached_state(&self, token: &VerifiedToken) -> Option<AccessState> {
        let state = self.cached_user(token.user)?;
        let is_current = state
            .claims
            .is_none_or(|claims| claims.epoch >= token.epoch);
        if !is_current {
            return None;
        }
        let session_is_open = match token.session {
            None => true,
            Some(session) => {
                let session = self.session_states.get(&session)?;
                if session.read_at.elapsed() >= STATE_TTL {
                    return None;
                }
                session.is_open
            }
        };
        Some(AccessState {
            user: state.claims,
            session_is_open,
        })
    }

    /// The current state of the user and of the session of a token.
    async fn state(&self, token: &VerifiedToken) -> Result<AccessState, DbError> {
        if let Some(state) = self.cached_state(token) {
            return Ok(state);
        }
        self.misses.state.inc();
        // The lifetime starts before the query, because its result can be old on arrival.
        let read_at = Instant::now();
        let state = self.store.access_state(token.user, token.session).await?;
        let claims = state.user;
        self.user_states
            .insert(token.user, UserState { claims, read_at });
        if let Some(session) = token.session {
            let is_open = state.session_is_open;
            self.session_states
                .insert(session, SessionState { is_open, read_at });
        }
        Ok(state)
    }

    fn cached_token_principal(&self, token: &str) -> Option<Principal> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let token = self.cached_token(&sha256(token.as_bytes()))?;
        principal(&token, self.cached_state(&token)?)
    }

    async fn token_principal(&self, token: &str) -> Result<Principal, AuthError> {
        let token = self.verify(token).ok_or(AuthError::Refused)?;
        // Uses the current role, not the role at the time of signing.
        let state = self.state(&token).await.map_err(unchecked)?;
        principal(&token, state).ok_or(AuthError::Refused)
    }

    fn outcomes(&self, credentials: Credentials<'_>) -> &OutcomeCounters {
        match credentials {
            Credentials::Bearer(_) => &self.token_outcomes,
            Credentials::ApiKey(_) => &self.api_key_outcomes,
        }
    }
}

fn unchecked(error: DbError) -> AuthError {
    AuthError::Unchecked(error.into())
}

/// A token is valid while its epoch equals the user's and its session is open.
fn principal(token: &VerifiedToken, state: AccessState) -> Option<Principal> {
    let claims = state.user.filter(|claims| claims.epoch == token.epoch)?;
    state.session_is_open.then_some(Principal {
        user: token.user,
        role: claims.role,
        credential: Credential::AccessToken {
            session: token.session,
        },
    })
}

#[async_trait]
impl Authenticator for TokenAuthenticator {
    fn cached_principal(&self, credentials: Credentials<'_>) -> Option<Principal> {
        let principal = match credentials {
            Credentials::Bearer(token) => self.cached_token_principal(token),
            Credentials::ApiKey(key) => self.cached_key_principal(key),
        };
        let principal = principal?;
        self.outcomes(credentials).count(Outcome::Success);
        Some(principal)
    }

    async fn authenticate(&self, credentials: Credentials<'_>) -> Result<Principal, AuthError> {
        let result = match credentials {
            Credentials::Bearer(token) => self.token_principal(token).await,
            Credentials::ApiKey(key) => self.key_principal(key).await,
        };
        self.outcomes(credentials).count(match &result {
            Ok(_) => Outcome::Success,
            Err(AuthError::Refused) => Outcome::Failure,
            Err(AuthError::Unchecked(_)) => Outcome::Error,
        });
        result
    }

    async fn record_denial(&self, principal: &Principal, reason: Denied) {
        self.record_new_denial(principal, reason).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::tests::{FixedClock, NOW, SESSION, USER, USER_CLAIMS, tokens};
    use crate::metrics::IdentityMetrics;
    use crate::signing_keys::SigningKeySet;
    use crate::store::{PostgresIdentityStore, SqliteIdentityStore};
    use db::{Config, Database, DbMetrics};
    use settings::{Layers, Reader};
    use telemetry::Exemplars;

    /// An authenticator that has cached a token and the state of its user.
    struct CachedToken {
        authenticator: TokenAuthenticator,
        clock: Arc<FixedClock>,
        metrics: IdentityMetrics,
        token: String,
    }

    impl CachedToken {
        fn new() -> Self {
            let (tokens, clock) = tokens(&SigningKeySet::generate().unwrap());
            let token = tokens.sign(USER, SESSION, USER_CLAIMS).unwrap();
            let metrics = IdentityMetrics::register(&prometheus::Registry::new()).unwrap();
            let (attempts, misses) = (AttemptCounters::new(&metrics), CacheMisses::new(&metrics));
            let cached = Self {
                authenticator: TokenAuthenticator::new(tokens, unused_store(), &attempts, misses),
                clock,
                metrics,
                token,
            };
            cached.authenticator.verify(&cached.token).unwrap();
            cached.cache_state(Some(USER_CLAIMS), Duration::ZERO);
            cached.cache_session(true, Duration::ZERO);
            cached
        }

        /// Caches a state of the user that was read `age` ago.
        fn cache_state(&self, claims: Option<AuthorizationClaims>, age: Duration) {
            let read_at = Instant::now().checked_sub(age).unwrap();
            let state = UserState { claims, read_at };
            self.authenticator.user_states.insert(USER, state);
        }

        /// Caches a state of the session that was read `age` ago.
        fn cache_session(&self, is_open: bool, age: Duration) {
            let read_at = Instant::now().checked_sub(age).unwrap();
            let state = SessionState { is_open, read_at };
            self.authenticator.session_states.insert(SESSION, state);
        }

        fn principal(&self) -> Option<Principal> {
            self.authenticator
                .cached_principal(Credentials::Bearer(&self.token))
        }

        fn counted(&self, outcome: &str) -> u64 {
            let labels = ["token", outcome];
            self.metrics.attempts.with_label_values(&labels).get()
        }

        fn missed(&self, cache: &str) -> u64 {
            self.metrics.cache_misses.with_label_values(&[cache]).get()
        }
    }

    static SCHEMA: db::Schema = db::Schema::without_migrations("test");

    /// A store that is never queried, because the tests read from the caches only.
    fn unused_store() -> Arc<dyn IdentityStore> {
        let config = Config::read(&mut Reader::new(Layers::default()));
        let metrics = DbMetrics::register(&prometheus::Registry::new()).unwrap();
        match Database::new(&SCHEMA, &config, Arc::new(metrics), Exemplars::default()).unwrap() {
            Database::Sqlite(db) => Arc::new(SqliteIdentityStore::new(db, Vec::new())),
            Database::Postgres(db) => Arc::new(PostgresIdentityStore::new(db, Vec::new())),
        }
    }

    #[tokio::test]
    async fn a_cached_principal_is_counted_as_any_other() {
        let cached = CachedToken::new();
        let principal = Principal {
            user: USER,
            role: USER_CLAIMS.role,
            credential: Credential::AccessToken {
                session: Some(SESSION),
            },
        };
        assert_eq!(cached.principal(), Some(principal));
        assert_eq!(cached.counted("success"), 1);
        // The token was verified once, when it was cached.
        assert_eq!((cached.missed("token"), cached.missed("state")), (1, 0));
        // A miss is not counted here. `authenticate` counts it.
        cached.authenticator.evict_user(USER);
        assert_eq!(cached.principal(), None);
        let key = Credentials::ApiKey(&cached.token);
        assert_eq!(cached.authenticator.cached_principal(key), None);
        assert_eq!(
            (cached.counted("success"), cached.counted("failure")),
            (1, 0)
        );
    }

    #[tokio::test]
    async fn a_users_state_is_cached_until_its_ttl() {
        let cached = CachedToken::new();
        cached.cache_state(Some(USER_CLAIMS), STATE_TTL / 2);
        assert!(cached.principal().is_some());
        cached.cache_state(Some(USER_CLAIMS), STATE_TTL);
        assert_eq!(cached.principal(), None);
    }

    #[tokio::test]
    async fn a_sessions_state_is_cached_until_its_ttl() {
        let cached = CachedToken::new();
        cached.cache_session(true, STATE_TTL / 2);
        assert!(cached.principal().is_some());
        cached.cache_session(true, STATE_TTL);
        assert_eq!(cached.principal(), None);
        cached.cache_session(false, Duration::ZERO);
        assert_eq!(cached.principal(), None, "the session has ended");
        cached.cache_session(true, Duration::ZERO);
        cached.authenticator.evict_session(SESSION);
        assert_eq!(cached.principal(), None);
    }

    #[tokio::test]
    async fn a_token_of_another_epoch_has_no_cached_principal() {
        let cached = CachedToken::new();
        for (epoch, why) in [
            (USER_CLAIMS.epoch + 1, "the tokens were revoked early"),
            (USER_CLAIMS.epoch - 1, "the state is older than the token"),
        ] {
            cached.cache_state(
                Some(AuthorizationClaims {
                    epoch,
                    ..USER_CLAIMS
                }),
                Duration::ZERO,
            );
            assert_eq!(cached.principal(), None, "{why}");
        }
        cached.cache_state(None, Duration::ZERO);
        assert_eq!(cached.principal(), None, "the user was erased");
    }

    #[tokio::test]
    async fn a_cached_token_ends_with_its_expiry_and_its_keys() {
        let cached = CachedToken::new();
        let ttl = i64::try_from(cached.authenticator.tokens.ttl().as_secs()).unwrap();
        cached.clock.set(NOW + ttl - 1);
        assert!(cached.principal().is_some());
        cached.clock.set(NOW + ttl);
        assert_eq!(cached.principal(), None, "the token has expired");

        let cached = CachedToken::new();
        let keys = SigningKeySet::parse(&SigningKeySet::generate().unwrap()).unwrap();
        cached.authenticator.tokens.keyring().replace(keys);
        assert_eq!(cached.principal(), None, "the keys were replaced");
    }
}
