//! The bytes of a connection, inspected on their way to and from hyper.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::deadlines::ConnectionDeadlines;
use crate::connection::framing::Framing;
use crate::connection::h2_frames::Frames;
use crate::connection::linger::Linger;

pin_project! {
    /// A stream whose bytes are inspected.
    pub(crate) struct InspectedStream<T> {
        #[pin]
        inner: T,
        frames: Frames,
        framing: Framing,
        // A fault was found. The bytes after it are not read.
        ended: bool,
        linger: Linger,
        watch: ConnectionDeadlines,
    }
}

impl<T> InspectedStream<T> {
    /// Inspects a stream. Its client may send `control_frames` HTTP/2 frames a second that carry no
    /// request.
    pub(crate) fn new(inner: T, watch: ConnectionDeadlines, control_frames: u32) -> Self {
        Self {
            inner,
            frames: Frames::new(control_frames),
            framing: Framing::default(),
            ended: false,
            linger: Linger::default(),
            watch,
        }
    }
}

/// The error that ends the connection in hyper. A handler that waits for the body gets it too.
fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the body is malformed")
}

impl<T: AsyncRead> AsyncRead for InspectedStream<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(Err(malformed()));
        }
        let before = buffer.filled().len();
        let polled = this.inner.poll_read(cx, buffer);
        let read = buffer.filled().get(before..).unwrap_or_default();
        if polled.is_pending() || read.is_empty() {
            return polled;
        }
        let earlier = this.frames.preface_len();
        this.frames.read(read);
        if this.frames.is_http2() {
            this.watch.frames_came(this.frames.is_incomplete());
            this.frames.tell(this.watch.windows());
            if let Some(frame) = this.frames.excess() {
                this.watch.flooded(frame);
                *this.ended = true;
                return Poll::Ready(Err(malformed()));
            }
            return polled;
        }
        this.watch.bytes_came();
        if !this.frames.is_http1() || this.watch.is_upgraded() {
            return polled;
        }
        if earlier > 0 {
            // These bytes could have become HTTP/2. They contain no head that hyper accepts, so a
            // fault in them is ignored.
            let preface = this.frames.take_false_preface();
            let _partial = this
                .framing
                .read(preface.get(..earlier).unwrap_or_default());
        }
        let Some(found) = this.framing.read(read) else {
            return polled;
        };
        this.watch.refuse(found.request, found.fault);
        if found.sound < read.len() {
            *this.ended = true;
            buffer.set_filled(before + found.sound);
            if found.sound == 0 {
                return Poll::Ready(Err(malformed()));
            }
        }
        polled
    }
}

impl<T> InspectedStream<T> {
    fn wrote(
        watch: &ConnectionDeadlines,
        frames: &mut Frames,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let written = match &polled {
            Poll::Ready(Ok(written)) => Poll::Ready(*written),
            Poll::Ready(Err(_)) => Poll::Ready(0),
            Poll::Pending => Poll::Pending,
        };
        if let Poll::Ready(bytes) = written
            && frames.is_http2()
        {
            frames.sent(bytes);
        }
        watch.wrote(written);
        polled
    }
}

impl<T: AsyncRead + AsyncWrite> AsyncWrite for InspectedStream<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.inner.poll_write(cx, bytes);
        Self::wrote(this.watch, this.frames, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let polled = this.inner.poll_write_vectored(cx, slices);
        Self::wrote(this.watch, this.frames, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let polled = this.inner.poll_flush(cx);
        match &polled {
            Poll::Ready(_) => this.watch.flushed(),
            Poll::Pending => this.watch.wrote(Poll::Pending),
        }
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        if this.frames.is_http2() {
            return this.inner.poll_shutdown(cx);
        }
        this.linger.poll_shutdown(this.inner, cx)
    }
}
