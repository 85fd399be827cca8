//! The process: the order of its start, and its end.

mod admin_listener;
mod dependencies;
mod listeners;
mod public_listener;

use std::net::SocketAddr;
use std::time::Duration;

use http_server::connection::Serve;
use http_server::description;
use lifecycle::{Lifecycle, LifecycleMetrics, State};
use request::RequestContext;
use telemetry::{Telemetry, logs};

use crate::app;
use crate::config::Config;
use crate::platform::Platform;

use admin_listener::AdminListener;
use listeners::Ports;

// Together with the time for cutting work and ending the runtime, these stay below five seconds.
// The chart adds five seconds to drain delay, grace period and flush timeout.

/// Time to close the connections of the database.
const CLOSE_DATABASE: Duration = Duration::from_secs(2);
/// Time to answer the last scrapes.
const LAST_SCRAPE: Duration = Duration::from_millis(500);
/// Time to write the last log lines.
const LAST_LINES: Duration = Duration::from_millis(250);

/// Serves until a signal or a failure, and returns the exit code. `announce` gets the public and
/// the admin address when both listeners are ready.
///
/// # Errors
/// When the process cannot start.
pub async fn run(config: &Config, announce: impl Fn(SocketAddr, SocketAddr)) -> anyhow::Result<u8> {
    let telemetry = Telemetry::start(
        crate::SERVICE,
        &config.telemetry,
        &config.otel,
        RequestContext::correlate,
    )?;
    let admin = AdminListener::default();
    // The caller reports a failure once, as the last line.
    let outcome = run_observed(config, &telemetry, &admin, announce).await;
    let flush = config.telemetry.flush_timeout;
    // The flush has its own time limit. The step adds time to count lost data.
    lifecycle::bounded_step("telemetry", flush + LAST_LINES, telemetry.flush()).await;
    // The admin listener is open until here, so that the counters of the last spans can be scraped.
    lifecycle::bounded_step("admin listener", LAST_SCRAPE, admin.close()).await;
    logs::flush(LAST_LINES);
    outcome
}

async fn run_observed(
    config: &Config,
    telemetry: &Telemetry,
    admin: &AdminListener,
    announce: impl Fn(SocketAddr, SocketAddr),
) -> anyhow::Result<u8> {
    let lifecycle = Lifecycle::new(LifecycleMetrics::register(&telemetry.registry)?);
    lifecycle::watch_signals(&lifecycle)?;
    // Ports are bound before anything is made, so that a port in use leaves nothing behind.
    let ports = Ports::bind(config)?;
    let operations = description::operations(&app::openapi());
    let platform = Platform::new(config, telemetry, lifecycle, operations)?;
    for warning in config
        .warnings
        .iter()
        .chain(&platform.database.exposed_files())
    {
        tracing::warn!("{warning}");
    }
    // The admin listener is started first and closed last, so that probes and scrapes are answered
    // from the start to the end of the drain.
    let admin_address = admin.open(&platform, ports.admin)?;
    let lifecycle = &platform.lifecycle;
    let result = tokio::select! {
        // A signal during the start ends the start.
        () = lifecycle.draining().cancelled_owned() => Ok(None),
        service = start(&platform) => service.and_then(|service| {
            public_listener::open(&platform, service, ports.public).map(Some)
        }),
    };
    let failure = match result {
        Ok(Some(public_address)) => {
            lifecycle.enter(State::Ready);
            announce(public_address, admin_address);
            None
        }
        Ok(None) => None,
        Err(error) => {
            lifecycle.fail("the start failed");
            Some(error)
        }
    };
    lifecycle.run_shutdown(&config.lifecycle).await;
    lifecycle::bounded_step("database", CLOSE_DATABASE, platform.database.close()).await;
    failure.map_or_else(|| Ok(exit_code(lifecycle)), Err)
}

/// Prepares the service, beginning with the database. It has no socket yet.
async fn start(platform: &Platform<'_>) -> anyhow::Result<impl Serve + use<>> {
    let stores = app::Stores::new(&platform.database, &platform.clock);
    let router = app::build(platform, &stores)?;
    // All following steps have external dependencies.
    platform.health.initialised();
    dependencies::prepare_database(platform, &*stores.identity).await?;
    dependencies::start_rate_limits(platform).await;
    Ok(public_listener::service(platform, router))
}

fn exit_code(lifecycle: &Lifecycle) -> u8 {
    match (lifecycle.cuts(), lifecycle.has_failed()) {
        (0, false) => 0,
        (0, true) => 1,
        _ => lifecycle::EXIT_FORCED,
    }
}
