//! Sends requests to a collector, again where that helps, within the time that a batch
//! has.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout_at};

use super::queue::Taken;
use super::retry::Waits;
use super::transport::{Failure, Transport};

/// The way of one signal to its collector.
#[derive(Debug)]
pub(super) struct Sender {
    transport: Transport,
    timeout: Duration,
    /// What the items are called, for lines about their fate.
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

    /// Sends a request until the collector has acknowledged it, or there is no hope or no
    /// time.
    ///
    /// # Errors
    /// Why the last try failed.
    pub(super) async fn send(&self, request: impl Into<Bytes>) -> Result<Taken, Failure> {
        let deadline = Instant::now() + self.timeout;
        let body = self.transport.body(request.into())?;
        let mut waits = Waits::default();
        loop {
            let sent = timeout_at(deadline, self.transport.send(body.clone())).await;
            let failure = match sent {
                Ok(Ok(taken)) => return Ok(taken),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(Failure::TimedOut(self.timeout)),
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
