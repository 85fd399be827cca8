//! Rate limits: GCRA, keyed by client address before authentication and by principal after it.
//!
//! governor decides in this process. This module adds rates in requests a second, refusals as
//! problems with an exact `Retry-After`, counted decisions, and a table of keys that is swept and
//! bounded. With the backend `redis` the buckets that all replicas share decide instead, while the
//! server answers.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock as _;
use governor::{DefaultKeyedRateLimiter, Quota};
use lifecycle::Lifecycle;
use prometheus::IntCounter;

use crate::rate::config::{Config, LimitBackend};
use crate::rate::keys::{KeyTable, KeyedBy, LimitKey};
use crate::rate::metrics::RateLimitMetrics;
use crate::rate::refusal::RateLimitExceeded;
use crate::rate::shared::{Pace, SharedBuckets};

/// Interval of the sweeps that remove unused keys.
const SWEEP: Duration = Duration::from_secs(10);

/// The limiter of this process: GCRA with a bucket for each key.
pub type KeyedLimiter = DefaultKeyedRateLimiter<LimitKey>;

/// One limiter: a rate, its table of keys and its counters.
#[derive(Clone)]
pub struct RateLimit(Arc<LimitState>);

struct LimitState {
    name: &'static str,
    policy: Arc<str>,
    pace: Pace,
    local: Arc<KeyedLimiter>,
    shared: Option<Arc<SharedBuckets>>,
    keyed_by: KeyedBy,
    table: KeyTable,
    allowed: IntCounter,
    rejected: IntCounter,
}

/// The limiters of a process. They are `None` when limiting is off.
#[derive(Clone)]
pub struct RateLimits {
    /// Every request, by client address.
    pub address: Option<RateLimit>,
    /// Every authenticated request, by principal.
    pub principal: Option<RateLimit>,
    /// The stricter limit of routes that take credentials, by client address.
    pub auth: Option<RateLimit>,
    /// Every check of a password, by its account.
    pub account: Option<RateLimit>,
    shared: Option<Arc<SharedBuckets>>,
}

impl RateLimits {
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
            let table = KeyTable::new(config.max_keys, pace.refill(), keys);
            let limit = || RateLimit::new(name, pace, (by, table), shared.clone(), metrics);
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
            limit.0.table.sweep(|| {
                limit.0.local.retain_recent();
                limit.0.local.shrink_to_fit();
            });
        }
    }
}

impl RateLimit {
    fn new(
        name: &'static str,
        pace: Pace,
        (keyed_by, table): (KeyedBy, KeyTable),
        shared: Option<Arc<SharedBuckets>>,
        metrics: &RateLimitMetrics,
    ) -> Option<Self> {
        let quota = Quota::with_period(pace.period)?.allow_burst(NonZeroU32::new(pace.burst)?);
        let window = pace.refill().as_secs_f64().ceil();
        let policy = format!("\"{name}\";q={};w={window}", pace.burst);
        Some(Self(Arc::new(LimitState {
            name,
            policy: policy.into(),
            pace,
            local: Arc::new(KeyedLimiter::keyed(quota)),
            shared,
            keyed_by,
            table,
            allowed: metrics.decisions.with_label_values(&[name, "allowed"]),
            rejected: metrics.decisions.with_label_values(&[name, "rejected"]),
        })))
    }

    /// The decision of the shared buckets on the current request: `Ok`, or the time to wait. `None`
    /// when the local limiter decides. The future returns `None` when the shared buckets do not
    /// answer in time.
    #[must_use]
    pub fn shared_decision(
        &self,
    ) -> Option<impl Future<Output = Option<Result<(), Duration>>> + Send + use<>> {
        self.shared_decision_on(self.0.keyed_by.current()?)
    }

    fn shared_decision_on(
        &self,
        key: LimitKey,
    ) -> Option<impl Future<Output = Option<Result<(), Duration>>> + Send + use<>> {
        let shared = Arc::clone(self.0.shared.as_ref()?);
        let live = shared.live()?;
        let state = Arc::clone(&self.0);
        Some(async move {
            let decision = shared.decide(&live, state.name, key, state.pace).await;
            if decision == Some(Ok(())) {
                // The local limiter counts the request too. So a client that has used up its share
                // gets no new one when the local limiter takes over.
                let key = state.table.admit(key);
                let _followed = state.local.check_key(&key);
            }
            decision
        })
    }

    /// Decides in a handler, where a layer does not have the key.
    ///
    /// # Errors
    /// [`RateLimitExceeded`] when the limit is reached.
    pub async fn take(&self, key: LimitKey) -> Result<(), RateLimitExceeded> {
        let shared = match self.shared_decision_on(key) {
            Some(decision) => decision.await,
            None => None,
        };
        let decision = shared.unwrap_or_else(|| {
            let (limiter, key) = (&self.0.local, self.0.table.admit(key));
            limiter
                .check_key(&key)
                .map_err(|until| until.wait_time_from(limiter.clock().now()))
        });
        match decision {
            Ok(()) => {
                self.0.allowed.inc();
                Ok(())
            }
            Err(wait) => Err(self.exceeded(wait)),
        }
    }

    /// Requests that are allowed at once.
    #[must_use]
    pub fn burst(&self) -> u32 {
        self.0.pace.burst
    }

    /// The key of the current request, as it may be passed to [`RateLimit::limiter`]. `None`
    /// outside of a request, and where no principal is authenticated.
    #[must_use]
    pub fn admitted_key(&self) -> Option<LimitKey> {
        Some(self.0.table.admit(self.0.keyed_by.current()?))
    }

    /// The limiter of this process, for adapters that call it themselves. Its decisions are counted
    /// with [`RateLimit::allowed`] and [`RateLimit::exceeded`].
    #[must_use]
    pub fn limiter(&self) -> Arc<KeyedLimiter> {
        Arc::clone(&self.0.local)
    }

    /// Counter of the allowed requests.
    #[must_use]
    pub fn allowed(&self) -> IntCounter {
        self.0.allowed.clone()
    }

    /// Counts a refusal.
    #[must_use]
    pub fn exceeded(&self, wait: Duration) -> RateLimitExceeded {
        self.0.rejected.inc();
        tracing::debug!(limiter = self.0.name, ?wait, "refused by a rate limit");
        RateLimitExceeded {
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
    use crate::rate::keys::LimitKey;

    fn limits(per_second: f64, max_keys: u32) -> RateLimits {
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
        RateLimits::new(&config, &metrics).unwrap()
    }

    /// Decides a request of this client in the same way as an adapter.
    fn ask(limit: &RateLimit, client: u32) -> bool {
        let key = LimitKey::address(Ipv4Addr::from_bits(client).into());
        let key = limit.0.table.admit(key);
        limit.0.local.check_key(&key).is_ok()
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
            assert!(limit.0.local.len() <= 1_001);
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
        assert_eq!(limit.0.local.len(), 0);
    }
}
