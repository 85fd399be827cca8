//! Rate limits: GCRA, keyed by client address before authentication and by principal after it.
//!
//! tower_governor decides in this process. This module adds rates in requests a second, refusals as
//! problems with an exact `Retry-After`, counted decisions, and a table of keys that is swept and
//! bounded. With the backend `redis` the buckets that all replicas share decide instead, while the
//! server answers.

use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse as _, Response};
use governor::clock::{Clock as _, QuantaInstant};
use governor::middleware::NoOpMiddleware;
use lifecycle::Lifecycle;
use prometheus::IntCounter;
use request::Problem;
use tower_governor::GovernorError;
use tower_governor::governor::{GovernorConfig, GovernorConfigBuilder};

use crate::problem::ProblemResponse;
use crate::rate_limit::config::{Config, LimitBackend};
use crate::rate_limit::keys::{ContextKey, KeyTable, KeyedBy, LimitKey};
use crate::rate_limit::metrics::RateLimitMetrics;
use crate::rate_limit::refusal::TooSoon;
use crate::rate_limit::shared::{Pace, SharedBuckets};

/// Interval of the sweeps that remove unused keys.
const SWEEP: Duration = Duration::from_secs(10);

pub(crate) type LocalLimiter = GovernorConfig<ContextKey, NoOpMiddleware<QuantaInstant>>;

/// One limiter: a rate, its table of keys and its counters.
#[derive(Clone)]
pub struct Limit(Arc<LimitState>);

struct LimitState {
    name: &'static str,
    policy: Arc<str>,
    pace: Pace,
    local: Arc<LocalLimiter>,
    shared: Option<Arc<SharedBuckets>>,
    key: ContextKey,
    allowed: IntCounter,
    rejected: IntCounter,
}

/// The limiters of a process. They are `None` when limiting is off.
#[derive(Clone)]
pub struct Limits {
    /// Every request, by client address.
    pub address: Option<Limit>,
    /// Every authenticated request, by principal.
    pub principal: Option<Limit>,
    /// The stricter limit of routes that take credentials, by client address.
    pub auth: Option<Limit>,
    /// Every check of a password, by its account.
    pub account: Option<Limit>,
    shared: Option<Arc<SharedBuckets>>,
}

impl Limits {
    /// Creates the limiters and their series.
    ///
    /// # Errors
    /// When the URL of the shared backend is invalid.
    pub fn new(config: &Config, metrics: &RateLimitMetrics) -> anyhow::Result<Self> {
        metrics.backend_up.set(1);
        let shared = match (&config.redis_url, config.backend) {
            (Some(url), LimitBackend::Redis) if config.enabled => {
                Some(Arc::new(SharedBuckets::new(
                    url.expose(),
                    config.redis_prefix.clone(),
                    config.redis_timeout,
                    metrics.clone(),
                )?))
            }
            _ => None,
        };
        let limit = |name, by, per_second, burst| {
            for decision in ["allowed", "rejected"] {
                metrics.decisions.with_label_values(&[name, decision]);
            }
            let keys = metrics.keys.with_label_values(&[name]);
            let pace = Pace::new(per_second, burst);
            let table = Arc::new(KeyTable::new(config.max_keys, pace.refill(), keys));
            let key = ContextKey { by, table };
            let limit = || Limit::new(name, pace, key, shared.clone(), metrics);
            config.enabled.then(limit).flatten()
        };
        let default = (config.default_per_second, config.default_burst);
        Ok(Self {
            address: limit("address", KeyedBy::Address, default.0, default.1),
            principal: limit("principal", KeyedBy::Principal, default.0, default.1),
            auth: limit(
                "auth",
                KeyedBy::Address,
                config.auth_per_second,
                config.auth_burst,
            ),
            account: limit(
                "account",
                KeyedBy::Caller,
                config.account_per_second,
                config.account_burst,
            ),
            shared,
        })
    }

    /// Sweeps the tables and maintains the shared backend, in the background. Waits for the first
    /// answer of the backend, for about a second at most.
    pub async fn start(&self, lifecycle: &Lifecycle) {
        let (limits, stop) = (self.clone(), lifecycle.soft());
        lifecycle.spawn("rate limit sweep", async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(SWEEP) => limits.sweep(),
                }
            }
        });
        if let Some(shared) = &self.shared {
            shared.reach().await;
            let kept = Arc::clone(shared).keep(lifecycle.soft());
            lifecycle.spawn("rate limit backend", kept);
        }
    }

    /// Whether the shared backend decides. `None` when there is none.
    #[must_use]
    pub fn backend(&self) -> Option<impl Fn() -> bool + Clone + Send + Sync + use<>> {
        let shared = self.shared.clone()?;
        Some(move || shared.is_up())
    }

    /// Connects to the shared backend once, when one is configured.
    ///
    /// # Errors
    /// When it does not answer as fast as requests need.
    pub async fn check(config: &Config) -> anyhow::Result<()> {
        let metrics = RateLimitMetrics::register(&prometheus::Registry::new())?;
        match Self::new(config, &metrics)?.shared {
            Some(shared) => Ok(shared.check().await?),
            None => Ok(()),
        }
    }

    /// Removes keys whose bucket is full again.
    pub fn sweep(&self) {
        for limit in [&self.address, &self.principal, &self.auth, &self.account]
            .into_iter()
            .flatten()
        {
            limit.0.key.table.sweep(|| {
                let limiter = limit.0.local.limiter();
                limiter.retain_recent();
                limiter.shrink_to_fit();
            });
        }
    }
}

