//! Lines that wait to be written, in their order.
//!
//! A request leaves what its line says, not the line: where many are formatted one after
//! the other, the code for it is at hand, and a request does not wait for it.

use std::io::Write;

use super::request::{RequestFacts, RequestLine};

/// Formatted lines go out in pieces of about this size, so that they are still in the
/// processor's cache when the operating system copies them.
const PIECE: usize = 64 << 10;
/// Memory that a burst took beyond this is given back.
const KEEP: usize = 512 << 10;

#[derive(Default)]
pub(super) struct Batch {
    /// Whole lines, and the texts of requests.
    bytes: Vec<u8>,
    requests: Vec<Ended>,
    /// How many lines it is.
    pub(super) lines: u64,
}

/// A request line that nobody has formatted; its texts stand in the bytes, where it
/// belongs.
struct Ended {
    at: usize,
    facts: RequestFacts,
    request_id: usize,
    path: Option<usize>,
}

impl Batch {
    /// Bytes of memory that are in use.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.requests.len() * size_of::<Ended>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Takes one line, its newline included.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }

    /// Takes what the line of a request says.
    pub(super) fn push_request(&mut self, line: &RequestLine<'_>) {
        self.requests.push(Ended {
            at: self.bytes.len(),
            facts: line.facts,
            request_id: line.request_id.len(),
            path: line.path.map(str::len),
        });
        self.bytes.extend_from_slice(line.request_id.as_bytes());
        self.bytes
            .extend_from_slice(line.path.unwrap_or_default().as_bytes());
        self.lines += 1;
    }

    /// Forgets all of it, and gives back what a burst took.
    pub(super) fn clear(&mut self) {
        self.lines = 0;
        if self.size() > KEEP {
            *self = Self::default();
        }
        self.bytes.clear();
        self.requests.clear();
    }

    /// Writes all of it, the requests as `format` has them.
    ///
    /// # Errors
    /// When `out` takes no more; what follows is not written.
    pub(super) fn write_to(
        &self,
        out: &mut impl Write,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>),
    ) -> std::io::Result<()> {
        let mut piece = Vec::new();
        let mut rest = &*self.bytes;
        let mut taken = 0;
        for request in &self.requests {
            let (lines, texts) = rest.split_at(request.at - taken);
            let (request_id, texts) = texts.split_at(request.request_id);
            let (path, texts) = texts.split_at(request.path.unwrap_or_default());
            let line = RequestLine {
                facts: request.facts,
                request_id: text(request_id),
                path: request.path.map(|_| text(path)),
            };
            piece.extend_from_slice(lines);
            format(&mut piece, &line);
            if piece.len() >= PIECE {
                out.write_all(&piece)?;
                piece.clear();
            }
            rest = texts;
            taken = self.bytes.len() - rest.len();
        }
        piece.extend_from_slice(rest);
        out.write_all(&piece)?;
        out.flush()
    }
}

/// They were texts when they were put in.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::ended;
    use super::*;

    /// What is written of a batch, when a request is written as its status and texts.
    fn written(batch: &Batch) -> String {
        let mut out = Vec::new();
        let format = |out: &mut Vec<u8>, line: &RequestLine<'_>| {
            let (status, id, path) = (line.facts.status, line.request_id, line.path);
            writeln!(out, "{status} {id} {path:?}").unwrap();
        };
        batch.write_to(&mut out, format).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn request(
        status: u16,
        request_id: &'static str,
        path: Option<&'static str>,
    ) -> RequestLine<'static> {
        RequestLine {
            facts: ended(status),
            request_id,
            path,
        }
    }

    #[test]
    fn lines_and_requests_keep_their_order_and_their_texts() {
        let mut batch = Batch::default();
        batch.push_request(&request(200, "one", None));
        batch.push(b"first\n");
        batch.push(b"second\n");
        batch.push_request(&request(404, "", Some("/\u{e4}")));
        batch.push_request(&request(204, "three", Some("")));
        batch.push(b"last\n");
        let expected = "200 one None\nfirst\nsecond\n404  Some(\"/\u{e4}\")\n\
                        204 three Some(\"\")\nlast\n";
        assert_eq!(written(&batch), expected);
        assert_eq!(batch.lines, 6);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(written(&batch), "");
    }

    #[test]
    fn what_is_longer_than_a_piece_is_written_whole() {
        let mut batch = Batch::default();
        let count = 2 * PIECE / "200 id None\n".len();
        for _ in 0..count {
            batch.push_request(&request(200, "id", None));
        }
        assert_eq!(written(&batch), "200 id None\n".repeat(count));
        assert!(batch.size() > count * size_of::<RequestFacts>());
    }
}
