//! What is counted of credentials.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};
use telemetry::metrics;
use telemetry::metrics::QUICK;

/// Reasons why password hashes are refused.
pub(super) const QUEUE_FULL: &str = "queue_full";
pub(super) const QUEUE_TIMEOUT: &str = "queue_timeout";
pub(super) const NO_MEMORY: &str = "memory";
pub(super) const NO_THREAD: &str = "thread";

metrics! {
    /// Credentials.
    pub struct IdentityMetrics {
        /// Uses of credentials. `kind` is `login`, `register`, `refresh`, `logout`, `confirmation`
        /// (the own password, asked for again) or `token` (access tokens shown with requests);
        /// `outcome` is `success`, `failure` (wrong, taken or expired), `rotated` (a refresh token
        /// again within its grace), `reused` (again after it: its family is revoked), `limited`
        /// (refused by a limiter of passwords), `overloaded` or `error` (could not be decided).
        pub attempts: IntCounterVec = "auth_attempts_total"["kind", "outcome"];
        /// Time that password hashes waited for a place; see `auth.max_concurrent_hashes`.
        pub hash_wait: Histogram = "auth_hash_wait_seconds", buckets QUICK;
        /// Password hashes that were refused, answered with 503. The queue was full
        /// (`queue_full`), the wait too long (`queue_timeout`), or the system gave no memory
        /// (`memory`) or no thread (`thread`).
        pub hashes_refused: IntCounterVec = "auth_hashes_refused_total"["reason"];
    }
}

/// How an attempt ended; see [`IdentityMetrics::attempts`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
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

/// The counters of one kind, born at zero for every outcome that it can have.
#[derive(Clone)]
pub struct Attempts {
    kind: &'static str,
    counters: Vec<(Outcome, IntCounter)>,
}

/// The counters of every kind.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct AttemptCounters {
    pub login: Attempts,
    pub register: Attempts,
    pub refresh: Attempts,
    pub logout: Attempts,
    pub confirmation: Attempts,
    pub token: Attempts,
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

impl Attempts {
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

    /// Counts one attempt, and tells it at debug.
    pub fn count(&self, outcome: Outcome) {
        tracing::debug!(
            kind = self.kind,
            outcome = outcome.as_str(),
            "authentication"
        );
        let counter = self.counters.iter().find(|(known, _)| *known == outcome);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

/// What the hasher counts, born at zero.
#[derive(Clone)]
pub struct HashMetrics {
    wait: Histogram,
    refused: IntCounterVec,
}

impl HashMetrics {
    /// Makes every series.
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

    /// A hash has its place, after this long.
    pub fn waited(&self, wait: Duration) {
        self.wait.observe(wait.as_secs_f64());
    }

    /// A hash was refused.
    pub fn refused(&self, reason: &str) {
        self.refused.with_label_values(&[reason]).inc();
    }
}

impl AttemptCounters {
    /// Makes every series.
    #[must_use]
    pub fn new(metrics: &IdentityMetrics) -> Self {
        let guessed = [Success, Failure, Limited, Overloaded, Error];
        Self {
            login: Attempts::new(metrics, "login", &guessed),
            confirmation: Attempts::new(metrics, "confirmation", &guessed),
            register: Attempts::new(metrics, "register", &[Success, Failure, Overloaded, Error]),
            refresh: Attempts::new(
                metrics,
                "refresh",
                &[Success, Failure, Rotated, Reused, Error],
            ),
            logout: Attempts::new(metrics, "logout", &[Success, Error]),
            token: Attempts::new(metrics, "token", &[Success, Failure, Error]),
        }
    }
}
