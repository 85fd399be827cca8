//! Statistics of the allocator, read at every scrape.

use prometheus::{IntGauge, Registry};
use tikv_jemalloc_ctl::{epoch, stats};

use crate::metrics;
use crate::scrape_collector::{ScrapeCollector, saturating};

metrics! {
    /// Memory of jemalloc, the allocator of the process.
    pub struct AllocatorMetrics {
        /// Bytes allocated by the program.
        pub allocated: IntGauge = "allocator_allocated_bytes";
        /// Bytes in pages with allocations. A value far above `allocator_allocated_bytes` means
        /// fragmentation.
        pub active: IntGauge = "allocator_active_bytes";
        /// Bytes in resident pages, including the metadata of the allocator and free pages that it
        /// has not returned yet.
        pub resident: IntGauge = "allocator_resident_bytes";
    }
}

/// Registers the statistics of the allocator.
///
/// # Errors
/// When a metric is already registered.
pub(super) fn register(registry: &Registry) -> prometheus::Result<()> {
    let own = Registry::new();
    let metrics = AllocatorMetrics::register(&own)?;
    let AllocatorMetrics {
        allocated,
        active,
        resident,
    } = metrics.clone();
    let update = move || {
        // The statistics are those of the last epoch. Reads fail only if jemalloc is not the
        // allocator, and then the last value stays.
        if epoch::advance().is_err() {
            return;
        }
        for (metric, read) in [
            (&allocated, stats::allocated::read()),
            (&active, stats::active::read()),
            (&resident, stats::resident::read()),
        ] {
            if let Ok(bytes) = read {
                metric.set(saturating(bytes));
            }
        }
    };
    let AllocatorMetrics {
        allocated,
        active,
        resident,
    } = metrics;
    ScrapeCollector::register(own, &[&allocated, &active, &resident], update, registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn a_large_allocation_raises_the_gauge() {
        let registry = Registry::new();
        register(&registry).unwrap();
        let allocated = || {
            let families = registry.gather();
            let family = families
                .iter()
                .find(|family| family.name() == "allocator_allocated_bytes");
            family.unwrap().get_metric()[0].get_gauge().get_value()
        };
        let before = allocated();
        let held = vec![1_u8; 256 << 20];
        assert!(allocated() - before > f64::from(128 << 20));
        drop(held);
    }
}
