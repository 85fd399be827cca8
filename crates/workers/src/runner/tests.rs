//! Tests of workers, with a database that is never used.

use std::sync::atomic::{AtomicU32, Ordering};

use db::{Config, DbMetrics, Schema};
use lifecycle::health::HealthMetrics;
use lifecycle::{self, LifecycleMetrics};
use prometheus::Registry;
use settings::clock::SystemClock;
use settings::{Layers, Reader};
use telemetry::Exemplars;

use super::*;

static SCHEMA: Schema = Schema::without_migrations("test");

struct TestRunner {
    lifecycle: Lifecycle,
    metrics: WorkerMetrics,
    runner: Runner,
}

impl TestRunner {
    fn new() -> Self {
        let registry = Registry::new();
        let lifecycle = Lifecycle::new(LifecycleMetrics::register(&registry).unwrap());
        let health = Health::new(
            lifecycle.clone(),
            Arc::new(SystemClock),
            HealthMetrics::register(&registry).unwrap(),
        );
        let database = Database::new(
            &SCHEMA,
            &Config::read(&mut Reader::new(Layers::default())),
            Arc::new(DbMetrics::register(&registry).unwrap()),
            Exemplars::default(),
        )
        .unwrap();
        let metrics = WorkerMetrics::register(&registry).unwrap();
        let runner = Runner::new(&lifecycle, &health, &database, metrics.clone(), None);
        Self {
            lifecycle,
            metrics,
            runner,
        }
    }

    fn start<F>(&self, trigger: Trigger, run: impl Fn() -> F + Send + Sync + 'static)
    where
        F: Future<Output = anyhow::Result<NextRun>> + Send + 'static,
    {
        self.runner.start(Worker {
            name: "test",
            trigger,
            deadline: Duration::from_millis(200),
            exclusive: true,
            run: Box::new(move || Box::pin(run())),
        });
    }

    fn runs(&self, outcome: &str) -> u64 {
        self.metrics
            .runs
            .with_label_values(&["test", outcome])
            .get()
    }

    async fn end(&self, grace_period: Duration) -> u64 {
        self.lifecycle.shut_down("test");
        let config = lifecycle::Config {
            drain_delay: Duration::ZERO,
            grace_period,
        };
        self.lifecycle.run_shutdown(&config).await;
        self.lifecycle.cuts()
    }
}

fn often() -> Trigger {
    Trigger::Interval(Duration::from_millis(1))
}

#[tokio::test]
async fn a_drain_waits_for_the_safe_point_of_a_run() {
    let test = TestRunner::new();
    let (began, steps) = (Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
    let (run_began, run_steps) = (Arc::clone(&began), Arc::clone(&steps));
    test.start(often(), move || {
        let (began, steps) = (Arc::clone(&run_began), Arc::clone(&run_steps));
        async move {
            began.notify_one();
            while !stopping() {
                steps.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
            Ok(NextRun::AsScheduled)
        }
    });
    began.notified().await;
    assert_eq!(test.end(Duration::from_secs(5)).await, 0);
    assert_eq!((test.runs("ok"), test.runs("cut")), (1, 0));
    assert!(steps.load(Ordering::Relaxed) > 0);
    assert!(!stopping(), "outside of a run nothing stops");
}

#[tokio::test]
async fn a_run_without_a_safe_point_is_cut_by_name() {
    let test = TestRunner::new();
    let began = Arc::new(Notify::new());
    let run_began = Arc::clone(&began);
    test.start(often(), move || {
        run_began.notify_one();
        std::future::pending()
    });
    began.notified().await;
    assert_eq!(test.end(Duration::from_millis(20)).await, 1);
    assert_eq!(test.runs("cut"), 1);
}

#[tokio::test]
async fn a_run_beyond_its_deadline_is_dropped() {
    let test = TestRunner::new();
    test.start(often(), std::future::pending);
    while test.runs("timeout") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(test.end(Duration::from_secs(5)).await, 0);
}

#[tokio::test]
async fn a_queue_is_emptied_at_once_and_sleeps_until_it_is_woken() {
    let test = TestRunner::new();
    let wake = Arc::new(Notify::new());
    let waiting = Arc::new(AtomicU32::new(3));
    let (ended, ends) = tokio::sync::watch::channel(0);
    let left = Arc::clone(&waiting);
    // One notification is stored already, as if it had arrived before the worker started.
    wake.notify_one();
    let trigger = Trigger::Queue {
        wake: Arc::clone(&wake),
        poll: Duration::from_hours(1),
    };
    test.start(trigger, move || {
        let before = left.fetch_sub(1, Ordering::Relaxed);
        ended.send_modify(|runs| *runs += 1);
        async move {
            Ok(if before > 1 {
                NextRun::AtOnce
            } else {
                NextRun::AsScheduled
            })
        }
    });
    let mut ends = ends;
    ends.wait_for(|runs| *runs == 3).await.unwrap();
    waiting.store(1, Ordering::Relaxed);
    wake.notify_one();
    ends.wait_for(|runs| *runs == 4).await.unwrap();
    assert_eq!(test.end(Duration::from_secs(5)).await, 0);
    assert_eq!(test.runs("ok"), 4);
}

#[test]
fn a_heartbeat_distinguishes_late_from_failed() {
    let heartbeat = Heartbeat::new();
    assert_eq!(heartbeat.check(Duration::from_hours(1)), Ok(()));
    assert_eq!(
        heartbeat.check(Duration::ZERO),
        Err("no run has succeeded within the expected time")
    );
    heartbeat.record(false);
    assert_eq!(
        heartbeat.check(Duration::from_hours(1)),
        Err("the last run failed")
    );
    heartbeat.record(true);
    assert_eq!(heartbeat.check(Duration::from_hours(1)), Ok(()));
}
