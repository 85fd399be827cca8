//! Exemplars: the most recent sampled trace of each histogram bucket.
//!
//! The `prometheus` crate does not support exemplars, so they are stored in a separate table. The
//! encoder looks them up by metric name and label values. The number of series bounds the memory,
//! and the routes and query kinds bound the number of series.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use opentelemetry::trace::TraceId;
use settings::clock::system_time;

/// A measurement and its trace.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exemplar {
    /// The trace. It is sampled, so that it can be looked up.
    pub trace_id: TraceId,
    /// The measured value.
    pub value: f64,
    /// Time of the measurement.
    pub at: SystemTime,
}

impl Exemplar {
    /// A measurement that ends now.
    #[must_use]
    pub fn now(trace_id: TraceId, value: f64) -> Self {
        Self {
            trace_id,
            value,
            at: system_time(),
        }
    }
}

/// The slots of one series: one for each bucket, including `+Inf`.
#[derive(Debug)]
pub struct SeriesExemplars {
    bounds: &'static [f64],
    newest: Box<[Mutex<Option<Exemplar>>]>,
}

impl SeriesExemplars {
    fn new(bounds: &'static [f64]) -> Self {
        let newest = (0..=bounds.len()).map(|_| Mutex::default()).collect();
        Self { bounds, newest }
    }

    /// Replaces the exemplar of the bucket.
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

/// Slots by metric name and by label values, sorted by label name.
type Table = HashMap<&'static str, HashMap<Vec<String>, Arc<SeriesExemplars>>>;

/// The exemplars of all histograms.
#[derive(Debug, Clone, Default)]
pub struct Exemplars(Arc<RwLock<Table>>);

impl Exemplars {
    /// The slots of a series, created at the first call. `labels` are pairs of name and value.
    #[must_use]
    pub fn slots(
        &self,
        family: &'static str,
        labels: &[(&str, &str)],
        bounds: &'static [f64],
    ) -> Arc<SeriesExemplars> {
        let mut labels = labels.to_vec();
        labels.sort_unstable();
        let values = labels.into_iter().map(|(_, value)| value.to_owned());
        let mut table = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let slots = table
            .entry(family)
            .or_default()
            .entry(values.collect())
            .or_insert_with(|| Arc::new(SeriesExemplars::new(bounds)));
        Arc::clone(slots)
    }

    /// The slots of all series of a metric.
    pub(super) fn of_family(
        &self,
        family: &str,
    ) -> Option<HashMap<Vec<String>, Arc<SeriesExemplars>>> {
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
    fn the_most_recent_exemplar_of_each_bucket_is_kept() {
        let exemplars = Exemplars::default();
        let labels = [("path", "/a"), ("method", "GET")];
        let slots = exemplars.slots("x", &labels, &[1.0, 2.0]);
        // Bounds are inclusive.
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
