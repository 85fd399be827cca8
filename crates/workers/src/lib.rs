//! Background work: named jobs that run at an interval or from a queue. Runs are measured, limited
//! in time and monitored. They stop between two steps.
//!
//! ```
//! use std::time::Duration;
//!
//! use workers::{NextRun, Trigger};
//!
//! // Every five minutes, and again at once while work remains.
//! let trigger = Trigger::Interval(Duration::from_secs(300));
//! assert!(matches!(trigger, Trigger::Interval(_)));
//! assert_ne!(NextRun::AsScheduled, NextRun::AtOnce);
//! ```

mod config;
mod runner;

pub use config::Config;
pub use runner::{NextRun, Runner, Trigger, Worker, WorkerMetrics, stopping};
