//! Accepts connections and serves them until it is told to stop.
//!
//! hyper-util rather than `axum::serve`, which has no header timeout, no limit on
//! connections, and waits for half-sent headers when it should go.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::middleware::AddExtension;
use axum::{Extension, Router};
use bytes::Bytes;
use http::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Layer as _, Service};

use super::admission::{self, Admission, REFUSAL_TIMEOUT, Reason, Spare};
use super::exchange::Exchange;
use super::rarely::Rarely;
use super::watch::{Lapse, Patience, Watch};
use super::wire::Watched;
use super::{PeerAddress, Tls};
use crate::platform::lifecycle::Lifecycle;

/// Headers of a request in all; beyond it 431.
const MAX_HEADER_BYTES: usize = 64 * 1_024;
/// HTTP/2 requests at once on one connection.
const MAX_STREAMS: u32 = 100;
/// HTTP/2 streams that a client may reset before we looked at them, and that we
/// reset because of its errors: beyond, the connection ends (CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 100;
/// An HTTP/2 connection with open streams is pinged, and ends without an answer.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// After a connection has no request in flight, the time for its last bytes to leave.
const LINGER: Duration = Duration::from_millis(50);

/// Limits and tokens of one listener.
#[derive(Clone)]
pub struct Serving {
    /// `public` or `admin`, for logs and metrics.
    pub name: &'static str,
    /// Certificate and key; `None` on a plain listener.
    pub tls: Option<Tls>,
    /// How long a connection may wait for its client.
    pub patience: Patience,
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
}

/// Binds, and logs the address that it got.
///
/// # Errors
/// When the address cannot be bound.
pub async fn bind(name: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    use anyhow::Context as _;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} ({name})"))?;
    tracing::info!(listener = name, address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// What a listener serves: a router, or one with middleware around it.
pub trait Serve: Clone + Send + 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = Bytes, Error = axum::Error> + Send + 'static;
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
        let (service, serving) = (service.clone(), serving.clone());
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
    serving: Serving,
    reason: Reason,
) {
    if admission::is_probe(&stream).await {
        let once = Serving {
            keep_alive: false,
            ..serving
        };
        return connection(stream, peer, service, once).await;
    }
    serving.admission.count(reason);
    admission::refuse(stream).await;
}

/// Counts an open connection until it is dropped.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, service: impl Serve, serving: Serving) {
    serving.open.inc();
    let _open = Open(serving.open.clone());
    // Answers are small and complete; waiting to fill a packet only delays them.
    let _unsupported = stream.set_nodelay(true);
    let Some(tls) = serving.tls.clone() else {
        return requests(stream, peer, service, serving).await;
    };
    // Half a handshake is half a header: as long to wait for, and as little claim
    // to the grace period.
    tokio::select! {
        shaken = tokio::time::timeout(serving.patience.header, tls.accept(stream)) => match shaken {
            Ok(Ok(stream)) => requests(stream, peer, service, serving).await,
            Ok(Err(error)) => {
                tracing::debug!(listener = serving.name, %peer, %error, "no TLS handshake");
            }
            Err(_) => {
                tracing::debug!(listener = serving.name, %peer, "the TLS handshake took too long");
            }
        },
        () = serving.stop.cancelled() => {}
    }
}

/// Serves what comes over a connection that stands.
async fn requests<T, S>(stream: T, peer: SocketAddr, service: S, serving: Serving)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Serve,
{
    let watch = Watch::default();
    let service = Exchange::new(service.connected(peer), watch.clone());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .keep_alive(serving.keep_alive)
        // Head and body in one piece: answers are small, and to copy them costs less
        // than to hand the kernel a list.
        .writev(false)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(MAX_HEADER_BYTES).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_LOCAL_RESETS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let stream = TokioIo::new(Watched::new(stream, watch.clone()));
    let connection = builder.serve_connection_with_upgrades(stream, service);
    tokio::pin!(connection);
    let mut left = false;
    loop {
        let interruption = Rarely::new(async {
            tokio::select! {
                lapse = watch.lapse(serving.patience) => Interruption::Lapse(lapse),
                () = serving.stop.cancelled() => Interruption::Stop,
                () = go_away(serving.lifecycle.draining(), &watch), if !left => Interruption::Leave,
            }
        });
        let interruption = tokio::select! {
            biased;
            // Errors of a connection are the client's: resets, broken TLS, nonsense.
            _ended = connection.as_mut() => return,
            interruption = interruption => interruption,
        };
        match interruption {
            Interruption::Lapse(lapse) => {
                tracing::debug!(listener = serving.name, %peer, ?lapse, "the client kept the connection waiting");
                return;
            }
            Interruption::Stop => {
                connection.as_mut().graceful_shutdown();
                break;
            }
            Interruption::Leave => {
                left = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
    // A connection without a request (idle, or with half a header) has no claim
    // to the grace period.
    let idle = async {
        loop {
            tokio::time::sleep(LINGER).await;
            if watch.is_idle() {
                break;
            }
        }
    };
    tokio::select! {
        _ended = connection => {}
        () = idle => {}
        () = serving.kill.cancelled() => {
            // A request in flight speaks for itself; an answer that nobody reads has
            // only this connection.
            if watch.is_unread() {
                serving.lifecycle.unfinished("answer", &format!("to {peer}"));
            }
        }
    }
}

/// What a connection is interrupted by.
enum Interruption {
    /// The client let it wait for too long.
    Lapse(Lapse),
    /// The listener stops.
    Stop,
    /// GOAWAY; the requests that are on their way are still served.
    Leave,
}

/// Resolves in a drain, when an HTTP/2 connection should be told to go away: at once,
/// or when it has had its first request. HTTP/1.1 is asked by `Connection: close`; to
/// close an idle connection would race with the request that is just being sent on it.
async fn go_away(draining: CancellationToken, watch: &Watch) {
    draining.cancelled().await;
    loop {
        match watch.may_go_away() {
            Some(true) => return,
            Some(false) => tokio::time::sleep(LINGER).await,
            None => std::future::pending().await,
        }
    }
}
