//! Signals: which ones begin the drain, and which ones have no effect.
//!
//! The default action of most signals ends the process without a drain. None of those
//! that a person, a supervisor or a terminal may send keeps it. Left alone are `SIGKILL`
//! and `SIGSTOP`, which cannot be caught, job control, and the signals of a defect
//! (`SIGSEGV`, `SIGABRT` …), after which the process must not go on.

use std::future::poll_fn;
use std::io::IsTerminal as _;
use std::task::Poll;
use std::time::Duration;

use rustix::process::Signal;
use telemetry::logs;
use tokio::signal::unix::{self, SignalKind};

use crate::EXIT_FORCED;
use crate::process::Lifecycle;

/// How long a process that leaves at once waits for its last lines to be written.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// They ask the process to end: from supervisors and terminals, and `SIGXCPU` at the soft
/// limit of processor time, before the hard one kills.
const ENDING: [(Signal, &str); 4] = [
    (Signal::TERM, "SIGTERM"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::XCPU, "SIGXCPU"),
];

/// They ask for something that this process does not have. `SIGXFSZ` comes with an error
/// of the write that was too large, which is handled there. `SIGPIPE` is ignored by the
/// standard library.
const WITHOUT_EFFECT: [(Signal, &str); 6] = [
    (Signal::USR1, "SIGUSR1"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::VTALARM, "SIGVTALRM"),
    (Signal::PROF, "SIGPROF"),
    (Signal::XFSZ, "SIGXFSZ"),
];

#[cfg(target_os = "linux")]
mod linux {
    use std::ops::RangeInclusive;

    use super::Signal;

    /// The power fails (`power.target` of some supervisors).
    pub(crate) const ENDING: [(Signal, &str); 1] = [(Signal::POWER, "SIGPWR")];
    pub(crate) const WITHOUT_EFFECT: [(Signal, &str); 2] =
        [(Signal::IO, "SIGIO"), (Signal::STKFLT, "SIGSTKFLT")];
    /// Real-time signals (signal(7)); the C library keeps 32 and 33 for itself.
    pub(crate) const REAL_TIME: RangeInclusive<i32> = 34..=64;
}

/// A signal that is waited for.
struct Watched {
    received: unix::Signal,
    name: &'static str,
    drains: bool,
    logged: bool,
}

/// Begins the drain at the first signal that asks for the end; a second one ends the
/// process at once. The others have no effect, and are logged once each.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_signals(lifecycle: &Lifecycle) -> std::io::Result<()> {
    let mut signals = install()?;
    let drained = lifecycle.clone();
    // It outlives the tasks that it ends, up to the end of the process.
    lifecycle.accompany("signals", lifecycle.hard(), async move {
        let first = ending(&mut signals).await;
        drained.shut_down(first);
        let second = ending(&mut signals).await;
        tracing::error!(signal = second, "second signal: leaving at once");
        logs::flush(LAST_WORDS);
        #[allow(clippy::disallowed_methods)]
        std::process::exit(EXIT_FORCED.into());
    });
    Ok(())
}

fn install() -> std::io::Result<Vec<Watched>> {
    let mut signals = Vec::new();
    let mut install = |number: i32, name: &'static str, drains: bool| {
        signals.push(Watched {
            received: unix::signal(SignalKind::from_raw(number))?,
            name,
            drains,
            logged: false,
        });
        std::io::Result::Ok(())
    };
    for (signal, name) in ENDING {
        install(signal.as_raw(), name, true)?;
    }
    for (signal, name) in WITHOUT_EFFECT {
        install(signal.as_raw(), name, false)?;
    }
    install(Signal::HUP.as_raw(), "SIGHUP", has_terminal())?;
    #[cfg(target_os = "linux")]
    {
        for (signal, name) in linux::ENDING {
            install(signal.as_raw(), name, true)?;
        }
        for (signal, name) in linux::WITHOUT_EFFECT {
            install(signal.as_raw(), name, false)?;
        }
        for number in linux::REAL_TIME {
            match install(number, "real-time signal", false) {
                // Kept by someone else: the first by musl, the last by valgrind.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
                installed => installed?,
            }
        }
    }
    Ok(signals)
}

/// Whether `SIGHUP` means that the terminal is gone. To a process without one it is a
/// request to read the configuration again: keys and certificates are read again by
/// themselves, everything else needs a restart.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal()
}

/// The next signal that asks for the end.
async fn ending(signals: &mut [Watched]) -> &'static str {
    poll_fn(|cx| {
        for signal in &mut *signals {
            while let Poll::Ready(Some(())) = signal.received.poll_recv(cx) {
                if signal.drains {
                    return Poll::Ready(signal.name);
                }
                if !std::mem::replace(&mut signal.logged, true) {
                    tracing::info!(signal = signal.name, "a signal without effect");
                }
            }
        }
        Poll::Pending
    })
    .await
}
