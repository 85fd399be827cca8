//! The admin listener. It is opened first and closed last.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use admin::{Admin, AdminMetrics, Build, Info, Pages, Profiler, Switches};
use db::migrate as migrations;
use http_server::connection::listener;
use http_server::connection::listener::ReservedPort;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::listeners::listener_config;
use crate::platform::Platform;

/// The pages of `docs/runbooks`, listed by the build script.
const RUNBOOKS: Pages = include!(concat!(env!("OUT_DIR"), "/runbooks.rs"));

/// The task of the listener.
#[derive(Default)]
pub(super) struct AdminListener {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl AdminListener {
    /// Opens the listener and returns its address.
    ///
    /// # Errors
    /// When the port cannot be opened.
    pub(super) fn open(
        &self,
        platform: &Platform<'_>,
        port: ReservedPort,
    ) -> anyhow::Result<SocketAddr> {
        let socket = port.listen("admin")?;
        let address = socket.local_addr()?;
        let routes = admin(platform)?.routes(&platform.health);
        let max_connections = platform.config.admin.max_connections;
        // The hard token does not end scrapes. They end with the process.
        let (stop, kill) = (self.stop.clone(), CancellationToken::new());
        let config = listener_config(platform, "admin", max_connections, stop.clone(), kill);
        let serving = listener::serve(socket, routes, config);
        let task = platform
            .lifecycle
            .spawn_until("admin listener", stop, serving);
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(address)
    }

    /// Closes the listener after its last answers.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let task = self
            .task
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            // The supervising task has reported a panic.
            let _joined = task.await;
        }
    }
}

/// The contents of the listener.
fn admin(platform: &Platform<'_>) -> anyhow::Result<Admin> {
    let (config, telemetry) = (platform.config, platform.telemetry);
    let (pool, faults) = (platform.database.clone(), platform.faults.clone());
    Ok(Admin {
        registry: telemetry.registry.clone(),
        exemplars: telemetry.exemplars.clone(),
        before_scrape: Arc::new(move || {
            pool.observe_pool();
            // Removes expired faults from the gauge.
            let _listed = faults.list();
        }),
        profile: config.profile,
        token: config.admin.token.clone(),
        max_token_guesses: config.admin.max_token_guesses,
        metrics: AdminMetrics::register(&telemetry.registry)?,
        info: Info::new(
            &crate::SERVICE,
            build(),
            &config.environment,
            config.profile,
            &*platform.clock,
            migrations::known(&platform.database),
        ),
        switches: Switches::new(
            &telemetry.logs,
            &config.telemetry.log_filter,
            &telemetry.traces,
            &platform.clock,
            &platform.lifecycle,
        ),
        faults: platform.injectable_faults().cloned(),
        profiler: Profiler::new(&platform.lifecycle),
        runbooks: RUNBOOKS,
    })
}

/// How this binary was built.
fn build() -> Build {
    let features = [
        ("sqlite", cfg!(feature = "sqlite")),
        ("postgres", cfg!(feature = "postgres")),
    ];
    let compiled = features.into_iter().filter(|(_, compiled)| *compiled);
    Build {
        rust: env!("BUILD_RUSTC"),
        features: compiled.map(|(name, _)| name).collect(),
    }
}
