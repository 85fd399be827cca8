//! The service. The crates under `crates/` are common to every service:
//!
//! | crate | contents |
//! | --- | --- |
//! | [`settings`] | configuration as documented keys, the clock, validation of values |
//! | [`telemetry`] | metrics, exposition, logs, traces and their export |
//! | [`lifecycle`] | shutdown by tokens, tracked tasks, signals, health |
//! | [`request`] | context, problems, principal and propagation of a request, in any protocol |
//! | [`db`] | pools, leases, migrations, errors of both databases |
//! | [`workers`] | background work at intervals and from queues |
//! | [`limits`] | rate limits by client, principal and account, limits of concurrency |
//! | [`http_server`] | listener, middleware, problems, extractors |
//! | [`client`] | outgoing HTTP calls |
//! | [`identity`] | users, sessions, API keys, outside issuers, audit trail |
//! | [`admin`] | the admin listener: live page, switches, faults, profiles |
//!
//! The rest is in modules:
//!
//! | module | keep or replace | contents |
//! | --- | --- | --- |
//! | [`app`] | replace | the example application, and the wiring of its slices |
//! | [`config`] | keep | composes the sections of all components |
//! | [`platform`] | keep | the parts that the crates provide, made once at the start |
//! | [`serve`] | keep | the process, from its start to its exit |
//! | [`cli`] | keep | the command line; `commands` has the subcommands that run once |
//!
//! Import rules: crates do not depend on the service. Files of a `domain` do not use
//! axum or sqlx. Backends are named only in the crate `db`, in `store/{sqlite,postgres}.rs` and in
//! the wiring of slices. `tests/it/architecture.rs` checks the sources against these rules.

mod allocator;
pub mod app;
pub mod cli;
mod commands;
pub mod config;
pub mod platform;
pub mod serve;

// MODULES and PACKAGES, written by the build script.
include!(concat!(env!("OUT_DIR"), "/targets.rs"));

/// The database schema of this service: its name and its migrations. Template and application share
/// one history. Template migrations have versions below 10000, applications use timestamps.
pub static SCHEMA: db::Schema = db::Schema {
    service: env!("CARGO_PKG_NAME"),
    sqlite: sqlx::migrate!("migrations/sqlite"),
    postgres: sqlx::migrate!("migrations/postgres"),
};

/// Name, version and revision of this service in its telemetry.
pub const SERVICE: telemetry::Service = telemetry::Service {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("BUILD_REVISION"),
    modules: MODULES,
    packages: PACKAGES,
};
