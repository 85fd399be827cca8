//! The exporter of all signals: encodes a batch and sends it.

use super::queue::{Acknowledgement, Export};
use super::sender::Sender;
use super::transport::ExportError;

/// Encodes batches of one signal.
pub(crate) trait Encode<T> {
    /// Encodes a batch as the export request of the signal.
    fn encode(&self, batch: Vec<T>) -> Vec<u8>;
}

/// Encoder and sender of one signal.
#[derive(Debug)]
pub(crate) struct Exporter<E> {
    encoder: E,
    sender: Sender,
}

impl<E> Exporter<E> {
    pub(super) fn new(encoder: E, sender: Sender) -> Self {
        Self { encoder, sender }
    }
}

impl<T, E: Encode<T>> Export<T> for Exporter<E> {
    type Error = ExportError;

    async fn export(&self, batch: Vec<T>) -> Result<Acknowledgement, ExportError> {
        self.sender.send(self.encoder.encode(batch)).await
    }
}
