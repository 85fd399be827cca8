//! What the Tokio runtime says of itself, read at every scrape.
//!
//! Polls, and all queues but the shared one, are counted only in builds with
//! `--cfg tokio_unstable`, which `.cargo/config.toml` sets; a build whose `RUSTFLAGS`
//! lack it leaves these series out. Tokio's histogram of poll times stays off: it reads
//! the clock twice a poll, and the requests' own polls are timed a route
//! (`http_request_busy_seconds_total`).

use prometheus::core::Collector;
use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};
use tokio::runtime::{Handle, RuntimeMetrics};

use crate::metrics;
use crate::read::{Read, gauge, raise};

metrics! {
    /// The Tokio runtime that serves requests.
    pub struct TokioMetrics {
        /// Worker threads.
        pub workers: IntGauge = "tokio_workers";
        /// Seconds that all workers spent working. Its rate over `tokio_workers` is the share of time they are busy.
        pub busy: Counter = "tokio_worker_busy_seconds_total";
        /// Times that a worker had nothing to do and went to sleep.
        pub parks: IntCounter = "tokio_worker_parks_total";
        /// Tasks that wait in the queue that all workers share.
        pub queue: IntGauge = "tokio_global_queue_depth";
        /// Tasks that have not ended.
        pub tasks: IntGauge = "tokio_alive_tasks";
        /// Polls of tasks, by all workers. The rate of `tokio_worker_busy_seconds_total` over its rate is the mean time of a poll.
        pub polls: IntCounter = "tokio_task_polls_total";
        /// Mean of recent polls' seconds, of the worker for which it is the longest. Work that blocks lifts it.
        pub poll_time: Gauge = "tokio_task_poll_mean_seconds";
        /// Times that a task was made to yield because it had work without end.
        pub forced_yields: IntCounter = "tokio_forced_yields_total";
        /// Tasks that wait in the workers' own queues.
        pub local_queue: IntGauge = "tokio_local_queue_depth";
        /// Threads for blocking work (password hashes, files).
        pub blocking_threads: IntGauge = "tokio_blocking_threads";
        /// Blocking work that waits for a thread.
        pub blocking_queue: IntGauge = "tokio_blocking_queue_depth";
    }
}

/// Shows the runtime that this is called on.
///
/// # Errors
/// When a metric is there already.
pub(super) fn register(registry: &Registry) -> prometheus::Result<()> {
    let own = Registry::new();
    let runtime = Handle::current().metrics();
    let metrics = TokioMetrics::register(&own)?;
    let shown = metrics.clone();
    let mut described: Vec<&dyn Collector> = vec![
        &shown.workers,
        &shown.busy,
        &shown.parks,
        &shown.queue,
        &shown.tasks,
    ];
    let counted_when_unstable: [Box<dyn Collector>; 6] = [
        Box::new(shown.polls.clone()),
        Box::new(shown.poll_time.clone()),
        Box::new(shown.forced_yields.clone()),
        Box::new(shown.local_queue.clone()),
        Box::new(shown.blocking_threads.clone()),
        Box::new(shown.blocking_queue.clone()),
    ];
    if cfg!(tokio_unstable) {
        described.extend(counted_when_unstable.iter().map(Box::as_ref));
    } else {
        for series in counted_when_unstable {
            own.unregister(series)?;
        }
    }
    let update = move || metrics.update(&runtime);
    Read::register(own, &described, update, registry)
}

impl TokioMetrics {
    fn update(&self, runtime: &RuntimeMetrics) {
        let workers = runtime.num_workers();
        self.workers.set(gauge(workers));
        self.queue.set(gauge(runtime.global_queue_depth()));
        self.tasks.set(gauge(runtime.num_alive_tasks()));
        let busy: f64 = (0..workers)
            .map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64())
            .sum();
        // Rounding may make a sum smaller than the one before.
        self.busy.inc_by((busy - self.busy.get()).max(0.0));
        let parks = (0..workers).map(|worker| runtime.worker_park_count(worker));
        raise(&self.parks, parks.sum());
        #[cfg(tokio_unstable)]
        self.update_unstable(runtime);
    }

    #[cfg(tokio_unstable)]
    fn update_unstable(&self, runtime: &RuntimeMetrics) {
        let workers = runtime.num_workers();
        let polls = (0..workers).map(|worker| runtime.worker_poll_count(worker));
        raise(&self.polls, polls.sum());
        let means = (0..workers).map(|worker| runtime.worker_mean_poll_time(worker));
        let longest = means.max().unwrap_or_default();
        self.poll_time.set(longest.as_secs_f64());
        raise(&self.forced_yields, runtime.budget_forced_yield_count());
        let waiting = (0..workers).map(|worker| runtime.worker_local_queue_depth(worker));
        self.local_queue.set(gauge(waiting.sum()));
        self.blocking_threads
            .set(gauge(runtime.num_blocking_threads()));
        self.blocking_queue
            .set(gauge(runtime.blocking_queue_depth()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_scrape_shows_the_runtime_as_it_is() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let value = |name: &str| {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == name)?;
            let metric = family.get_metric().first()?;
            let (gauge, counter) = (metric.get_gauge(), metric.get_counter());
            Some(gauge.get_value() + counter.get_value())
        };
        assert_eq!(value("tokio_workers"), Some(2.0));
        let before = value("tokio_alive_tasks").unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        // Tests have no lifecycle to spawn on.
        #[allow(clippy::disallowed_methods)]
        let task = tokio::spawn(stop.clone().cancelled_owned());
        assert_eq!(value("tokio_alive_tasks"), Some(before + 1.0));
        stop.cancel();
        task.await.unwrap();
        let (one, two) = (
            value("tokio_worker_parks_total"),
            value("tokio_worker_parks_total"),
        );
        assert!(one.unwrap() > 0.0 && two >= one, "{one:?} {two:?}");
        assert!(value("tokio_worker_busy_seconds_total").is_some());
        for counted_when_unstable in [
            "tokio_task_polls_total",
            "tokio_task_poll_mean_seconds",
            "tokio_forced_yields_total",
            "tokio_local_queue_depth",
            "tokio_blocking_threads",
            "tokio_blocking_queue_depth",
        ] {
            let is_there = value(counted_when_unstable).is_some();
            assert_eq!(is_there, cfg!(tokio_unstable), "{counted_when_unstable}");
        }
    }
}
