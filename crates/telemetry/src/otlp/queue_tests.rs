//! What becomes of what is queued: sent, dropped, failed, in bounds.

use super::*;

/// An item, and whether it is late.
#[derive(Debug)]
struct Thing(bool);

impl Item for Thing {
    const PLURAL: &'static str = "things";

    fn is_late(&self) -> bool {
        self.0
    }
}

#[derive(Debug)]
enum Collector {
    Answers,
    RefusesSome(u64),
    Refuses,
    Hangs,
}

impl Export<Thing> for Collector {
    type Error = &'static str;

    async fn export(&self, _: Vec<Thing>) -> Result<Taken, &'static str> {
        assert!(on_exporter_thread());
        match *self {
            Self::Answers => Ok(Taken::default()),
            Self::RefusesSome(rejected) => Ok(Taken {
                rejected,
                message: "some".to_owned(),
            }),
            Self::Refuses => Err("no"),
            Self::Hangs => std::future::pending().await,
        }
    }
}

fn queue(capacity: usize) -> Queue<Thing> {
    let opts = prometheus::Opts::new("things_total", "Things.");
    let family = IntCounterVec::new(opts, &["outcome"]).unwrap();
    let batch = Batch {
        delay: Duration::from_hours(1),
        timeout: Duration::from_hours(1),
        queue: capacity,
        size: capacity,
    };
    Queue::new(batch, Outcomes::new(&family, "late"))
}

/// Exported, late, dropped, failed.
fn counts(queue: &Queue<Thing>) -> [u64; 4] {
    let outcomes = &queue.0.outcomes;
    [
        outcomes.exported.get(),
        outcomes.late.get(),
        outcomes.dropped.get(),
        outcomes.failed.get(),
    ]
}

async fn after_the_end(collector: Collector, bound: Duration) -> [u64; 4] {
    let queue = queue(3);
    for late in [false, true, false, false] {
        queue.push(Thing(late));
    }
    let worker = Worker::start(queue.clone(), || Ok(collector)).unwrap();
    worker.stop(bound).await;
    assert!(!on_exporter_thread());
    queue.push(Thing(false));
    counts(&queue)
}

#[tokio::test]
async fn every_span_ends_in_one_count() {
    let long = Duration::from_secs(30);
    assert_eq!(after_the_end(Collector::Answers, long).await, [2, 1, 2, 0]);
    assert_eq!(after_the_end(Collector::Refuses, long).await, [0, 0, 2, 3]);
    for (rejected, counts) in [
        (1, [1, 1, 2, 1]),
        (2, [0, 1, 2, 2]),
        (3, [0, 0, 2, 3]),
        (u64::MAX, [0, 0, 2, 3]),
    ] {
        let collector = Collector::RefusesSome(rejected);
        assert_eq!(after_the_end(collector, long).await, counts, "{rejected}");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_the_end_up() {
    let began = std::time::Instant::now();
    let counts = after_the_end(Collector::Hangs, Duration::from_millis(50)).await;
    assert_eq!(counts, [0, 0, 2, 3]);
    assert!(began.elapsed() < Duration::from_secs(5));
}
