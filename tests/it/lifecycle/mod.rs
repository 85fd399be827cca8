//! Lifecycle of the process: start, drain, exit, and failures of dependencies.

mod client_disconnects;
mod database_outages;
mod database_refusals;
mod drain;
mod exit_delays;
mod schema_changes;
mod signals;
mod sqlite_storage;
mod start;
mod streams;
mod task_failures;
mod terminal_output;
mod workers;
