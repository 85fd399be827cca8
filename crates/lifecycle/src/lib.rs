//! Lifecycle of the process: shutdown tokens, tracked tasks, streams, phases, signals, health.
//!
//! The shutdown has three tokens: `draining` (readiness fails, requests are still served), `soft`
//! (no new work is accepted, work in flight finishes) and `hard` (remaining work is cut). Every
//! long-lived task is tracked under a name. A task that returns early or panics starts an orderly
//! shutdown with a failing exit code.
//!
//! ```
//! use lifecycle::{Lifecycle, LifecycleMetrics, State};
//! use prometheus::Registry;
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let lifecycle = Lifecycle::new(LifecycleMetrics::register(&Registry::new())?);
//! let soft = lifecycle.soft();
//! lifecycle.spawn("mailer", async move {
//! // Works until no new work is accepted.
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
mod registry;
mod signals;
mod state;
mod stream_kind;
mod streams;

pub use config::Config;
pub use phases::bounded_step;
pub use process::{Lifecycle, LifecycleMetrics};
pub use signals::watch_signals;
pub use state::State;
pub use stream_kind::StreamKind;
pub use streams::Stream;

/// Exit code of a shutdown that cut work in flight (`EX_SOFTWARE` of sysexits).
pub const EXIT_FORCED: u8 = 70;
