//! Discards request bodies that were not read.
//!
//! A request that is refused before its body is read (401, 415, 429) leaves the body on the wire.
//! hyper closes such a connection unless the rest of the body has arrived already. That depends on
//! how the client splits its packets. A client that keeps connections alive would then reuse a
//! closed one. So a small body is read and discarded before the answer is sent. A connection with a
//! large body is closed.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use pin_project_lite::pin_project;

/// Largest body that is discarded, in bytes. Reading more would cost too much for a refusal.
const MAX_BYTES: u64 = 64 * 1_024;
/// Time for the client to send the rest.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Place for a body that was dropped before its end.
#[derive(Clone, Default)]
pub(crate) struct UnreadBody(Arc<Mutex<Option<Incoming>>>);

impl UnreadBody {
    /// Returns the answer after the leftover body is read to its end, if it is small.
    pub(crate) fn then<T: Send + 'static>(self, answer: T) -> BoxFuture<'static, T> {
        let discarded = async {
            self.discard().await;
            answer
        };
        Box::pin(discarded)
    }

    async fn discard(self) {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut body) = left else { return };
        if body.size_hint().upper().is_none_or(|size| size > MAX_BYTES) {
            return;
        }
        let rest = async { while let Some(Ok(_)) = body.frame().await {} };
        // When the rest does not arrive in time, hyper closes the connection.
        let _late = tokio::time::timeout(MAX_WAIT, rest).await;
    }
}

pin_project! {
    /// The body of a request. When it is dropped unread, it moves to `leftover`.
    pub(crate) struct RequestBody {
        body: Option<Incoming>,
        leftover: UnreadBody,
    }

    impl PinnedDrop for RequestBody {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(body) = this.body.take().filter(|body| !body.is_end_stream()) {
                *this.leftover.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
            }
        }
    }
}

impl RequestBody {
    pub(crate) fn new(body: Incoming, leftover: &UnreadBody) -> Self {
        Self {
            body: Some(body),
            leftover: leftover.clone(),
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.project().body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body
            .as_ref()
            .map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
