//! The subset of Protocol Buffers that OTLP needs: fields appended to a buffer. Default values are
//! omitted, like in the generated code. Field numbers are below 16, so a tag takes one byte.

use prost::encoding::encoded_len_varint;

/// Wire types.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;
pub(super) const FIXED32: u8 = 5;

#[inline]
pub(super) fn text(out: &mut Vec<u8>, field: u8, value: &str) {
    bytes(out, field, value.as_bytes());
}

#[inline]
pub(super) fn bytes(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if !value.is_empty() {
        length_delimited(out, field, value);
    }
}

/// Written even if it is empty.
#[inline]
pub(super) fn length_delimited(out: &mut Vec<u8>, field: u8, value: &[u8]) {
    if let Ok(short @ ..0x80) = u8::try_from(value.len()) {
        out.extend_from_slice(&[field << 3 | LENGTH, short]);
    } else {
        out.push(field << 3 | LENGTH);
        varint(out, value.len() as u64);
    }
    out.extend_from_slice(value);
}

pub(super) fn unsigned(out: &mut Vec<u8>, field: u8, value: u32) {
    if value != 0 {
        out.push(field << 3 | VARINT);
        varint(out, u64::from(value));
    }
}

/// Seven bits a byte, the lowest first. The eighth bit marks continuation.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

#[inline]
fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

/// Appends a message. `GUESS` bytes are reserved for its length, and the content is moved if the
/// length takes fewer or more bytes.
pub(super) fn message<const GUESS: usize>(
    out: &mut Vec<u8>,
    field: u8,
    write: impl FnOnce(&mut Vec<u8>),
) {
    out.push(field << 3 | LENGTH);
    let start = out.len();
    out.extend_from_slice(&[0; GUESS]);
    write(out);
    let length = out.len() - start - GUESS;
    match (out.get_mut(start), u8::try_from(length)) {
        (Some(place), Ok(short @ ..0x80)) if GUESS == 1 => *place = short,
        _ => fill_in::<GUESS>(out, start, length as u64),
    }
}

/// Writes a length into the reserved bytes.
fn fill_in<const ROOM: usize>(out: &mut Vec<u8>, start: usize, mut length: u64) {
    let width = encoded_len_varint(length);
    if width < ROOM {
        out.drain(start..start + ROOM - width);
    } else if width > ROOM {
        out.splice(start..start, std::iter::repeat_n(0, width - ROOM));
    }
    let last = start + width - 1;
    for byte in out.iter_mut().take(last).skip(start) {
        *byte = low_bits(length) | 0x80;
        length >>= 7;
    }
    if let Some(byte) = out.get_mut(last) {
        *byte = low_bits(length);
    }
}
