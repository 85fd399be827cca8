//! A collector for metrics that are read from another source at every scrape.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};

/// A collector with its own registry.
pub(super) struct ScrapeCollector {
    /// Locked during a scrape, because concurrent scrapes would add the same increment twice.
    own: Mutex<Registry>,
    described: Vec<Desc>,
    update: Box<dyn Fn() + Send + Sync>,
}

impl ScrapeCollector {
    /// Registers the metrics of `own`. `update` sets them at every scrape.
    ///
    /// # Errors
    /// When a metric is already registered.
    pub(super) fn register(
        own: Registry,
        described: &[&dyn Collector],
        update: impl Fn() + Send + Sync + 'static,
        registry: &Registry,
    ) -> prometheus::Result<()> {
        let described = described.iter().flat_map(|one| one.desc());
        registry.register(Box::new(Self {
            own: Mutex::new(own),
            described: described.cloned().collect(),
            update: Box::new(update),
        }))
    }
}

impl Collector for ScrapeCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        (self.update)();
        own.gather()
    }
}

/// The value of a gauge. Saturates.
pub(super) fn saturating(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Raises a counter to a total that is counted elsewhere.
pub(super) fn raise_to(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
