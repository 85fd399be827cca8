//! The queue of log lines, in order.
//!
//! Request lines are stored as fields and formatted by the log thread: formatting many lines in a
//! row needs fewer instruction cache misses, and requests do not wait for it.

use std::io::Write;

use super::request::{RequestFields, RequestLine};

/// Size of one write. Small enough that the formatted lines are still in the CPU cache when the
/// operating system copies them.
const WRITE_SIZE: usize = 64 << 10;
/// Memory beyond this size is released after a burst.
const MAX_RETAINED: usize = 512 << 10;

#[derive(Default)]
pub(super) struct Batch {
    /// Formatted lines, and the texts of request lines.
    bytes: Vec<u8>,
    requests: Vec<QueuedRequest>,
    /// Number of lines.
    pub(super) lines: u64,
}

/// An unformatted request line. Its texts are in `bytes` at its position.
struct QueuedRequest {
    at: usize,
    facts: RequestFields,
    request_id: usize,
    route: usize,
    path: Option<usize>,
}

impl Batch {
    /// Memory in use, in bytes.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.requests.len() * size_of::<QueuedRequest>()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Appends a formatted line, including its newline.
    pub(super) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines += 1;
    }

    /// Appends the fields of a request line.
    pub(super) fn push_request(&mut self, line: &RequestLine<'_>) {
        self.requests.push(QueuedRequest {
            at: self.bytes.len(),
            facts: line.facts,
            request_id: line.request_id.len(),
            route: line.route.len(),
            path: line.path.map(str::len),
        });
        self.bytes.extend_from_slice(line.request_id.as_bytes());
        self.bytes.extend_from_slice(line.route.as_bytes());
        self.bytes
            .extend_from_slice(line.path.unwrap_or_default().as_bytes());
        self.lines += 1;
    }

    /// Removes all lines and releases the memory of a burst.
    pub(super) fn clear(&mut self) {
        self.lines = 0;
        if self.size() > MAX_RETAINED {
            *self = Self::default();
        }
        self.bytes.clear();
        self.requests.clear();
    }

    /// Writes all lines. `format` formats the request lines.
    ///
    /// # Errors
    /// When `out` fails. The remaining lines are not written.
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
            let (route, texts) = texts.split_at(request.route);
            let (path, texts) = texts.split_at(request.path.unwrap_or_default());
            let line = RequestLine {
                facts: request.facts,
                request_id: text(request_id),
                route: text(route),
                path: request.path.map(|_| text(path)),
            };
            piece.extend_from_slice(lines);
            format(&mut piece, &line);
            if piece.len() >= WRITE_SIZE {
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

/// The bytes were text when they were stored.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::ended;
    use super::*;

    /// The written lines, with request lines formatted as status and texts.
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
            route: "/",
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
    fn a_batch_longer_than_one_write_is_written_completely() {
        let mut batch = Batch::default();
        let count = 2 * WRITE_SIZE / "200 id None\n".len();
        for _ in 0..count {
            batch.push_request(&request(200, "id", None));
        }
        assert_eq!(written(&batch), "200 id None\n".repeat(count));
        assert!(batch.size() > count * size_of::<RequestFields>());
    }
}
