//! Tokens of outside issuers: access tokens that an OpenID Connect provider has signed.
//!
//! The service is a resource server here. It takes the signing keys from the metadata of the
//! provider (OpenID Connect Discovery 1.0, RFC 8414), verifies tokens with them, and maps a claim to
//! a role. Clients get their tokens from the provider.
//!
//! | module | content |
//! | --- | --- |
//! | [`authenticator`] | selects the issuer of a token |
//! | [`provider`] | one issuer: its keys, its rules, its state |
//! | [`token`] | the rules for header and claims |
//! | [`key_cache`] | the keys of an issuer, fetched in the background |
//! | [`metadata`] | the metadata document and the key set of an issuer |
//! | [`key_set`] | public keys as a JWK set |
//! | [`role`] | the role that a claim gives |

mod authenticator;
mod config;
mod key_cache;
mod key_set;
mod metadata;
mod provider;
mod role;
mod token;

pub use authenticator::ProviderAuthenticator;
pub use config::{Config, Issuer};
pub use provider::{Provider, Providers};

#[cfg(test)]
mod tests;
