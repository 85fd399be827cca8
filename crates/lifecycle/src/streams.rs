//! Streams: responses without a predefined end, which the shutdown waits for.

use std::borrow::Cow;

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::process::Lifecycle;
use crate::registry::TaskGuard;
use crate::stream_kind::StreamKind;

/// An open stream, held by the task that writes it. The shutdown waits for it.
///
/// When [`Stream::soft`] is cancelled, the writer sends its last message and calls [`Stream::end`].
/// A stream that is dropped after [`Stream::hard`] is cancelled counts as cut. When the client
/// disconnects, the stream is dropped.
pub struct Stream {
    lifecycle: Lifecycle,
    kind: StreamKind,
    name: Cow<'static, str>,
    open: IntGauge,
    finished: bool,
    _entry: TaskGuard,
    _waited_for: TaskTrackerToken,
}

impl Lifecycle {
    /// Registers a stream. `name` (a route) identifies it in the log if it is cut.
    #[must_use]
    pub fn stream(&self, kind: StreamKind, name: impl Into<Cow<'static, str>>) -> Stream {
        let name = name.into();
        let open = self
            .inner
            .metrics
            .streams
            .with_label_values(&[kind.as_str()]);
        open.inc();
        Stream {
            _entry: self.inner.registry.register("stream", name.clone()),
            _waited_for: self.inner.tracker.token(),
            lifecycle: self.clone(),
            kind,
            name,
            open,
            finished: false,
        }
    }
}

impl Stream {
    /// Cancelled when the stream should end gracefully.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.lifecycle.soft()
    }

    /// Cancelled when the stream is cut.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.lifecycle.hard()
    }

    /// Ends the stream gracefully.
    pub fn end(mut self) {
        self.finished = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.dec();
        if !self.finished {
            let what = format!("{} {}", self.kind.as_str(), self.name);
            self.lifecycle.report_unfinished("stream", &what);
        }
    }
}
