//! The times of spans that `tracing` makes.
//!
//! The exporter's library asks the wall clock at the start and at the end of a span. A
//! step of that clock between the two gives a span that ends before it starts, or lies
//! outside of its parent. Here the wall clock is asked once for a trace. All later times
//! in it are that time plus monotonic time.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use opentelemetry::Context;
use opentelemetry_sdk::trace::SpanData;
use quanta::Instant;
use tracing::span::{Attributes, Id};
use tracing::{Span, Subscriber};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Registry, layer};

/// Beyond this age the wall clock is asked again: the two clocks drift apart. Only
/// streams live so long, and their server span has ended at the head of the answer.
const MAX_AGE: Duration = Duration::from_hours(1);

/// One moment on both clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Anchor {
    time: SystemTime,
    at: Instant,
}

impl Anchor {
    pub(super) fn new(time: SystemTime, at: Instant) -> Self {
        Self { time, at }
    }

    fn now(at: Instant) -> Self {
        Self::new(SystemTime::now(), at)
    }

    fn time(self, at: Instant) -> SystemTime {
        self.time + at.saturating_duration_since(self.at)
    }

    fn holds(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < MAX_AGE
    }
}

/// Of a span that is still open.
struct Begun {
    anchor: Anchor,
    began: Instant,
    /// When it was last left. Its end, if it is not entered again.
    left: Option<Instant>,
    /// When its work was done, if [`SpanEnd`] says so.
    done: Option<Instant>,
}

/// Ends a span when it is dropped. Others may hold the span for longer: the driver of
/// `SQLite` enters it on a thread of its own and leaves it after the answer is there.
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
            if let Some(begun) = span.extensions_mut().get_mut::<Begun>() {
                begun.done = done;
            }
        });
    }
}

thread_local! {
    /// Start and end of the span that this thread is closing.
    static CLOSING: Cell<Option<(SystemTime, SystemTime)>> = const { Cell::new(None) };
}

/// Gives a span that is being closed on this thread its own times.
pub(super) fn apply(span: &mut SpanData) {
    if let Some((start, end)) = CLOSING.take() {
        (span.start_time, span.end_time) = (start, end);
    }
}

/// Measures spans. It stands before the layer that exports them, so that it sees the end
/// of a span first.
pub(super) struct Times;

impl<S> layer::Layer<S> for Times
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: layer::Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let began = Instant::now();
        let of_parent = span.parent().and_then(|parent| {
            let extensions = parent.extensions();
            extensions.get::<Begun>().map(|begun| begun.anchor)
        });
        // As for the span's parent, the request counts only where nothing else was said.
        let of_request = || {
            let inside = attributes.is_contextual();
            inside.then(|| Context::map_current(|context| context.get::<Anchor>().copied()))?
        };
        let anchor = of_parent
            .or_else(of_request)
            .filter(|anchor| anchor.holds(began))
            .unwrap_or_else(|| Anchor::now(began));
        span.extensions_mut().insert(Begun {
            anchor,
            began,
            left: None,
            done: None,
        });
    }

    fn on_exit(&self, id: &Id, context: layer::Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(begun) = span.extensions_mut().get_mut::<Begun>() {
            begun.left = Some(Instant::now());
        }
    }

    fn on_close(&self, id: Id, context: layer::Context<'_, S>) {
        let span = context.span(&id);
        let begun = span.and_then(|span| span.extensions_mut().remove::<Begun>());
        CLOSING.set(begun.map(|begun| {
            let ended = begun.done.or(begun.left).unwrap_or_else(Instant::now);
            (begun.anchor.time(begun.began), begun.anchor.time(ended))
        }));
    }
}
