//! Just enough of HTTP/2 framing (RFC 9113, section 4) to see a header block that
//! has begun and not ended.

/// The client's connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// Follows the frames that a client sends.
#[derive(Debug, Default)]
pub(super) struct HeaderBlocks {
    protocol: Protocol,
    /// Bytes of the preface that were seen.
    preface: usize,
    /// The frame header that is being read.
    header: [u8; FRAME_HEADER],
    header_len: usize,
    /// Payload of the present frame that is still to come.
    payload: usize,
    /// A header block began and has not ended.
    open: bool,
    /// The present frame belongs to a header block and ends it.
    closes: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Protocol {
    #[default]
    Unknown,
    Http1,
    Http2,
}

impl HeaderBlocks {
    /// Whether the client speaks HTTP/2, as far as its bytes tell.
    pub(super) fn is_http2(&self) -> bool {
        self.protocol == Protocol::Http2
    }

    /// Whether the client speaks HTTP/1, as far as its bytes tell.
    pub(super) fn is_http1(&self) -> bool {
        self.protocol == Protocol::Http1
    }

    /// How many bytes of the preface have come.
    pub(super) fn preface_len(&self) -> usize {
        self.preface
    }

    /// The bytes that looked like a preface before the client turned out to speak
    /// HTTP/1; they are told once.
    pub(super) fn take_false_preface(&mut self) -> &'static [u8] {
        let preface = PREFACE.get(..self.preface).unwrap_or_default();
        self.preface = 0;
        preface
    }

    /// Whether a header block has begun and not ended.
    pub(super) fn is_incomplete(&self) -> bool {
        self.open
    }

    /// Takes the next bytes in.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
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

    /// Takes in what belongs to the present frame; returns the rest.
    fn frame<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.payload > 0 {
            let taken = self.payload.min(bytes.len());
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
            let [a, b, c, kind, flags, ..] = self.header;
            self.payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            let in_block = matches!(kind, HEADERS | CONTINUATION);
            self.closes = in_block && flags & END_HEADERS != 0;
            self.open |= in_block;
            if self.payload == 0 && self.closes {
                self.open = false;
            }
        }
        &bytes[taken..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mut blocks = HeaderBlocks::default();
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
        let mut blocks = HeaderBlocks::default();
        blocks.read(PREFACE);
        blocks.read(&[frame(0x6, 0, 8), frame(0x0, 0, 200)].concat());
        assert!(!blocks.is_incomplete());
    }

    #[test]
    fn http1_is_told_apart_by_its_first_differing_byte() {
        let mut blocks = HeaderBlocks::default();
        blocks.read(b"PR");
        assert!(!blocks.is_http2());
        blocks.read(b"OPFIND / HTTP/1.1\r\n");
        assert!(!blocks.is_http2() && !blocks.is_incomplete());
    }
}
