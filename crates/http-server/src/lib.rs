//! HTTP: the listener, the order of the middleware, problems and extractors.
//!
//! A service builds an axum router from its handlers. [`middleware::around`] adds observation, the
//! guard, rate limits and compression. Handlers return a [`request::Problem`] as
//! [`ProblemResponse`].
//!
//! ```
//! use axum::response::IntoResponse as _;
//! use http_server::ProblemResponse;
//! use request::Problem;
//! use request::problem::codes;
//!
//! async fn read_mail() -> Result<&'static str, ProblemResponse> {
//!     Err(Problem::new(codes::NOT_FOUND, "There is no such mail."))?
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let answer = read_mail().await.into_response();
//! assert_eq!(answer.status(), 404);
//! assert_eq!(answer.headers()["content-type"], "application/problem+json");
//! # });
//! ```

pub mod authenticate;
pub mod client_address;
mod config;
pub mod connection;
pub mod description;
pub mod etag;
pub mod extract;
pub mod fault_layer;
pub mod guard;
mod headers;
pub mod idempotency;
pub mod middleware;
pub mod observe;
pub mod page;
pub mod probes;
pub mod problem;
mod rate_limit;
pub mod stream;

pub use authenticate::{AuthenticateLayer, Authorized};
pub use config::Config;
pub use connection::tls::{Tls, TlsMetrics};
pub use extract::{Json, Path, Query};
pub use fault_layer::FaultLayer;
pub use problem::ProblemResponse;
pub use rate_limit::RateLimitLayer;
pub use stream::StreamLayer;
