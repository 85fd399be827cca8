//! SIGTERM and SIGINT.

use std::time::Duration;

use super::{EXIT_FORCED, Lifecycle};
use crate::platform::telemetry::logs;

/// How long a process that leaves at once waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Begins the drain at the first SIGTERM or SIGINT; a second one ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_signals(lifecycle: &Lifecycle) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drained = lifecycle.clone();
    // It outlives the tasks that it ends, up to the end of the process.
    lifecycle.accompany("signals", lifecycle.hard(), async move {
        let mut received = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let first = received().await;
        drained.shut_down(first);
        let second = received().await;
        tracing::error!(signal = second, "second signal: leaving at once");
        logs::flush(LAST_WORDS);
        #[allow(clippy::disallowed_methods)]
        std::process::exit(EXIT_FORCED.into());
    });
    Ok(())
}
