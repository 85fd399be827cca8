//! Serves one connection, from its first byte to its last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntGauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::connection::deadlines::{ConnectionDeadlines, EndReason};
use crate::connection::delivery::Deliveries;
use crate::connection::h2_frames::PREFACE;
use crate::connection::in_flight::{Answer, InFlightService};
use crate::connection::listener_config::ListenerConfig;
use crate::connection::service::Serve;
use crate::connection::tls::Tls;
use crate::connection::wire::InspectedStream;

/// Maximum bytes of all headers of a request. Larger headers are answered with 431.
const MAX_HEADER_BYTES: usize = 64 * 1_024;
/// Maximum concurrent HTTP/2 requests of one connection.
const MAX_STREAMS: u32 = 100;
/// Limits of HTTP/2 stream resets (CVE-2023-44487). The first counts streams that the client resets
/// before they are handled. The second counts streams that are reset because of the client's
/// errors. A connection that exceeds a limit ends.
const MAX_PENDING_RESETS: usize = 20;
const MAX_LOCAL_RESETS: usize = 100;
/// Interval of the pings of an HTTP/2 connection with open streams. Without an answer in the same
/// time the connection ends.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Head and body are copied into one buffer. Answers are small, so the copy costs less than a
/// vectored write.
const WRITEV: bool = false;
/// Time for the last bytes of a connection to leave after its last request. It is also the interval
/// of the checks in a drain.
const LINGER: Duration = Duration::from_millis(50);
/// Time until a connection ends after the listener stops, when all of its answers wait for the
/// client to read.
const UNREAD_IN_DRAIN: Duration = Duration::from_secs(2);

/// The service for the requests of one connection.
trait Connected<B>:
    Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static
{
}

impl<B, S> Connected<B> for S where
    S: Service<Request<Body>, Response = Response<B>, Error = Infallible, Future: Send>
        + Send
        + 'static
{
}

/// Counts an open connection until it is dropped.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Serves a connection until it ends.
///
/// Thousands of these futures are idle at the same time. The future of an `async fn` holds its
/// arguments beside the values that are made of them. So hyper's connection and the handshake are
/// boxed.
pub(crate) async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Serve,
    serving: Arc<ListenerConfig>,
) {
    serving.open.inc();
    let _open = Open(serving.open.clone());
    // Answers are small and complete. Waiting to fill a packet would only delay them.
    let _unsupported = stream.set_nodelay(true);
    if let Some(tls) = serving.tls.clone() {
        return Box::pin(shake_hands(stream, tls, peer, service, serving)).await;
    }
    let Some(is_http1) = speaks_http1(&stream, &serving).await else {
        return;
    };
    let watch = ConnectionDeadlines::new(serving.patience);
    let connection = requests(stream, is_http1, service.connected(peer), &watch, &serving);
    run(connection, watch, peer, serving).await;
}

/// Serves a connection over TLS.
async fn shake_hands(
    stream: TcpStream,
    tls: Tls,
    peer: SocketAddr,
    service: impl Serve,
    serving: Arc<ListenerConfig>,
) {
    // An unfinished TLS handshake is limited by `http.header_timeout` and dropped when the listener
    // stops.
    tokio::select! {
        shaken = tokio::time::timeout(serving.patience.header, tls.accept(stream)) => match shaken {
            Ok(Ok(stream)) => {
                let watch = ConnectionDeadlines::new(serving.patience);
                let service = service.connected(peer);
                let is_http1 = stream.get_ref().1.alpn_protocol() == Some(b"http/1.1");
                let connection = requests(stream, is_http1, service, &watch, &serving);
                run(connection, watch, peer, Arc::clone(&serving)).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(listener = serving.name, %peer, %error, "the TLS handshake failed");
            }
            Err(_) => {
                serving.ended.count(EndReason::Header);
                tracing::debug!(listener = serving.name, %peer, "the TLS handshake timed out");
            }
        },
        () = serving.stop.cancelled() => {}
    }
}

/// Whether the first bytes of a connection can only be HTTP/1. `None` when none arrive.
///
/// hyper-util detects the protocol too, but passes the 24 bytes that it read to hyper separately.
/// The rest of a full read is then 24 bytes too large for hyper's buffer of 8 KiB, which doubles.
async fn speaks_http1(stream: &TcpStream, serving: &ListenerConfig) -> Option<bool> {
    let mut first = [0; PREFACE.len()];
    let peeked = tokio::select! {
        peeked = tokio::time::timeout(serving.patience.header, stream.peek(&mut first)) => peeked,
        () = serving.stop.cancelled() => return None,
    };
    match peeked {
        Ok(Ok(length @ 1..)) => Some(!PREFACE.starts_with(first.get(..length)?)),
        Ok(_) => None,
        Err(_) => {
            serving.ended.count(EndReason::Header);
            None
        }
    }
}

