//! Accepts connections and serves them until the listener is stopped.
//!
//! It uses hyper-util instead of `axum::serve`, which has no header timeout and no limit of
//! connections. `axum::serve` also waits for incomplete headers in a shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::task::TaskTracker;

use crate::connection::admission;
use crate::connection::admission::{REFUSAL_TIMEOUT, Reason, Spare};
use crate::connection::driver::connection;
use crate::connection::listener_config::ListenerConfig;
use crate::connection::service::Serve;

/// Maximum connections that wait to be accepted. The kernel may lower it.
const BACKLOG: u32 = 1_024;

/// An address that this process has bound and does not listen on yet. Clients are refused until
/// then. A port of another process is detected before any work is done.
pub struct ReservedPort {
    socket: TcpSocket,
    address: SocketAddr,
    key: &'static str,
}

impl ReservedPort {
    /// Binds the address of the configuration key `key`.
    ///
    /// # Errors
    /// When the address cannot be bound. The error names the key.
    pub fn new(key: &'static str, address: SocketAddr) -> anyhow::Result<Self> {
        let bind = || -> std::io::Result<TcpSocket> {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // Connections of an ended process must not block the port.
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

    /// Listens and logs the bound address.
    ///
    /// # Errors
    /// When another process listens there by now. The error names the key.
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

/// Serves until `stop`. Then waits until no request is in flight, or until `kill`.
pub async fn serve(listener: TcpListener, service: impl Serve, serving: ListenerConfig) {
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
                // The pause keeps the loop from spinning.
                tracing::warn!(listener = serving.name, %error, "a connection could not be accepted");
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
                // A TLS client cannot read an answer without a handshake.
                Some(permit) if serving.tls.is_none() => {
                    connections.spawn(async move {
                        let refusing = refuse_or_probe(stream, peer, service, serving, reason);
                        let _late = tokio::time::timeout(REFUSAL_TIMEOUT, refusing).await;
                        drop(permit);
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

/// Refuses a connection, unless it is a probe, which is answered.
async fn refuse_or_probe(
    stream: TcpStream,
    peer: SocketAddr,
    service: impl Serve,
    serving: Arc<ListenerConfig>,
    reason: Reason,
) {
    if admission::is_probe(&stream).await {
        let once = ListenerConfig {
            keep_alive: false,
            ..ListenerConfig::clone(&serving)
        };
        return connection(stream, peer, service, Arc::new(once)).await;
    }
    serving.admission.count(reason);
    admission::refuse(stream).await;
}
