//! Tests of the outcomes and bounds of the export queue.

use super::*;

/// An item with its `late` flag.
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

    async fn export(&self, _: Vec<Thing>) -> Result<Acknowledgement, &'static str> {
        assert!(on_exporter_thread());
        match *self {
            Self::Answers => Ok(Acknowledgement::default()),
            Self::RefusesSome(rejected) => Ok(Acknowledgement {
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

/// Counts of exported, late, dropped and failed items.
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
async fn every_item_is_counted_under_one_outcome() {
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
async fn a_hanging_collector_does_not_delay_the_shutdown() {
    let began = std::time::Instant::now();
    let counts = after_the_end(Collector::Hangs, Duration::from_millis(50)).await;
    assert_eq!(counts, [0, 0, 2, 3]);
    assert!(began.elapsed() < Duration::from_secs(5));
}
