//! What the signals that leave by OTLP share: the variables that say where to, the
//! exporter's transport, and the bounded queue before it.

mod acknowledgement;
mod client;
mod encode;
mod exporter;
mod ignored;
mod lines;
mod queue;
mod retry;
mod sender;
mod signal;
mod spans;
mod transport;
mod variables;
mod wire;

#[cfg(test)]
pub(super) use encode::tests::span_with;
pub(super) use exporter::Settings;
pub(super) use ignored::{names, without_effect};
pub(super) use lines::LineExporter;
pub(super) use queue::{Export, Item, Outcomes, Queue, Taken, Worker, on_exporter_thread};
pub(super) use signal::{Batch, Signal};
pub(super) use spans::SpanExporter;
pub(super) use transport::Failure;
pub(super) use variables::{Reader, pairs};
