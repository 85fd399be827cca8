//! Ended spans on their way to the collector: a bounded queue, and a thread with a
//! runtime of its own that sends them in batches.
//!
//! This stands in place of the SDK's `BatchSpanProcessor` for three reasons: that
//! one drops without saying how many, it cannot tell an exported span from a late
//! one, and its end waits for a collector that does not answer. Here a request
//! only pushes into memory, every span ends in exactly one count, and the wait at
//! the end has a bound. The exporter's sockets live on the thread's own runtime,
//! so that a busy service and a slow collector do not wait for each other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry::{Context, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanLimits, SpanProcessor};
use prometheus::IntCounter;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::env::Batch;
use crate::platform::telemetry::TelemetryMetrics;

/// What became of a span.
#[derive(Debug, Clone)]
pub(super) struct Outcomes {
    exported: IntCounter,
    late: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl Outcomes {
    pub(super) fn new(metrics: &TelemetryMetrics) -> Self {
        let outcome = |name| metrics.spans.with_label_values(&[name]);
        Self {
            exported: outcome("exported"),
            late: outcome("late"),
            dropped: outcome("dropped"),
            failed: outcome("failed"),
        }
    }
}

/// The queue; as a [`SpanProcessor`] it also takes the SDK's own spans.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spans: Mutex<Spans>,
    full_batch: Notify,
    batch: Batch,
    limits: SpanLimits,
    value_length: Option<usize>,
    outcomes: Outcomes,
}

#[derive(Debug, Default)]
struct Spans {
    waiting: VecDeque<Ended>,
    closed: bool,
}

#[derive(Debug)]
struct Ended {
    span: SpanData,
    late: bool,
}

impl Queue {
    pub(super) fn new(
        batch: Batch,
        limits: SpanLimits,
        value_length: Option<usize>,
        outcomes: Outcomes,
    ) -> Self {
        Self(Arc::new(Shared {
            spans: Mutex::default(),
            full_batch: Notify::new(),
            batch,
            limits,
            value_length,
            outcomes,
        }))
    }

    /// Takes a span, or counts it as dropped.
    pub(super) fn push(&self, mut span: SpanData, late: bool) {
        self.limit(&mut span);
        let shared = &*self.0;
        let mut spans = self.lock();
        if spans.closed || spans.waiting.len() >= shared.batch.queue {
            drop(spans);
            shared.outcomes.dropped.inc();
            return;
        }
        spans.waiting.push_back(Ended { span, late });
        let full = spans.waiting.len() == shared.batch.size;
        drop(spans);
        if full {
            shared.full_batch.notify_one();
        }
    }

    /// The limits that the SDK applies to its own spans, and the one that it lacks.
    fn limit(&self, span: &mut SpanData) {
        let kept = usize::try_from(self.0.limits.max_attributes_per_span).unwrap_or(usize::MAX);
        if let Some(over) = span.attributes.len().checked_sub(kept) {
            span.attributes.truncate(kept);
            span.dropped_attributes_count += u32::try_from(over).unwrap_or(u32::MAX);
        }
        let Some(length) = self.0.value_length else {
            return;
        };
        for attribute in &mut span.attributes {
            if let Value::String(text) = &attribute.value
                && let Some((end, _)) = text.as_str().char_indices().nth(length)
            {
                let cut = text.as_str()[..end].to_owned();
                attribute.value = Value::String(cut.into());
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Spans> {
        let spans = self.0.spans.lock();
        spans.unwrap_or_else(PoisonError::into_inner)
    }

    fn take_batch(&self) -> Vec<Ended> {
        let mut spans = self.lock();
        let count = spans.waiting.len().min(self.0.batch.size);
        spans.waiting.drain(..count).collect()
    }

    /// What has not been sent yet.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> Vec<SpanData> {
        let spans = self.lock();
        spans
            .waiting
            .iter()
            .map(|ended| ended.span.clone())
            .collect()
    }

    /// No more spans; those that wait are given up.
    fn close(&self) {
        let mut spans = self.lock();
        spans.closed = true;
        let left = spans.waiting.len();
        spans.waiting.clear();
        drop(spans);
        self.0.outcomes.dropped.inc_by(left as u64);
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        self.push(span, false);
    }

    /// The end of the process flushes; see [`Worker::stop`].
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(super) struct Worker {
    /// When to be done, once somebody said so.
    stop: watch::Sender<Option<Instant>>,
    done: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts the thread. `build` makes the exporter on the thread's own runtime;
    /// `None` (already reported) gives up every span.
    pub(super) fn start<E: SpanExporter + 'static>(
        queue: Queue,
        build: impl FnOnce() -> Option<E> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopping) = watch::channel(None);
        let (finished, done) = oneshot::channel();
        std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build();
                match runtime {
                    Ok(runtime) => runtime.block_on(async {
                        if let Some(exporter) = build() {
                            send(&queue, &exporter, stopping).await;
                        }
                    }),
                    Err(error) => tracing::error!(%error, "no runtime for the export of spans"),
                }
                queue.close();
                // Nobody waits when the bound of the flush has passed.
                let _late = finished.send(());
            })?;
        Ok(Self { stop, done })
    }

    /// Sends what waits, and is back after `bound` whatever the collector does.
    pub(super) async fn stop(self, bound: Duration) {
        let deadline = Instant::now() + bound;
        self.stop.send_replace(Some(deadline));
        let _late = tokio::time::timeout_at(deadline + Duration::from_millis(100), self.done).await;
    }
}

/// Resolves when the process has begun to stop and its time for that is over.
async fn expired(mut stopping: watch::Receiver<Option<Instant>>) {
    let deadline = match stopping.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        Err(_) => None,
    };
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

async fn send<E: SpanExporter>(
    queue: &Queue,
    exporter: &E,
    mut stopping: watch::Receiver<Option<Instant>>,
) {
    let batch = queue.0.batch;
    let outcomes = &queue.0.outcomes;
    let mut reachable = true;
    let expired = expired(stopping.clone());
    tokio::pin!(expired);
    loop {
        let last = tokio::select! {
            biased;
            _ = stopping.wait_for(Option::is_some) => true,
            () = queue.0.full_batch.notified() => false,
            () = tokio::time::sleep(batch.delay) => false,
        };
        loop {
            let ended = queue.take_batch();
            if ended.is_empty() {
                break;
            }
            let late = ended.iter().filter(|ended| ended.late).count() as u64;
            let all = ended.len() as u64;
            let spans = ended.into_iter().map(|ended| ended.span).collect();
            let sent = tokio::select! {
                sent = tokio::time::timeout(batch.timeout, exporter.export(spans)) => match sent {
                    Ok(sent) => sent.map_err(|error| error.to_string()),
                    Err(_) => Err("the export took too long".to_owned()),
                },
                () = &mut expired => {
                    outcomes.failed.inc_by(all);
                    return;
                }
            };
            match sent {
                Ok(()) => {
                    outcomes.late.inc_by(late);
                    outcomes.exported.inc_by(all - late);
                    if !std::mem::replace(&mut reachable, true) {
                        tracing::info!("spans reach the collector again");
                    }
                }
                Err(error) => {
                    outcomes.failed.inc_by(all);
                    // Once, until it works again.
                    if std::mem::replace(&mut reachable, false) {
                        tracing::warn!(error, "spans do not reach the collector");
                    }
                }
            }
        }
        if last {
            return;
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
