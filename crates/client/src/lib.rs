//! Outgoing HTTP calls. Every call has limits for time and size, takes part in the trace of the
//! work that makes it, and is measured.
//!
//! | property | rule |
//! | --- | --- |
//! | time | [`Limits::connect_timeout`] for a connection, [`Limits::timeout`] for all attempts of a call together |
//! | size | a response body beyond [`Limits::max_body_bytes`] is an error |
//! | redirects | are not followed, the caller gets the 3xx response |
//! | retries | idempotent methods (RFC 9110, section 9.2.2), after a failed connection or 429, 502, 503 and 504 |
//! | traces | a client span for each attempt, and `traceparent` in the request |
//! | TLS | rustls with the certificates of the system, or those that `SSL_CERT_FILE` names |
//! | proxies | `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` |
//!
//! ```
//! use std::time::Duration;
//!
//! use client::{CallError, Client, Limits};
//! use http::Request;
//!
//! async fn rates(client: &Client) -> Result<Option<bytes::Bytes>, CallError> {
//!     let request = Request::get("https://rates.example.com/today")
//!         .header("accept", "application/json")
//!         .body(bytes::Bytes::new())
//!         .map_err(CallError::request)?;
//!     let response = client.send(request).await?;
//!     Ok(response.status().is_success().then(|| response.into_body()))
//! }
//!
//! let limits = Limits {
//!     timeout: Duration::from_secs(3),
//!     ..Limits::default()
//! };
//! assert_eq!(limits.attempts, 3);
//! ```

mod call;
mod error;
mod limits;
mod metrics;
mod retry;
mod target;

pub use call::Client;
pub use error::CallError;
pub use limits::{Limits, Tls};
pub use metrics::ClientMetrics;
