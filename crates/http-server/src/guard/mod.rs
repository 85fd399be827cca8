//! The guard around all work: load shedding, the deadline and panics.

mod arrival;
mod layer;
mod places;

pub use layer::{Guard, GuardLayer};
pub use places::{NoPlace, PlaceLimits};
