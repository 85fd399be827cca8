//! The exporter of spans.

use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message;
use tokio::time::{Instant, sleep, timeout_at};

use super::encode::Envelope;
use super::queue::Taken;
use super::retry::Waits;
use super::transport::{Failure, Transport};

/// Encodes spans and sends them, again where that helps, within the time that a batch
/// has.
#[derive(Debug)]
pub(in crate::platform::telemetry) struct SpanExporter {
    envelope: Envelope,
    transport: Transport,
    timeout: Duration,
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected_spans: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl SpanExporter {
    pub(super) fn new(resource: &Resource, transport: Transport, timeout: Duration) -> Self {
        Self {
            envelope: Envelope::new(resource),
            transport,
            timeout,
        }
    }

    /// The request with these spans.
    pub(in crate::platform::telemetry) fn encode<'a>(
        &self,
        spans: impl ExactSizeIterator<Item = &'a SpanData>,
    ) -> Vec<u8> {
        self.envelope.request(spans)
    }

    /// Sends a request until the collector has taken it, or there is no hope or no time.
    ///
    /// # Errors
    /// Why the last try failed.
    pub(in crate::platform::telemetry) async fn send(
        &self,
        request: Vec<u8>,
    ) -> Result<Taken, Failure> {
        let deadline = Instant::now() + self.timeout;
        let body = self.transport.body(request)?;
        let mut waits = Waits::default();
        loop {
            let sent = timeout_at(deadline, self.transport.send(body.clone())).await;
            let failure = match sent {
                Ok(Ok(answer)) => return Ok(taken(&answer)),
                Ok(Err(failure)) => failure,
                Err(_) => return Err(Failure::TimedOut(self.timeout)),
            };
            let Some(wait) = waits.before(failure.retry()) else {
                return Err(failure);
            };
            if wait >= deadline - Instant::now() {
                return Err(failure);
            }
            tracing::debug!(error = %failure, ?wait, "spans are sent again");
            sleep(wait).await;
        }
    }
}

/// What the answer says of a batch that was taken. An answer that says nothing, or is
/// no message at all (some collectors write `{}`), has nothing to complain of.
fn taken(answer: &[u8]) -> Taken {
    let response = Response::decode(answer).unwrap_or_default();
    let partial = response.partial_success.unwrap_or_default();
    Taken {
        rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        message: partial.error_message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_may_refuse_advise_or_say_nothing() {
        for (rejected_spans, error_message, rejected) in
            [(3, "too old", 3), (0, "use gzip", 0), (-1, "", 0)]
        {
            let response = Response {
                partial_success: Some(PartialSuccess {
                    rejected_spans,
                    error_message: error_message.to_owned(),
                }),
            };
            let message = error_message.to_owned();
            let expected = Taken { rejected, message };
            assert_eq!(taken(&response.encode_to_vec()), expected);
        }
        for nothing in [&b""[..], b"{}", b"\xff\xff", b"\x0a\x00"] {
            assert_eq!(taken(nothing), Taken::default());
        }
    }
}
