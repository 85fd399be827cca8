//! Limits of calls.

use std::time::Duration;

/// Limits of the calls of one client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Time limit for name resolution, TCP and TLS of a new connection.
    pub connect_timeout: Duration,
    /// Time limit of a call, from its first attempt to the last byte of the response body.
    pub timeout: Duration,
    /// Size limit of a response body.
    pub max_body_bytes: usize,
    /// Number of attempts of an idempotent request. Other requests are sent once.
    pub attempts: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(10),
            max_body_bytes: 1 << 20,
            attempts: 3,
        }
    }
}

/// Whether a client can connect by TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// The certificates of the system are loaded and verify servers. Without any certificate the
    /// client cannot be made.
    System,
    /// No certificates are loaded, and connections by TLS fail. Minimal images have none.
    Off,
}
