//! Limits of requests, independent of their protocol.
//!
//! [`RateLimits`] limit the requests a second of one client, principal or account. The buckets are
//! in this process or shared among replicas. [`Concurrency`] limits the requests in progress and
//! the bodies that are awaited, in all and of one client. Both read the client and the principal
//! from the [`request::RequestContext`], and refuse with a [`request::Problem`].
//!
//! ```
//! use std::net::Ipv4Addr;
//!
//! use limits::{LimitKey, RateLimitMetrics, RateLimits};
//! use settings::{Layers, Reader};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let nowhere = std::path::Path::new("/nonexistent");
//! let burst = ("APP__RATE_LIMIT__AUTH__BURST".to_owned(), "1".to_owned());
//! let mut reader = Reader::new(Layers::load(nowhere, nowhere, [burst]));
//! let config = limits::rate::Config::read(&mut reader);
//! let metrics = RateLimitMetrics::register(&prometheus::Registry::new()).unwrap();
//! let limits = RateLimits::new(&config, &metrics).unwrap();
//!
//! let logins = limits.auth.expect("limits are on by default");
//! let client = LimitKey::address(Ipv4Addr::LOCALHOST.into());
//! assert!(logins.take(client).await.is_ok());
//! assert!(logins.take(client).await.is_err());
//! # });
//! ```

pub mod concurrency;
pub mod rate;

pub use concurrency::{Concurrency, ConcurrencyLimits};
pub use rate::{LimitKey, RateLimit, RateLimitExceeded, RateLimitMetrics, RateLimits};
