//! One limit over many replicas. The buckets are in Redis or Valkey.
//!
//! A request makes one call, for at most `rate_limit.redis_timeout`. The first call without an
//! answer opens the circuit. Then the local limiter decides alone, until the keeper has received an
//! answer in time again.

mod keeper;
mod script;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use redis::IntoConnectionInfo as _;
use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

use crate::rate::keys::LimitKey;
use crate::rate::metrics::RateLimitMetrics;
pub(crate) use script::Pace;

/// A connection on which the script has run.
pub(crate) struct LiveConnection {
    connection: MultiplexedConnection,
    /// The SHA-1 that names the script on the server.
    script: String,
}

/// Reason why the server made no decision.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendFailure {
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the connection failed: {0}")]
    Gone(redis::RedisError),
    #[error("the server refuses: {0}")]
    Refused(redis::RedisError),
}

impl BackendFailure {
    const REASONS: [&'static str; 3] = ["slow", "gone", "refused"];

    fn reason(&self) -> &'static str {
        match self {
            Self::Slow(_) => "slow",
            Self::Gone(_) => "gone",
            Self::Refused(_) => "refused",
        }
    }
}

impl From<redis::RedisError> for BackendFailure {
    fn from(error: redis::RedisError) -> Self {
        if error.is_io_error() || error.is_unrecoverable_error() {
            Self::Gone(error)
        } else {
            Self::Refused(error)
        }
    }
}

/// The shared buckets of a process's limiters.
pub(crate) struct SharedBuckets {
    client: redis::Client,
    prefix: String,
    deadline: Duration,
    /// Present while the circuit is closed.
    live: RwLock<Option<Arc<LiveConnection>>>,
    opened: Notify,
    metrics: RateLimitMetrics,
}

/// Creates a client for the URL of a server.
///
/// # Errors
/// When it is not the URL of a Redis server.
pub(crate) fn client(url: &str) -> redis::RedisResult<redis::Client> {
    let info = url.into_connection_info()?;
    // Requests wait for these small messages, so the kernel must not delay them.
    let tcp = info.tcp_settings().clone().set_nodelay(true);
    redis::Client::open(info.set_tcp_settings(tcp))
}

impl SharedBuckets {
    pub(crate) fn new(
        url: &str,
        prefix: String,
        deadline: Duration,
        metrics: RateLimitMetrics,
    ) -> redis::RedisResult<Self> {
        for reason in BackendFailure::REASONS {
            metrics.backend_failures.with_label_values(&[reason]);
        }
        metrics.backend_up.set(0);
        Ok(Self {
            client: client(url)?,
            prefix,
            deadline,
            live: RwLock::default(),
            opened: Notify::new(),
            metrics,
        })
    }

    /// The connection, while the circuit is closed.
    pub(crate) fn live(&self) -> Option<Arc<LiveConnection>> {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the buckets are shared now.
    pub(crate) fn is_up(&self) -> bool {
        self.live
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Decides one request: `Ok`, or the time to wait. `None` when the server made no decision in
    /// time. The circuit is then open.
    pub(crate) async fn decide(
        &self,
        live: &Arc<LiveConnection>,
        limiter: &str,
        key: LimitKey,
        pace: Pace,
    ) -> Option<Result<(), Duration>> {
        match self.ask(live, &self.name(limiter, key), pace).await {
            Ok(decision) => Some(decision),
            Err(failure) => {
                self.open(live, &failure);
                None
            }
        }
    }

    fn name(&self, limiter: &str, key: LimitKey) -> String {
        format!("{}:limit:{limiter}:{:032x}", self.prefix, key.digest())
    }

    async fn ask(
        &self,
        live: &LiveConnection,
        name: &str,
        pace: Pace,
    ) -> Result<Result<(), Duration>, BackendFailure> {
        let began = Instant::now();
        let mut connection = live.connection.clone();
        let asked = script::run(&mut connection, &live.script, name, pace, None);
        let answer = tokio::time::timeout(self.deadline, asked).await;
        self.metrics
            .backend_seconds
            .observe(began.elapsed().as_secs_f64());
        Ok(answer.map_err(|_| BackendFailure::Slow(self.deadline))??)
    }

    /// Opens the circuit. When many calls on one connection fail, only the first finds it closed
    /// and logs.
    fn open(&self, failed: &Arc<LiveConnection>, failure: &BackendFailure) {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        if !live.as_ref().is_some_and(|live| Arc::ptr_eq(live, failed)) {
            return;
        }
        *live = None;
        drop(live);
        self.metrics.backend_up.set(0);
        self.failed(failure);
        self.opened.notify_one();
    }

    fn failed(&self, failure: &BackendFailure) {
        self.metrics
            .backend_failures
            .with_label_values(&[failure.reason()])
            .inc();
        tracing::warn!(
            error = %failure,
            "rate limits are not shared: the local limiter decides"
        );
    }

    fn close(&self, live: &Arc<LiveConnection>) {
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(live));
        self.metrics.backend_up.set(1);
        tracing::info!("rate limits are shared");
    }
}

#[cfg(test)]
mod tests;
