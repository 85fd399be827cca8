//! The ports of the process, and the settings that its listeners share.

use http_server::connection::ListenerConfig;
use http_server::connection::admission::Admission;
use http_server::connection::deadlines::ConnectionTimeouts;
use http_server::connection::listener::ReservedPort;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::platform::Platform;

/// The bound ports. They accept no connection before their listener is opened.
pub(super) struct Ports {
    pub(super) admin: ReservedPort,
    pub(super) public: ReservedPort,
}

impl Ports {
    /// Binds the ports.
    ///
    /// # Errors
    /// When a port is in use or may not be bound. The error names its key.
    pub(super) fn bind(config: &Config) -> anyhow::Result<Self> {
        Ok(Self {
            admin: ReservedPort::new("admin.addr", config.admin.addr)?,
            public: ReservedPort::new("http.addr", config.http.addr)?,
        })
    }
}

/// A plain listener with the time limits of the configuration.
pub(super) fn listener_config(
    platform: &Platform<'_>,
    name: &'static str,
    max_connections: u32,
    stop: CancellationToken,
    kill: CancellationToken,
) -> ListenerConfig {
    let (http, metrics) = (&platform.config.http, &platform.http_metrics);
    ListenerConfig {
        name,
        tls: None,
        patience: ConnectionTimeouts {
            header: http.header_timeout,
            idle: http.idle_timeout,
            rate: http.min_read_rate.0,
        },
        control_frames: http.max_control_frames,
        admission: Admission::new(max_connections, metrics.shed.clone()),
        keep_alive: true,
        lifecycle: platform.lifecycle.clone(),
        stop,
        kill,
        open: metrics.connections.with_label_values(&[name]),
        ended: platform.connection_ends.clone(),
    }
}
