//! Metrics of credentials.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::metrics;
use telemetry::metrics::QUICK;

/// Reasons why password hashes are rejected.
pub(super) const QUEUE_FULL: &str = "queue_full";
pub(super) const QUEUE_TIMEOUT: &str = "queue_timeout";
pub(super) const NO_MEMORY: &str = "memory";
pub(super) const NO_THREAD: &str = "thread";

metrics! {
    /// Credentials.
    pub struct IdentityMetrics {
        /// Uses of credentials, by kind and outcome. Kinds: `login`, `register`, `refresh`,
        /// `logout`, `confirmation` (the own password, required again), `token` (an access token of a
        /// request), `provider_token` (one of an identity provider) and `api_key` (an API key of a
        /// request). Outcomes: `success`, `failure` (wrong, taken or expired), `limited`
        /// (rejected by a limiter of passwords), `overloaded` and `error` (not decided). Refresh
        /// tokens have two more: `rotated` (reused within the grace period) and `reused` (reused
        /// after it, which revokes the family).
        pub attempts: IntCounterVec = "auth_attempts_total"["kind", "outcome"];
        /// Credentials that were not in a cache, by cache. `token`: the signature of an access token
        /// was verified. `state`: the role and the session of a user were read from the database.
        /// `api_key`: an API key was read from the database.
        pub cache_misses: IntCounterVec = "auth_cache_misses_total"["cache"];
        /// Sessions that a login ended because the user had `auth.max_sessions`.
        pub displaced_sessions: IntCounter = "auth_sessions_displaced_total";
        /// Time that password hashes waited for one of the `auth.max_concurrent_hashes` permits.
        pub hash_wait: Histogram = "auth_hash_wait_seconds", buckets QUICK;
        /// Password hashes that were rejected with 503, by reason. `queue_full`: too many hashes
        /// waited. `queue_timeout`: the wait was too long. `memory` and `thread`: the system
        /// provided none.
        pub hashes_refused: IntCounterVec = "auth_hashes_refused_total"["reason"];
        /// Fetches of the keys of an identity provider, by outcome. `issuer` is the name in the
        /// configuration. Outcomes: `success` and `failure`.
        pub provider_fetches: IntCounterVec = "identity_provider_fetches_total"["issuer", "outcome"];
        /// Keys of an identity provider that can verify tokens.
        pub provider_keys: IntGaugeVec = "identity_provider_keys"["issuer"];
    }
}

/// Outcome of an attempt, see [`IdentityMetrics::attempts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the help of the metric explains the names")]
pub enum Outcome {
    Success,
    Failure,
    Rotated,
    Reused,
    Limited,
    Overloaded,
    Error,
}

use Outcome::{Error, Failure, Limited, Overloaded, Reused, Rotated, Success};

/// The counters of one kind of attempt, one for each possible outcome. They start at zero.
#[derive(Clone)]
pub struct OutcomeCounters {
    kind: &'static str,
    counters: Vec<(Outcome, IntCounter)>,
}

/// The counters of every kind.
#[derive(Clone)]
#[expect(missing_docs, reason = "the help of the metric explains the names")]
pub struct AttemptCounters {
    pub login: OutcomeCounters,
    pub register: OutcomeCounters,
    pub refresh: OutcomeCounters,
    pub logout: OutcomeCounters,
    pub confirmation: OutcomeCounters,
    pub token: OutcomeCounters,
    pub api_key: OutcomeCounters,
    pub provider_token: OutcomeCounters,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Success => "success",
            Failure => "failure",
            Rotated => "rotated",
            Reused => "reused",
            Limited => "limited",
            Overloaded => "overloaded",
            Error => "error",
        }
    }
}

impl OutcomeCounters {
    fn new(metrics: &IdentityMetrics, kind: &'static str, outcomes: &[Outcome]) -> Self {
        let counter = |outcome: &Outcome| {
            let labels = [kind, outcome.as_str()];
            (*outcome, metrics.attempts.with_label_values(&labels))
        };
        Self {
            kind,
            counters: outcomes.iter().map(counter).collect(),
        }
    }

