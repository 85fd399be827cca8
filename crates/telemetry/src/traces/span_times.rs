//! Start and end times of `tracing` spans.
//!
//! `tracing-opentelemetry` reads the wall clock at the start and at the end of a span. If that
//! clock is stepped in between, a span ends before it starts or exceeds its parent. Here the wall
//! clock is read once for a trace, and all later times are that time plus monotonic time.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry_sdk::trace::SpanData;
use quanta::Instant;
use settings::clock::system_time;
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, layer};

/// Maximal age of an anchor. The clocks drift apart, so the wall clock is read again after this
/// time. Only streams live that long, and their server span ends with the head of the response.
const MAX_AGE: Duration = Duration::from_hours(1);

/// The same moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockAnchor {
    time: SystemTime,
    at: Instant,
}

impl ClockAnchor {
    pub(super) fn new(time: SystemTime, at: Instant) -> Self {
        Self { time, at }
    }

    fn now(at: Instant) -> Self {
        Self::new(system_time(), at)
    }

    fn time(self, at: Instant) -> SystemTime {
        self.time + at.saturating_duration_since(self.at)
    }

    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < MAX_AGE
    }
}

/// Times of an open span.
struct OpenSpan {
    anchor: ClockAnchor,
    began: Instant,
    /// The last exit. It is the end of the span if the span is not entered again.
    left: Option<Instant>,
    /// The end of the work, if [`SpanEnd`] reports it.
    done: Option<Instant>,
}

/// Ends a span when it is dropped, even if others still hold the span: the `SQLite` driver enters
/// it on its own thread and exits after the result has been delivered.
#[derive(Debug)]
pub struct SpanEnd<'a>(pub &'a Span);

impl Drop for SpanEnd<'_> {
    fn drop(&mut self) {
        let done = Some(Instant::now());
        self.0.with_subscriber(|(id, dispatch)| {
            let registry = dispatch.downcast_ref::<Registry>();
            let Some(span) = registry.and_then(|registry| registry.span(id)) else {
                return;
            };
            if let Some(begun) = span.extensions_mut().get_mut::<OpenSpan>() {
                begun.done = done;
            }
        });
    }
}

thread_local! {
    /// Start and end of the span that is being closed on this thread. A `SpanProcessor` has no
    /// access to the span of `tracing`, so the layer hands the times over here. Without them a span
    /// could end before it starts when the wall clock is stepped.
    static CLOSING_SPAN: Cell<Option<(SystemTime, SystemTime)>> = const { Cell::new(None) };
}

/// Sets the times of a span that is being closed on this thread.
pub(super) fn apply(span: &mut SpanData) {
    if let Some((start, end)) = CLOSING_SPAN.take() {
        (span.start_time, span.end_time) = (start, end);
    }
}

/// The layer that measures spans. It precedes the layer that exports them, because the end of a
/// span must be measured first.
pub(super) struct SpanClock;

impl<S> layer::Layer<S> for SpanClock
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let began = Instant::now();
        let of_parent = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<OpenSpan>().map(|begun| begun.anchor)
        });
        // The anchor of the request applies to contextual spans only, like its span as parent.
        let of_request = || {
            let inside = attributes.is_contextual();
            inside.then(|| Context::map_current(|context| context.get::<ClockAnchor>().copied()))?
        };
        let anchor = of_parent
            .or_else(of_request)
            .filter(|anchor| anchor.holds(began))
            .unwrap_or_else(|| ClockAnchor::now(began));
        span.extensions_mut().insert(OpenSpan {
            anchor,
            began,
            left: None,
            done: None,
        });
    }

    fn on_exit(&self, id: &Id, context: layer::Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(begun) = span.extensions_mut().get_mut::<OpenSpan>() {
            begun.left = Some(Instant::now());
        }
    }

    fn on_close(&self, id: Id, context: layer::Context<'_, S>) {
        let span = context.span(&id);
        let begun = span.and_then(|span| span.extensions_mut().remove::<OpenSpan>());
        CLOSING_SPAN.set(begun.map(|begun| {
            let ended = begun.done.or(begun.left).unwrap_or_else(Instant::now);
            (begun.anchor.time(begun.began), begun.anchor.time(ended))
        }));
    }
}
