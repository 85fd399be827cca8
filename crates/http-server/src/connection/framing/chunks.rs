//! The lines of a chunked body (RFC 9112, section 7.1).

use crate::connection::framing::head::is_token;
use crate::connection::framing::{Fault, Part};

/// Maximum hexadecimal digits of a chunk's size: 64 bits.
const MAX_DIGITS: usize = 16;

/// The part that follows a line of a chunked body.
pub(crate) fn after(part: Part, line: &[u8]) -> Result<Part, Fault> {
    match part {
        Part::ChunkSize => match chunk_size(line).ok_or(Fault::Chunks)? {
            0 => Ok(Part::Trailer),
            size => Ok(Part::Chunk(size)),
        },
        Part::ChunkEnd if line.is_empty() => Ok(Part::ChunkSize),
        Part::Trailer if line.is_empty() => Ok(Part::Start),
        Part::Trailer if is_trailer(line) => Ok(Part::Trailer),
        _ => Err(Fault::Chunks),
    }
}

/// Parses `chunk-size [ chunk-ext ]` (RFC 9112, section 7.1). White space after the size is
/// accepted, because some senders pad the size and it has only one reading.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit());
    let (digits, rest) = line.split_at(end.unwrap_or(line.len()));
    if digits.is_empty() || digits.len() > MAX_DIGITS {
        return None;
    }
    let extension = rest.trim_ascii_start();
    if !extension.is_empty() && extension.first() != Some(&b';') {
        return None;
    }
    if !rest.iter().all(|byte| is_text(*byte)) {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok()
}

/// Whether a line is a field line (RFC 9112, section 5) that does not affect the framing.
fn is_trailer(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else {
        return false;
    };
    let (name, value) = line.split_at(colon);
    let frames = [&b"content-length"[..], b"transfer-encoding"];
    !name.is_empty()
        && name.iter().all(|byte| is_token(*byte))
        && value.iter().all(|byte| is_text(*byte))
        && !frames.iter().any(|frame| name.eq_ignore_ascii_case(frame))
}

/// Whether a byte is visible, a blank, or beyond ASCII (RFC 9110, section 5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
