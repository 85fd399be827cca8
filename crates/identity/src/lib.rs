//! Users, their credentials, and tokens.
//!
//! | module | content |
//! | --- | --- |
//! | [`domain`] | users, and the rules for addresses, names and passwords |
//! | [`password`] | password hashes with Argon2id, with a limit on concurrent hashes |
//! | [`access`] | access tokens (RFC 9068): signing and verifying |
//! | [`keyring`] | the signing keys in use, replaced when their file changes |
//! | [`signing_keys`] | signing keys as a JWK set |
//! | [`authenticator`] | the principal behind an access token, cached where that is safe |
//! | [`oidc`] | access tokens of outside issuers |
//! | [`throttle`] | limits of password attempts |
//! | [`service`] | operations, independent of HTTP |
//! | [`error`] | errors of the operations |
//! | [`http`] | routes |
//! | [`audit`] | the audit trail: events and their chain of hashes |
//! | [`audit_verification`] | the check of the whole chain |
//! | [`store`] | users, tokens, API keys and audit events in the database |
//! | [`mod@bootstrap`] | the first administrator |
//!
//! Other parts of a service take part in the erasure of a user through [`store::ErasureHook`].
//!
//! ```
//! use identity::domain::Email;
//!
//! let email = Email::parse("Ada@Example.com").unwrap();
//! assert_eq!(email.as_str(), "ada@example.com");
//! assert!(Email::parse("no address").is_err());
//! ```

pub mod access;
pub mod audit;
pub mod audit_verification;
pub mod authenticator;
pub mod bootstrap;
mod config;
pub mod domain;
pub mod error;
mod hash;
pub mod http;
pub mod keyring;
pub mod metrics;
pub mod oidc;
pub mod password;
pub mod service;
pub mod signing_keys;
pub mod store;
pub mod throttle;

pub use authenticator::TokenAuthenticator;
pub use bootstrap::bootstrap;
pub use config::Config;
pub use error::IdentityError;
pub use metrics::IdentityMetrics;
pub use service::Service;
