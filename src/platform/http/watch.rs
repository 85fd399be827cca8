//! What a connection is waiting for, and since when: the deadlines that hyper
//! does not have.
//!
//! hyper's one header timer starts when the connection becomes idle, so it cannot
//! tell a keep-alive connection (`http.idle_timeout`) from a half-sent header
//! (`http.header_timeout`), has nothing for HTTP/2, and none for a client that
//! does not read its answer. The bytes on the wire tell all of them apart. What
//! came in one piece with a whole request is not seen to be half a header; such a
//! connection ends with the idle timeout.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::h2_frames::HeaderBlocks;

/// How long a connection may wait for its client.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For the first byte of a new connection, and for the rest of a header.
    pub header: Duration,
    /// For the next request, and for a client that does not read.
    pub idle: Duration,
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// No or half a header in time.
    Header,
    /// No next request in time.
    Idle,
    /// The client does not read its answer.
    Write,
}

/// The shared state of one connection.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<State>>);

struct State {
    /// Requests whose answers have not ended.
    in_flight: u32,
    /// Whether any request has come yet.
    served: bool,
    /// Since when nothing is in flight.
    idle_since: Instant,
    /// Since when a header is incomplete.
    header_since: Option<Instant>,
    /// Since when the client has not taken a byte that we have for it.
    blocked_since: Option<Instant>,
    frames: HeaderBlocks,
}

/// A request in flight; ends when dropped.
pub struct Flight(Watch);

impl Default for Watch {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            in_flight: 0,
            served: false,
            idle_since: Instant::now(),
            header_since: None,
            blocked_since: None,
            frames: HeaderBlocks::default(),
        })))
    }
}

impl Watch {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the header of a request is complete.
    #[must_use]
    pub fn begin(&self) -> Flight {
        let mut state = self.state();
        state.in_flight += 1;
        state.served = true;
        if !state.frames.is_http2() {
            state.header_since = None;
        }
        Flight(self.clone())
    }

    /// Whether nothing is in flight and nothing waits to be read by the client.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let state = self.state();
        state.in_flight == 0 && state.blocked_since.is_none()
    }

    /// Whether every request has its answer, and the client does not read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        let state = self.state();
        state.in_flight == 0 && state.blocked_since.is_some()
    }

    /// Whether an HTTP/2 client has had an answer, or begun a request: time to send it
    /// elsewhere in a drain. `None` for HTTP/1.1, which is asked in its answers.
    #[must_use]
    pub fn may_go_away(&self) -> Option<bool> {
        let state = self.state();
        match (state.frames.is_http2(), state.served) {
            (true, served) => Some(served),
            (false, true) => None,
            (false, false) => Some(false),
        }
    }

    /// When the present wait will have been too long, and for what.
    fn deadline(&self, patience: Patience) -> Option<(Instant, Lapse)> {
        let state = self.state();
        if let Some(since) = state.blocked_since {
            return Some((since + patience.idle, Lapse::Write));
        }
        if let Some(since) = state.header_since {
            return Some((since + patience.header, Lapse::Header));
        }
        match (state.in_flight, state.served) {
            (0, true) => Some((state.idle_since + patience.idle, Lapse::Idle)),
            (0, false) => Some((state.idle_since + patience.header, Lapse::Header)),
            _ => None,
        }
    }

    /// Resolves when the client has let the connection wait for too long.
    pub async fn lapse(&self, patience: Patience) -> Lapse {
        // A wait that begins while this sleeps ends no earlier than the shorter
        // patience from now, so no deadline is overslept.
        let stride = patience.header.min(patience.idle);
        loop {
            let now = Instant::now();
            let wake = match self.deadline(patience) {
                Some((deadline, lapse)) if deadline <= now => return lapse,
                Some((deadline, _)) => deadline.min(now + stride),
                None => now + stride,
            };
            tokio::time::sleep_until(wake.into()).await;
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if state.in_flight == 0 {
            state.idle_since = Instant::now();
        }
    }
}

pin_project! {
    /// A stream whose bytes are watched.
    pub struct Watched<T> {
        #[pin]
        inner: T,
        watch: Watch,
    }
}

impl<T> Watched<T> {
    /// Watches a stream.
    pub fn new(inner: T, watch: Watch) -> Self {
        Self { inner, watch }
    }
}

impl<T: AsyncRead> AsyncRead for Watched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buffer.filled().len();
        let polled = this.inner.poll_read(cx, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if polled.is_ready() && !read.is_empty() {
            let mut state = this.watch.state();
            state.frames.read(read);
            let pending = if state.frames.is_http2() {
                state.frames.is_incomplete()
            } else {
                // Bytes outside of a request are the beginning of the next one.
                state.in_flight == 0
            };
            match (pending, state.header_since) {
                (true, None) => state.header_since = Some(Instant::now()),
                (false, Some(_)) if state.frames.is_http2() => state.header_since = None,
                _ => {}
            }
        }
        polled
    }
}

impl<T> Watched<T> {
    fn wrote<R>(watch: &Watch, polled: Poll<R>) -> Poll<R> {
        let mut state = watch.state();
        match (&polled, state.blocked_since) {
            (Poll::Pending, None) => state.blocked_since = Some(Instant::now()),
            (Poll::Ready(_), Some(_)) => state.blocked_since = None,
            _ => {}
        }
        polled
    }
}

impl<T: AsyncWrite> AsyncWrite for Watched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        Self::wrote(this.watch, this.inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        Self::wrote(this.watch, this.inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        Self::wrote(this.watch, this.inner.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        header: Duration::from_millis(20),
        idle: Duration::from_millis(60),
    };

    fn read(watch: &Watch, bytes: &[u8]) {
        let mut stream = Watched::new(bytes, watch.clone());
        let mut space = [0; 64];
        let mut buffer = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(
            Pin::new(&mut stream)
                .poll_read(&mut cx, &mut buffer)
                .is_ready()
        );
    }

    #[tokio::test]
    async fn a_new_connection_waits_for_its_header_a_used_one_for_longer() {
        let watch = Watch::default();
        let began = Instant::now();
        assert_eq!(watch.lapse(PATIENCE).await, Lapse::Header);
        drop(watch.begin());
        assert_eq!(watch.lapse(PATIENCE).await, Lapse::Idle);
        assert!(began.elapsed() >= PATIENCE.header + PATIENCE.idle);
    }

    #[tokio::test]
    async fn half_a_header_after_a_request_has_the_shorter_patience() {
        let watch = Watch::default();
        drop(watch.begin());
        read(&watch, b"GET / HT");
        assert_eq!(watch.lapse(PATIENCE).await, Lapse::Header);
    }

    #[tokio::test]
    async fn a_request_in_flight_has_no_deadline_here() {
        let watch = Watch::default();
        let flight = watch.begin();
        let lapse = tokio::time::timeout(PATIENCE.idle * 3, watch.lapse(PATIENCE)).await;
        assert!(lapse.is_err());
        drop(flight);
        assert_eq!(watch.lapse(PATIENCE).await, Lapse::Idle);
    }
}
