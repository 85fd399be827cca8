//! Sends requests to a collector, with retries, within the timeout of a batch.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::queue::Acknowledgement;
use super::retry::RetryDelays;
use super::transport::{ExportError, Transport};

/// Transport, timeout and retries of one signal.
#[derive(Debug)]
pub(super) struct Sender {
    transport: Transport,
    timeout: Duration,
    /// Plural of the items in log messages.
    plural: &'static str,
}

impl Sender {
    pub(super) fn new(transport: Transport, timeout: Duration, plural: &'static str) -> Self {
        Self {
            transport,
            timeout,
            plural,
        }
    }

    /// Sends a request until the collector acknowledges it, the failure is permanent or the timeout
    /// expires.
    ///
    /// # Errors
    /// The failure of the last attempt.
    pub(super) async fn send(
        &self,
        request: impl Into<Bytes>,
    ) -> Result<Acknowledgement, ExportError> {
        let deadline = Instant::now() + self.timeout;
        let body = self.transport.body(request.into())?;
        let mut waits = RetryDelays::default();
        loop {
            let sent = timeout_at(deadline, self.transport.send(body.clone())).await;
            let failure = match sent {
                Ok(Ok(taken)) => return Ok(taken),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(ExportError::TimedOut(self.timeout)),
            };
            let Some(wait) = waits.before(failure.retry()) else {
                return Err(failure);
            };
            if wait >= deadline - Instant::now() {
                return Err(failure);
            }
            tracing::debug!(error = %failure, ?wait, "{} are sent again", self.plural);
            sleep(wait).await;
        }
    }
}
