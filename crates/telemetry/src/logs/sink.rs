//! Where lines go: a bounded buffer, and a thread that writes it to standard output.
//!
//! A request only leaves what its line says. When nobody reads standard output the
//! buffer fills, and further lines are counted and dropped: losing lines is better than
//! a service that waits for its log.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::batch::Batch;
use super::request::RequestLine;

/// Bytes that wait at most.
const CAPACITY: usize = 4 << 20;
/// Above this the writer does not wait for more.
const EAGER: usize = 256 << 10;
/// How long the writer gathers lines, so that one write takes many of them: to wake
/// costs as much as dozens of lines.
const GATHER: Duration = Duration::from_millis(50);
/// How long it gathers when a line should not wait: what a process says before it is
/// killed is worth more than a write.
const HASTE: Duration = Duration::from_millis(2);

/// Takes lines from any thread.
#[derive(Clone)]
pub(super) struct Sink {
    shared: Arc<Shared>,
    dropped: IntCounter,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Lines have come, or somebody waits for them.
    wake: Condvar,
    /// All lines are written.
    drained: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Batch,
    /// Somebody waits until all is written.
    urgent: bool,
    /// A line that waits should not.
    hasty: bool,
    /// The writer has lines in its hands.
    writing: bool,
}

impl Sink {
    /// A sink whose thread writes to `out`, the lines of requests as `format` has them.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>) + Send + 'static,
        dropped: IntCounter,
    ) -> std::io::Result<Self> {
        Self::gathering(out, format, dropped, GATHER)
    }

    fn gathering(
        out: impl Write + Send + 'static,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>) + Send + 'static,
        dropped: IntCounter,
        gather: Duration,
    ) -> std::io::Result<Self> {
        let sink = Self {
            shared: Arc::default(),
            dropped,
        };
        let writer = sink.clone();
        // Lives as long as the process; `flush` bounds the wait at its end.
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.write_to(out, format, gather))?;
        Ok(sink)
    }

    /// Takes one line, its newline included; false when the buffer is full. A hasty
    /// one is written soon.
    pub(super) fn push(&self, line: &[u8], hasty: bool) -> bool {
        self.put(line.len(), hasty, |waiting| waiting.push(line))
    }

    /// Takes what the line of a request says; false when the buffer is full.
    pub(super) fn push_request(&self, line: &RequestLine<'_>) -> bool {
        self.put(0, false, |waiting| waiting.push_request(line))
    }

    fn put(&self, length: usize, hasty: bool, put: impl FnOnce(&mut Batch)) -> bool {
        let mut state = self.lock();
        let before = state.waiting.size();
        if before + length > CAPACITY {
            drop(state);
            self.dropped.inc();
            return false;
        }
        put(&mut state.waiting);
        let after = state.waiting.size();
        let hastens = hasty && !std::mem::replace(&mut state.hasty, true);
        drop(state);
        // The writer sleeps only when nothing waits or while it gathers.
        if before == 0 || hastens || (before < EAGER && after >= EAGER) {
            self.shared.wake.notify_one();
        }
        true
    }

    /// Waits until everything is written, at most as long as `bound`.
    pub(super) fn flush(&self, bound: Duration) -> bool {
        let deadline = Instant::now() + bound;
        let mut state = self.lock();
        while !state.waiting.is_empty() || state.writing {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state.urgent = true;
            self.shared.wake.notify_one();
            state = self
                .shared
                .drained
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(
        &self,
        mut out: impl Write,
        format: impl Fn(&mut Vec<u8>, &RequestLine<'_>),
        gather: Duration,
    ) {
        let mut batch = Batch::default();
        loop {
            let mut state = self.lock();
            while state.waiting.is_empty() {
                let woken = self.shared.wake.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
            let began = Instant::now();
            while !state.urgent && state.waiting.size() < EAGER {
                let patience = if state.hasty { HASTE } else { gather };
                let left = patience.saturating_sub(began.elapsed());
                if left.is_zero() {
                    break;
                }
                let woken = self.shared.wake.wait_timeout(state, left);
                state = woken.unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut batch, &mut state.waiting);
            state.hasty = false;
            state.writing = true;
            drop(state);
            if batch.write_to(&mut out, &format).is_err() {
                self.dropped.inc_by(batch.lines);
            }
            batch.clear();
            let mut state = self.lock();
            state.writing = false;
            if state.waiting.is_empty() {
                state.urgent = false;
                self.shared.drained.notify_all();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::ended;
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};

    /// Writes only what it is let write.
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

    /// Writes nothing of a request but its status.
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
    fn a_reader_that_stands_still_costs_lines_but_no_time() {
        let (sink, open, seen, dropped) = gated();
        let line = vec![b'x'; 1 << 10];
        let mut taken = 0;
        while sink.push(&line, false) {
            taken += 1;
            assert!(taken <= 3 * (CAPACITY >> 10), "the buffer has no bound");
        }
        assert_eq!(dropped.get(), 1);
        assert!(!sink.flush(Duration::from_millis(20)), "nothing was read");
        // At most two buffers: the one in the writer's hands, and the full one.
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
    fn requests_have_no_other_bound_than_lines() {
        // Without a writer, which might take what waits between two of these lines.
        let sink = Sink {
            shared: Arc::default(),
            dropped: IntCounter::new("dropped", "dropped").unwrap(),
        };
        let line = RequestLine {
            facts: ended(200),
            request_id: "r",
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
    fn a_flush_waits_for_what_was_pushed_before_it() {
        let (sink, open, seen, _) = gated();
        open.send(()).unwrap();
        let last = RequestLine {
            facts: ended(204),
            request_id: "r",
            path: Some("/"),
        };
        assert!(sink.push(b"last words\n", false) && sink.push_request(&last));
        assert!(sink.flush(Duration::from_secs(10)));
        assert_eq!(seen.try_recv().unwrap(), b"last words\n204\n");
    }

    #[test]
    fn a_hasty_line_takes_those_before_it_along_and_none_after_it() {
        let (open, opened) = channel();
        let (written, seen) = channel();
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let forever = Duration::from_hours(1);
        let sink = Sink::gathering(Gate(opened, written), statuses, dropped, forever).unwrap();
        open.send(()).unwrap();
        sink.push(b"patient\n", false);
        assert!(seen.recv_timeout(HASTE * 10).is_err());
        sink.push(b"hasty\n", true);
        let first = seen.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(first, b"patient\nhasty\n");
        open.send(()).unwrap();
        sink.push(b"patient again\n", false);
        assert!(seen.recv_timeout(HASTE * 10).is_err());
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
