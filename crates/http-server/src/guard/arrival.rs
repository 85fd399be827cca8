//! Arriving request bodies. While its body arrives, a request holds a place among the bodies and
//! none among the requests in progress. So a client that sends slowly blocks no other client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::guard::places::{BodyPlace, Full, Place, Places};

/// The place of a request with a body, shared by the guard and the body.
pub(crate) struct Holder {
    places: &'static Places,
    held: Mutex<Held>,
}

/// The place that a request holds.
enum Held {
    /// The request is in progress.
    Place { _place: Place },
    /// The body is awaited.
    Body { _body: BodyPlace },
    /// The request has ended or was refused.
    Nothing,
}

impl Holder {
    pub(crate) fn new(places: &'static Places, place: Place) -> Arc<Self> {
        Arc::new(Self {
            places,
            held: Mutex::new(Held::Place { _place: place }),
        })
    }

    /// Frees the place at the end of the request.
    pub(crate) fn leave(&self) {
        self.set(Held::Nothing);
    }

    fn set(&self, held: Held) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Exchanges the place for one among the bodies.
    fn await_body(&self) -> Result<(), Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Held::Place { .. } = &*held {
            *held = Held::Nothing;
            let body = self.places.take_body()?;
            *held = Held::Body { _body: body };
        }
        Ok(())
    }

    /// Exchanges the place among the bodies for one among the requests in progress.
    fn resume(&self) -> Result<(), Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Held::Body { .. } = &*held {
            *held = Held::Nothing;
            let place = self.places.take()?;
            *held = Held::Place { _place: place };
        }
        Ok(())
    }

    /// Exchanges the place in the same way for work that continues without the rest of the body.
    /// That work has begun already, so it gets a place even beyond the limit.
    fn resume_unasked(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Held::Body { .. } = &*held {
            *held = Held::Place {
                _place: self.places.take_unasked(),
            };
        }
    }
}

/// The body of a request, which gives up the request's place while it is awaited.
pub(crate) struct ArrivingBody {
    inner: Body,
    holder: Arc<Holder>,
}

impl ArrivingBody {
    pub(crate) fn new(inner: Body, holder: Arc<Holder>) -> Self {
        Self { inner, holder }
    }
}

impl HttpBody for ArrivingBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let changed = match &polled {
            Poll::Pending => self.holder.await_body(),
            Poll::Ready(Some(Ok(_))) if !self.inner.is_end_stream() => Ok(()),
            Poll::Ready(Some(Err(_))) => Ok(()),
            Poll::Ready(_) => self.holder.resume(),
        };
        match changed {
            Ok(()) => Poll::Ready(ready!(polled)),
            Err(full) => Poll::Ready(Some(Err(axum::Error::new(full)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for ArrivingBody {
    fn drop(&mut self) {
        self.holder.resume_unasked();
    }
}
