//! The service. The crates under `crates/` are what every service keeps:
//!
//! | crate | what it has |
//! | --- | --- |
//! | [`settings`] | configuration as documented keys, the clock, refusals of values |
//! | [`telemetry`] | metrics, exposition, logs, traces and their export |
//! | [`lifecycle`] | shutdown by tokens, tracked tasks, signals, health |
//! | [`request`] | context, problems, principal, propagation of a request, in any protocol |
//! | [`db`] | pools, leases, migrations, errors of both databases |
//! | [`workers`] | background work at intervals and from queues |
//! | [`http_server`] | listener, middleware, rate limits, problems, extractors |
//! | [`identity`] | users, credentials, tokens |
//!
//! The rest is in modules:
//!
//! | module | keep or replace | what lives there |
//! | --- | --- | --- |
//! | [`platform`] | keep | what every service needs, and nothing about this one |
//! | [`app`] | replace | the example application, and where slices are wired |
//! | [`config`] | keep | composes the sections that live beside what they configure |
//! | [`serve`] | keep | the process, from its start to its exit |
//! | [`cli`] | keep | the subcommands |
//!
//! Import rule: `app` depends on `platform`, never the other way; `domain` files know no axum and no sqlx;
//! backends are named in the crate `db`, in `store/{sqlite,postgres}.rs` and
//! where slices are wired. `tests/it/architecture.rs` reads the sources and
//! holds them to it.

pub mod app;
pub mod cli;
pub mod config;
pub mod platform;
pub mod serve;

// MODULES and PACKAGES; from the build script.
include!(concat!(env!("OUT_DIR"), "/targets.rs"));

/// The database of this service: its name and its migrations, template and application
/// in one history. Template migrations have versions below 10000, applications use
/// timestamps.
pub static SCHEMA: db::Schema = db::Schema {
    service: env!("CARGO_PKG_NAME"),
    sqlite: sqlx::migrate!("migrations/sqlite"),
    postgres: sqlx::migrate!("migrations/postgres"),
};

/// What telemetry says of this service.
pub const SERVICE: telemetry::Service = telemetry::Service {
    name: env!("CARGO_PKG_NAME"),
    version: env!("CARGO_PKG_VERSION"),
    revision: env!("BUILD_REVISION"),
    modules: MODULES,
    packages: PACKAGES,
};
