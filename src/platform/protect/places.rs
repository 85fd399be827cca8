//! Places: how many requests are worked on at once, how many bodies are awaited, and
//! how much of both one client may hold.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prometheus::IntCounter;
use request::{RequestContext, Share, Shares};

use crate::platform::http::problem::{Problem, codes};
use crate::platform::observe::HttpMetrics;

/// Limits of a listener's requests.
#[derive(Debug, Clone, Copy)]
pub struct PlaceLimits {
    /// Requests in work.
    pub in_flight: u32,
    /// Of the upper half of these, what one client may hold.
    pub in_flight_per_client: u32,
    /// Request bodies that are awaited.
    pub bodies: u32,
    /// Of these, what one client may hold.
    pub bodies_per_client: u32,
}

/// No place is free; the reason is counted. The answer is 503 `OVERLOADED`.
#[derive(Debug, thiserror::Error)]
#[error("no place is free: {reason}")]
pub struct Full {
    reason: &'static str,
}

impl Full {
    /// What the client is told.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let detail = match self.reason {
            CLIENT_IN_FLIGHT => "Too many requests of this client are in work.",
            BODIES => "Too many request bodies are awaited.",
            CLIENT_BODIES => "Too many request bodies of this client are awaited.",
            _ => "Too many requests are in work.",
        };
        Problem::new(codes::OVERLOADED, detail).retry_after(1)
    }
}

const IN_FLIGHT: &str = "in_flight";
const CLIENT_IN_FLIGHT: &str = "client_in_flight";
const BODIES: &str = "bodies";
const CLIENT_BODIES: &str = "client_bodies";

/// The places of a listener, for the life of the process.
pub(super) struct Places {
    limits: PlaceLimits,
    /// Below this many in work nobody asks who holds them.
    open: u32,
    in_flight: AtomicU32,
    in_flight_of: Arc<Shares>,
    bodies: AtomicU32,
    bodies_of: Arc<Shares>,
    metrics: HttpMetrics,
}

impl Places {
    pub(super) fn new(limits: PlaceLimits, metrics: HttpMetrics) -> Self {
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

    /// A place for the request that is being polled.
    ///
    /// # Errors
    /// When all are taken, or this client holds its share.
    pub(super) fn take(&'static self) -> Result<Place, Full> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        if before < self.open {
            return Ok(Place {
                places: self,
                _share: None,
            });
        }
        self.take_scarce(before)
    }

    /// In the upper half each client is counted, which takes a lock.
    #[cold]
    fn take_scarce(&'static self, before: u32) -> Result<Place, Full> {
        let share = if before >= self.limits.in_flight {
            Err(IN_FLIGHT)
        } else {
            self.in_flight_of.take(client()).ok_or(CLIENT_IN_FLIGHT)
        };
        match share {
            Ok(share) => Ok(Place {
                places: self,
                _share: Some(Box::new(share)),
            }),
            Err(reason) => {
                self.in_flight.fetch_sub(1, Ordering::Relaxed);
                Err(self.full(reason))
            }
        }
    }

    /// A place beyond all limits, for work that is there already.
    pub(super) fn take_unasked(&'static self) -> Place {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Place {
            places: self,
            _share: None,
        }
    }

    /// A place among the bodies, for the request that is being polled.
    ///
    /// # Errors
    /// When all are taken, or this client holds its share.
    pub(super) fn take_body(&'static self) -> Result<BodyPlace, Full> {
        let before = self.bodies.fetch_add(1, Ordering::Relaxed);
        let share = if before >= self.limits.bodies {
            Err(BODIES)
        } else {
            self.bodies_of.take(client()).ok_or(CLIENT_BODIES)
        };
        match share {
            Ok(share) => {
                self.metrics.bodies.inc();
                Ok(BodyPlace {
                    places: self,
                    _share: share,
                })
            }
            Err(reason) => {
                self.bodies.fetch_sub(1, Ordering::Relaxed);
                Err(self.full(reason))
            }
        }
    }

    fn full(&self, reason: &'static str) -> Full {
        let shed: IntCounter = self.metrics.shed.with_label_values(&[reason]);
        shed.inc();
        tracing::debug!(reason, "no place for the request");
        Full { reason }
    }

    #[cfg(test)]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(super) fn shed(&self, reason: &str) -> u64 {
        self.metrics.shed.with_label_values(&[reason]).get()
    }
}

/// The client of the request that is being polled.
fn client() -> IpAddr {
    RequestContext::with(|context| context.map(|context| context.client_address))
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// A place among the requests in work; given back when dropped.
pub(super) struct Place {
    places: &'static Places,
    /// In a box: it is rare, and a place is moved with every request.
    _share: Option<Box<Share>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the bodies that are awaited; given back when dropped.
pub(super) struct BodyPlace {
    places: &'static Places,
    _share: Share,
}

impl Drop for BodyPlace {
    fn drop(&mut self) {
        self.places.bodies.fetch_sub(1, Ordering::Relaxed);
        self.places.metrics.bodies.dec();
    }
}
