//! Series that are read rather than kept: brought up to date whenever they are
//! gathered.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, Registry};

/// A collector over series of its own.
pub(super) struct Read {
    /// Holds the series. Locked, since two scrapes at once would count the same
    /// progress twice.
    own: Mutex<Registry>,
    described: Vec<Desc>,
    update: Box<dyn Fn() + Send + Sync>,
}

impl Read {
    /// Shows the series of `own`, which `update` writes, on the process's registry.
    ///
    /// # Errors
    /// When a metric is there already.
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

impl Collector for Read {
    fn desc(&self) -> Vec<&Desc> {
        self.described.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        (self.update)();
        own.gather()
    }
}

/// A gauge's value; what is beyond its range is its end.
pub(super) fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Lifts a counter to a total that somebody else counts.
pub(super) fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
