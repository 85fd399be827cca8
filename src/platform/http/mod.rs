//! The public HTTP side: listener, middleware, problems, extractors, pages.

pub mod admission;
pub mod admit;
mod aside;
pub mod client_address;
mod config;
mod connection;
mod delivery;
pub mod description;
pub mod ended;
pub mod etag;
pub mod exchange;
pub mod extract;
pub mod framing;
mod h2_frames;
pub(crate) mod headers;
pub mod listener;
pub mod middleware;
mod only_when;
pub mod page;
pub mod problem;
mod rarely;
pub mod stream;
pub mod tls;
mod unread;
pub mod watch;
mod windows;
mod wire;

pub use client_address::{ClientAddress, PeerAddress};
pub use config::Config;
pub use extract::{Fields, Json, Path, Query};
pub use problem::{FieldError, Problem};
pub use stream::StreamLayer;
pub use tls::Tls;
pub use watch::Patience;
