//! What a line consists of, whatever it looks like.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanId, TraceContextExt as _, TraceId};
use tracing::Level;

use crate::correlation::Correlation;
use crate::hex;

/// Bytes of one value that are written at most; the rest is cut.
const MAX_VALUE: usize = 8 << 10;

/// The name of a field.
#[derive(Clone, Copy)]
pub(super) struct Name<'a> {
    pub(super) text: &'a str,
    /// The beginning of its member in a JSON object, where the name is our own: not
    /// reserved, and in no need of an escape.
    pub(super) member: Option<&'static str>,
}

impl Name<'static> {
    /// A name of ours; [`name!`] makes it.
    pub(super) const fn known(text: &'static str, member: &'static str) -> Self {
        Self {
            text,
            member: Some(member),
        }
    }
}

impl<'a> Name<'a> {
    /// Any name.
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, member: None }
    }
}

/// A [`Name`] of ours: `name!("status")`. One constant to copy, where its line is
/// written without calls.
macro_rules! name {
    ($name:literal) => {
        $crate::logs::line::Name::known($name, concat!(",\"", $name, "\":"))
    };
}
pub(super) use name;

/// Takes the fields of a line, one after the other.
pub(super) trait Fields {
    /// A text; control characters are escaped.
    fn text(&mut self, name: Name<'_>, value: &str);
    /// A text of our own, or one that was checked: nothing in it needs an escape.
    fn word(&mut self, name: Name<'_>, value: &str) {
        self.text(name, value);
    }
    /// An unsigned number.
    fn unsigned(&mut self, name: Name<'_>, value: u64);
    /// A signed number.
    fn signed(&mut self, name: Name<'_>, value: i64);
    /// A number with a fraction.
    fn float(&mut self, name: Name<'_>, value: f64);
    /// True or false.
    fn boolean(&mut self, name: Name<'_>, value: bool);
    /// A duration, in milliseconds with three decimals.
    fn millis(&mut self, name: Name<'_>, value: Duration);
}

/// What a line says after its head.
pub(super) trait Line {
    /// Writes the fields.
    fn write(&self, out: &mut impl Fields);
}

/// What every line begins with.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) at: SystemTime,
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) target: &'static str,
    /// Level, message and target as JSON lines have them, where they are always the same.
    pub(super) members: Option<&'static str>,
}

/// The names of [`Head`] and [`Ids`], which no field may take.
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
pub(super) struct Ids {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
    pub(super) sampled: bool,
}

impl Ids {
    /// The innermost recorded span's, else those of the work.
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

/// The beginning of a value, cut at a character.
pub(super) fn bounded(value: &str) -> &str {
    if value.len() <= MAX_VALUE {
        value
    } else {
        cut(value)
    }
}

#[cold]
fn cut(value: &str) -> &str {
    (0..=MAX_VALUE)
        .rev()
        .find(|end| value.is_char_boundary(*end))
        .map_or("", |end| &value[..end])
}

impl Line for tracing::Event<'_> {
    fn write(&self, out: &mut impl Fields) {
        self.record(&mut EventFields {
            out,
            message_seen: false,
        });
    }
}

/// Hands the fields of a `tracing` event on, its message left out.
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
    /// Everything but the first `message`, which stands in the head.
    fn takes(&mut self, field: &tracing::field::Field) -> bool {
        field.name() != "message" || std::mem::replace(&mut self.message_seen, true)
    }
}

/// Finds the message of a `tracing` event: its first field of that name.
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
