//! Arriving request bodies. While its body arrives, a request holds a permit for a body and none
//! for a request in progress. So a client that sends slowly blocks no other client.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use limits::concurrency::{BodyPermit, Concurrency, Overloaded, Permit};

/// The permit of a request with a body, shared by the guard and the body.
pub(crate) struct PermitHolder {
    concurrency: Arc<Concurrency>,
    held: Mutex<HeldPermit>,
}

/// The permit that a request holds.
enum HeldPermit {
    /// The request is in progress.
    InFlight { _permit: Permit },
    /// The body is awaited.
    Body { _permit: BodyPermit },
    /// The request has ended or was refused.
    Nothing,
}

impl PermitHolder {
    pub(crate) fn new(concurrency: &Arc<Concurrency>, permit: Permit) -> Arc<Self> {
        Arc::new(Self {
            concurrency: Arc::clone(concurrency),
            held: Mutex::new(HeldPermit::InFlight { _permit: permit }),
        })
    }

    /// Frees the permit at the end of the request.
    pub(crate) fn release(&self) {
        *self.held() = HeldPermit::Nothing;
    }

    fn held(&self) -> MutexGuard<'_, HeldPermit> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exchanges the permit of a request in progress for one of a body.
    fn await_body(&self) -> Result<(), Overloaded> {
        let mut held = self.held();
        if let HeldPermit::InFlight { .. } = &*held {
            *held = HeldPermit::Nothing;
            *held = HeldPermit::Body {
                _permit: self.concurrency.admit_body()?,
            };
        }
        Ok(())
    }

    /// Exchanges the permit of a body for one of a request in progress.
    fn resume(&self) -> Result<(), Overloaded> {
        let mut held = self.held();
        if let HeldPermit::Body { .. } = &*held {
            *held = HeldPermit::Nothing;
            *held = HeldPermit::InFlight {
                _permit: self.concurrency.admit()?,
            };
        }
        Ok(())
    }

    /// Exchanges the permit in the same way for work that continues without the rest of the body.
    /// That work has begun already, so it gets a permit even beyond the limit.
    fn resume_begun_work(&self) {
        let mut held = self.held();
        if let HeldPermit::Body { .. } = &*held {
            *held = HeldPermit::InFlight {
                _permit: self.concurrency.admit_begun_work(),
            };
        }
    }
}

/// The body of a request, which exchanges the request's permit while it is awaited.
pub(crate) struct ArrivingBody {
    inner: Body,
    holder: Arc<PermitHolder>,
}

impl ArrivingBody {
    pub(crate) fn new(inner: Body, holder: Arc<PermitHolder>) -> Self {
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
            Err(overloaded) => Poll::Ready(Some(Err(axum::Error::new(overloaded)))),
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
        self.holder.resume_begun_work();
    }
}
