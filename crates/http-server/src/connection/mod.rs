//! Connections: accepted, limited in number and time, and drained.

pub mod admission;
mod atomic_instant;
pub mod deadlines;
mod delivery;
mod discard_body;
mod driver;
pub mod ended;
mod flood;
pub mod framing;
mod h2_frames;
pub mod in_flight;
mod linger;
pub mod listener;
mod listener_config;
mod service;
pub mod tls;
mod windows;
mod wire;

pub use deadlines::ConnectionTimeouts;
pub use listener_config::ListenerConfig;
pub use service::Serve;
