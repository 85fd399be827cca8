//! Export by OTLP, shared by all signals: variables, exporter, transport and the bounded queue.

mod acknowledgement;
mod exporter;
mod queue;
mod retry;
mod sender;
mod settings;
mod signal;
mod span_encoder;
mod transport;
mod unsupported;
mod variables;
mod wire;

pub(super) use exporter::Encode;
pub(super) use queue::{Item, Outcomes, Queue, Worker, on_exporter_thread};
pub(super) use settings::ExporterSettings;
pub(super) use signal::{Batch, Signal};
pub(super) use span_encoder::SpanEncoder;
#[cfg(test)]
pub(super) use span_encoder::tests::span_with;
pub(super) use unsupported::{names, without_effect};
pub(super) use variables::{Reader, pairs};
