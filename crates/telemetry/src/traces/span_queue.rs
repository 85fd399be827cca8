//! Limits of ended spans before they are queued.

use std::time::Duration;

use opentelemetry::{Array, Context, KeyValue, StringValue, Value};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanLimits, SpanProcessor};

use super::span_times;
use crate::otlp::{Encode, Item, Queue, SpanEncoder};

/// An ended span.
#[derive(Debug)]
pub(super) struct QueuedSpan {
    pub(super) span: SpanData,
    late: bool,
}

impl Item for QueuedSpan {
    const PLURAL: &'static str = "spans";

    fn is_late(&self) -> bool {
        self.late
    }
}

impl Encode<QueuedSpan> for SpanEncoder {
    fn encode(&self, batch: Vec<QueuedSpan>) -> Vec<u8> {
        self.request(batch.iter().map(|queued| &queued.span))
    }
}

/// Queues spans. As a [`SpanProcessor`] also those of the SDK.
#[derive(Debug, Clone)]
pub(super) struct SpanQueue {
    pub(super) queue: Queue<QueuedSpan>,
    pub(super) limits: SpanLimits,
    /// Limit of text attributes in characters.
    pub(super) value_length: Option<usize>,
}

impl SpanQueue {
    /// Queues a span, or counts it as dropped.
    pub(super) fn push(&self, mut span: SpanData, late: bool) {
        self.limit(&mut span);
        self.queue.push(QueuedSpan { span, late });
    }

    /// Applies the limits of the SDK to all spans, and the length limit of values, which the SDK
    /// lacks.
    fn limit(&self, span: &mut SpanData) {
        let limits = &self.limits;
        let cut = |all: &mut Vec<KeyValue>, kept: u32| {
            let over = shorten(all, kept);
            self.cut_values(all);
            over
        };
        span.dropped_attributes_count += cut(&mut span.attributes, limits.max_attributes_per_span);
        let events = &mut span.events;
        events.dropped_count += shorten(&mut events.events, limits.max_events_per_span);
        for event in &mut events.events {
            event.dropped_attributes_count +=
                cut(&mut event.attributes, limits.max_attributes_per_event);
        }
        let links = &mut span.links;
        links.dropped_count += shorten(&mut links.links, limits.max_links_per_span);
        for link in &mut links.links {
            link.dropped_attributes_count +=
                cut(&mut link.attributes, limits.max_attributes_per_link);
        }
    }

    fn cut_values(&self, attributes: &mut [KeyValue]) {
        let Some(length) = self.value_length else {
            return;
        };
        for attribute in attributes {
            match &mut attribute.value {
                Value::String(text) => cut_text(text, length),
                Value::Array(Array::String(texts)) => {
                    for text in texts {
                        cut_text(text, length);
                    }
                }
                _ => {}
            }
        }
    }
}

/// Keeps the first `kept` items and returns the number of removed ones.
fn shorten<T>(all: &mut Vec<T>, kept: u32) -> u32 {
    let kept = usize::try_from(kept).unwrap_or(usize::MAX);
    let over = all.len().saturating_sub(kept);
    all.truncate(kept);
    u32::try_from(over).unwrap_or(u32::MAX)
}

fn cut_text(text: &mut StringValue, length: usize) {
    if let Some((end, _)) = text.as_str().char_indices().nth(length) {
        *text = text.as_str()[..end].to_owned().into();
    }
}

impl SpanProcessor for SpanQueue {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        span_times::apply(&mut span);
        self.push(span, false);
    }

    /// Spans are flushed at the end of the process by `Worker::stop`.
    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::{Outcomes, Reader, Signal, span_with};

    #[test]
    fn limits_apply_to_spans_that_the_sdk_did_not_create() {
        let opts = prometheus::Opts::new("spans_total", "SpanQueue.");
        let family = prometheus::IntCounterVec::new(opts, &["outcome"]).unwrap();
        let variables = std::collections::BTreeMap::new();
        let batch = Signal::TRACES.batch(&mut Reader::new(&variables));
        let spans = SpanQueue {
            queue: Queue::new(batch, Outcomes::new(&family, "late")),
            limits: SpanLimits {
                max_attributes_per_span: 1,
                ..SpanLimits::default()
            },
            value_length: Some(3),
        };
        let attributes = vec![KeyValue::new("a", "12345"), KeyValue::new("b", "2")];
        spans.push(span_with(attributes), false);
        let kept = spans.queue.take_all().remove(0).span;
        assert_eq!(kept.attributes, [KeyValue::new("a", "123")]);
        assert_eq!(kept.dropped_attributes_count, 1);
    }
}
