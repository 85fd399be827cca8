//! Admission of connections, and refusal of those beyond a limit.
//!
//! A refusal needs a file descriptor for a moment too. So refusals have permits of their own. When
//! no descriptor is free, the listener gives up a spare one to accept and close a waiting
//! connection.

use std::fs::File;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use ipnet::IpNet;
use prometheus::IntCounterVec;
use request::{Share, Shares};
use rustix::io::Errno;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::probes;

/// Maximum number of connections that are being refused with an answer. Further ones are closed
/// without an answer.
pub const REFUSALS: u32 = 64;
/// Time for a refused connection to show that it is a probe. A prober sends its request as soon as
/// it is connected.
const PROBE_WAIT: Duration = Duration::from_millis(100);
/// Time limit of one refusal, or of one probe that is answered instead.
pub(crate) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest time between two warnings, because a client can cause any number of refusals.
const WARN_EVERY: Duration = Duration::from_mins(1);
/// Largest head of a probe that is recognised, in bytes.
const PROBE_HEAD: usize = 1_024;

/// The limits of a listener's connections.
#[derive(Clone)]
pub struct Admission {
    permits: Arc<Semaphore>,
    per_client: Option<Arc<PerClient>>,
    refusals: Arc<Semaphore>,
    /// Refused connections, by reason.
    refused: IntCounterVec,
}

/// The limit of the connections of one client.
struct PerClient {
    shares: Arc<Shares>,
    at_most: u32,
    /// Trusted proxies are not limited, because their connections belong to many clients.
    trusted: Vec<IpNet>,
    /// Time of the last warning.
    warned: Mutex<Option<Instant>>,
}

/// An admitted connection. Its permit is free again when this is dropped.
pub(crate) struct ConnectionPermit {
    _permit: OwnedSemaphorePermit,
    _share: Option<Share>,
}

/// Reason of a refused connection: the label `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    Connections,
    ClientConnections,
    FileDescriptors,
}

impl Reason {
    fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::ClientConnections => "client_connections",
            Self::FileDescriptors => "file_descriptors",
        }
    }
}

impl Admission {
    /// Admits at most `max_connections` at once, and counts refused connections by reason.
    #[must_use]
    pub fn new(max_connections: u32, refused: IntCounterVec) -> Self {
        let semaphore = |permits: u32| {
            Arc::new(Semaphore::new(
                usize::try_from(permits).unwrap_or(Semaphore::MAX_PERMITS),
            ))
        };
        Self {
            permits: semaphore(max_connections),
            per_client: None,
            refusals: semaphore(REFUSALS),
            refused,
        }
    }

    /// Limits each client to `at_most` connections. Proxies in `trusted` are exempt.
    #[must_use]
    pub fn per_client(self, at_most: u32, trusted: Vec<IpNet>) -> Self {
        Self {
            per_client: Some(Arc::new(PerClient {
                shares: Shares::new(at_most),
                at_most,
                trusted,
                warned: Mutex::default(),
            })),
            ..self
        }
    }

    /// Takes a permit for a connection with `peer`.
    pub(crate) fn admit(&self, peer: IpAddr) -> Result<ConnectionPermit, Reason> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map_err(|_| Reason::Connections)?;
        let share = match &self.per_client {
            Some(clients) => clients.take(peer.to_canonical())?,
            None => None,
        };
        Ok(ConnectionPermit {
            _permit: permit,
            _share: share,
        })
    }

    /// Takes a permit for a refusal with an answer. `None` when the connection must be closed
    /// without one.
    pub(crate) fn refusal(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.refusals).try_acquire_owned().ok()
    }

    pub(crate) fn count(&self, reason: Reason) {
        self.refused.with_label_values(&[reason.label()]).inc();
        tracing::debug!(reason = reason.label(), "a connection was refused");
    }
}

impl PerClient {
    fn take(&self, peer: IpAddr) -> Result<Option<Share>, Reason> {
        if self.trusted.iter().any(|network| network.contains(&peer)) {
            return Ok(None);
        }
        let share = self.shares.take(peer);
        if share.is_none() && self.is_time_to_warn() {
            tracing::warn!(
                %peer,
                connections = self.at_most,
                "a client has as many connections as http.max_connections_per_client allows: \
                 if it is your proxy, add its network to http.trusted_proxies"
            );
        }
        share.map(Some).ok_or(Reason::ClientConnections)
    }

