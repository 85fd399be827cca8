//! The services that listeners run.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use axum::middleware::AddExtension;
use axum::{Extension, Router};
use http::{Request, Response};
use tower::{Layer as _, Service};

use crate::client_address::PeerAddress;
use crate::connection::in_flight::Answer;

/// A service for a listener: a router, or a router with middleware around it.
pub trait Serve: Clone + Send + 'static {
    /// The body of its answers.
    type Body: Answer<Error = axum::Error> + Send + 'static;
    /// The service of one connection. It is always ready. Requests beyond a limit are refused with
    /// an answer.
    type Connected: Service<Request<Body>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
        + Send
        + 'static;

    /// A service for the connection with `peer`. The address is passed once for each connection. In
    /// the extensions of each request it would need a table that is allocated and grows.
    fn connected(&self, peer: SocketAddr) -> Self::Connected;
}

/// The service of the admin listener, which has few requests.
impl Serve for Router {
    type Body = Body;
    type Connected = AddExtension<Self, PeerAddress>;

    fn connected(&self, peer: SocketAddr) -> Self::Connected {
        Extension(PeerAddress(peer)).layer(self.clone())
    }
}
