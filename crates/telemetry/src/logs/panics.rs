//! Panics of all threads are counted and logged instead of printed to standard error. A caught
//! panic becomes the cause of an error.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::PanicHookInfo;
use std::time::Duration;

use prometheus::IntCounter;

/// Target of these lines.
pub(super) const TARGET: &str = "panic";

/// Time for a panicking main thread to write its log line.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

thread_local! {
    /// Source file of the last panic of this thread. A panic payload has no location: only the hook
    /// sees it, so it is kept here until the panic is caught. Without it all panics of a route would
    /// share one fingerprint.
    static LAST_PANIC_FILE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A caught panic, as the cause of an internal error.
#[derive(thiserror::Error)]
#[error("panic: {message}")]
pub struct CaughtPanic {
    message: String,
    file: Option<String>,
}

/// Fingerprints of error events contain the first word of this text (`error_type`), so it stays
/// the same when the type is renamed.
impl fmt::Debug for CaughtPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Panicked")
            .field("message", &self.message)
            .field("file", &self.file)
            .finish()
    }
}

impl CaughtPanic {
    /// Converts the payload of a panic that was caught on the thread that panicked.
    pub fn caught(payload: &(dyn Any + Send)) -> Self {
        Self {
            message: panic_message(payload),
            file: LAST_PANIC_FILE.take(),
        }
    }

    /// The source file of the panic, if the hook was installed.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

/// The message of a panic.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Installs the panic hook of the process.
pub(super) fn install(panics: IntCounter) {
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        report(panic);
    }));
}

/// Runs on the panicking thread, so the line has the ids of its request.
fn report(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic.location();
    LAST_PANIC_FILE.set(location.map(|location| location.file().to_owned()));
    tracing::error!(
        target: TARGET,
        panic = panic_message(panic.payload()),
        file = location.map(std::panic::Location::file),
        line = location.map(std::panic::Location::line),
        thread = thread.name(),
        "a thread panicked"
    );
    // A panic of the main thread ends the process.
    if thread.name() == Some("main") {
        super::flush(FLUSH_TIMEOUT);
    }
}