impl Limit {
    fn new(
        name: &'static str,
        pace: Pace,
        key: ContextKey,
        shared: Option<Arc<SharedBuckets>>,
        metrics: &RateLimitMetrics,
    ) -> Option<Self> {
        // The period of tower_governor is the time in which one token returns.
        let local = GovernorConfigBuilder::default()
            .key_extractor(key.clone())
            .period(pace.period)
            .burst_size(pace.burst)
            .finish()?;
        let window = pace.refill().as_secs_f64().ceil();
        let policy = format!("\"{name}\";q={};w={window}", pace.burst);
        Some(Self(Arc::new(LimitState {
            name,
            policy: policy.into(),
            pace,
            local: Arc::new(local),
            shared,
            key,
            allowed: metrics.decisions.with_label_values(&[name, "allowed"]),
            rejected: metrics.decisions.with_label_values(&[name, "rejected"]),
        })))
    }

    /// Requests the decision of the shared buckets for the current request. `None` when the local
    /// limiter decides alone.
    pub(crate) fn ask(
        &self,
    ) -> Option<impl Future<Output = Option<Result<(), Duration>>> + Send + use<>> {
        self.ask_about(self.0.key.current()?)
    }

    fn ask_about(
        &self,
        key: LimitKey,
    ) -> Option<impl Future<Output = Option<Result<(), Duration>>> + Send + use<>> {
        let shared = Arc::clone(self.0.shared.as_ref()?);
        let live = shared.live()?;
        let parts = Arc::clone(&self.0);
        Some(async move {
            let decision = shared.decide(&live, parts.name, key, parts.pace).await;
            if decision == Some(Ok(())) {
                // The local limiter counts the request too. So a client that has used up its share
                // gets no new one when the local limiter takes over.
                let key = parts.key.table.admit(key);
                let _followed = parts.local.limiter().check_key(&key);
            }
            decision
        })
    }

    /// Decides in a handler, where a layer does not have the key.
    ///
    /// # Errors
    /// [`TooSoon`] when the limit is reached.
    pub async fn take(&self, key: LimitKey) -> Result<(), TooSoon> {
        let shared = match self.ask_about(key) {
            Some(asked) => asked.await,
            None => None,
        };
        let decision = shared.unwrap_or_else(|| {
            let limiter = self.0.local.limiter();
            let key = self.0.key.table.admit(key);
            limiter
                .check_key(&key)
                .map_err(|until| until.wait_time_from(limiter.clock().now()))
        });
        match decision {
            Ok(()) => {
                self.0.allowed.inc();
                Ok(())
            }
            Err(wait) => Err(self.too_soon(wait)),
        }
    }

    /// Requests that are allowed at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.0.pace.burst
    }

    /// The limiter of this process.
    pub(crate) fn governing(&self) -> Arc<LocalLimiter> {
        Arc::clone(&self.0.local)
    }

    /// Counter of the allowed requests.
    pub(crate) fn allowed(&self) -> IntCounter {
        self.0.allowed.clone()
    }

    pub(crate) fn refuse_locally(&self, error: &GovernorError) -> Response {
        match error {
            GovernorError::TooManyRequests { wait_time, .. } => {
                self.refuse(Duration::from_secs(*wait_time))
            }
            _ => ProblemResponse(Problem::internal(error.clone())).into_response(),
        }
    }

    pub(crate) fn refuse(&self, wait: Duration) -> Response {
        ProblemResponse::from(self.too_soon(wait)).into_response()
    }

    fn too_soon(&self, wait: Duration) -> TooSoon {
        self.0.rejected.inc();
        tracing::debug!(limiter = self.0.name, ?wait, "refused by a rate limit");
        TooSoon {
            limiter: self.0.name,
            policy: Arc::clone(&self.0.policy),
            wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::rate_limit::keys::LimitKey;

    fn limits(per_second: f64, max_keys: u32) -> Limits {
        let config = Config {
            enabled: true,
            default_per_second: per_second,
            default_burst: 2,
            auth_per_second: 1.0,
            auth_burst: 1,
            account_per_second: 1.0,
            account_burst: 1,
            max_keys,
            backend: LimitBackend::Local,
            redis_url: None,
            redis_timeout: Duration::from_millis(10),
            redis_prefix: String::new(),
        };
        let metrics = RateLimitMetrics::register(&prometheus::Registry::new()).unwrap();
        Limits::new(&config, &metrics).unwrap()
    }

    /// Decides a request of this client in the same way as tower_governor.
    fn ask(limit: &Limit, client: u32) -> bool {
        let key = LimitKey::address(Ipv4Addr::from_bits(client).into());
        let key = limit.0.key.table.admit(key);
        limit.0.local.limiter().check_key(&key).is_ok()
    }

    #[test]
    fn the_limiter_holds_the_keys_of_the_table_and_one_more_however_often_it_is_swept() {
        let limits = limits(0.01, 1_000);
        let limit = limits.address.as_ref().unwrap();
        let mut passed = 0;
        for client in 0..20_000 {
            if client % 1_500 == 0 {
                limits.sweep();
            }
            passed += u32::from(ask(limit, client));
            assert!(limit.0.local.limiter().len() <= 1_001);
        }
        assert_eq!(passed, 1_000 + 2, "each its first, and the others a burst");
    }

    #[test]
    fn a_sweep_leaves_nothing_of_buckets_that_are_full_again() {
        let limits = limits(1e9, 1_000);
        let limit = limits.address.as_ref().unwrap();
        for client in 0..2_000 {
            ask(limit, client);
        }
        limits.sweep();
        assert_eq!(limit.0.local.limiter().len(), 0);
    }
}
