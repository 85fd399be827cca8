//! Accepts connections and serves them until it is told to stop.
//!
//! hyper-util rather than `axum::serve`, which has no header timeout, no limit on
//! connections, and waits for half-sent headers when it should go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::middleware::AddExtension;
use axum::{Extension, Router};
use http::{Request, Response};
use lifecycle::Lifecycle;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Layer as _, Service};

use crate::client_address::PeerAddress;
use crate::connection::admission;
use crate::connection::admission::Admission;
use crate::connection::admission::REFUSAL_TIMEOUT;
use crate::connection::admission::Reason;
use crate::connection::admission::Spare;
use crate::connection::deadlines::Patience;
use crate::connection::driver::connection;
use crate::connection::ended::Ended;
use crate::connection::in_flight::Answer;
use crate::connection::tls::Tls;

/// Limits and tokens of one listener.
#[derive(Clone)]
pub struct Serving {
    /// `public` or `admin`, for logs and metrics.
    pub name: &'static str,
    /// Certificate and key; `None` on a plain listener.
    pub tls: Option<Tls>,
    /// How long a connection may wait for its client.
    pub patience: Patience,
    /// HTTP/2 frames a second of one connection that ask for nothing.
    pub control_frames: u32,
    /// Connections at once, in all and of one client.
    pub admission: Admission,
    /// Whether a connection may have more than one request (HTTP/1.1).
    pub keep_alive: bool,
    /// Its drain sends HTTP/2 clients elsewhere; it hears of answers that were cut.
    pub lifecycle: Lifecycle,
    /// Stop accepting; finish what is in flight.
    pub stop: CancellationToken,
    /// Drop what is left.
    pub kill: CancellationToken,
    /// Connections now.
    pub open: IntGauge,
    /// What it ends because of its clients.
    pub ended: Ended,
}

/// Connections that wait to be accepted, at most; the kernel may lower it.
const BACKLOG: u32 = 1_024;

/// An address that this process has taken and does not listen on yet: clients are
/// refused, and a port that belongs to another process is found before any work is done.
pub struct Reserved {
    socket: TcpSocket,
    address: SocketAddr,
    key: &'static str,
}

impl Reserved {
    /// Takes the address that `key` of the configuration names.
    ///
    /// # Errors
    /// When the address cannot be taken; names the key.
    pub fn new(key: &'static str, address: SocketAddr) -> anyhow::Result<Self> {
        let bind = || -> std::io::Result<TcpSocket> {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // Connections of a process that has gone do not hold the port.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok(socket)
        };
        let socket = bind().with_context(|| cannot_listen(key, address))?;
        Ok(Self {
            socket,
            address,
            key,
        })
    }

    /// Listens, and logs the address that it got.
    ///
    /// # Errors
    /// When another process listens there since; names the key.
    pub fn listen(self, name: &'static str) -> anyhow::Result<TcpListener> {
        let listener = self.socket.listen(BACKLOG);
        let listener = listener.with_context(|| cannot_listen(self.key, self.address))?;
        tracing::info!(listener = name, address = %listener.local_addr()?, "listening");
        Ok(listener)
    }
}

fn cannot_listen(key: &str, address: SocketAddr) -> String {
    format!("cannot listen on {address} ({key})")
}

/// What a listener serves: a router, or one with middleware around it.
pub trait Serve: Clone + Send + 'static {
    /// The body of its answers.
    type Body: Answer<Error = axum::Error> + Send + 'static;
    /// What serves one connection. It is always ready: what is too much is refused in
    /// an answer.
    type Connected: Service<Request<Body>, Response = Response<Self::Body>, Error = Infallible, Future: Send>
        + Send
        + 'static;

    /// Serves the connection with `peer`. It is told once, not in every request: the
    /// extensions of a request are a table that has to be made, and grows.
    fn connected(&self, peer: SocketAddr) -> Self::Connected;
}

/// The admin listener's requests are few.
impl Serve for Router {
    type Body = Body;
    type Connected = AddExtension<Self, PeerAddress>;

    fn connected(&self, peer: SocketAddr) -> Self::Connected {
        Extension(PeerAddress(peer)).layer(self.clone())
    }
}

/// Serves until `stop`, then until nothing is in flight or `kill`.
pub async fn serve(listener: TcpListener, service: impl Serve, serving: Serving) {
    let connections = TaskTracker::new();
    let serving = Arc::new(serving);
    let mut spare = Spare::new();
    loop {
        let accepted = tokio::select! {
            () = serving.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if spare.close_one(&listener, &error) => {
                serving.admission.count(Reason::FileDescriptors);
                tokio::task::yield_now().await;
                continue;
            }
            Err(error) => {
                // The loop must not spin on it.
                tracing::warn!(listener = serving.name, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (service, serving) = (service.clone(), Arc::clone(&serving));
        match serving.admission.admit(peer.ip()) {
            Ok(admitted) => {
                connections.spawn(async move {
                    connection(stream, peer, service, serving).await;
                    drop(admitted);
                });
            }
            Err(reason) => match serving.admission.refusal() {
                // Without a handshake there are no words for a client of TLS.
                Some(place) if serving.tls.is_none() => {
                    connections.spawn(async move {
                        let refusing = refuse_or_probe(stream, peer, service, serving, reason);
                        let _late = tokio::time::timeout(REFUSAL_TIMEOUT, refusing).await;
                        drop(place);
                    });
                }
                _ => serving.admission.count(reason),
            },
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

/// Refuses a connection, unless it is a probe: that is answered.
async fn refuse_or_probe(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Serve,
    serving: Arc<Serving>,
    reason: Reason,
) {
    if admission::is_probe(&stream).await {
        let once = Serving {
            keep_alive: false,
            ..Serving::clone(&serving)
        };
        return connection(stream, peer, service, Arc::new(once)).await;
    }
    serving.admission.count(reason);
    admission::refuse(stream).await;
}
