//! KEEP: what every service needs, and nothing about this one.
//!
//! No tables of its own, and no word of the application above it.

pub mod admin;
pub mod grpc;
pub mod live;
pub mod profile;
