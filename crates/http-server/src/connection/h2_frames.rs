//! A minimal reader of HTTP/2 frames (RFC 9113, section 4). It finds a header block that has begun
//! and not ended, the windows that a client grants, and frames that carry no request.

use crate::connection::flood::Budget;
use crate::connection::flood::kind::{CONTINUATION, DATA, HEADERS, SETTINGS, WINDOW_UPDATE};
use crate::connection::windows::Windows;

/// The client's connection preface (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const END_STREAM: u8 = 0x1;
const PADDED: u8 = 0x8;
const END_HEADERS: u8 = 0x4;
/// `SETTINGS_INITIAL_WINDOW_SIZE` (RFC 9113, section 6.5.2).
const INITIAL_WINDOW_SIZE: u8 = 4;
/// The first bit is reserved (RFC 9113, section 6.9).
const MAX_INCREMENT: u32 = u32::MAX >> 1;
/// A setting has six bytes. The increment of a window has four.
const PAYLOAD: usize = 6;

/// Follows the frames that a client sends.
#[derive(Debug)]
pub(crate) struct Frames {
    protocol: Protocol,
    /// Number of bytes of the preface that have arrived.
    preface: usize,
    /// The frame header that is being read.
    header: [u8; FRAME_HEADER],
    header_len: usize,
    /// Bytes of the current frame's payload that are missing.
    payload: usize,
    /// A header block has begun and not ended.
    open: bool,
    /// The current frame belongs to a header block and ends it.
    closes: bool,
    /// The last bytes of a payload that describes windows.
    piece: [u8; PAYLOAD],
    piece_len: usize,
    /// Bytes by which the client opened the connection's window since the last report.
    opened: u64,
    /// The window that the client set for its streams since the last report.
    stream_window: Option<u32>,
    /// Limit of frames that carry no request.
    budget: Budget,
    /// The type of the frame that exceeded the limit.
    excess: Option<u8>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    Unknown,
    Http1,
    Http2,
}

impl Frames {
    /// A reader for a new connection. Its client may send `control_frames` frames a second that
    /// carry no request.
    pub(crate) fn new(control_frames: u32) -> Self {
        Self {
            protocol: Protocol::default(),
            preface: 0,
            header: [0; FRAME_HEADER],
            header_len: 0,
            payload: 0,
            open: false,
            closes: false,
            piece: [0; PAYLOAD],
            piece_len: 0,
            opened: 0,
            stream_window: None,
            budget: Budget::new(control_frames),
            excess: None,
        }
    }

    /// Records that `bytes` were sent to the client.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.budget.sent(bytes);
    }

    /// The type of the frame that exceeded the limit, if there was one.
    pub(crate) fn excess(&self) -> Option<u8> {
        self.excess
    }

    /// Whether the bytes so far show that the client speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// Whether the bytes so far show that the client speaks HTTP/1.
    pub(crate) fn is_http1(&self) -> bool {
        self.protocol == Protocol::Http1
    }

    /// Number of bytes of the preface that have arrived.
    pub(crate) fn preface_len(&self) -> usize {
        self.preface
    }

    /// Returns the bytes that looked like a preface before the client turned out to speak HTTP/1. A
    /// second call returns nothing.
    pub(crate) fn take_false_preface(&mut self) -> &'static [u8] {
        let preface = PREFACE.get(..self.preface).unwrap_or_default();
        self.preface = 0;
        preface
    }

    /// Whether a header block has begun and not ended.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.open
    }

    /// Reports the windows that the client has granted since the last report.
    pub(crate) fn tell(&mut self, windows: &Windows) {
        if let Some(window) = self.stream_window.take() {
            windows.set_stream(window);
        }
        if self.opened > 0 {
            windows.open(std::mem::take(&mut self.opened));
        }
    }

    /// Reads the next bytes.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.protocol {
                Protocol::Http1 => return,
                Protocol::Unknown => {
                    if Some(&bytes[0]) != PREFACE.get(self.preface) {
                        self.protocol = Protocol::Http1;
                        return;
                    }
                    self.preface += 1;
                    bytes = &bytes[1..];
                    if self.preface == PREFACE.len() {
                        self.protocol = Protocol::Http2;
                    }
                }
                Protocol::Http2 => bytes = self.frame(bytes),
            }
        }
    }

    /// Reads the bytes of the current frame. Returns the rest.
    fn frame<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.payload > 0 {
            let taken = self.payload.min(bytes.len());
            if self.has_window() {
                self.windows(&bytes[..taken]);
            }
            self.payload -= taken;
            if self.payload == 0 && self.closes {
                self.open = false;
            }
            return &bytes[taken..];
        }
        let taken = (FRAME_HEADER - self.header_len).min(bytes.len());
        self.header[self.header_len..self.header_len + taken].copy_from_slice(&bytes[..taken]);
        self.header_len += taken;
        if self.header_len == FRAME_HEADER {
            self.header_len = 0;
            self.piece_len = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let in_block = matches!(kind, HEADERS | CONTINUATION);
            self.closes = in_block && flags & END_HEADERS != 0;
            self.open |= in_block;
            self.count(kind, flags);
            if self.payload == 0 && self.closes {
                self.open = false;
            }
        }
        &bytes[taken..]
    }
}

