//! Panics of any thread, counted and as log lines instead of the default text on
//! standard error, and as the cause of a failure where one was caught.

use std::any::Any;
use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::time::Duration;

use prometheus::IntCounter;

/// Target of these lines.
pub(super) const TARGET: &str = "panic";

/// How long a dying main thread waits for its line to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

thread_local! {
    /// The source file of this thread's last panic, until it is caught.
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic that was caught: the cause of an internal error.
#[derive(Debug, thiserror::Error)]
#[error("panic: {message}")]
pub struct Panicked {
    message: String,
    file: Option<String>,
}

impl Panicked {
    /// The panic with this payload, caught on the thread that panicked, just now.
    pub fn caught(payload: &(dyn Any + Send)) -> Self {
        Self {
            message: panic_message(payload),
            file: LAST.take(),
        }
    }

    /// The source file that it came from, when the process's hook has seen it.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }
}

/// The text of a panic, when it has one.
pub fn panic_message(payload: &(dyn Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// Replaces the process's panic hook.
pub(super) fn install(panics: IntCounter) {
    std::panic::set_hook(Box::new(move |panic| {
        panics.inc();
        report(panic);
    }));
}

/// Runs on the thread that panics, so the line has the ids of its request.
fn report(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic.location();
    LAST.set(location.map(|location| location.file().to_owned()));
    tracing::error!(
        target: TARGET,
        panic = panic_message(panic.payload()),
        file = location.map(std::panic::Location::file),
        line = location.map(std::panic::Location::line),
        thread = thread.name(),
        "a thread panicked"
    );
    // Nothing may follow a panic of the main thread.
    if thread.name() == Some("main") {
        super::flush(LAST_WORDS);
    }
}
