//! Keeps the connection: makes it, watches it while nobody asks, makes it again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::rate_limit::shared::Failure;
use crate::rate_limit::shared::Live;
use crate::rate_limit::shared::Shared;
use crate::rate_limit::shared::script;
use crate::rate_limit::shared::script::Pace;

/// Longest wait for name, connection, greeting and script together.
const CONNECT: Duration = Duration::from_secs(1);
/// While requests are rare, this finds a lost server before they do.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A server that held for so long is tried again at once when it fails.
const STEADY: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Allows whatever comes: what the keeper asks must not fill a bucket.
const PROBE: Pace = Pace {
    period: Duration::from_millis(1),
    burst: 1_000,
};

impl Shared {
    /// Tries once, for a bounded time, so that a process whose server is there
    /// shares its limits from its first request on.
    pub(crate) async fn reach(&self) {
        match self.connect().await {
            Ok(live) => self.close(&live),
            Err(failure) => self.failed(&failure),
        }
    }

    /// Tries once, and keeps nothing.
    pub(crate) async fn check(&self) -> Result<(), Failure> {
        self.connect().await.map(drop)
    }

    /// Keeps the connection until `stop`.
    pub(crate) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let _stopped = stop.run_until_cancelled(self.keep_on()).await;
    }

    async fn keep_on(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            self.watch().await;
            if began.elapsed() >= STEADY {
                pause = FIRST_PAUSE;
            }
            loop {
                // Replicas lose the server together, and must not come back as one.
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.75..1.25))).await;
                // The longer it takes, or the oftener it comes, the longer the next pause.
                pause = (pause * 2).min(LONGEST_PAUSE);
                match self.connect().await {
                    Ok(live) => break self.close(&live),
                    Err(failure) => tracing::debug!(%failure, "the backend is still away"),
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

    async fn connect(&self) -> Result<Arc<Live>, Failure> {
        let connected = tokio::time::timeout(CONNECT, async {
            let config = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None);
            let mut connection = self
                .client
                .get_multiplexed_async_connection_with_config(&config)
                .await?;
            let script = script::load(&mut connection).await?;
            let live = Live { connection, script };
            // The first run pays for what the server, or the way to it, has to warm up.
            let name = self.probe_name();
            let mut warm = live.connection.clone();
            let _allowed = script::run(&mut warm, &live.script, &name, PROBE, None).await?;
            Ok::<_, Failure>(live)
        });
        let live = connected.await.map_err(|_| Failure::Slow(CONNECT))??;
        // Whoever is too slow for requests is not back.
        self.probe(&live).await?;
        Ok(Arc::new(live))
    }

    /// Asks as a request does; a server that is full or read-only refuses this too.
    async fn probe(&self, live: &Live) -> Result<(), Failure> {
        self.ask(live, &self.probe_name(), PROBE).await.map(drop)
    }

    fn probe_name(&self) -> String {
        format!("{}:limit:probe", self.prefix)
    }
}
