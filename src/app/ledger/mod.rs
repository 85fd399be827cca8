//! The ledger: accounts, deposits and transfers in integer minor units.

mod config;

pub use config::Config;
