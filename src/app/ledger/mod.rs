//! The ledger: accounts, deposits and transfers in integer minor units.

mod config;
pub mod domain;
pub mod store;

pub use config::Config;
