//! Signals that start the shutdown, and signals that are ignored.
//!
//! The default action of most signals ends the process without a drain, so every signal that a
//! person, a supervisor or a terminal may send has a handler. The exceptions are `SIGKILL` and
//! `SIGSTOP`, which cannot be caught, job control, and the signals of a defect (`SIGSEGV`,
//! `SIGABRT` …), after which the process must not continue.

use std::future::poll_fn;
use std::io::IsTerminal as _;
use std::task::Poll;
use std::time::Duration;

use rustix::process::Signal;
use telemetry::logs;
use tokio::signal::unix::{self, SignalKind};

use crate::EXIT_FORCED;
use crate::process::Lifecycle;

/// Time to write the buffered log lines before an immediate exit.
const LOG_FLUSH_TIMEOUT: Duration = Duration::from_millis(250);

/// Termination requests of supervisors and terminals. `SIGXCPU` is sent at the soft limit of CPU
/// time, before the hard limit kills the process.
const TERMINATING: [(Signal, &str); 4] = [
    (Signal::TERM, "SIGTERM"),
    (Signal::INT, "SIGINT"),
    (Signal::QUIT, "SIGQUIT"),
    (Signal::XCPU, "SIGXCPU"),
];

/// Signals without a function in this process. `SIGXFSZ` accompanies the error of a write beyond
/// the file size limit, and that error is handled. The standard library ignores `SIGPIPE`.
const IGNORED: [(Signal, &str); 6] = [
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

    /// Power failure (`power.target` of some supervisors).
    pub(crate) const TERMINATING: [(Signal, &str); 1] = [(Signal::POWER, "SIGPWR")];
    pub(crate) const IGNORED: [(Signal, &str); 2] =
        [(Signal::IO, "SIGIO"), (Signal::STKFLT, "SIGSTKFLT")];
    /// Real-time signals (signal(7)). The C library reserves 32 and 33.
    pub(crate) const REAL_TIME: RangeInclusive<i32> = 34..=64;
}

/// A signal with an installed handler.
struct SignalStream {
    received: unix::Signal,
    name: &'static str,
    terminates: bool,
    logged: bool,
}

/// Starts the drain at the first terminating signal. A second one ends the process immediately.
/// Other signals are ignored, and each is logged once.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn watch_signals(lifecycle: &Lifecycle) -> std::io::Result<()> {
    let mut signals = install()?;
    let lifecycle_of_task = lifecycle.clone();
    // This task ends with the process, after the tasks that it stops.
    lifecycle.spawn_until("signals", lifecycle.hard(), async move {
        let first = next_terminating(&mut signals).await;
        lifecycle_of_task.shut_down(first);
        let second = next_terminating(&mut signals).await;
        tracing::error!(signal = second, "second signal, exiting immediately");
        logs::flush(LOG_FLUSH_TIMEOUT);
        #[expect(
            clippy::disallowed_methods,
            reason = "the second signal skips the drain on purpose"
        )]
        std::process::exit(EXIT_FORCED.into());
    });
    Ok(())
}

fn install() -> std::io::Result<Vec<SignalStream>> {
    let mut signals = Vec::new();
    let mut install = |number: i32, name: &'static str, terminates: bool| {
        signals.push(SignalStream {
            received: unix::signal(SignalKind::from_raw(number))?,
            name,
            terminates,
            logged: false,
        });
        std::io::Result::Ok(())
    };
    for (signal, name) in TERMINATING {
        install(signal.as_raw(), name, true)?;
    }
    for (signal, name) in IGNORED {
        install(signal.as_raw(), name, false)?;
    }
    install(Signal::HUP.as_raw(), "SIGHUP", has_terminal())?;
    #[cfg(target_os = "linux")]
    {
        for (signal, name) in linux::TERMINATING {
            install(signal.as_raw(), name, true)?;
        }
        for (signal, name) in linux::IGNORED {
            install(signal.as_raw(), name, false)?;
        }
        for number in linux::REAL_TIME {
            match install(number, "real-time signal", false) {
                // Reserved: the first real-time signal by musl, the last one by valgrind.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
                installed => installed?,
            }
        }
    }
    Ok(signals)
}

/// Whether `SIGHUP` means that the terminal is gone. Without a terminal it is a request to reload
/// the configuration, which needs a restart here. Keys and certificates are reloaded automatically.
fn has_terminal() -> bool {
    std::io::stdin().is_terminal()
        || std::io::stdout().is_terminal()
        || std::io::stderr().is_terminal()
}

/// The name of the next terminating signal.
async fn next_terminating(signals: &mut [SignalStream]) -> &'static str {
    poll_fn(|cx| {
        for signal in &mut *signals {
            while let Poll::Ready(Some(())) = signal.received.poll_recv(cx) {
                if signal.terminates {
                    return Poll::Ready(signal.name);
                }
                if !std::mem::replace(&mut signal.logged, true) {
                    tracing::info!(signal = signal.name, "signal ignored");
                }
            }
        }
        Poll::Pending
    })
    .await
}
