//! Errors of calls.

use std::error::Error;
use std::time::Duration;

/// Reasons why a call has no response. No message repeats the URL, which may contain a secret.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The request cannot be sent, for example because its URL has no host.
    #[error("the request cannot be sent: {0}")]
    Request(String),
    /// No connection: the name does not resolve, the server refuses, or TLS fails.
    #[error("no connection: {0}")]
    Connect(String),
    /// The time limit of the call expired.
    #[error("no complete response within {0:?}")]
    TimedOut(Duration),
    /// The response body is larger than the limit.
    #[error("the response has more than {0} bytes")]
    TooLarge(usize),
    /// The connection ended before the response was complete, or the response is not HTTP.
    #[error("the response is not complete: {0}")]
    Broken(String),
}

impl CallError {
    /// A request that cannot be built.
    pub fn request(error: impl std::fmt::Display) -> Self {
        Self::Request(error.to_string())
    }

    /// Converts an error of the library. `timeout` is the time limit of the call.
    pub(crate) fn from_library(error: &reqwest::Error, timeout: Duration) -> Self {
        if error.is_connect() {
            Self::Connect(root_cause(error))
        } else if error.is_timeout() {
            Self::TimedOut(timeout)
        } else if error.is_builder() {
            Self::Request(root_cause(error))
        } else {
            Self::Broken(root_cause(error))
        }
    }

    /// The label `outcome` of the metric, and `error.type` of the span.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Request(_) => "request",
            Self::Connect(_) => "connect",
            Self::TimedOut(_) => "timeout",
            Self::TooLarge(_) => "too_large",
            Self::Broken(_) => "broken",
        }
    }
}

/// The innermost cause of an error (`Connection refused`). The error itself repeats the URL.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(source) = cause.and_then(Error::source) {
        cause = Some(source);
    }
    cause.map_or_else(|| "unknown reason".to_owned(), ToString::to_string)
}