    fn is_time_to_warn(&self) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        let due = warned.is_none_or(|last| now.duration_since(last) >= WARN_EVERY);
        if due {
            *warned = Some(now);
        }
        due
    }
}

/// Waits for the first bytes of a connection that is about to be refused. Returns whether they are
/// the whole head of a probe, because probes are exempt from all limits.
pub(crate) async fn is_probe(stream: &TcpStream) -> bool {
    let mut head = [0; PROBE_HEAD];
    match tokio::time::timeout(PROBE_WAIT, stream.peek(&mut head)).await {
        Ok(Ok(length)) => is_head_of_probe(head.get(..length).unwrap_or_default()),
        _ => false,
    }
}

fn is_head_of_probe(head: &[u8]) -> bool {
    let Some(target) = head.strip_prefix(b"GET ") else {
        return false;
    };
    let names = |probe: &str| {
        let rest = target.strip_prefix(probe.as_bytes());
        rest.is_some_and(|rest| matches!(rest.first(), Some(b' ' | b'?')))
    };
    head.ends_with(b"\r\n\r\n") && probes::PROBES.iter().any(|probe| names(probe))
}

/// Answers 503 without serving the connection, so that a refusal costs one write.
pub(crate) async fn refuse(mut stream: TcpStream) {
    const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
        content-length: 0\r\nconnection: close\r\n\r\n";
    // Unread bytes would turn the close into a reset, and the client would lose the answer.
    let _nothing_there = stream.try_read(&mut [0; 4_096]);
    // The client may be gone already, which is harmless.
    let _gone = stream.write_all(ANSWER).await;
    let _gone = stream.shutdown().await;
}

/// A file descriptor that is kept for the case that no other is free.
pub(crate) struct Spare(Option<File>);

impl Spare {
    pub(crate) fn new() -> Self {
        Self(open())
    }

    /// Closes one waiting connection when `error` says that no descriptor is free for it. Returns
    /// false for any other error, and when no connection could be closed.
    pub(crate) fn close_one(&mut self, listener: &TcpListener, error: &std::io::Error) -> bool {
        let exhausted = matches!(
            Errno::from_io_error(error),
            Some(Errno::MFILE | Errno::NFILE)
        );
        if !exhausted || self.0.take().is_none() {
            self.0 = self.0.take().or_else(open);
            return false;
        }
        let closed = matches!(listener.accept().now_or_never(), Some(Ok(_)));
        self.0 = open();
        closed
    }
}

fn open() -> Option<File> {
    File::open("/dev/null").ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::HttpMetrics;

    fn admission(max_connections: u32) -> Admission {
        let metrics = HttpMetrics::register(&prometheus::Registry::new()).unwrap();
        Admission::new(max_connections, metrics.shed)
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_holds_its_share_and_a_trusted_proxy_all() {
        let admission = admission(5).per_client(2, vec!["10.0.0.0/8".parse().unwrap()]);
        let held = ["192.0.2.1", "::ffff:192.0.2.1"].map(|text| admission.admit(peer(text)));
        assert!(held.iter().all(Result::is_ok));
        let refused = |text: &str| admission.admit(peer(text)).err();
        assert_eq!(refused("192.0.2.1"), Some(Reason::ClientConnections));
        let proxy: Vec<_> = (0..3)
            .map(|_| admission.admit(peer("::ffff:10.0.0.1")))
            .collect();
        assert!(proxy.iter().all(Result::is_ok));
        assert_eq!(refused("192.0.2.2"), Some(Reason::Connections));
        drop(proxy);
        assert_eq!(refused("192.0.2.2"), None);
    }

    #[test]
    fn only_whole_heads_of_probes_are_recognised() {
        let is = |head: &str| is_head_of_probe(head.as_bytes());
        assert!(is("GET /health/ready HTTP/1.1\r\nHost: x\r\n\r\n"));
        assert!(is("GET /health/live?verbose HTTP/1.0\r\n\r\n"));
        for other in [
            "",
            "GET /health/ready HTTP/1.1\r\nHost: x\r\n",
            "GET /health/readyz HTTP/1.1\r\n\r\n",
            "GET /health/ready/x HTTP/1.1\r\n\r\n",
            "GET /api/v1/ping HTTP/1.1\r\n\r\n",
            "POST /health/ready HTTP/1.1\r\n\r\n",
        ] {
            assert!(!is(other), "{other}");
        }
    }
}
