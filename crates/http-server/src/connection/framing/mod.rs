//! Framing of HTTP/1.1 requests (RFC 9112, sections 6 and 7), checked on the bytes before hyper
//! reads them.
//!
//! hyper may read a request differently from a proxy before it. It reads the transfer codings
//! `gzip, chunked` as chunked. It drops `Content-Length` beside a transfer coding. It accepts a
//! line feed without its carriage return in trailers. Two readings of one connection allow request
//! smuggling. So such a request is refused and its connection closed.
//!
//! Requests that hyper refuses itself are not detected here. This check only has to agree with
//! hyper on requests that hyper accepts.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::Extensions;
use request::Problem;
use request::problem::codes;

use self::head::{Coding, Head};
use crate::problem::ProblemResponse;

mod chunks;
mod head;
#[cfg(test)]
mod tests;

/// A fault in the framing of a request, as an extension of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// `Content-Length` beside `Transfer-Encoding` (RFC 9112, section 6.1).
    TwoLengths,
    /// A transfer coding before `chunked`. None is implemented.
    UnknownCoding,
    /// A `Transfer-Encoding` that is not a list ending in one `chunked`, or that is longer than a
    /// legitimate one.
    MalformedCoding,
    /// The chunks or the trailers break their grammar.
    Chunks,
}

impl Fault {
    const ALL: [Self; 4] = [
        Self::TwoLengths,
        Self::UnknownCoding,
        Self::MalformedCoding,
        Self::Chunks,
    ];

    /// A number other than 0, to store the fault in an atomic.
    pub(crate) fn number(self) -> u8 {
        self as u8 + 1
    }

    pub(crate) fn of_number(number: u8) -> Option<Self> {
        let index = usize::from(number).checked_sub(1)?;
        Self::ALL.get(index).copied()
    }
}

/// The problem of a request with a fault among its extensions. Its answer always closes the
/// connection.
pub(crate) fn refusal(extensions: &Extensions) -> Option<Problem> {
    let fault = extensions.get::<Fault>()?;
    Some(match fault {
        Fault::TwoLengths => Problem::new(
            codes::INVALID_HEADER,
            "A request has Content-Length or Transfer-Encoding, not both.",
        ),
        Fault::UnknownCoding => Problem::new(
            codes::TRANSFER_CODING_UNKNOWN,
            "The only supported transfer coding is chunked.",
        ),
        Fault::MalformedCoding => Problem::new(
            codes::INVALID_HEADER,
            "The header Transfer-Encoding must end in chunked, once.",
        ),
        Fault::Chunks => Problem::new(
            codes::INVALID_BODY,
            "The chunks of the body or its trailers are malformed.",
        ),
    })
}

/// Refuses requests with a fault on a listener without
/// [`AdmitLayer`](crate::middleware::admit::AdmitLayer).
pub async fn guard(request: Request, next: Next) -> Response {
    match refusal(request.extensions()) {
        Some(problem) => ProblemResponse(problem).into_response(),
        None => next.run(request).await,
    }
}

/// A fault, and the number of its request, counted from 1 on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) request: u32,
    pub(crate) fault: Fault,
    /// Number of bytes before the fault. For a fault in the head it is all of them, because the
    /// head is answered and nothing after it is read.
    pub(crate) sound: usize,
}

/// Longest line of a chunk's size or of a trailer, in bytes.
const MAX_LINE: usize = 8 * 1_024;
/// Bytes of a header line that are kept when it arrives in pieces.
const MAX_PIECE: usize = 1_024;

/// Follows the framing of the requests of one connection.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    part: Part,
    /// Number of heads that have ended.
    heads: u32,
    head: Head,
    /// The beginning of a line whose end has not arrived.
    piece: Vec<u8>,
    /// Whether bytes of that line were left out.
    gap: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before a request line. Empty lines are skipped.
    #[default]
    Start,
    Header,
    /// A body or the data of a chunk, with the number of bytes that are missing.
    Body(u64),
    Chunk(u64),
    ChunkSize,
    ChunkEnd,
    Trailer,
    /// A fault was found.
    Refused,
}

impl Framing {
    /// Reads the next bytes. Returns the fault, if they have one.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Finding> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let before = rest.len();
            let taken = match &mut self.part {
                Part::Refused => return None,
                Part::Body(left) | Part::Chunk(left) => {
                    let taken = left_of(*left, rest);
                    *left -= taken as u64;
                    if *left == 0 {
                        self.part = match self.part {
                            Part::Chunk(_) => Part::ChunkEnd,
                            _ => Part::Start,
                        };
                    }
                    Ok(taken)
                }
                _ => self.line(rest),
            };
            match taken {
                Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
                Err(fault) => {
                    self.part = Part::Refused;
                    self.piece = Vec::new();
                    let sound = match fault {
                        Fault::Chunks => bytes.len() - before,
                        _ => bytes.len(),
                    };
                    let request = self.heads;
                    return Some(Finding {
                        request,
                        fault,
                        sound,
                    });
                }
            }
        }
        None
    }

    /// Reads a line, or the part of it that has arrived. Returns the length with the line feed.
    fn line(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let strict = !matches!(self.part, Part::Start | Part::Header);
        let limit = if strict { MAX_LINE } else { MAX_PIECE };
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            let room = limit.saturating_sub(self.piece.len());
            if strict && bytes.len() > room {
                return Err(Fault::Chunks);
            }
            self.gap |= bytes.len() > room;
            let kept = bytes.get(..room).unwrap_or(bytes);
            self.piece.extend_from_slice(kept);
            return Ok(bytes.len());
        };
        let line = bytes.get(..end).unwrap_or_default();
        if self.piece.is_empty() {
            self.ended(line)?;
        } else {
            let mut whole = std::mem::take(&mut self.piece);
            whole.extend_from_slice(line);
            self.ended(&whole)?;
        }
        Ok(end + 1)
    }

    /// Reads a line without its line feed.
    fn ended(&mut self, line: &[u8]) -> Result<(), Fault> {
        let text = line.strip_suffix(b"\r");
        self.part = match self.part {
            // A line feed alone ends a line of the head, both in hyper and in RFC 9112, section
            // 2.2.
            Part::Start if text.unwrap_or(line).is_empty() => Part::Start,
            Part::Start => {
                self.gap = false;
                Part::Header
            }
            Part::Header => match text.unwrap_or(line) {
                [] => self.body()?,
                header => {
                    self.head.read(header, std::mem::take(&mut self.gap));
                    Part::Header
                }
            },
            part => {
                let text = text.filter(|text| !text.contains(&b'\r'));
                chunks::after(part, text.ok_or(Fault::Chunks)?)?
            }
        };
        Ok(())
    }

    /// The part that follows a complete head.
    fn body(&mut self) -> Result<Part, Fault> {
        self.heads = self.heads.saturating_add(1);
        let Head { length, coding } = std::mem::take(&mut self.head);
        match (coding, length) {
            (None, None | Some(0)) => Ok(Part::Start),
            (None, Some(length)) => Ok(Part::Body(length)),
            (Some(_), Some(_)) => Err(Fault::TwoLengths),
            (Some(Coding::Chunked), None) => Ok(Part::ChunkSize),
            (Some(Coding::Unknown { chunked: true }), None) => Err(Fault::UnknownCoding),
            (Some(_), None) => Err(Fault::MalformedCoding),
        }
    }
}

/// The number of `bytes` that belong to the `left` missing ones.
fn left_of(left: u64, bytes: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len())
}
