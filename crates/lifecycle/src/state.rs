//! The states of a process, in order.

/// State of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Initialisation is not complete.
    Starting,
    /// Requests are served.
    Ready,
    /// Requests are served, but readiness fails and clients are asked to reconnect elsewhere.
    Draining,
    /// Work in flight finishes. No new work is accepted.
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
