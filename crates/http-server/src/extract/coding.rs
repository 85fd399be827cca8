//! Content codings of request bodies (RFC 9110, section 8.4).
//!
//! A body is decoded after all of it has arrived, and is accepted only as a whole. A truncated
//! body, or one with data after its end, is rejected.

use std::io::Read as _;

use brotli::{BrotliDecompressStream, BrotliResult, BrotliState, HeapAlloc, HuffmanCode};
use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http::{HeaderMap, header};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation as _, OutBuffer};

/// The codings that are decoded, for the `Accept-Encoding` of a 415 (RFC 9110, section 12.5.3).
pub(crate) const ACCEPTED: &str = "gzip, br, zstd";

/// Maximum codings of one body, because each of them may turn few bytes into many.
const MOST_CODINGS: usize = 3;

/// Largest window that a sender of zstd may use (RFC 9659): 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Bytes that are decoded at once.
const STEP: usize = 16 << 10;

/// A coding that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Brotli,
    Zstd,
}

/// The codings of a body, in the order in which they were applied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Codings(Vec<Coding>);

/// Reason why a body cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// The content, the data between two codings, or the window of the decoder is larger than
    /// allowed.
    TooLarge,
    /// The body is truncated, damaged, or has data after its end.
    Malformed,
}

impl Codings {
    /// Reads all lines of `Content-Encoding`. `None` when a coding is unknown or there are too
    /// many. Names have no case, `x-gzip` is `gzip` (RFC 9110, section 8.4.1.3), and `identity` has
    /// no effect.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut codings = Vec::new();
        for line in headers.get_all(header::CONTENT_ENCODING) {
            for name in line.to_str().ok()?.split(',').map(str::trim) {
                match name.to_ascii_lowercase().as_str() {
                    "" | "identity" => {}
                    "gzip" | "x-gzip" => codings.push(Coding::Gzip),
                    "br" => codings.push(Coding::Brotli),
                    "zstd" => codings.push(Coding::Zstd),
                    _ => return None,
                }
            }
        }
        (codings.len() <= MOST_CODINGS).then_some(Self(codings))
    }

    /// Removes the codings, the last one first. `limit` bounds the output of each.
    pub(crate) fn decode(&self, body: Bytes, limit: usize) -> Result<Bytes, Undecodable> {
        let outermost_first = self.0.iter().rev();
        outermost_first.copied().try_fold(body, |body, coding| {
            let content = match coding {
                Coding::Gzip => gunzip(&body, limit),
                Coding::Brotli => unbrotli(&body, limit),
                Coding::Zstd => unzstd(&body, limit),
            };
            content.map(Bytes::from)
        })
    }
}

/// Decodes all members, to the last byte (RFC 1952, section 2.2).
fn gunzip(mut body: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
    let mut content = Vec::new();
    loop {
        // One byte beyond the limit shows that there is more.
        let room = (limit - content.len()) as u64 + 1;
        GzDecoder::new(&mut body)
            .take(room)
            .read_to_end(&mut content)
            .map_err(|_| Undecodable::Malformed)?;
        if content.len() > limit {
            return Err(Undecodable::TooLarge);
        }
        if body.is_empty() {
            return Ok(content);
        }
    }
}

/// Decodes one stream (RFC 7932), with windows of 16 MiB at most.
fn unbrotli(body: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
    let mut state = BrotliState::new_strict(
        HeapAlloc::new(0_u8),
        HeapAlloc::new(0_u32),
        HeapAlloc::new(HuffmanCode::default()),
    );
    let (mut unread, mut read, mut total) = (body.len(), 0, 0);
    let mut content = Vec::new();
    let mut step = vec![0; STEP];
    loop {
        let (mut room, mut written) = (step.len(), 0);
        let result = BrotliDecompressStream(
            &mut unread,
            &mut read,
            body,
            &mut room,
            &mut written,
            &mut step,
            &mut total,
            &mut state,
        );
        append(&mut content, step.get(..written).unwrap_or_default(), limit)?;
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess if unread == 0 => return Ok(content),
            // All input was given, so no more of it will arrive.
            BrotliResult::ResultSuccess
            | BrotliResult::NeedsMoreInput
            | BrotliResult::ResultFailure => return Err(Undecodable::Malformed),
        }
    }
}

/// Decodes all frames, to the last byte (RFC 8878, section 3).
fn unzstd(body: &[u8], limit: usize) -> Result<Vec<u8>, Undecodable> {
    let malformed = |_| Undecodable::Malformed;
    let mut decoder = Decoder::new().map_err(malformed)?;
    let window = DParameter::WindowLogMax(ZSTD_WINDOW_LOG);
    decoder.set_parameter(window).map_err(malformed)?;
    let mut input = InBuffer::around(body);
    let mut content = Vec::new();
    let mut step = vec![0; STEP];
    loop {
        let read_before = input.pos();
        let mut output = OutBuffer::around(step.as_mut_slice());
        // `missing` is 0 at the end of a frame.
        let missing = decoder
            .run(&mut input, &mut output)
            .map_err(|error| why(&error))?;
        let written = output.as_slice();
        append(&mut content, written, limit)?;
        let stands_still = written.is_empty() && input.pos() == read_before;
        match (missing, input.pos() == body.len()) {
            (0, true) => return Ok(content),
            _ if stands_still => return Err(Undecodable::Malformed),
            _ => {}
        }
    }
}

/// Classifies an error of the decoder. Only the text of the error shows that a window is too large.
fn why(error: &std::io::Error) -> Undecodable {
    if error.to_string().contains("too much memory") {
        Undecodable::TooLarge
    } else {
        Undecodable::Malformed
    }
}

fn append(content: &mut Vec<u8>, more: &[u8], limit: usize) -> Result<(), Undecodable> {
    if more.len() > limit - content.len() {
        return Err(Undecodable::TooLarge);
    }
    content.extend_from_slice(more);
    Ok(())
}

#[cfg(test)]
#[path = "coding_tests.rs"]
mod tests;
