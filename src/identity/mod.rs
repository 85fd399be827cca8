//! KEEP: users, credentials, tokens.

pub mod store;
