//! Users, their credentials, and tokens.
//!
//! | module | what it knows |
//! | --- | --- |
//! | [`domain`] | what a user is, and which addresses, names and passwords are acceptable |
//! | [`password`] | Argon2id, on threads of its own, a few at a time |
//! | [`access`] | access tokens (RFC 9068): signing and verifying |
//! | [`keyring`] | the keys in use, re-read when their file changes |
//! | [`authenticator`] | who is behind a request, from memory where that is safe |
//! | [`throttle`] | how often a password can be guessed |
//! | [`service`] | what the slice does, free of HTTP |
//! | [`error`] | why it refuses |
//! | [`http`] | routes |
//! | [`store`] | users and refresh tokens in the database |
//! | [`mod@bootstrap`] | the first administrator |
//!
//! Other parts of a service take part in the erasure of a user through
//! [`store::ErasureHook`].
//!
//! ```
//! use identity::domain::Email;
//!
//! let email = Email::parse("Ada@Example.com").unwrap();
//! assert_eq!(email.as_str(), "ada@example.com");
//! assert!(Email::parse("no address").is_err());
//! ```

pub mod access;
pub mod authenticator;
pub mod bootstrap;
mod config;
pub mod domain;
pub mod error;
pub mod http;
pub mod keyring;
pub mod keys;
pub mod metrics;
pub mod password;
pub mod service;
pub mod store;
pub mod throttle;

pub use authenticator::TokenAuthenticator;
pub use bootstrap::bootstrap;
pub use config::Config;
pub use error::IdentityError;
pub use metrics::IdentityMetrics;
pub use service::Service;
