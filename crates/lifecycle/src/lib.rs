//! The life of a process: tokens, tracked tasks, streams, phases, signals, health.
//!
//! Three tokens follow each other: `draining` (readiness has fallen, everything still
//! answers), `soft` (no new work is taken, what is in flight ends) and `hard` (what is
//! left is cut). Every long-lived task is tracked and named; one that ends by itself, or
//! panics, begins an orderly shutdown with a failing exit code.
//!
//! ```
//! use lifecycle::{Lifecycle, LifecycleMetrics, State};
//! use prometheus::Registry;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let lifecycle = Lifecycle::new(LifecycleMetrics::register(&Registry::new())?);
//! let soft = lifecycle.soft();
//! lifecycle.spawn("mailer", async move {
//!     // Works until no new work is taken.
//!     soft.cancelled().await;
//! });
//! lifecycle.enter(State::Ready);
//! lifecycle.shut_down("SIGTERM");
//! assert!(lifecycle.draining().is_cancelled());
//! assert!(!lifecycle.has_failed());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
pub mod health;
mod phases;
mod process;
mod signals;
mod state;
mod stream_kind;
mod streams;
mod work;

pub use config::Config;
pub use phases::step;
pub use process::{Lifecycle, LifecycleMetrics};
pub use signals::watch_signals;
pub use state::State;
pub use stream_kind::StreamKind;
pub use streams::Stream;

/// Exit code of a shutdown that had to cut something (`EX_SOFTWARE` of sysexits).
pub const EXIT_FORCED: u8 = 70;
