//! The sampling decision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::trace::{Link, SpanKind, TraceContextExt as _, TraceId, TraceState};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SamplingDecision, SamplingResult, ShouldSample};

/// The sampler, shared by requests, which decide before any span is created, and by the SDK, for
/// spans without a request. The ratio can be changed at run time.
#[derive(Debug, Clone)]
pub struct Sampling {
    ratio: Arc<AtomicU64>,
    parent_based: bool,
}

impl Sampling {
    pub(super) fn new(ratio: f64, parent_based: bool) -> Self {
        let sampling = Self {
            ratio: Arc::default(),
            parent_based,
        };
        sampling.set_ratio(ratio);
        sampling
    }

    /// Ratio of new traces that are sampled.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        f64::from_bits(self.ratio.load(Ordering::Relaxed))
    }

    /// Sets the ratio, clamped to 0 to 1.
    pub fn set_ratio(&self, ratio: f64) {
        let ratio = ratio.clamp(0.0, 1.0);
        self.ratio.store(ratio.to_bits(), Ordering::Relaxed);
    }

    /// Whether a trace is sampled. `parent` is the decision of a trusted caller.
    pub(super) fn decide(&self, trace_id: TraceId, parent: Option<bool>) -> bool {
        match parent {
            Some(sampled) if self.parent_based => sampled,
            _ => is_in_ratio(trace_id, self.ratio()),
        }
    }
}

/// Compares the lower 63 bits of the id with the ratio, like `TraceIdRatioBased` of the SDKs, so
/// that services with the same ratio sample the same traces.
#[expect(clippy::cast_precision_loss, reason = "53 bits are enough for a ratio")]
fn is_in_ratio(trace_id: TraceId, ratio: f64) -> bool {
    let bytes = trace_id.to_bytes();
    let mut low = [0; 8];
    low.copy_from_slice(&bytes[8..]);
    let number = u64::from_be_bytes(low) >> 1;
    // The greatest ids would be rounded up to the bound.
    ratio >= 1.0 || (number as f64) < ratio * (1_u64 << 63) as f64
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        _: &str,
        _: &SpanKind,
        _: &[KeyValue],
        _: &[Link],
    ) -> SamplingResult {
        // A child inherits the decision of its parent in the same process.
        let inherited = parent.and_then(|parent| {
            let span = parent.span();
            let context = span.span_context();
            context
                .is_valid()
                .then(|| (context.is_sampled(), context.trace_state().clone()))
        });
        let (sampled, trace_state) = inherited
            .unwrap_or_else(|| (is_in_ratio(trace_id, self.ratio()), TraceState::default()));
        SamplingResult {
            decision: if sampled {
                SamplingDecision::RecordAndSample
            } else {
                SamplingDecision::Drop
            },
            attributes: Vec::new(),
            trace_state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_met_and_exact_at_its_ends() {
        let count = |ratio| {
            (0..20_000)
                .filter(|_| is_in_ratio(TraceId::from_bytes(rand::random()), ratio))
                .count()
        };
        assert_eq!(count(0.0), 0);
        assert_eq!(count(1.0), 20_000);
        let tenth = count(0.1);
        assert!((1_700..2_300).contains(&tenth), "{tenth}");
        assert!(is_in_ratio(TraceId::from_bytes([0xff; 16]), 1.0));
    }

    #[test]
    fn only_a_parent_based_sampler_follows_the_parent() {
        let id = TraceId::from_bytes([0xff; 16]);
        assert!(Sampling::new(0.0, true).decide(id, Some(true)));
        assert!(!Sampling::new(1.0, true).decide(id, Some(false)));
        assert!(Sampling::new(1.0, false).decide(id, Some(false)));
        assert!(!Sampling::new(0.0, true).decide(id, None));
    }
}
