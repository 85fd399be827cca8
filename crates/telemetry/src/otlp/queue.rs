//! The bounded export queue, and the thread with its own runtime that exports it in batches.
//!
//! The batch processors of the SDK are not used for three reasons. They do not report the number of
//! dropped items. They do not distinguish late spans. Their shutdown waits for a collector that
//! does not answer. Here `push` never blocks, every item is counted under exactly one outcome,
//! and the shutdown has a bound. The sockets of the exporter belong to the runtime of the thread,
//! so that a busy service does not delay exports and a slow collector does not delay requests.

use std::collections::VecDeque;
use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::Batch;

/// An exported item.
pub(crate) trait Item: Debug + Send + 'static {
    /// Plural of the item in log messages.
    const PLURAL: &'static str;

    /// Whether the item is exported after the end of unsampled work. Counted separately.
    fn is_late(&self) -> bool {
        false
    }
}

/// The response of a collector that has accepted a batch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Acknowledgement {
    /// Number of rejected items in the batch. The collector does not identify them.
    pub(crate) rejected: u64,
    /// Reason of the rejection, or a warning. Empty if there is none.
    pub(crate) message: String,
}

/// Exports batches.
pub(crate) trait Export<T> {
    /// Reason why a batch was not acknowledged.
    type Error: Display;

    /// Exports a batch and waits for the acknowledgement.
    fn export(&self, batch: Vec<T>) -> impl Future<Output = Result<Acknowledgement, Self::Error>>;
}

/// Counters of the outcomes.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes {
    exported: IntCounter,
    late: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl Outcomes {
    /// Counters in a family with the label `outcome`, initialised to zero.
    pub(crate) fn new(family: &IntCounterVec, late: &str) -> Self {
        let outcome = |name| family.with_label_values(&[name]);
        Self {
            exported: outcome("exported"),
            late: outcome(late),
            dropped: outcome("dropped"),
            failed: outcome("failed"),
        }
    }
}

/// Name of the exporter threads and of the blocking threads of their runtimes.
const THREAD: &str = "otlp";

/// Whether the current thread exports. Its log lines are not exported, because each export would
/// cause another one.
pub(crate) fn on_exporter_thread() -> bool {
    std::thread::current().name() == Some(THREAD)
}

