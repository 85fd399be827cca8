//! The output of log lines: a bounded buffer, and a thread that writes it to standard output.
//!
//! Requests only append to the buffer. If standard output blocks, the buffer fills and further
//! lines are dropped and counted, because a service must not wait for its log.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::batch::Batch;
use super::request::RequestLine;

/// Capacity of the buffer in bytes.
const CAPACITY: usize = 4 << 20;
/// Buffer size at which the writer stops waiting for more lines.
const WRITE_THRESHOLD: usize = 256 << 10;
/// Time in which lines are batched for one write. Waking the writer costs as much as dozens of
/// lines.
const BATCH_DELAY: Duration = Duration::from_millis(50);
/// Batching time of urgent lines. It is short, so that warnings and errors are written before a
/// process is killed.
const URGENT_DELAY: Duration = Duration::from_millis(2);

/// Handle of the sink. Clones share the buffer.
#[derive(Clone)]
pub(super) struct Sink {
    inner: Arc<Inner>,
    dropped: IntCounter,
}

#[derive(Default)]
struct Inner {
    state: Mutex<Buffer>,
    /// Notified when lines are appended or a flush is requested.
    wake: Condvar,
    /// Notified when all lines are written.
    drained: Condvar,
}

#[derive(Default)]
struct Buffer {
    waiting: Batch,
    /// A caller of [`Sink::flush`] waits.
    flush_requested: bool,
    /// The buffer contains an urgent line.
    urgent: bool,
    /// A batch is being written.
    writing: bool,
}

