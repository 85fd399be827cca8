//! The guard around all work: shedding, the deadline, panics.

mod arrival;
mod layer;
mod places;

pub use layer::{Guard, GuardLayer};
pub use places::{Full, PlaceLimits};
