//! Rate limits: GCRA through tower_governor, keyed by client address before
//! authentication and by principal after it.
//!
//! tower_governor decides; what it lacks is added around it: rates that mean
//! requests per second, refusals as problems with a `Retry-After` that holds,
//! counted decisions, and a table of keys that is swept and has a cap.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use governor::clock::QuantaInstant;
use governor::middleware::NoOpMiddleware;
use http::{HeaderName, HeaderValue, Request};
use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};
use tower::{Layer, Service};
use tower_governor::governor::{Governor, GovernorConfig, GovernorConfigBuilder};
use tower_governor::key_extractor::KeyExtractor;
use tower_governor::{GovernorError, GovernorLayer};
use uuid::Uuid;

use super::Config;
use crate::metrics;
use crate::platform::http::problem::{Problem, codes};
use crate::platform::observe::RequestContext;

metrics! {
    /// Rate limits. `limiter` is `address`, `principal` or `auth`.
    pub struct RateLimitMetrics {
        /// Decisions: `allowed` or `rejected`.
        pub decisions: IntCounterVec = "rate_limit_decisions_total"["limiter", "decision"];
        /// Keys that are remembered, as of the last sweep.
        pub keys: IntGaugeVec = "rate_limit_keys"["limiter"];
    }
}

/// Who shares a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// One client: an IPv4 address, or an IPv6 network of 64 bits.
    Address(IpAddr),
    /// One authenticated user, wherever the requests come from.
    Principal(Uuid),
    /// All that come while the table is full.
    Overflow,
}

/// What of the request context is the key.
#[derive(Debug, Clone, Copy)]
enum KeyedBy {
    Address,
    Principal,
}

/// Takes the key from the request context; while the table is full only keys that
/// it holds have a bucket of their own.
#[derive(Clone)]
pub struct ContextKey {
    by: KeyedBy,
    held: Arc<Mutex<HashSet<Key>>>,
    max_keys: usize,
}

impl KeyExtractor for ContextKey {
    type Key = Key;

    fn extract<T>(&self, _: &Request<T>) -> Result<Key, GovernorError> {
        let key = RequestContext::with(|context| match self.by {
            KeyedBy::Address => {
                context.map(|context| Key::Address(network(context.client_address)))
            }
            KeyedBy::Principal => context?.principal.get().copied().map(Key::Principal),
        })
        .ok_or(GovernorError::UnableToExtractKey)?;
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(&key) {
            return Ok(key);
        }
        if held.len() >= self.max_keys {
            return Ok(Key::Overflow);
        }
        held.insert(key);
        Ok(key)
    }
}

/// One IPv6 customer has a /64 at least, and can choose any address in it.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// One limiter: a rate, its table of keys, its counters.
#[derive(Clone)]
pub struct Limit {
    name: &'static str,
    policy: HeaderValue,
    config: Arc<GovernorConfig<ContextKey, NoOpMiddleware<QuantaInstant>>>,
    key: ContextKey,
    allowed: IntCounter,
    rejected: IntCounter,
}

/// The limiters of a process; `None` when limiting is off.
#[derive(Clone)]
pub struct Limits {
    /// Every request, by client address.
    pub address: Option<Limit>,
    /// Every authenticated request, by principal.
    pub principal: Option<Limit>,
    /// The stricter one for credentials.
    pub auth: Option<Limit>,
    metrics: RateLimitMetrics,
}

