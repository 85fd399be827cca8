//! KEEP: platform code that every service needs and that is independent of the application.
//!
//! It has no tables of its own and no terms of the application.

pub mod admin;
pub mod grpc;
pub mod live;
pub mod profile;
