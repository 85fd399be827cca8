//! Places: limits of requests in progress and of arriving bodies, in all and of one client.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use prometheus::IntCounter;
use request::problem::codes;
use request::{Problem, RequestContext, Share, Shares};

use crate::observe::HttpMetrics;

/// Limits of a listener's requests.
#[derive(Debug, Clone, Copy)]
pub struct PlaceLimits {
    /// Maximum requests in progress.
    pub in_flight: u32,
    /// Maximum places of one client in the upper half of `in_flight`.
    pub in_flight_per_client: u32,
    /// Maximum request bodies that are awaited.
    pub bodies: u32,
    /// Maximum awaited bodies of one client.
    pub bodies_per_client: u32,
}

/// No place is free, and the reason was counted. The answer is 503 `OVERLOADED`.
#[derive(Debug, thiserror::Error)]
#[error("no place is free: {reason}")]
pub struct NoPlace {
    reason: &'static str,
}

impl NoPlace {
    /// The problem for the client.
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

/// The places of a listener. They exist as long as the process.
pub(crate) struct Places {
    limits: PlaceLimits,
    /// Below this number in progress, places are not counted by client.
    open: u32,
    in_flight: AtomicU32,
    in_flight_of: Arc<Shares>,
    bodies: AtomicU32,
    bodies_of: Arc<Shares>,
    metrics: HttpMetrics,
}

impl Places {
    pub(crate) fn new(limits: PlaceLimits, metrics: HttpMetrics) -> Self {
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

    /// Takes a place for the request that is being polled.
    ///
    /// # Errors
    /// When all places are taken, or this client holds its share.
    pub(crate) fn take(&'static self) -> Result<Place, NoPlace> {
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
    fn take_scarce(&'static self, before: u32) -> Result<Place, NoPlace> {
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

    /// Takes a place beyond all limits, for work that has begun already.
    pub(crate) fn take_unasked(&'static self) -> Place {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Place {
            places: self,
            _share: None,
        }
    }

    /// Takes a place among the bodies for the request that is being polled.
    ///
    /// # Errors
    /// When all places are taken, or this client holds its share.
    pub(crate) fn take_body(&'static self) -> Result<BodyPlace, NoPlace> {
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

    fn full(&self, reason: &'static str) -> NoPlace {
        let shed: IntCounter = self.metrics.shed.with_label_values(&[reason]);
        shed.inc();
        tracing::debug!(reason, "no place for the request");
        NoPlace { reason }
    }

    #[cfg(test)]
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[cfg(test)]
    pub(crate) fn shed(&self, reason: &str) -> u64 {
        self.metrics.shed.with_label_values(&[reason]).get()
    }
}

/// The client of the request that is being polled.
fn client() -> IpAddr {
    RequestContext::with(|context| context.map(|context| context.client_address))
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// A place among the requests in progress. It is free again when this is dropped.
pub(crate) struct Place {
    places: &'static Places,
    /// Boxed, because it is rare and a place moves with every request.
    _share: Option<Box<Share>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place among the awaited bodies. It is free again when this is dropped.
pub(crate) struct BodyPlace {
    places: &'static Places,
    _share: Share,
}

impl Drop for BodyPlace {
    fn drop(&mut self) {
        self.places.bodies.fetch_sub(1, Ordering::Relaxed);
        self.places.metrics.bodies.dec();
    }
}
