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
        let attempts = AttemptCounters::new(&metrics);
        let cached = Self {
            authenticator: TokenAuthenticator::new(tokens, unused_store(), &attempts),
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
