//! Health probes bypass every layer that can refuse, delay or count a request.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use futures_util::TryFutureExt as _;
use futures_util::future::{BoxFuture, Either};
use http::Request;
use tower::Service;

use crate::connection::Serve;
use crate::connection::framing::Fault;
use crate::observe::ObservedBody;
use crate::probes;

impl<S: Serve<Body = ObservedBody>> Serve for ProbeBypass<S> {
    type Body = ObservedBody;
    type Connected = ProbeBypass<S::Connected>;

    fn connected(&self, peer: SocketAddr) -> Self::Connected {
        ProbeBypass {
            probes: self.probes.clone(),
            observed: self.observed.connected(peer),
        }
    }
}

/// Answers probes itself, and passes other requests to the observed service.
#[derive(Clone)]
pub(crate) struct ProbeBypass<S> {
    pub(crate) probes: Router,
    pub(crate) observed: S,
}

/// Boxed, because it is rare and would enlarge the future that every request moves.
type ProbeFuture = BoxFuture<'static, Result<Response<ObservedBody>, Infallible>>;

impl<S> Service<Request<Body>> for ProbeBypass<S>
where
    S: Service<Request<Body>, Response = Response<ObservedBody>, Error = Infallible>,
{
    type Response = Response<ObservedBody>;
    type Error = Infallible;
    type Future = Either<S::Future, ProbeFuture>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.observed.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // A probe with a framing fault is refused like any other request.
        if probes::PROBES.contains(&request.uri().path())
            && request.extensions().get::<Fault>().is_none()
        {
            return Either::Right(probe(&mut self.probes, request));
        }
        Either::Left(self.observed.call(request))
    }
}

fn probe(probes: &mut Router, request: Request<Body>) -> ProbeFuture {
    let unobserve = |response: Response| response.map(ObservedBody::unobserved);
    Box::pin(probes.call(request).map_ok(unobserve))
}
