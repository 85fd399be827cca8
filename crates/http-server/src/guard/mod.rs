//! The guard around all work: load shedding, the deadline and panics.

mod arrival;
mod layer;

pub use layer::{Guard, GuardLayer};