    /// Counts one attempt and logs it at debug.
    pub fn count(&self, outcome: Outcome) {
        tracing::debug!(
            kind = self.kind,
            outcome = outcome.as_str(),
            "an authentication attempt has ended"
        );
        let counter = self
            .counters
            .iter()
            .find(|(counted, _)| *counted == outcome);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

/// The misses of the caches of an authenticator. All series start at zero.
#[derive(Clone)]
pub struct CacheMisses {
    pub(super) token: IntCounter,
    pub(super) state: IntCounter,
    pub(super) api_key: IntCounter,
}

impl CacheMisses {
    /// Creates every series.
    #[must_use]
    pub fn new(metrics: &IdentityMetrics) -> Self {
        let misses = |cache| metrics.cache_misses.with_label_values(&[cache]);
        Self {
            token: misses("token"),
            state: misses("state"),
            api_key: misses("api_key"),
        }
    }
}

/// Metrics of an outside issuer. All series start at zero.
pub(super) struct ProviderMetrics {
    succeeded: IntCounter,
    failed: IntCounter,
    keys: IntGauge,
}

impl ProviderMetrics {
    pub(super) fn new(metrics: &IdentityMetrics, issuer: &str) -> Self {
        let fetches = |outcome: Outcome| {
            let labels = [issuer, outcome.as_str()];
            metrics.provider_fetches.with_label_values(&labels)
        };
        Self {
            succeeded: fetches(Success),
            failed: fetches(Failure),
            keys: metrics.provider_keys.with_label_values(&[issuer]),
        }
    }

    pub(super) fn count_fetch(&self, succeeded: bool) {
        let counter = if succeeded {
            &self.succeeded
        } else {
            &self.failed
        };
        counter.inc();
    }

    pub(super) fn set_keys(&self, keys: usize) {
        self.keys.set(i64::try_from(keys).unwrap_or(i64::MAX));
    }
}

/// Metrics of the hasher. All series start at zero.
#[derive(Clone)]
pub struct HashMetrics {
    wait: Histogram,
    refused: IntCounterVec,
}

impl HashMetrics {
    /// Creates every series.
    #[must_use]
    pub fn new(metrics: &IdentityMetrics) -> Self {
        for reason in [QUEUE_FULL, QUEUE_TIMEOUT, NO_MEMORY, NO_THREAD] {
            metrics.hashes_refused.with_label_values(&[reason]);
        }
        Self {
            wait: metrics.hash_wait.clone(),
            refused: metrics.hashes_refused.clone(),
        }
    }

    /// Records how long a hash waited for its permit.
    pub fn waited(&self, wait: Duration) {
        self.wait.observe(wait.as_secs_f64());
    }

    /// Counts a rejected hash.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}

impl AttemptCounters {
    /// Creates every series.
    #[must_use]
    pub fn new(metrics: &IdentityMetrics) -> Self {
        let password_outcomes = [Success, Failure, Limited, Overloaded, Error];
        Self {
            login: OutcomeCounters::new(metrics, "login", &password_outcomes),
            confirmation: OutcomeCounters::new(metrics, "confirmation", &password_outcomes),
            register: OutcomeCounters::new(
                metrics,
                "register",
                &[Success, Failure, Overloaded, Error],
            ),
            refresh: OutcomeCounters::new(
                metrics,
                "refresh",
                &[Success, Failure, Rotated, Reused, Error],
            ),
            logout: OutcomeCounters::new(metrics, "logout", &[Success, Error]),
            token: OutcomeCounters::new(metrics, "token", &[Success, Failure, Error]),
            api_key: OutcomeCounters::new(metrics, "api_key", &[Success, Failure, Error]),
            provider_token: OutcomeCounters::new(
                metrics,
                "provider_token",
                &[Success, Failure, Error],
            ),
        }
    }
}
