//! Maintains the connection: opens it, checks it while there are no requests, and reopens it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use settings::backoff::{Backoff, jittered};
use tokio_util::sync::CancellationToken;

use crate::rate::shared::script::Pace;
use crate::rate::shared::{BackendFailure, LiveConnection, SharedBuckets, script};

/// Maximum time for name resolution, connection, greeting and script together.
const CONNECT: Duration = Duration::from_secs(1);
/// Interval of the checks. While requests are rare, a check finds a lost server first.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// When a connection that lasted this long fails, the first pause is short again.
const STEADY: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Replicas lose the server together and must not reconnect at the same moment.
const JITTER: f64 = 0.25;

/// Allows every call, so that the keeper's own calls do not fill a bucket.
const PROBE: Pace = Pace {
    period: Duration::from_millis(1),
    burst: 1_000,
};

impl SharedBuckets {
    /// Tries to connect once, for a bounded time. A process with a reachable server then shares its
    /// limits from its first request on.
    pub(crate) async fn reach(&self) {
        match self.connect().await {
            Ok(live) => self.close(&live),
            Err(failure) => self.failed(&failure),
        }
    }

    /// Tries to connect once, and closes the connection.
    pub(crate) async fn check(&self) -> Result<(), BackendFailure> {
        self.connect().await.map(drop)
    }

    /// Maintains the connection until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let _stopped = stop.run_until_cancelled(self.keep_on()).await;
    }

    async fn keep_on(&self) {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            let began = Instant::now();
            self.watch().await;
            if began.elapsed() >= STEADY {
                backoff.reset();
            }
            loop {
                // Each attempt doubles the next pause, even when it succeeds and soon fails again.
                tokio::time::sleep(jittered(backoff.next_pause(), JITTER)).await;
                match self.connect().await {
                    Ok(live) => break self.close(&live),
                    Err(failure) => {
                        tracing::debug!(
                            %failure,
                            "the shared backend of the rate limits does not answer yet"
                        );
                    }
                }
            }
        }
    }

    /// Returns when the circuit is open.
    async fn watch(&self) {
        while let Some(live) = self.live() {
            tokio::select! {
                () = self.opened.notified() => {}
                () = tokio::time::sleep(HEARTBEAT) => {
                    if let Err(failure) = self.probe(&live).await {
                        self.open(&live, &failure);
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Arc<LiveConnection>, BackendFailure> {
        let connected = tokio::time::timeout(CONNECT, async {
            let config = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let mut connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let script = script::load(&mut connection).await?;
            let live = LiveConnection { connection, script };
            // The first run includes the warm-up of the server and of the path to it.
            let name = self.probe_name();
            let mut warm = live.connection.clone();
            let _allowed = script::run(&mut warm, &live.script, &name, PROBE, None).await?;
            Ok::<_, BackendFailure>(live)
        });
        let live = connected
            .await
            .map_err(|_| BackendFailure::Slow(CONNECT))??;
        // A server that is too slow for requests does not count as recovered.
        self.probe(&live).await?;
        Ok(Arc::new(live))
    }

    /// Calls the server as a request does. A server that is full or read-only refuses this too.
    async fn probe(&self, live: &LiveConnection) -> Result<(), BackendFailure> {
        self.ask(live, &self.probe_name(), PROBE).await.map(drop)
    }

    fn probe_name(&self) -> String {
        format!("{}:limit:probe", self.prefix)
    }
}
