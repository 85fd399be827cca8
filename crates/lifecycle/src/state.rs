//! The states of a process, in their order.

/// Where the process is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Not everything stands yet.
    Starting,
    /// Serving.
    Ready,
    /// Serving, but asking everybody to go elsewhere.
    Draining,
    /// Finishing what is in flight.
    Stopping,
}

pub(crate) const STATES: [State; 4] = [
    State::Starting,
    State::Ready,
    State::Draining,
    State::Stopping,
];

impl State {
    /// The label value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
        }
    }
}
