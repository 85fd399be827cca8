//! Exemplars: for each bucket of a histogram the newest sampled trace that fell
//! into it.
//!
//! The `prometheus` crate has none, so they stand in a table beside the registry.
//! The encoder finds a series' slots by family and label values. Memory is bounded
//! by the number of series, which is bounded by the routes and the kinds of queries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use opentelemetry::trace::TraceId;

/// One measurement and the trace that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// The trace; only sampled ones come here, so that it can be looked up.
    pub trace_id: TraceId,
    /// What was measured.
    pub value: f64,
    /// When.
    pub at: SystemTime,
}

impl Exemplar {
    /// What was measured until now.
    #[must_use]
    pub fn now(trace_id: TraceId, value: f64) -> Self {
        // A time of the wall, as scrapers compare it with theirs.
        #[allow(clippy::disallowed_methods)]
        let at = SystemTime::now();
        Self {
            trace_id,
            value,
            at,
        }
    }
}

/// The slots of one series: one a bucket, `+Inf` included.
#[derive(Debug)]
pub struct Slots {
    bounds: &'static [f64],
    newest: Box<[Mutex<Option<Exemplar>>]>,
}

impl Slots {
    fn new(bounds: &'static [f64]) -> Self {
        let newest = (0..=bounds.len()).map(|_| Mutex::default()).collect();
        Self { bounds, newest }
    }

    /// Puts an exemplar into the slot of its bucket; what was there is forgotten.
    pub fn put(&self, exemplar: Exemplar) {
        let bucket = self.bounds.partition_point(|bound| *bound < exemplar.value);
        if let Some(slot) = self.newest.get(bucket) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(exemplar);
        }
    }

    /// The exemplar of a bucket, counted from the lowest.
    pub(super) fn get(&self, bucket: usize) -> Option<Exemplar> {
        let slot = self.newest.get(bucket)?;
        *slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// By family; then by label values, in the order of the labels' names.
type Table = HashMap<&'static str, HashMap<Vec<String>, Arc<Slots>>>;

/// The slots of all histograms that have exemplars.
#[derive(Debug, Clone, Default)]
pub struct Exemplars(Arc<RwLock<Table>>);

impl Exemplars {
    /// The slots of a series, made at the first call. `labels` are name and value.
    #[must_use]
    pub fn slots(
        &self,
        family: &'static str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Arc<Slots> {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        let values = labels.into_iter().map(|(_, value)| value.to_owned());
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slots = table
            .entry(family)
            .or_default()
            .entry(values.collect())
            .or_insert_with(|| Arc::new(Slots::new(bounds)));
        Arc::clone(slots)
    }

    /// The slots of every series of a family.
    pub(super) fn of_family(&self, family: &str) -> Option<HashMap<Vec<String>, Arc<Slots>>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(family).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(value: f64, id: u8) -> Exemplar {
        Exemplar {
            trace_id: TraceId::from_bytes([id; 16]),
            value,
            at: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_newest_of_each_bucket_is_kept() {
        let exemplars = Exemplars::default();
        let labels = [("path", "/a"), ("method", "GET")];
        let slots = exemplars.slots("x", &labels, &[1.0, 2.0]);
        // A bound belongs to its bucket.
        for (value, id) in [(1.0, 1), (0.5, 2), (1.5, 3), (2.0, 4), (9.0, 5)] {
            slots.put(exemplar(value, id));
        }
        let kept: Vec<_> = (0..4).map(|bucket| slots.get(bucket)).collect();
        let expected = [(0.5, 2), (2.0, 4), (9.0, 5)].map(|(v, id)| Some(exemplar(v, id)));
        assert_eq!(kept[..3], expected);
        assert_eq!(kept[3], None);
        let family = exemplars.of_family("x").unwrap();
        assert!(family.contains_key(&vec!["GET".to_owned(), "/a".to_owned()]));
    }

    #[test]
    fn a_series_has_one_set_of_slots() {
        let exemplars = Exemplars::default();
        let one = exemplars.slots("x", &[("a", "1"), ("b", "2")], &[1.0]);
        let same = exemplars.slots("x", &[("b", "2"), ("a", "1")], &[1.0]);
        assert!(Arc::ptr_eq(&one, &same));
    }
}
