//! Items on their way to the collector: a bounded queue, and a thread with a runtime
//! of its own that sends them in batches.
//!
//! This stands in place of the SDK's batch processors for three reasons: they drop
//! without saying how many, they cannot tell an exported span from a late one, and
//! their end waits for a collector that does not answer. Here a request only pushes
//! into memory, every item ends in exactly one count, and the wait at the end has a
//! bound. The exporter's sockets live on the thread's own runtime, so that a busy
//! service and a slow collector do not wait for each other.

use std::cell::Cell;
use std::collections::VecDeque;
use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{IntCounter, IntCounterVec};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::Batch;

/// What is exported.
pub(crate) trait Item: Debug + Send + 'static {
    /// What several of them are called, for lines about their fate.
    const PLURAL: &'static str;

    /// Exported after the fact; counted apart.
    fn is_late(&self) -> bool {
        false
    }
}

/// What a collector says of a batch that it has taken.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Items of it that it refused all the same; it does not say which.
    pub(crate) rejected: u64,
    /// Why, or what it advises; empty when it is content.
    pub(crate) message: String,
}

/// Sends a batch.
pub(crate) trait Export<T> {
    /// Why a collector has not taken a batch.
    type Error: Display;

    /// Resolves when the collector has taken or refused it.
    fn export(&self, batch: Vec<T>) -> impl Future<Output = Result<Taken, Self::Error>>;
}

/// What became of the items.
#[derive(Debug, Clone)]
pub(crate) struct Outcomes {
    exported: IntCounter,
    late: IntCounter,
    dropped: IntCounter,
    failed: IntCounter,
}

impl Outcomes {
    /// Counts in a family with the label `outcome`, born at zero.
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

thread_local! {
    static EXPORTS: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread exports. What it says of its own work must not be exported
/// again: it would feed itself.
pub(crate) fn on_exporter_thread() -> bool {
    EXPORTS.get()
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Queue<T>(Arc<Shared<T>>);

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

#[derive(Debug)]
struct Shared<T> {
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
        Self(Arc::new(Shared {
            items: Mutex::new(Items {
                waiting: VecDeque::new(),
                closed: false,
            }),
            full_batch: Notify::new(),
            batch,
            outcomes,
        }))
    }

    /// Takes an item, or counts it as dropped.
    pub(crate) fn push(&self, item: T) {
        let shared = &*self.0;
        let mut items = self.lock();
        if items.closed || items.waiting.len() >= shared.batch.queue {
            drop(items);
            shared.outcomes.dropped.inc();
            return;
        }
        items.waiting.push_back(item);
        let full = items.waiting.len() == shared.batch.size;
        drop(items);
        if full {
            shared.full_batch.notify_one();
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

    /// Takes all that has not been sent yet.
    #[cfg(test)]
    pub(crate) fn take_all(&self) -> Vec<T> {
        self.lock().waiting.drain(..).collect()
    }

    /// No more items; those that wait are given up.
    fn close(&self) {
        let mut items = self.lock();
        items.closed = true;
        let left = items.waiting.len();
        items.waiting.clear();
        drop(items);
        self.0.outcomes.dropped.inc_by(left as u64);
    }
}

/// The thread that sends.
#[derive(Debug)]
pub(crate) struct Worker {
    /// When to be done, once somebody said so.
    stop: watch::Sender<Option<Instant>>,
    done: oneshot::Receiver<()>,
}

impl Worker {
    /// Starts the thread. `build` makes the exporter on the thread's own runtime;
    /// an error gives up every item.
    pub(crate) fn start<T: Item, E: Export<T> + 'static>(
        queue: Queue<T>,
        build: impl FnOnce() -> anyhow::Result<E> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (stop, stopping) = watch::channel(None);
        let (finished, done) = oneshot::channel();
        std::thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(move || {
                EXPORTS.set(true);
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .on_thread_start(|| EXPORTS.set(true))
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
                        tracing::error!(%error, "no runtime for the export of {}", T::PLURAL);
                    }
                }
                queue.close();
                // Nobody waits when the bound of the flush has passed.
                let _late = finished.send(());
            })?;
        Ok(Self { stop, done })
    }

    /// Sends what waits, and is back after `bound` whatever the collector does.
    pub(crate) async fn stop(self, bound: Duration) {
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

async fn send<T: Item, E: Export<T>>(
    queue: &Queue<T>,
    exporter: &E,
    mut stopping: watch::Receiver<Option<Instant>>,
) {
    let batch = queue.0.batch;
    let outcomes = &queue.0.outcomes;
    let mut reachable = true;
    let mut content = true;
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
                    Err(_) => Err("the export took too long".to_owned()),
                },
                () = &mut expired => {
                    outcomes.failed.inc_by(all);
                    return;
                }
            };
            match sent {
                Ok(taken) => {
                    // Which ones were refused is not said: those that were not late,
                    // as long as there are such.
                    let kept = all - taken.rejected.min(all);
                    let late = late.min(kept);
                    outcomes.failed.inc_by(all - kept);
                    outcomes.late.inc_by(late);
                    outcomes.exported.inc_by(kept - late);
                    let complains = kept < all || !taken.message.is_empty();
                    // Once, until a batch is taken without a word.
                    if std::mem::replace(&mut content, !complains) && complains {
                        tracing::warn!(
                            rejected = all - kept,
                            reason = taken.message,
                            "the collector is not content with {}",
                            T::PLURAL
                        );
                    }
                    if !std::mem::replace(&mut reachable, true) {
                        tracing::info!("{} reach the collector again", T::PLURAL);
                    }
                }
                Err(error) => {
                    outcomes.failed.inc_by(all);
                    // Once, until it works again.
                    if std::mem::replace(&mut reachable, false) {
                        tracing::warn!(error, "{} do not reach the collector", T::PLURAL);
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