/// hyper's connection, for HTTP/1 alone or for both protocols.
trait Requests: Send {
    /// Serves requests until the connection has ended. Errors of a connection are caused by the
    /// client (resets, broken TLS, invalid data) and are dropped.
    fn poll_ended(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()>;

    /// Ends the connection after the requests that are in flight.
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<I, S, B> Requests for http1::UpgradeableConnection<I, S>
where
    Self: Future + Send,
    S: hyper::service::HttpService<Incoming, ResBody = B, Error: Into<BoxError>>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: http_body::Body<Error: Into<BoxError>> + 'static,
{
    fn poll_ended(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll(context).map(drop)
    }

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

impl<I, S, E, B> Requests for auto::UpgradeableConnection<'_, I, S, E>
where
    Self: Future + Send,
    S: hyper::service::HttpService<Incoming, ResBody = B, Error: Into<BoxError>>,
    S::Future: 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: http_body::Body<Error: Into<BoxError>> + 'static,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, B>,
{
    fn poll_ended(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.poll(context).map(drop)
    }

    fn graceful_shutdown(self: Pin<&mut Self>) {
        Self::graceful_shutdown(self);
    }
}

/// Builds hyper's connection on an established stream.
fn requests<T, S, B>(
    stream: T,
    is_http1: bool,
    service: S,
    watch: &ConnectionDeadlines,
    serving: &ListenerConfig,
) -> Pin<Box<dyn Requests>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Connected<B>,
    B: Answer<Error = axum::Error> + Send + 'static,
{
    let stream = TokioIo::new(InspectedStream::new(
        stream,
        watch.clone(),
        serving.control_frames,
    ));
    let service = InFlightService::new(service, watch.clone());
    // hyper-util has no option for HTTP/1 alone with upgrades. It would detect the protocol itself.
    if is_http1 {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .keep_alive(serving.keep_alive)
            .writev(WRITEV)
            // The bound of the buffer alone is rounded up to the size of one read.
            .max_header_size(MAX_HEADER_BYTES)
            .max_buf_size(MAX_HEADER_BYTES);
        return Box::pin(builder.serve_connection(stream, service).with_upgrades());
    }
    let streams = Deliveries::new(watch.clone(), serving.ended.streams_unread.clone());
    let mut builder = auto::Builder::new(streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .keep_alive(serving.keep_alive)
        .writev(WRITEV)
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
    let connection = builder.serve_connection_with_upgrades(stream, service);
    Box::pin(connection.into_owned())
}

/// Runs a connection until it ends, the listener stops, or its client exceeds a limit.
async fn run(
    mut connection: Pin<Box<dyn Requests>>,
    watch: ConnectionDeadlines,
    peer: SocketAddr,
    serving: Arc<ListenerConfig>,
) {
    let mut left = false;
    loop {
        let stays = !left;
        // The set polls its one future only after that future was woken. `select!` alone would poll
        // these events at every request, and each poll takes locks.
        let mut interruptions = FuturesUnordered::from_iter([async {
            tokio::select! {
                lapse = watch.lapse() => Interruption::EndReason(lapse),
                () = serving.stop.cancelled() => Interruption::Stop,
                () = go_away(serving.lifecycle.draining(), &watch), if stays => Interruption::Leave,
            }
        }]);
        let interruption = tokio::select! {
            biased;
            () = poll_fn(|context| connection.as_mut().poll_ended(context)) => {
                if let Some(frame) = watch.flood() {
                    serving.ended.count_flood(frame);
                    tracing::debug!(listener = serving.name, %peer, frame, "the client sent too many HTTP/2 control frames");
                }
                return;
            }
            interruption = interruptions.select_next_some() => interruption,
        };
        match interruption {
            Interruption::EndReason(lapse) => {
                serving.ended.count(lapse);
                tracing::debug!(listener = serving.name, %peer, ?lapse, "the connection passed a deadline");
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
    // A connection without a request (idle, or with an incomplete header) does not get the grace
    // period. A connection whose client does not read gets a short part of it.
    let finished = async {
        loop {
            tokio::time::sleep(LINGER).await;
            if watch.is_idle() {
                break;
            }
            if watch.is_unread_for(UNREAD_IN_DRAIN) {
                serving.ended.count(EndReason::Write);
                break;
            }
        }
    };
    tokio::select! {
        () = poll_fn(|context| connection.as_mut().poll_ended(context)) => {
            if let Some(frame) = watch.flood() {
                serving.ended.count_flood(frame);
            }
        }
        () = finished => {}
        () = serving.kill.cancelled() => {
            // A request in flight reports itself. An unread answer is reported here.
            if watch.is_unread() {
                serving.lifecycle.report_unfinished("answer", &format!("to {peer}"));
            }
        }
    }
}

/// Reason of an interruption of a connection.
enum Interruption {
    /// The client kept the connection waiting for too long.
    EndReason(EndReason),
    /// The listener stops.
    Stop,
    /// The connection sends GOAWAY. Requests that are on their way are still served.
    Leave,
}

/// Resolves in a drain when an HTTP/2 connection should send GOAWAY: at once, or after its first
/// request. HTTP/1.1 answers carry `Connection: close` instead. Closing an idle connection would
/// race with a request that is being sent on it.
async fn go_away(draining: CancellationToken, watch: &ConnectionDeadlines) {
    draining.cancelled().await;
    loop {
        match watch.may_go_away() {
            Some(true) => return,
            Some(false) => tokio::time::sleep(LINGER).await,
            None => std::future::pending().await,
        }
    }
}