impl Sink {
    /// Starts the thread that writes to `out`. `format` formats request lines.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>) + Send + 'static,
        dropped: IntCounter,
    ) -> std::io::Result<Self> {
        Self::with_batch_delay(out, format, dropped, BATCH_DELAY)
    }

    fn with_batch_delay(
        out: impl Write + Send + 'static,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>) + Send + 'static,
        dropped: IntCounter,
        batch_delay: Duration,
    ) -> std::io::Result<Self> {
        let sink = Self {
            inner: Arc::default(),
            dropped,
        };
        let writer = sink.clone();
        // The thread runs until the end of the process. `flush` bounds the wait there.
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_to(out, format, batch_delay))?;
        Ok(sink)
    }

    /// Appends a line, including its newline. Returns false if the buffer is full. An urgent line
    /// is written soon.
    pub(super) fn push(&self, line: &[u8], urgent: bool) -> bool {
        self.put(line.len(), urgent, |waiting| waiting.push(line))
    }

    /// Appends the fields of a request line. Returns false if the buffer is full.
    pub(super) fn push_request(&self, line: &RequestLine<'_>) -> bool {
        self.put(0, false, |waiting| waiting.push_request(line))
    }

    fn put(&self, length: usize, urgent: bool, put: impl FnOnce(&mut Batch)) -> bool {
        let mut state = self.lock();
        let before = state.waiting.size();
        if before + length > CAPACITY {
            drop(state);
            self.dropped.inc();
            return false;
        }
        put(&mut state.waiting);
        let after = state.waiting.size();
        let hastens = urgent && !std::mem::replace(&mut state.urgent, true);
        drop(state);
        // The writer sleeps only while the buffer is empty or lines are batched.
        if before == 0 || hastens || (before < WRITE_THRESHOLD && after >= WRITE_THRESHOLD) {
            self.inner.wake.notify_one();
        }
        true
    }

    /// Waits until all lines are written, for at most `bound`.
    pub(super) fn flush(&self, bound: Duration) -> bool {
        let deadline = Instant::now() + bound;
        let mut state = self.lock();
        while !state.waiting.is_empty() || state.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state.flush_requested = true;
            self.inner.wake.notify_one();
            state = self
                .inner
                .drained
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Buffer> {
        let state = self.inner.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(
        &self,
        mut out: impl Write,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>),
        batch_delay: Duration,
    ) {
        let mut batch = Batch::default();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                let woken = self.inner.wake.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
            let began = Instant::now();
            while !state.flush_requested && state.waiting.size() < WRITE_THRESHOLD {
                let patience = if state.urgent {
                    URGENT_DELAY
                } else {
                    batch_delay
                };
                let left = patience.saturating_sub(began.elapsed());
                if left.is_zero() {
                    break;
                }
                let woken = self.inner.wake.wait_timeout(state, left);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.urgent = false;
            state.writing = true;
            drop(state);
            if batch.write_to(&mut out, &format).is_err() {
                self.dropped.inc_by(batch.lines);
            }
            batch.clear();
            let mut state = self.lock();
            state.writing = false;
            if state.waiting.is_empty() {
                state.flush_requested = false;
                self.inner.drained.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::ended;
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// A writer that blocks until the test permits the write.
    struct Gate(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.recv().map_err(std::io::Error::other)?;
            self.1.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Formats a request line as its status.
    fn statuses(out: &mut Vec<u8>, line: &RequestLine<'_>) {
        writeln!(out, "{}", line.facts.status).unwrap();
    }

    fn gated() -> (Sink, Sender<()>, Receiver<Vec<u8>>, IntCounter) {
        let (open, opened) = channel();
        let (written, seen) = channel();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let sink = Sink::start(Gate(opened, written), statuses, dropped.clone()).unwrap();
        (sink, open, seen, dropped)
    }

    #[test]
    fn a_blocked_output_drops_lines_instead_of_blocking() {
        let (sink, open, seen, dropped) = gated();
        let line = vec![b'x'; 1 << 10];
        let mut taken = 0;
        while sink.push(&line, false) {
            taken += 1;
            assert!(taken <= 3 * (CAPACITY >> 10), "the buffer has no bound");
        }
        assert_eq!(dropped.get(), 1);
        assert!(!sink.flush(Duration::from_millis(20)), "nothing was read");
        // At most two batches: the one that is being written, and the full buffer.
        for _ in 0..2 {
            open.send(()).unwrap();
        }
        let mut written = 0;
        while written < taken << 10 {
            written += seen.recv_timeout(Duration::from_secs(10)).unwrap().len();
        }
        assert_eq!(written, taken << 10, "what was taken is written");
    }

    #[test]
    fn request_lines_and_other_lines_share_the_capacity() {
        // Without a writer thread, which could empty the buffer between two lines.
        let sink = Sink {
            inner: Arc::default(),
            dropped: IntCounter::new("dropped", "dropped").unwrap(),
        };
        let line = RequestLine {
            facts: ended(200),
            request_id: "r",
            route: "/",
            path: None,
        };
        let mut taken = 0;
        while sink.push_request(&line) {
            taken += 1;
            assert!(taken <= CAPACITY >> 6, "the buffer has no bound");
        }
        assert!(!sink.push(b"line\n", false), "it is the same buffer");
        assert_eq!(sink.dropped.get(), 2);
    }

    #[test]
    fn a_flush_waits_for_all_earlier_lines() {
        let (sink, open, seen, _) = gated();
        open.send(()).unwrap();
        let last = RequestLine {
            facts: ended(204),
            request_id: "r",
            route: "/",
            path: Some("/"),
        };
        assert!(sink.push(b"last words\n", false) && sink.push_request(&last));
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(seen.try_recv().unwrap(), b"last words\n204\n");
    }

    #[test]
    fn an_urgent_line_is_written_with_the_lines_before_it() {
        let (open, opened) = channel();
        let (written, seen) = channel();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let forever = Duration::from_hours(1);
        let sink =
            Sink::with_batch_delay(Gate(opened, written), statuses, dropped, forever).unwrap();
        open.send(()).unwrap();
        sink.push(b"patient\n", false);
        assert!(seen.recv_timeout(URGENT_DELAY * 10).is_err());
        sink.push(b"urgent\n", true);
        let first = seen.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first, b"patient\nurgent\n");
        open.send(()).unwrap();
        sink.push(b"patient again\n", false);
        assert!(seen.recv_timeout(URGENT_DELAY * 10).is_err());
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (sink, open, _seen, dropped) = gated();
        drop(open);
        assert!(sink.push(b"into the void\n", false));
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(dropped.get(), 1);
    }
}
