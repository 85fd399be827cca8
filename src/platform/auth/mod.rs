//! Authentication of HTTP requests, and the keys of tokens.

mod config;
pub mod keys;
mod layer;

pub use config::Config;
pub use layer::{
    Authenticate, AuthenticateLayer, RequireAdmin, RequirePrincipal, challenged, refused,
};
pub use request::{AuthError, Authenticator, Credentials, Principal, Role};
