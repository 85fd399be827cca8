//! The ledger: accounts, deposits and transfers in integer minor units.

mod config;
pub mod domain;
pub mod http;
mod metrics;
mod service;
pub mod store;

pub use config::Config;
pub use metrics::LedgerMetrics;
pub use service::{Ledger, TransferRequest};
