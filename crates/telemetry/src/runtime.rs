//! Statistics of the Tokio runtime, read at every scrape.
//!
//! Polls and all queues except the shared one are counted only in builds with `--cfg
//! tokio_unstable`, which `.cargo/config.toml` sets. Builds without it have no such series. Tokio's
//! histogram of poll times stays off because it reads the clock twice for every poll. The polls of
//! requests are timed by route (`http_request_busy_seconds_total`).

use prometheus::core::Collector;
use prometheus::{Counter, Gauge, IntCounter, IntGauge, Registry};
use tokio::runtime::{Handle, RuntimeMetrics};

use crate::metrics;
use crate::scrape_collector::{ScrapeCollector, raise_to, saturating};

metrics! {
    /// The Tokio runtime that serves requests.
    pub struct TokioMetrics {
        /// Worker threads.
        pub workers: IntGauge = "tokio_workers";
        /// Seconds in which the worker threads were busy. The rate divided by `tokio_workers` is
        /// their utilization.
        pub busy: Counter = "tokio_worker_busy_seconds_total";
        /// Times that a worker thread had no work and parked.
        pub parks: IntCounter = "tokio_worker_parks_total";
        /// Tasks in the queue that all worker threads share.
        pub queue: IntGauge = "tokio_global_queue_depth";
        /// Tasks that have not ended.
        pub tasks: IntGauge = "tokio_alive_tasks";
        /// Polls of tasks on all worker threads. The rate of `tokio_worker_busy_seconds_total`
        /// divided by this rate is the mean duration of a poll.
        pub polls: IntCounter = "tokio_task_polls_total";
        /// Mean duration of recent polls, of the worker thread with the highest mean. Blocking code
        /// in a task raises it.
        pub poll_time: Gauge = "tokio_task_poll_mean_seconds";
        /// Forced yields of tasks that used up their budget.
        pub forced_yields: IntCounter = "tokio_forced_yields_total";
        /// Tasks in the local queues of the worker threads.
        pub local_queue: IntGauge = "tokio_local_queue_depth";
        /// Threads for blocking work (password hashes, files).
        pub blocking_threads: IntGauge = "tokio_blocking_threads";
        /// Blocking work that waits for a thread.
        pub blocking_queue: IntGauge = "tokio_blocking_queue_depth";
    }
}

/// Registers the statistics of the current runtime.
///
/// # Errors
/// When a metric is already registered.
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
    ScrapeCollector::register(own, &described, update, registry)
}

impl TokioMetrics {
    fn update(&self, runtime: &RuntimeMetrics) {
        let workers = runtime.num_workers();
        self.workers.set(saturating(workers));
        self.queue.set(saturating(runtime.global_queue_depth()));
        self.tasks.set(saturating(runtime.num_alive_tasks()));
        let busy: f64 = (0..workers)
            .map(|worker| runtime.worker_total_busy_duration(worker).as_secs_f64())
            .sum();
        // Rounding errors can make the sum smaller than the previous one.
        self.busy.inc_by((busy - self.busy.get()).max(0.0));
        let parks = (0..workers).map(|worker| runtime.worker_park_count(worker));
        raise_to(&self.parks, parks.sum());
        #[cfg(tokio_unstable)]
        self.update_unstable(runtime);
    }

    #[cfg(tokio_unstable)]
    fn update_unstable(&self, runtime: &RuntimeMetrics) {
        let workers = runtime.num_workers();
        let polls = (0..workers).map(|worker| runtime.worker_poll_count(worker));
        raise_to(&self.polls, polls.sum());
        let means = (0..workers).map(|worker| runtime.worker_mean_poll_time(worker));
        let longest = means.max().unwrap_or_default();
        self.poll_time.set(longest.as_secs_f64());
        raise_to(&self.forced_yields, runtime.budget_forced_yield_count());
        let waiting = (0..workers).map(|worker| runtime.worker_local_queue_depth(worker));
        self.local_queue.set(saturating(waiting.sum()));
        self.blocking_threads
            .set(saturating(runtime.num_blocking_threads()));
        self.blocking_queue
            .set(saturating(runtime.blocking_queue_depth()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_scrape_reads_the_statistics_of_the_runtime() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let value = |name: &str| {
            let families = registry.gather();
            let family = families.iter().find(|family| family.name() == name)?;
            let metric = family.get_metric().first()?;
            let (saturating, counter) = (metric.get_gauge(), metric.get_counter());
            Some(saturating.get_value() + counter.get_value())
        };
        assert_eq!(value("tokio_workers"), Some(2.0));
        let before = value("tokio_alive_tasks").unwrap();
        let stop = tokio_util::sync::CancellationToken::new();
        #[expect(
            clippy::disallowed_methods,
            reason = "tests have no lifecycle to spawn on"
        )]
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
