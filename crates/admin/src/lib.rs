//! The admin listener: metrics, probes, a live page, switches, faults, profiles, runbooks.
//!
//! [`Admin`] has everything that the listener shows, and [`Admin::routes`] makes a router
//! of it. In production each route that writes, and each profile, needs the token. In
//! development these routes answer to loopback hosts alone.
//!
//! ```
//! use admin::Config;
//! use settings::{Layers, Reader};
//!
//! let layers = Layers::load("no/folder".as_ref(), "no/.env".as_ref(), []);
//! let config = Config::read(&mut Reader::new(layers));
//! assert!(config.token.is_none());
//! ```

mod access;
mod config;
mod context;
mod faults;
mod info;
mod listener;
mod metrics;
mod not_found;
mod page;
pub mod profile;
mod revertible;
mod runbooks;
mod switches;
mod token_attempts;

pub use config::Config;
pub use info::{Build, Info};
pub use listener::Admin;
pub use metrics::AdminMetrics;
pub use profile::Profiler;
pub use runbooks::Pages;
pub use switches::Switches;
