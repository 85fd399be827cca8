//! Users, credentials and tokens through the API.

mod administration;
mod administrators;
mod api_keys;
mod asvs;
mod audit;
mod bootstrap;
mod browser;
pub mod client;
mod erasure;
mod hashing;
mod keys;
mod login;
mod oidc;
mod password_guessing;
mod permissions;
mod refresh;
mod sessions;
mod sql;
mod token_endpoint;
mod tokens;
mod users;
