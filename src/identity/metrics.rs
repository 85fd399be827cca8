//! What is counted of credentials.

use prometheus::{IntCounter, IntCounterVec};

use crate::metrics;

metrics! {
    /// Credentials.
    pub struct IdentityMetrics {
        /// Uses of credentials. `kind` is `login`, `register`, `refresh`, `logout` or `token`
        /// (access tokens shown with requests); `outcome` is `success`, `failure` (wrong, taken
        /// or expired), `rotated` (a refresh token again within its grace), `reused` (again
        /// after it: its family is revoked), `overloaded` or `error` (could not be decided).
        pub attempts: IntCounterVec = "auth_attempts_total"["kind", "outcome"];
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
    Overloaded,
    Error,
}

use Outcome::{Error, Failure, Overloaded, Reused, Rotated, Success};

/// The counters of one kind, born at zero for every outcome that it can have.
#[derive(Clone)]
pub struct Attempts {
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
    pub token: Attempts,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Success => "success",
            Failure => "failure",
            Rotated => "rotated",
            Reused => "reused",
            Overloaded => "overloaded",
            Error => "error",
        }
    }
}

impl Attempts {
    fn new(metrics: &IdentityMetrics, kind: &str, outcomes: &[Outcome]) -> Self {
        let counter = |outcome: &Outcome| {
            let labels = [kind, outcome.as_str()];
            (*outcome, metrics.attempts.with_label_values(&labels))
        };
        Self {
            counters: outcomes.iter().map(counter).collect(),
        }
    }

    /// Counts one attempt.
    pub fn count(&self, outcome: Outcome) {
        let counter = self.counters.iter().find(|(known, _)| *known == outcome);
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

impl AttemptCounters {
    /// Makes every series.
    #[must_use]
    pub fn new(metrics: &IdentityMetrics) -> Self {
        let hashing = [Success, Failure, Overloaded, Error];
        Self {
            login: Attempts::new(metrics, "login", &hashing),
            register: Attempts::new(metrics, "register", &hashing),
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
