//! Encodes spans of the SDK as an `ExportTraceServiceRequest` (`collector/trace/v1`, `trace/v1` and
//! `common/v1` of opentelemetry-proto) without intermediate types.
//!
//! The generated types of `opentelemetry-proto` copy every key and value into a new `String` and
//! compute the length of each message once for every enclosing message: 16,700 instructions a span,
//! and 3,300 here (docs/adr/0018-own-span-exporter.md). That is 4% of a ping at a sampling ratio of
//! 10%. Here the length of a message is filled in after its content. A test compares the bytes with
//! those of the generated types: fields in order, no default values, minimal lengths.

use std::time::{Duration, SystemTime};

use opentelemetry::trace::{Event, Link, SpanContext, SpanId, SpanKind, Status, TraceState};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::encoding::encoded_len_varint;

use super::wire::{
    FIXED32, FIXED64, LENGTH, VARINT, bytes, length_delimited, message, text, unsigned, varint,
};

/// Estimated size of a span. The buffer grows if a span is larger.
const SPAN_BYTES: usize = 768;
/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`: the remote flag is present.
const HAS_IS_REMOTE: u32 = 0x100;
/// `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`: the parent is remote.
const IS_REMOTE: u32 = 0x200;

/// The constant parts of a request: the encoded resource.
#[derive(Debug)]
pub(crate) struct SpanEncoder {
    resource: Vec<u8>,
    schema_url: Vec<u8>,
}

impl SpanEncoder {
    pub(crate) fn new(of: &Resource) -> Self {
        let (mut resource, mut schema_url) = (Vec::new(), Vec::new());
        message::<2>(&mut resource, 1, |out| {
            for (name, value) in of {
                attribute(out, 1, name.as_str(), value);
            }
        });
        text(&mut schema_url, 3, of.schema_url().unwrap_or_default());
        Self {
            resource,
            schema_url,
        }
    }

    /// Encodes a request with these spans, grouped by instrumentation scope in order of appearance.
    pub(crate) fn request<'a>(
        &self,
        spans: impl ExactSizeIterator<Item = &'a SpanData>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.resource.len() + 256 + spans.len() * SPAN_BYTES);
        // Field `resource_spans`. Its length takes three bytes for about ten to ten thousand spans.
        message::<3>(&mut out, 1, |out| {
            out.extend_from_slice(&self.resource);
            for (scope, spans) in by_scope(spans) {
                message::<3>(out, 2, |out| {
                    instrumentation_scope(out, scope);
                    for data in spans {
                        message::<2>(out, 2, |out| span(out, data));
                    }
                    text(out, 3, scope.schema_url().unwrap_or_default());
                });
            }
            out.extend_from_slice(&self.schema_url);
        });
        out
    }
}

type Group<'a> = (&'a InstrumentationScope, Vec<&'a SpanData>);

fn by_scope<'a>(spans: impl ExactSizeIterator<Item = &'a SpanData>) -> Vec<Group<'a>> {
    let count = spans.len();
    let mut groups: Vec<Group<'a>> = Vec::new();
    let mut last = 0;
    for span in spans {
        let scope = &span.instrumentation_scope;
        let is_its = |group: &Group<'_>| group.0 == scope;
        // Consecutive spans usually have the same scope.
        if !groups.get(last).is_some_and(is_its) {
            last = groups.iter().position(is_its).unwrap_or(groups.len());
        }
        if let Some((_, spans)) = groups.get_mut(last) {
            spans.push(span);
        } else {
            let mut spans = Vec::with_capacity(count);
            spans.push(span);
            groups.push((scope, spans));
        }
    }
    groups
}

fn instrumentation_scope(out: &mut Vec<u8>, scope: &InstrumentationScope) {
    message::<1>(out, 1, |out| {
        text(out, 1, scope.name());
        text(out, 2, scope.version().unwrap_or_default());
        for pair in scope.attributes() {
            attribute(out, 3, pair.key.as_str(), &pair.value);
        }
    });
}

fn span(out: &mut Vec<u8>, span: &SpanData) {
    context(out, &span.span_context);
    if span.parent_span_id != SpanId::INVALID {
        bytes(out, 4, &span.parent_span_id.to_bytes());
    }
    text(out, 5, &span.name);
    let kind = match span.span_kind {
        SpanKind::Internal => 1,
        SpanKind::Server => 2,
        SpanKind::Client => 3,
        SpanKind::Producer => 4,
        SpanKind::Consumer => 5,
    };
    unsigned(out, 6, kind);
    nanos(out, 7, span.start_time);
    nanos(out, 8, span.end_time);
    attributes(out, 9, &span.attributes);
    unsigned(out, 10, span.dropped_attributes_count);
    for item in &span.events.events {
        message::<1>(out, 11, |out| event(out, item));
    }
    unsigned(out, 12, span.events.dropped_count);
    for item in &span.links.links {
        message::<1>(out, 13, |out| link(out, item));
    }
    unsigned(out, 14, span.links.dropped_count);
    message::<1>(out, 15, |out| match &span.status {
        // The status is written even if it is empty, like the generated types do.
        Status::Unset => {}
        Status::Ok => unsigned(out, 3, 1),
        Status::Error { description } => {
            text(out, 2, description);
            unsigned(out, 3, 2);
        }
    });
    // The tag of field 16 takes two bytes.
    out.extend_from_slice(&[0x80 | FIXED32, 16 >> 4]);
    let flags = flags(&span.span_context, span.parent_span_is_remote);
    out.extend_from_slice(&flags.to_le_bytes());
}

fn event(out: &mut Vec<u8>, event: &Event) {
    nanos(out, 1, event.timestamp);
    text(out, 2, &event.name);
    attributes(out, 3, &event.attributes);
    unsigned(out, 4, event.dropped_attributes_count);
}

fn link(out: &mut Vec<u8>, link: &Link) {
    context(out, &link.span_context);
    attributes(out, 4, &link.attributes);
    unsigned(out, 5, link.dropped_attributes_count);
    out.push(6 << 3 | FIXED32);
    let flags = flags(&link.span_context, link.span_context.is_remote());
    out.extend_from_slice(&flags.to_le_bytes());
}

/// Encodes ids and state, which have the same field numbers in spans and links.
fn context(out: &mut Vec<u8>, context: &SpanContext) {
    bytes(out, 1, &context.trace_id().to_bytes());
    bytes(out, 2, &context.span_id().to_bytes());
    if *context.trace_state() != TraceState::NONE {
        text(out, 3, &context.trace_state().header());
    }
}

fn flags(context: &SpanContext, is_remote: bool) -> u32 {
    let remote = if is_remote { IS_REMOTE } else { 0 };
    u32::from(context.trace_flags().to_u8()) | HAS_IS_REMOTE | remote
}

fn attributes(out: &mut Vec<u8>, field: u8, all: &[KeyValue]) {
    for pair in all {
        attribute(out, field, pair.key.as_str(), &pair.value);
    }
}

fn attribute(out: &mut Vec<u8>, field: u8, name: &str, value: &Value) {
    // Fast path for short texts and integers, whose lengths are known in advance.
    match value {
        Value::String(value) => {
            let value = value.as_str();
            if let Some((head, length)) = short_head(field, name, 2 + value.len()) {
                out.extend_from_slice(&head);
                out.extend_from_slice(name.as_bytes());
                let before = [2 << 3 | LENGTH, length, 1 << 3 | LENGTH, length - 2];
                out.extend_from_slice(&before);
                out.extend_from_slice(value.as_bytes());
                return;
            }
        }
        Value::I64(value) => {
            let value = value.cast_unsigned();
            if let Some((head, length)) = short_head(field, name, 1 + encoded_len_varint(value)) {
                out.extend_from_slice(&head);
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(&[2 << 3 | LENGTH, length, 3 << 3 | VARINT]);
                varint(out, value);
                return;
            }
        }
        _ => {}
    }
    message::<1>(out, field, |out| {
        text(out, 1, name);
        message::<1>(out, 2, |out| any_value(out, value));
    });
}

/// The bytes before the name of an attribute with an encoded value of `value` bytes, and that
/// length. `None` if a length takes more than one byte, or the name is empty.
#[inline]
fn short_head(field: u8, name: &str, value: usize) -> Option<([u8; 4], u8)> {
    let lengths = (u8::try_from(name.len()), u8::try_from(value));
    let (Ok(name @ 1..0x80), Ok(value @ ..0x7c)) = lengths else {
        return None;
    };
    // Adds the tags and lengths of name and value.
    let all = name + value + 4;
    (all < 0x80).then_some(([field << 3 | LENGTH, all, 1 << 3 | LENGTH, name], value))
}

/// Encodes a value. Members of a `oneof` are written even if they are the default.
fn any_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::String(value) => string_value(out, value.as_str()),
        Value::Bool(value) => bool_value(out, *value),
        Value::I64(value) => int_value(out, *value),
        Value::F64(value) => double_value(out, *value),
        Value::Array(array) => message::<1>(out, 5, |out| match array {
            Array::String(all) => elements(out, all, |out, one| string_value(out, one.as_str())),
            Array::Bool(all) => elements(out, all, |out, one| bool_value(out, *one)),
            Array::I64(all) => elements(out, all, |out, one| int_value(out, *one)),
            Array::F64(all) => elements(out, all, |out, one| double_value(out, *one)),
            // Array types that a newer SDK may add are encoded as empty arrays.
            _ => {}
        }),
        // Value types that a newer SDK may add are left empty.
        _ => {}
    }
}

fn elements<T>(out: &mut Vec<u8>, all: &[T], write: impl Fn(&mut Vec<u8>, &T)) {
    for one in all {
        message::<1>(out, 1, |out| write(out, one));
    }
}

#[inline]
fn string_value(out: &mut Vec<u8>, value: &str) {
    length_delimited(out, 1, value.as_bytes());
}

fn bool_value(out: &mut Vec<u8>, value: bool) {
    out.extend_from_slice(&[2 << 3 | VARINT, u8::from(value)]);
}

fn int_value(out: &mut Vec<u8>, value: i64) {
    out.push(3 << 3 | VARINT);
    varint(out, value.cast_unsigned());
}

fn double_value(out: &mut Vec<u8>, value: f64) {
    out.push(4 << 3 | FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Nanoseconds since the epoch. Earlier times are encoded as 0.
fn nanos(out: &mut Vec<u8>, field: u8, time: SystemTime) {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or(Duration::ZERO);
    // 64 bits of nanoseconds last until the year 2554.
    let nanos = since.as_secs().wrapping_mul(1_000_000_000);
    let nanos = nanos.wrapping_add(u64::from(since.subsec_nanos()));
    if nanos != 0 {
        out.push(field << 3 | FIXED64);
        out.extend_from_slice(&nanos.to_le_bytes());
    }
}

#[cfg(test)]
#[path = "span_encoder_tests.rs"]
pub(super) mod tests;