impl Limits {
    /// Builds the limiters and their series.
    #[must_use]
    pub fn new(config: &Config, metrics: RateLimitMetrics) -> Self {
        for limiter in ["address", "principal", "auth"] {
            for decision in ["allowed", "rejected"] {
                metrics.decisions.with_label_values(&[limiter, decision]);
            }
            metrics.keys.with_label_values(&[limiter]);
        }
        let limit = |name, by, per_second, burst| {
            let key = ContextKey {
                by,
                held: Arc::default(),
                max_keys: usize::try_from(config.max_keys).unwrap_or(usize::MAX),
            };
            let limit = || Limit::new(name, key, per_second, burst, &metrics);
            config.enabled.then(limit).flatten()
        };
        let default = (config.default_per_second, config.default_burst);
        Self {
            address: limit("address", KeyedBy::Address, default.0, default.1),
            principal: limit("principal", KeyedBy::Principal, default.0, default.1),
            auth: limit(
                "auth",
                KeyedBy::Address,
                config.auth_per_second,
                config.auth_burst,
            ),
            metrics,
        }
    }

    /// Forgets keys whose bucket is full again.
    pub fn sweep(&self) {
        for limit in [&self.address, &self.principal, &self.auth]
            .into_iter()
            .flatten()
        {
            let limiter = limit.config.limiter();
            limiter.retain_recent();
            limiter.shrink_to_fit();
            // Clients that come again are taken up again: the table holds at most
            // what the limiter still remembers and one cap of new keys.
            let mut held = limit
                .key
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            held.clear();
            held.shrink_to_fit();
            let keys = i64::try_from(limiter.len()).unwrap_or(i64::MAX);
            self.metrics.keys.with_label_values(&[limit.name]).set(keys);
        }
    }
}

impl Limit {
    fn new(
        name: &'static str,
        key: ContextKey,
        per_second: f64,
        burst: u32,
        metrics: &RateLimitMetrics,
    ) -> Option<Self> {
        // tower_governor counts in the time that one token takes to come back.
        let config = GovernorConfigBuilder::default()
            .key_extractor(key.clone())
            .period(Duration::from_secs_f64(1.0 / per_second).max(Duration::from_nanos(1)))
            .burst_size(burst)
            .finish()?;
        let window = (f64::from(burst) / per_second).ceil();
        Some(Self {
            name,
            policy: HeaderValue::from_str(&format!("\"{name}\";q={burst};w={window}")).ok()?,
            config: Arc::new(config),
            key,
            allowed: metrics.decisions.with_label_values(&[name, "allowed"]),
            rejected: metrics.decisions.with_label_values(&[name, "rejected"]),
        })
    }

    /// The answer to a request that comes too soon. The wait is rounded up: a
    /// client that honours `Retry-After` is not refused again.
    fn refuse(&self, error: &GovernorError) -> Response {
        let GovernorError::TooManyRequests { wait_time, .. } = error else {
            return Problem::internal(error.clone()).into_response();
        };
        self.rejected.inc();
        let seconds = wait_time + 1;
        let state = format!("\"{}\";r=0;t={seconds}", self.name);
        let mut problem = Problem::new(
            codes::RATE_LIMITED,
            "Too many requests; wait and try again.",
        )
        .retry_after(seconds)
        .header(
            HeaderName::from_static("ratelimit-policy"),
            self.policy.clone(),
        );
        if let Ok(state) = HeaderValue::from_str(&state) {
            problem = problem.header(HeaderName::from_static("ratelimit"), state);
        }
        problem.into_response()
    }
}

impl<S> Layer<S> for Limit
where
    S: Service<Request<Body>, Response = Response>,
{
    type Service = Governor<ContextKey, NoOpMiddleware<QuantaInstant>, CountingService<S>, Body>;

    fn layer(&self, inner: S) -> Self::Service {
        let refusing = self.clone();
        GovernorLayer::new(Arc::clone(&self.config))
            .error_handler(move |error| refusing.refuse(&error))
            .layer(CountingService {
                inner,
                allowed: self.allowed.clone(),
            })
    }
}

/// Stands inside the limiter: what arrives here was allowed.
#[derive(Clone)]
pub struct CountingService<S> {
    inner: S,
    allowed: IntCounter,
}

impl<S, R> Service<R> for CountingService<S>
where
    S: Service<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.allowed.inc();
        self.inner.call(request)
    }
}
