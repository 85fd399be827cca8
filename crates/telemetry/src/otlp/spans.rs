//! The exporter of spans.

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;

use super::encode::Envelope;
use super::queue::Taken;
use super::sender::Sender;
use super::transport::Failure;

/// Encodes spans and sends them.
#[derive(Debug)]
pub(crate) struct SpanExporter {
    envelope: Envelope,
    sender: Sender,
}

impl SpanExporter {
    pub(super) fn new(resource: &Resource, sender: Sender) -> Self {
        Self {
            envelope: Envelope::new(resource),
            sender,
        }
    }

    /// The request with these spans.
    pub(crate) fn encode<'a>(&self, spans: impl ExactSizeIterator<Item = &'a SpanData>) -> Vec<u8> {
        self.envelope.request(spans)
    }

    /// Sends a request until the collector has acknowledged it, or there is no hope or no
    /// time.
    ///
    /// # Errors
    /// Why the last try failed.
    pub(crate) async fn send(&self, request: Vec<u8>) -> Result<Taken, Failure> {
        self.sender.send(request).await
    }
}
