//! Limits of the requests in progress and of the bodies that are awaited, in all and of one client.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prometheus::{IntCounterVec, IntGauge};
use request::problem::codes;
use request::{Problem, RequestContext, Share, Shares};

/// Limits of a listener's requests.
#[derive(Debug, Clone, Copy)]
pub struct ConcurrencyLimits {
    /// Maximum requests in progress.
    pub in_flight: u32,
    /// Maximum permits of one client in the upper half of `in_flight`.
    pub in_flight_per_client: u32,
    /// Maximum request bodies that are awaited.
    pub bodies: u32,
    /// Maximum awaited bodies of one client.
    pub bodies_per_client: u32,
}

/// The series of a listener that its limits change.
#[derive(Clone)]
pub struct ConcurrencyMetrics {
    /// Refused requests, by reason.
    pub shed: IntCounterVec,
    /// Bodies that are awaited.
    pub bodies: IntGauge,
}

/// A limit is reached, and the refusal was counted. The answer is 503 `OVERLOADED`.
#[derive(Debug, thiserror::Error)]
#[error("the limit {reason} is reached")]
pub struct Overloaded {
    reason: &'static str,
}

impl From<&Overloaded> for Problem {
    fn from(overloaded: &Overloaded) -> Self {
        let detail = match overloaded.reason {
            CLIENT_IN_FLIGHT => "Too many requests of this client are in work.",
            BODIES => "Too many request bodies are awaited.",
            CLIENT_BODIES => "Too many request bodies of this client are awaited.",
            _ => "Too many requests are in work.",
        };
        Self::new(codes::OVERLOADED, detail).retry_after(1)
    }
}

const IN_FLIGHT: &str = "in_flight";
const CLIENT_IN_FLIGHT: &str = "client_in_flight";
const BODIES: &str = "bodies";
const CLIENT_BODIES: &str = "client_bodies";

/// The permits of a listener.
pub struct Concurrency {
    limits: ConcurrencyLimits,
    /// Below this number in progress, permits are not counted by client.
    open: u32,
    in_flight: AtomicU32,
    in_flight_of: Arc<Shares>,
    bodies: AtomicU32,
    bodies_of: Arc<Shares>,
    metrics: ConcurrencyMetrics,
}

impl Concurrency {
    /// Permits within these limits.
    #[must_use]
    pub fn new(limits: ConcurrencyLimits, metrics: ConcurrencyMetrics) -> Self {
        Self {
            limits,
            open: limits.in_flight / 2,
            in_flight: AtomicU32::new(0),
            in_flight_of: Shares::new(limits.in_flight_per_client),
            bodies: AtomicU32::new(0),
            bodies_of: Shares::new(limits.bodies_per_client),
            metrics,
        }
    }

    /// Admits the request that is being polled.
    ///
    /// # Errors
    /// When all permits are taken, or this client holds its share.
    pub fn admit(self: &Arc<Self>) -> Result<Permit, Overloaded> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before < self.open {
            return Ok(Permit {
                concurrency: Arc::clone(self),
                _share: None,
            });
        }
        self.admit_to_upper_half(before)
    }

    /// In the upper half each client is counted, which takes a lock.
    fn admit_to_upper_half(self: &Arc<Self>, before: u32) -> Result<Permit, Overloaded> {
        let share = if before >= self.limits.in_flight {
            Err(IN_FLIGHT)
        } else {
            self.in_flight_of.take(client()).ok_or(CLIENT_IN_FLIGHT)
        };
        match share {
            Ok(share) => Ok(Permit {
                concurrency: Arc::clone(self),
                _share: Some(Box::new(share)),
            }),
            Err(reason) => {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                Err(self.refuse(reason))
            }
        }
    }

    /// A permit beyond all limits, for work that has begun already.
    pub fn admit_begun_work(self: &Arc<Self>) -> Permit {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Permit {
            concurrency: Arc::clone(self),
            _share: None,
        }
    }

    /// Admits the body of the request that is being polled.
    ///
    /// # Errors
    /// When all permits are taken, or this client holds its share.
    pub fn admit_body(self: &Arc<Self>) -> Result<BodyPermit, Overloaded> {
        let before = self.bodies.fetch_add(1, Ordering::Relaxed);
        let share = if before >= self.limits.bodies {
            Err(BODIES)
        } else {
            self.bodies_of.take(client()).ok_or(CLIENT_BODIES)
        };
        match share {
            Ok(share) => {
                self.metrics.bodies.inc();
                Ok(BodyPermit {
                    concurrency: Arc::clone(self),
                    _share: share,
                })
            }
            Err(reason) => {
                self.bodies.fetch_sub(1, Ordering::Relaxed);
                Err(self.refuse(reason))
            }
        }
    }

    fn refuse(&self, reason: &'static str) -> Overloaded {
        self.metrics.shed.with_label_values(&[reason]).inc();
        tracing::debug!(reason, "refused by a concurrency limit");
        Overloaded { reason }
    }

    /// Requests in progress.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }
}

/// The client of the request that is being polled.
fn client() -> IpAddr {
    RequestContext::with(|context| context.client_address)
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Permits a request in progress. It is free again when this is dropped.
#[must_use]
pub struct Permit {
    concurrency: Arc<Concurrency>,
    /// Boxed, because it is rare and a permit moves with every request.
    _share: Option<Box<Share>>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.concurrency.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Permits a body that is awaited. It is free again when this is dropped.
#[must_use]
pub struct BodyPermit {
    concurrency: Arc<Concurrency>,
    _share: Share,
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.concurrency.bodies.fetch_sub(1, Ordering::Relaxed);
        self.concurrency.metrics.bodies.dec();
    }
}