/// Handle of the queue.
#[derive(Debug)]
pub(crate) struct Queue<T>(Arc<Inner<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Inner<T> {
    items: Mutex<Items<T>>,
    full_batch: Notify,
    batch: Batch,
    outcomes: Outcomes,
}

#[derive(Debug)]
struct Items<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

impl<T: Item> Queue<T> {
    pub(crate) fn new(batch: Batch, outcomes: Outcomes) -> Self {
        Self(Arc::new(Inner {
            items: Mutex::new(Items {
                waiting: VecDeque::new(),
                closed: false,
            }),
            full_batch: Notify::new(),
            batch,
            outcomes,
        }))
    }

    /// Appends an item, or counts it as dropped.
    pub(crate) fn push(&self, item: T) {
        let inner = &*self.0;
        let mut items = self.lock();
        if items.closed || items.waiting.len() >= inner.batch.queue {
            drop(items);
            inner.outcomes.dropped.inc();
            return;
        }
        items.waiting.push_back(item);
        let full = items.waiting.len() == inner.batch.size;
        drop(items);
        if full {
            inner.full_batch.notify_one();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Items<T>> {
        let items = self.0.items.lock();
        items.unwrap_or_else(PoisonError::into_inner)
    }

    fn take_batch(&self) -> Vec<T> {
        let mut items = self.lock();
        let count = items.waiting.len().min(self.0.batch.size);
        items.waiting.drain(..count).collect()
    }

    /// Removes all queued items.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Vec<T> {
        self.lock().waiting.drain(..).collect()
    }

    /// Rejects further items and drops the queued ones.
    fn close(&self) {
        let mut items = self.lock();
        items.closed = true;
        let left = items.waiting.len();
        items.waiting.clear();
        drop(items);
        self.0.outcomes.dropped.inc_by(left as u64);
    }
}

/// Handle of the exporter thread.
#[derive(Debug)]
pub(crate) struct Worker {
    /// Deadline of the shutdown, once it is requested.
    stop: watch::Sender<Option<Instant>>,
    done: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts the thread. `build` creates the exporter on the runtime of the thread. If it fails,
    /// all items are dropped.
    pub(crate) fn start<T: Item, E: Export<T> + 'static>(
        queue: Queue<T>,
        build: impl FnOnce() -> anyhow::Result<E> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopping) = watch::channel(None);
        let (finished, done) = oneshot::channel();
        std::thread::Builder::new()
            .name(THREAD.to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .thread_name(THREAD)
                    .build();
                match runtime {
                    Ok(runtime) => runtime.block_on(async {
                        match build() {
                            Ok(exporter) => send(&queue, &exporter, stopping).await,
                            Err(error) => tracing::error!(
                                error = format!("{error:#}"),
                                "{} cannot be exported",
                                T::PLURAL
                            ),
                        }
                    }),
                    Err(error) => {
                        tracing::error!(%error, "no runtime to export {}", T::PLURAL);
                    }
                }
                queue.close();
                // The receiver is gone if the bound of the flush has passed.
                let _late = finished.send(());
            })?;
        Ok(Self { stop, done })
    }

    /// Exports the queued items and returns after at most `bound`.
    pub(crate) async fn stop(self, bound: Duration) {
        let deadline = Instant::now() + bound;
        self.stop.send_replace(Some(deadline));
        let _late = tokio::time::timeout_at(deadline + Duration::from_millis(100), self.done).await;
    }
}

/// Completes when a shutdown was requested and its deadline has passed.
async fn expired(mut stopping: watch::Receiver<Option<Instant>>) {
    let deadline = match stopping.wait_for(Option::is_some).await {
        Ok(deadline) => *deadline,
        Err(_) => None,
    };
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

async fn send<T: Item, E: Export<T>>(
    queue: &Queue<T>,
    exporter: &E,
    mut stopping: watch::Receiver<Option<Instant>>,
) {
    let batch = queue.0.batch;
    let outcomes = &queue.0.outcomes;
    let mut reachable = true;
    let mut accepted = true;
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
            let items = queue.take_batch();
            if items.is_empty() {
                break;
            }
            let late = items.iter().filter(|item| item.is_late()).count() as u64;
            let all = items.len() as u64;
            let sent = tokio::select! {
                sent = tokio::time::timeout(batch.timeout, exporter.export(items)) => match sent {
                    Ok(sent) => sent.map_err(|error| error.to_string()),
                    Err(_) => Err("the export timed out".to_owned()),
                },
                () = &mut expired => {
                    outcomes.failed.inc_by(all);
                    return;
                }
            };
            match sent {
                Ok(taken) => {
                    // The collector does not identify rejected items. Punctual items are counted
                    // first.
                    let kept = all - taken.rejected.min(all);
                    let late = late.min(kept);
                    outcomes.failed.inc_by(all - kept);
                    outcomes.late.inc_by(late);
                    outcomes.exported.inc_by(kept - late);
                    let complains = kept < all || !taken.message.is_empty();
                    // Logged once, until a batch is accepted without a message.
                    if std::mem::replace(&mut accepted, !complains) && complains {
                        tracing::warn!(
                            rejected = all - kept,
                            reason = taken.message,
                            "the collector reported a partial success for {}",
                            T::PLURAL
                        );
                    }
                    if !std::mem::replace(&mut reachable, true) {
                        tracing::info!("the collector accepts {} again", T::PLURAL);
                    }
                }
                Err(error) => {
                    outcomes.failed.inc_by(all);
                    // Logged once, until a batch is accepted.
                    if std::mem::replace(&mut reachable, false) {
                        tracing::warn!(error, "the collector does not accept {}", T::PLURAL);
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
