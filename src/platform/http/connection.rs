//! One connection, from its first byte to its last.

use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::delivery::Deliveries;
use super::exchange::Exchange;
use super::listener::{Serve, Serving};
use super::rarely::Rarely;
use super::watch::{Lapse, Watch};
use super::wire::Watched;

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
/// Once the listener stops, the time that a client has which takes nothing of its answers.
const UNREAD_IN_DRAIN: Duration = Duration::from_secs(2);

/// Counts an open connection until it is dropped.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves a connection until it ends.
pub(super) async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Serve,
    serving: Serving,
) {
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
    let watch = Watch::new(serving.patience);
    let service = Exchange::new(service.connected(peer), watch.clone());
    let mut builder = auto::Builder::new(Deliveries::new(
        watch.clone(),
        serving.ended.streams_unread.clone(),
    ));
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
    let stream = TokioIo::new(Watched::new(stream, watch.clone(), serving.control_frames));
    let connection = builder.serve_connection_with_upgrades(stream, service);
    tokio::pin!(connection);
    let mut left = false;
    loop {
        let interruption = Rarely::new(async {
            tokio::select! {
                lapse = watch.lapse() => Interruption::Lapse(lapse),
                () = serving.stop.cancelled() => Interruption::Stop,
                () = go_away(serving.lifecycle.draining(), &watch), if !left => Interruption::Leave,
            }
        });
        let interruption = tokio::select! {
            biased;
            // Errors of a connection are the client's: resets, broken TLS, nonsense.
            _ended = connection.as_mut() => {
                if let Some(frame) = watch.flood() {
                    serving.ended.count_flood(frame);
                    tracing::debug!(listener = serving.name, %peer, frame, "the client sent too many HTTP/2 frames that ask for nothing");
                }
                return;
            }
            interruption = interruption => interruption,
        };
        match interruption {
            Interruption::Lapse(lapse) => {
                serving.ended.count(lapse);
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
    // to the grace period, and one whose client does not read has little.
    let finished = async {
        loop {
            tokio::time::sleep(LINGER).await;
            if watch.is_idle() {
                break;
            }
            if watch.is_unread_for(UNREAD_IN_DRAIN) {
                serving.ended.count(Lapse::Write);
                break;
            }
        }
    };
    tokio::select! {
        _ended = connection => {
            if let Some(frame) = watch.flood() {
                serving.ended.count_flood(frame);
            }
        }
        () = finished => {}
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
