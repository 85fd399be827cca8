//! KEEP: what every service needs, and nothing about this one.
//!
//! No tables of its own, and no word of the application above it.

pub mod admin;
pub mod auth;
pub mod faults;
pub mod grpc;
pub mod http;
pub mod live;
pub mod observe;
pub mod profile;
pub mod protect;
pub mod workers;
