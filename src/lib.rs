//! The service. The crates under `crates/` are what every service keeps:
//!
//! | crate | what it has |
//! | --- | --- |
//! | [`settings`] | configuration as documented keys, the clock, refusals of values |
//! | [`telemetry`] | metrics, exposition, logs, traces and their export |
//! | [`lifecycle`] | shutdown by tokens, tracked tasks, signals, health |
//!
//! The rest is in modules:
//!
//! | module | keep or replace | what lives there |
//! | --- | --- | --- |
//! | [`platform`] | keep | what every service needs, and nothing about this one |
//! | [`identity`] | keep | users, credentials, tokens |
//! | [`app`] | replace | the example application, and where slices are wired |
//! | [`config`] | keep | composes the sections that live beside what they configure |
//! | [`serve`] | keep | the process, from its start to its exit |
//! | [`cli`] | keep | the subcommands |
//!
//! Import rule: `app` depends on `identity` and `platform`, `identity` on
//! `platform`, never the other way; `domain` files know no axum and no sqlx;
//! backends are named in `platform::db`, in `store/{sqlite,postgres}.rs` and
//! where slices are wired. `tests/it/architecture.rs` reads the sources and
//! holds them to it.

pub mod app;
pub mod cli;
pub mod config;
pub mod identity;
pub mod platform;
pub mod serve;

// MODULES and PACKAGES; from the build script.
include!(concat!(env!("OUT_DIR"), "/targets.rs"));

/// What telemetry says of this service.
pub const SERVICE: telemetry::Service = telemetry::Service {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("BUILD_REVISION"),
    modules: MODULES,
    packages: PACKAGES,
};
