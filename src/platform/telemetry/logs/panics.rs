//! Panics of any thread as log lines, instead of the default text on standard error.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::time::Duration;

use crate::platform::protect::panic_message;

/// How long a dying main thread waits for its line to be written.
const LAST_WORDS: Duration = Duration::from_millis(500);

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// The source file of this thread's last panic, told once.
pub(crate) fn last_panic() -> Option<String> {
    LAST.take()
}

/// Replaces the process's panic hook.
pub(super) fn install() {
    std::panic::set_hook(Box::new(report));
}

/// Runs on the thread that panics, so the line has the ids of its request.
fn report(panic: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let location = panic.location();
    LAST.set(location.map(|location| location.file().to_owned()));
    tracing::error!(
        target: "panic",
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
