//! Black-box tests: the built binary, real databases, real sockets.
//!
//! The tests form one binary with a file or folder for each topic. Every test starts its own
//! service on free ports with its own database, so that all tests can run in parallel.

#![expect(unreachable_pub, reason = "a test binary has no public interface")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests have no lifecycle and read the test configuration from the environment"
)]
#![expect(clippy::float_cmp, reason = "the compared metrics are whole numbers")]

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
mod lifecycle;
mod limits;
mod requests;
mod revision;
mod telemetry;
