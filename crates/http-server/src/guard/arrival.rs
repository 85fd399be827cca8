//! Arriving request bodies. While its body arrives, a request holds a place among the bodies and
//! none among the requests in progress. So a client that sends slowly blocks no other client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::guard::places::{BodyPlace, NoPlace, Place, Places};

/// The place of a request with a body, shared by the guard and the body.
pub(crate) struct PlaceHolder {
    places: &'static Places,
    held: Mutex<PlaceState>,
}

/// The place that a request holds.
enum PlaceState {
    /// The request is in progress.
    Place { _place: Place },
    /// The body is awaited.
    Body { _body: BodyPlace },
    /// The request has ended or was refused.
    Nothing,
}

impl PlaceHolder {
    pub(crate) fn new(places: &'static Places, place: Place) -> Arc<Self> {
        Arc::new(Self {
            places,
            held: Mutex::new(PlaceState::Place { _place: place }),
        })
    }

    /// Frees the place at the end of the request.
    pub(crate) fn leave(&self) {
        self.set(PlaceState::Nothing);
    }

    fn set(&self, held: PlaceState) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
    }

    /// Exchanges the place for one among the bodies.
    fn await_body(&self) -> Result<(), NoPlace> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let PlaceState::Place { .. } = &*held {
            *held = PlaceState::Nothing;
            let body = self.places.take_body()?;
            *held = PlaceState::Body { _body: body };
        }
        Ok(())
    }

    /// Exchanges the place among the bodies for one among the requests in progress.
    fn resume(&self) -> Result<(), NoPlace> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let PlaceState::Body { .. } = &*held {
            *held = PlaceState::Nothing;
            let place = self.places.take()?;
            *held = PlaceState::Place { _place: place };
        }
        Ok(())
    }

    /// Exchanges the place in the same way for work that continues without the rest of the body.
    /// That work has begun already, so it gets a place even beyond the limit.
    fn resume_unasked(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let PlaceState::Body { .. } = &*held {
            *held = PlaceState::Place {
                _place: self.places.take_unasked(),
            };
        }
    }
}

/// The body of a request, which gives up the request's place while it is awaited.
pub(crate) struct ArrivingBody {
    inner: Body,
    holder: Arc<PlaceHolder>,
}

impl ArrivingBody {
    pub(crate) fn new(inner: Body, holder: Arc<PlaceHolder>) -> Self {
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
