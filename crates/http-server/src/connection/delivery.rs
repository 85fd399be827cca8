//! Detects HTTP/2 answers that their client does not read.
//!
//! hyper polls a body for more only when the client's flow-control windows have room for the data
//! before. It waits for that room without a limit. So the last byte of data that may not fit is
//! given by itself. When hyper polls again after that byte, all of the data had room. Only then
//! does the answer count as delivered, in its record and for the deadline.
//!
//! hyper holds the last piece where an error of the body does not reach it. So the task of the
//! stream ends instead, and h2 resets the stream.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::Executor;
use hyper_util::rt::TokioExecutor;
use pin_project_lite::pin_project;
use prometheus::IntCounter;
use quanta::Instant;
use tokio::time::Sleep;

use crate::connection::deadlines::ConnectionDeadlines;

/// Largest piece that is given at once: one frame (RFC 9113, section 4.2).
const MAX_PIECE: u64 = 16 * 1_024;
/// Delay of the end of a stream when the deadline of its connection is due as well.
const CONNECTION_FIRST: Duration = Duration::from_secs(1);

thread_local! {
    /// The result of the body in the current poll of its stream. hyper gives a body and the task of
    /// its stream nothing in common. Without this value an HTTP/2 client that does not read its
    /// answer would never be detected.
    static OFFER: Cell<Offer> = const { Cell::new(Offer::Unasked) };
}

/// The result of a body in one poll of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    /// The body was not polled.
    Unasked,
    /// The body has no more data now, and the client has taken all that it gave.
    Nothing,
    /// The body gave a piece. Before that, the client had taken `taken` more bytes.
    Piece { taken: u64 },
}

impl Offer {
    /// Reports the result to the task of the stream. The body calls this.
    #[inline]
    pub(crate) fn tell(self) {
        OFFER.set(match (self, OFFER.get()) {
            (Self::Piece { taken }, Self::Piece { taken: before }) => Self::Piece {
                taken: before.saturating_add(taken),
            },
            (offer, _) => offer,
        });
    }
}

/// Data cut into pieces. The last byte is a piece of its own.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    rest: Bytes,
    /// Bytes of the last piece.
    last: u64,
    /// Bytes of earlier pieces that the client may not have taken yet.
    earlier: u64,
}

impl Pieces {
    /// Records that hyper polls for more. It has room for the last piece or for its beginning, and
    /// so for all earlier pieces. Returns the number of bytes that are now known to be taken.
    pub(crate) fn asked(&mut self) -> u64 {
        let last = std::mem::take(&mut self.last);
        let (taken, earlier) = if last > 1 {
            (self.earlier, last)
        } else {
            (self.earlier.saturating_add(last), 0)
        };
        self.earlier = earlier;
        taken
    }

    /// Sets the next data.
    pub(crate) fn put(&mut self, data: Bytes) {
        self.rest = data;
    }

    /// The next piece.
    pub(crate) fn next(&mut self, watch: &ConnectionDeadlines) -> Option<Bytes> {
        let limit = usize::try_from(watch.piece().min(MAX_PIECE)).unwrap_or(1);
        let length = match self.rest.len() {
            0 => return None,
            1 => 1,
            length => (length - 1).min(limit.max(1)),
        };
        self.last = length as u64;
        Some(self.rest.split_to(length))
    }
}

/// Runs the streams of one connection, and ends those whose client does not take the answer.
#[derive(Clone)]
pub(crate) struct Deliveries {
    watch: ConnectionDeadlines,
    /// Number of answers that were given up.
    unread: IntCounter,
}

impl Deliveries {
    /// An executor for the connection that `watch` follows. `unread` counts the answers that it
    /// gives up.
    pub(crate) fn new(watch: ConnectionDeadlines, unread: IntCounter) -> Self {
        Self { watch, unread }
    }
}

impl<F> Executor<F> for Deliveries
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, work: F) {
        TokioExecutor::new().execute(Delivery {
            work: Some(work),
            wait: None,
            watch: self.watch.clone(),
            unread: self.unread.clone(),
        });
    }
}

pin_project! {
    /// The task of one stream.
    struct Delivery<F> {
        #[pin]
        work: Option<F>,
        // Present while the client has not taken all data.
        wait: Option<Wait>,
        watch: ConnectionDeadlines,
        unread: IntCounter,
    }

    impl<F> PinnedDrop for Delivery<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if this.wait.take().is_some() {
                this.watch.windows().end_stall();
            }
        }
    }
}

struct Wait {
    since: Instant,
    /// Bytes that the client has taken since `since`.
    taken: u64,
    sleep: Pin<Box<Sleep>>,
}

impl Wait {
    fn new(watch: &ConnectionDeadlines) -> Self {
        watch.stalled();
        Self {
            since: Instant::now(),
            taken: 0,
            sleep: Box::pin(tokio::time::sleep(watch.patience().idle)),
        }
    }

    /// Records that the client took `bytes`. At the configured rate the wait begins anew.
    fn took(&mut self, bytes: u64, watch: &ConnectionDeadlines) {
        self.taken = self.taken.saturating_add(bytes);
        let now = Instant::now();
        if bytes > 0 && watch.patience().is_met(self.taken, now - self.since) {
            self.since = now;
            self.taken = 0;
            watch.progressed();
        }
    }

    /// Resolves when the client has taken too little for too long.
    fn poll_end(&mut self, watch: &ConnectionDeadlines, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            let deadline = self.since + watch.patience().idle;
            let now = Instant::now();
            let again = if deadline > now {
                deadline - now
            } else if watch.is_about_to_lapse(CONNECTION_FIRST) {
                // The whole connection waits for this client and is about to be ended.
                CONNECTION_FIRST
            } else {
                return Poll::Ready(());
            };
            self.sleep
                .as_mut()
                .reset(tokio::time::Instant::now() + again);
        }
    }
}

impl<F: Future<Output = ()>> Future for Delivery<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(work) = this.work.as_mut().as_pin_mut() else {
            return Poll::Ready(());
        };
        OFFER.set(Offer::Unasked);
        if work.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match (OFFER.get(), this.wait.as_mut()) {
            (Offer::Unasked, _) | (Offer::Nothing, None) => {}
            (Offer::Nothing, Some(_)) => {
                *this.wait = None;
                this.watch.windows().end_stall();
            }
            (Offer::Piece { taken }, Some(wait)) => wait.took(taken, this.watch),
            (Offer::Piece { .. }, None) => *this.wait = Some(Wait::new(this.watch)),
        }
        let Some(wait) = this.wait else {
            return Poll::Pending;
        };
        ready!(wait.poll_end(this.watch, cx));
        this.unread.inc();
        this.work.set(None);
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::deadlines::ConnectionTimeouts;

    #[test]
    fn the_last_byte_comes_by_itself_and_proves_the_rest() {
        let watch = ConnectionDeadlines::new(ConnectionTimeouts {
            header: Duration::from_secs(1),
            idle: Duration::from_secs(2),
            rate: 3,
        });
        let mut pieces = Pieces::default();
        pieces.put(Bytes::from_static(b"abcdefg"));
        let mut lengths = Vec::new();
        let mut taken = Vec::new();
        while let Some(piece) = pieces.next(&watch) {
            lengths.push(piece.len());
            taken.push(pieces.asked());
        }
        // A piece is at most half of the bytes that must be taken in time.
        assert_eq!(lengths, [3, 3, 1]);
        assert_eq!(taken, [0, 3, 4]);
    }
}
