//! What the allocator says of itself, read at every scrape.

use prometheus::{IntGauge, Registry};
use tikv_jemalloc_ctl::{epoch, stats};

use crate::metrics;
use crate::read::{Read, gauge};

metrics! {
    /// jemalloc. `allocated` is what the program holds; the rest is what that costs.
    pub struct AllocatorMetrics {
        /// Bytes that the program holds.
        pub allocated: IntGauge = "allocator_allocated_bytes";
        /// Bytes of pages that hold any of it; far above `allocated`, memory is fragmented.
        pub active: IntGauge = "allocator_active_bytes";
        /// Bytes of pages in memory, the allocator's own and those not yet given back included.
        pub resident: IntGauge = "allocator_resident_bytes";
    }
}

/// Shows the allocator of the process.
///
/// # Errors
/// When a metric is there already.
pub(super) fn register(registry: &Registry) -> prometheus::Result<()> {
    let own = Registry::new();
    let metrics = AllocatorMetrics::register(&own)?;
    let AllocatorMetrics {
        allocated,
        active,
        resident,
    } = metrics.clone();
    let update = move || {
        // The statistics are those of the last epoch. A read cannot fail where
        // jemalloc is the allocator; if it did, the last value would stay.
        if epoch::advance().is_err() {
            return;
        }
        for (metric, read) in [
            (&allocated, stats::allocated::read()),
            (&active, stats::active::read()),
            (&resident, stats::resident::read()),
        ] {
            if let Ok(bytes) = read {
                metric.set(gauge(bytes));
            }
        }
    };
    let AllocatorMetrics {
        allocated,
        active,
        resident,
    } = metrics;
    Read::register(own, &[&allocated, &active, &resident], update, registry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[global_allocator]
    static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

    #[test]
    fn what_is_held_is_shown() {
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
