//! Black-box tests: the built binary, real databases, real sockets.
//!
//! One binary, a folder or file a topic. Every test starts its own service on
//! free ports and its own database, and can run beside all others.

#![allow(missing_docs, unreachable_pub, clippy::disallowed_methods)]
// The harness serves all topics; each uses a part of it.
#![allow(dead_code, unused_imports)]
// Counters are whole numbers, exactly.
#![allow(clippy::float_cmp)]

mod support;

mod admin;
mod architecture;
mod cardinality;
mod command_line;
mod configuration;
mod connections;
mod documents;
mod first_build;
mod identity;
mod leaks;
mod ledger;
mod life;
mod limits;
mod requests;
mod revision;
mod telemetry;
