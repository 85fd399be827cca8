//! What the signals that leave by OTLP share: the variables that say where to, the
//! exporter's transport, and the bounded queue before it.

mod client;
mod exporter;
mod ignored;
mod queue;
mod signal;
mod variables;

pub(super) use exporter::Settings;
pub(super) use ignored::without_effect;
pub(super) use queue::{Export, Item, Outcomes, Queue, Worker, on_exporter_thread};
pub(super) use signal::{Batch, Signal};
pub(super) use variables::{Reader, pairs};
