//! Protocol Buffers, as far as OTLP needs them: fields appended to a buffer. Those that
//! hold their default are left out, as the generated code leaves them out. Field numbers
//! are below 16, whose keys take one byte.

use prost::encoding::encoded_len_varint;

/// Wire types: how a field's value is written.
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

/// Also when it is empty.
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

/// Seven bits a byte, the lowest first; the eighth says that more follow.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

#[inline]
fn low_bits(value: u64) -> u8 {
    // Masked: nothing is lost.
    #[allow(clippy::cast_possible_truncation)]
    let bits = (value & 0x7f) as u8;
    bits
}

/// A message in a field: what `write` appends, behind its length. `GUESS` bytes are left
/// for that; where it takes fewer or more of them, the message is moved.
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

/// Puts a length where room was left for it.
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
