//! The parts of a log line, independent of the format.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceContextExt as _, TraceId};
use tracing::Level;

use crate::correlation::Correlation;
use crate::hex;

/// Limit of a value in bytes. Longer values are truncated.
const MAX_VALUE: usize = 8 << 10;

/// The name of a field.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    /// Whether the name is a constant of this crate, which is not reserved and needs no escape. To
    /// check the names of every request line would take 1,100 instructions, 4% of a ping.
    pub(super) known: bool,
}

impl<'a> Name<'a> {
    /// A constant of this crate.
    pub(super) const fn known(text: &'static str) -> Self {
        Self { text, known: true }
    }

    /// Any name.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, known: false }
    }
}

/// Receives the fields of a line.
pub(super) trait Fields {
    /// A text. Control characters are escaped.
    fn text(&mut self, name: Name<'_>, value: &str);
    /// A text that needs no escape: a constant or a validated value.
    fn word(&mut self, name: Name<'_>, value: &str) {
        self.text(name, value);
    }
    /// An unsigned integer.
    fn unsigned(&mut self, name: Name<'_>, value: u64);
    /// A signed integer.
    fn signed(&mut self, name: Name<'_>, value: i64);
    /// A floating-point number.
    fn float(&mut self, name: Name<'_>, value: f64);
    /// A boolean.
    fn boolean(&mut self, name: Name<'_>, value: bool);
    /// A duration, in milliseconds with three decimals.
    fn millis(&mut self, name: Name<'_>, value: Duration);
}

/// The fields of a line after its header.
pub(super) trait Line {
    /// Writes the fields.
    fn write(&self, out: &mut impl Fields);
}

/// The members that every line has.
#[derive(Clone, Copy)]
pub(super) struct LineHeader<'a> {
    pub(super) at: SystemTime,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) target: &'static str,
    /// Level, message and target as JSON members, if they are constant. To write the members of
    /// every request line would take 350 instructions, 1.2% of a ping.
    pub(super) members: Option<&'static str>,
}

/// Names of [`LineHeader`] and [`TraceIds`], which are reserved.
pub(super) const RESERVED: [&str; 7] = [
    "timestamp",
    "level",
    "message",
    "target",
    "trace_id",
    "span_id",
    "request_id",
];

/// The trace that a line belongs to.
#[derive(Clone, Copy)]
pub(super) struct TraceIds {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) sampled: bool,
}

impl TraceIds {
    /// The ids of the innermost recorded span, otherwise those of the current work.
    pub(super) fn current(work: Option<Correlation<'_>>) -> Option<Self> {
        let span = opentelemetry::Context::map_current(|context| {
            let span = context.span();
            let context = span.span_context();
            context.is_valid().then(|| Self {
                trace_id: context.trace_id(),
                span_id: context.span_id(),
                sampled: context.is_sampled(),
            })
        });
        span.or_else(|| {
            work.map(|work| Self {
                trace_id: work.trace_id,
                span_id: work.span_id,
                sampled: work.sampled,
            })
        })
    }

    pub(super) fn trace_hex(self) -> [[u8; 2]; 16] {
        hex::digits(self.trace_id.to_bytes())
    }

    pub(super) fn span_hex(self) -> [[u8; 2]; 8] {
        hex::digits(self.span_id.to_bytes())
    }
}

/// Truncates a value at a character boundary.
pub(super) fn bounded(value: &str) -> &str {
    &value[..value.floor_char_boundary(MAX_VALUE)]
}

impl Line for tracing::Event<'_> {
    fn write(&self, out: &mut impl Fields) {
        self.record(&mut EventFields {
            out,
            message_seen: false,
        });
    }
}

/// Forwards the fields of a `tracing` event except its message.
struct EventFields<'a> {
    out: &'a mut dyn Fields,
    message_seen: bool,
}

impl tracing::field::Visit for EventFields<'_> {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if self.takes(field) {
            self.out.text(Name::new(field.name()), value);
        }
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if self.takes(field) {
            self.out
                .text(Name::new(field.name()), &format!("{value:?}"));
        }
    }
    fn record_error(
        &mut self,
        field: &tracing::field::Field,
        value: &(dyn std::error::Error + 'static),
    ) {
        if self.takes(field) {
            self.out.text(Name::new(field.name()), &value.to_string());
        }
    }
    fn record_u64(&mut self, field: &tracing::field::Field, value: u64) {
        if self.takes(field) {
            self.out.unsigned(Name::new(field.name()), value);
        }
    }
    fn record_i64(&mut self, field: &tracing::field::Field, value: i64) {
        if self.takes(field) {
            self.out.signed(Name::new(field.name()), value);
        }
    }
    fn record_f64(&mut self, field: &tracing::field::Field, value: f64) {
        if self.takes(field) {
            self.out.float(Name::new(field.name()), value);
        }
    }
    fn record_bool(&mut self, field: &tracing::field::Field, value: bool) {
        if self.takes(field) {
            self.out.boolean(Name::new(field.name()), value);
        }
    }
}

impl EventFields<'_> {
    /// Skips the first `message`, which is part of the header.
    fn takes(&mut self, field: &tracing::field::Field) -> bool {
        field.name() != "message" || std::mem::replace(&mut self.message_seen, true)
    }
}

/// Extracts the message of a `tracing` event: its first field of that name.
#[derive(Default)]
pub(super) struct Message(pub(super) Option<String>);

impl tracing::field::Visit for Message {
    fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
        if field.name() == "message" && self.0.is_none() {
            self.0 = Some(value.to_owned());
        }
    }
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" && self.0.is_none() {
            self.0 = Some(format!("{value:?}"));
        }
    }
}