impl Frames {
    /// Counts the current frame if it carries neither a request nor a part of one.
    fn count(&mut self, kind: u8, flags: u8) {
        let asks = match kind {
            HEADERS => {
                self.budget.request();
                true
            }
            // An end of the stream is part of a request, and so is one byte. With padding that byte
            // may be padding.
            DATA => flags & END_STREAM != 0 || self.payload > usize::from(flags & PADDED != 0),
            _ => false,
        };
        // A header block may be long. h2 limits its length.
        let payload = if kind == CONTINUATION {
            0
        } else {
            self.payload
        };
        if !asks && self.budget.is_exceeded(payload) {
            self.excess.get_or_insert(kind);
        }
    }

    /// Whether the current frame describes a window that matters here: the window of new streams or
    /// the window of the connection.
    fn has_window(&self) -> bool {
        let [_, _, _, kind, _, stream @ ..] = self.header;
        matches!(kind, SETTINGS | WINDOW_UPDATE) && stream == [0; 4]
    }

    /// Reads a part of such a payload.
    fn windows(&mut self, mut bytes: &[u8]) {
        let kind = self.header[3];
        let length = if kind == SETTINGS { PAYLOAD } else { 4 };
        while !bytes.is_empty() {
            let taken = (length - self.piece_len).min(bytes.len());
            self.piece[self.piece_len..self.piece_len + taken].copy_from_slice(&bytes[..taken]);
            self.piece_len += taken;
            bytes = &bytes[taken..];
            if self.piece_len < length {
                return;
            }
            self.piece_len = 0;
            if kind == WINDOW_UPDATE {
                let [increment @ .., _, _] = self.piece;
                let increment = u32::from_be_bytes(increment) & MAX_INCREMENT;
                self.opened = self.opened.saturating_add(increment.into());
            } else if let [0, INITIAL_WINDOW_SIZE, window @ ..] = self.piece {
                self.stream_window = Some(u32::from_be_bytes(window));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames::new(1_000)
    }

    fn frame(kind: u8, flags: u8, length: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(0, length.into()));
        frame
    }

    #[test]
    fn a_block_is_open_until_its_last_byte_however_it_is_cut() {
        let bytes = [
            PREFACE.to_vec(),
            frame(0x4, 0, 6),
            frame(HEADERS, 0, 5),
            frame(CONTINUATION, END_HEADERS, 3),
        ]
        .concat();
        for chunk in [1, 2, 7, bytes.len()] {
            let mut blocks = frames();
            let (last, rest) = bytes.split_last().unwrap();
            for part in rest.chunks(chunk) {
                blocks.read(part);
            }
            assert!(
                blocks.is_http2() && blocks.is_incomplete(),
                "in chunks of {chunk}"
            );
            blocks.read(&[*last]);
            assert!(!blocks.is_incomplete(), "in chunks of {chunk}");
        }
    }

    #[test]
    fn pings_and_data_open_nothing() {
        let mut blocks = frames();
        blocks.read(PREFACE);
        blocks.read(&[frame(0x6, 0, 8), frame(0x0, 0, 200)].concat());
        assert!(!blocks.is_incomplete());
    }

    #[test]
    fn http1_is_told_apart_by_its_first_differing_byte() {
        let mut blocks = frames();
        blocks.read(b"PR");
        assert!(!blocks.is_http2());
        blocks.read(b"OPFIND / HTTP/1.1\r\n");
        assert!(!blocks.is_http2() && !blocks.is_incomplete());
    }
}
