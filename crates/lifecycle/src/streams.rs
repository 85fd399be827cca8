//! Streams: answers without an end of their own. The drain has a place for them.

use std::borrow::Cow;

use prometheus::IntGauge;
use tokio_util::sync::CancellationToken;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::process::Lifecycle;
use crate::stream_kind::StreamKind;
use crate::work::Entry;

/// An open stream, held by whoever writes it. The drain waits for it.
///
/// At [`Stream::soft`] it says its last words and calls [`Stream::end`]; at
/// [`Stream::hard`] its time is over, and dropping it counts as a cut. A client
/// that leaves just drops it.
pub struct Stream {
    lifecycle: Lifecycle,
    kind: StreamKind,
    name: Cow<'static, str>,
    open: IntGauge,
    finished: bool,
    _entry: Entry,
    _waited_for: TaskTrackerToken,
}

impl Lifecycle {
    /// Registers a stream; `name` tells which, in the log of a cut (a route).
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
            _entry: self.inner.work.enter("stream", name.clone()),
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
    /// Cancelled when the stream should end in its own words.
    #[must_use]
    pub fn soft(&self) -> CancellationToken {
        self.lifecycle.soft()
    }

    /// Cancelled when the stream is cut.
    #[must_use]
    pub fn hard(&self) -> CancellationToken {
        self.lifecycle.hard()
    }

    /// The stream has said all that it had to say.
    pub fn end(mut self) {
        self.finished = true;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.open.dec();
        if !self.finished {
            let what = format!("{} {}", self.kind.as_str(), self.name);
            self.lifecycle.unfinished("stream", &what);
        }
    }
}
