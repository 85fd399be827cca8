//! A request during its processing, independent of its protocol.
//!
//! [`RequestContext`] holds the ids, route, client and principal of the current request. Log lines,
//! errors and outgoing calls read it, with or without a span. A [`Problem`] is an error in the form
//! that clients see. Protocol adapters create the context, run the work within it and turn problems
//! into answers. The module [`authorization`] has the rights that handlers require. The modules
//! [`page`] and [`idempotency`] have the rules of pages and of idempotency keys, which all protocols and stores
//! share.
//!
//! ```
//! use std::net::Ipv4Addr;
//! use std::sync::Arc;
//!
//! use request::problem::codes;
//! use request::{Problem, RequestContext, within};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let context = Arc::new(RequestContext::new(Ipv4Addr::LOCALHOST.into()));
//! let id = context.request_id.clone();
//! let seen = within(context, async {
//!     RequestContext::with(|context| context.request_id.clone())
//! });
//! assert_eq!(seen.await, Some(id));
//! # });
//!
//! let problem = Problem::new(codes::NOT_FOUND, "There is no such mail.");
//! assert_eq!(problem.code.status, 404);
//! ```

pub mod authentication;
pub mod authorization;
mod context;
pub mod error_events;
pub mod faults;
mod fields;
pub mod idempotency;
pub mod ids;
pub mod page;
pub mod principal;
pub mod problem;
pub mod propagation;
mod redact;
mod shares;
mod span_link;

pub use authentication::{AuthError, Authenticator, Credentials};
pub use authorization::{Denied, Permission, Scope, authorize};
pub use context::{BodyLimits, RequestContext, UNMATCHED, WithinContext, within};
pub use error_events::{ErrorEvents, ServerError};
pub use fields::Fields;
pub use principal::{Credential, Principal, Role};
pub use problem::{FieldError, Problem, ReportedProblem};
pub use redact::redact;
pub use shares::{Share, Shares};
pub use span_link::{NotATraceparent, SpanLink};
