//! Fault injection for game days and for tests of alerts. A fault is a delay, an error answer or a
//! panic. It is set by route template and ratio, for a limited time.
//!
//! A fault acts in place of the handler: after authentication and limits, inside the deadline.
//! Injected requests are observed like all others. Clearing a fault does not release requests that
//! already wait.

mod worker;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::{IntCounterVec, IntGauge};
use serde::{Deserialize, Serialize};
use settings::clock::SharedClock;
use settings::validation::{self, InvalidValue};
use telemetry::metrics;
use time::OffsetDateTime;

use crate::fields::Fields;
use crate::problem::Problem;

metrics! {
    /// Fault injection.
    pub struct FaultMetrics {
        /// Faults that acted on a request or a run, by kind: `latency`, `error` or `panic`.
        pub injected: IntCounterVec = "faults_injected_total"["kind"];
        /// Faults that are set now.
        pub active: IntGauge = "faults_active";
    }
}

/// The kinds of effect, as label values.
const KINDS: [&str; 3] = ["latency", "error", "panic"];

/// A fault in requests and lists. A member that is left out has no effect.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FaultSpec {
    /// Route template, for example `/api/v1/orders/{id}`, or a worker, for example
    /// `worker:cleanup`.
    pub path: String,
    /// Delay before the handler, for example `250ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
    /// Status of the answer instead of the handler's, 400 to 599.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Panics instead of calling the handler.
    #[serde(default)]
    pub panic: bool,
    /// Ratio of the affected requests.
    #[serde(default = "all")]
    pub ratio: f64,
    /// Time after which the fault ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

fn all() -> f64 {
    1.0
}

/// A fault that is set.
#[derive(Debug, Clone)]
struct Fault {
    spec: FaultSpec,
    effect: Effect,
    expires: Option<Expiry>,
}

#[derive(Debug, Clone, Copy)]
struct Expiry {
    at: Instant,
    shown: OffsetDateTime,
}

/// A fault as it is listed.
#[derive(Debug, Clone, Serialize)]
pub struct SetFault {
    /// The fault as it was set.
    #[serde(flatten)]
    pub spec: FaultSpec,
    /// Time at which the fault ends by itself.
    #[serde(
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_at: Option<OffsetDateTime>,
}

/// The effect of a fault on a request.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effect {
    /// Delay before the other effects.
    pub latency: Option<Duration>,
    /// Status of the answer, instead of the handler's.
    pub status: Option<u16>,
    /// Panics instead of calling the handler.
    pub panic: bool,
}

/// The faults of a process, one for each path.
#[derive(Clone)]
pub struct Faults {
    inner: Arc<Inner>,
}

struct Inner {
    /// Read on every request. The other fields are only read while a fault is set.
    any: AtomicBool,
    faults: Mutex<BTreeMap<String, Fault>>,
    /// Methods of each route template, and the runs of each worker.
    targets: Mutex<BTreeMap<String, Vec<&'static str>>>,
    clock: SharedClock,
    metrics: FaultMetrics,
}

impl Faults {
    /// Starts without a fault. `operations` are the methods and templates of the routes that accept
    /// one.
    #[must_use]
    pub fn new(
        operations: impl IntoIterator<Item = (&'static str, String)>,
        clock: SharedClock,
        metrics: FaultMetrics,
    ) -> Self {
        let mut targets = BTreeMap::<_, Vec<_>>::new();
        for (method, route) in operations {
            targets.entry(route).or_default().push(method);
        }
        for kind in KINDS {
            metrics.injected.with_label_values(&[kind]);
        }
        let inner = Inner {
            any: AtomicBool::new(false),
            faults: Mutex::default(),
            targets: Mutex::new(targets),
            clock,
            metrics,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Sets a fault. It replaces a fault on the same path.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` with every invalid member.
    pub fn set(&self, spec: FaultSpec) -> Result<(), Problem> {
        let mut fields = Fields::default();
        let path = fields.take("path", self.known(&spec.path));
        let latency = fields.take("latency", validation::duration(spec.latency.as_deref()));
        let status = fields.take("status", error_status(spec.status));
        let ratio = fields.take("ratio", validation::ratio(spec.ratio));
        let ttl = fields.take("ttl", validation::ttl(spec.ttl.as_deref()));
        let checked = path.zip(latency).zip(status).zip(ratio).zip(ttl);
        let (((((), latency), status), _ratio), ttl) = fields.finish(checked)?;
        tracing::warn!(
            path = spec.path,
            latency = ?latency,
            status,
            panic = spec.panic,
            ratio = spec.ratio,
            ttl = ?ttl,
            "a fault is set"
        );
        let effect = Effect {
            latency,
            status,
            panic: spec.panic,
        };
        let expires = ttl.map(|ttl| Expiry {
            at: Instant::now() + ttl,
            shown: self.inner.clock.now() + ttl,
        });
        let mut faults = self.faults();
        faults.insert(
            spec.path.clone(),
            Fault {
                spec,
                effect,
                expires,
            },
        );
        self.settle(&faults);
        Ok(())
    }

    /// Clears the fault on a path, or all of them.
    ///
    /// # Errors
    /// `VALIDATION_FAILED` when the path is not the template of a route. A typing error must not
    /// look like a cleared fault.
    pub fn clear(&self, path: Option<&str>) -> Result<(), Problem> {
        let mut fields = Fields::default();
        let known = fields.take("path", path.map_or(Ok(()), |path| self.known(path)));
        fields.finish(known)?;
        let mut faults = self.faults();
        faults.retain(|own, _| path.is_some_and(|path| path != own));
        self.settle(&faults);
        tracing::warn!(path, "faults are cleared");
        Ok(())
    }

    /// The faults that are set now, by path. Also updates the gauge.
    #[must_use]
    pub fn list(&self) -> Vec<SetFault> {
        let mut faults = self.faults();
        self.expire(&mut faults);
        let listed = faults.values().map(|fault| SetFault {
            spec: fault.spec.clone(),
            expires_at: fault.expires.map(|expiry| expiry.shown),
        });
        listed.collect()
    }

    /// The effect on one request of this route, drawn by the fault's ratio. A request with a method
    /// that the route lacks reaches no handler and therefore no fault.
    #[must_use]
    pub fn effect(&self, method: &str, route: &str) -> Option<Effect> {
        if !self.inner.any.load(Ordering::Relaxed) {
            return None;
        }
        let handled = if method == "HEAD" { "GET" } else { method };
        if !self.targets().get(route)?.contains(&handled) {
            return None;
        }
        let mut faults = self.faults();
        self.expire(&mut faults);
        let fault = faults.get(route)?;
        (rand::random::<f64>() < fault.spec.ratio).then_some(fault.effect)
    }

    /// Counts and logs an effect on a route or a worker.
    pub fn injected(&self, kind: &'static str, route: &str) {
        self.inner.metrics.injected.with_label_values(&[kind]).inc();
        tracing::info!(kind, route, "fault injected");
    }

    fn targets(&self) -> MutexGuard<'_, BTreeMap<String, Vec<&'static str>>> {
        self.inner
            .targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn faults(&self) -> MutexGuard<'_, BTreeMap<String, Fault>> {
        self.inner
            .faults
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn expire(&self, faults: &mut BTreeMap<String, Fault>) {
        let now = Instant::now();
        let before = faults.len();
        faults.retain(|_, fault| fault.expires.is_none_or(|expiry| expiry.at > now));
        if faults.len() != before {
            self.settle(faults);
        }
    }

    fn settle(&self, faults: &BTreeMap<String, Fault>) {
        self.inner.any.store(!faults.is_empty(), Ordering::Relaxed);
        self.inner
            .metrics
            .active
            .set(i64::try_from(faults.len()).unwrap_or(i64::MAX));
    }

    fn known(&self, path: &str) -> Result<(), InvalidValue> {
        if self.targets().contains_key(path) {
            Ok(())
        } else {
            Err(InvalidValue {
                code: "UNKNOWN_ROUTE",
                message: "is neither the template of a route nor a worker",
            })
        }
    }
}

fn error_status(status: Option<u16>) -> Result<Option<u16>, InvalidValue> {
    match status {
        None | Some(400..=599) => Ok(status),
        Some(_) => Err(InvalidValue {
            code: "OUT_OF_RANGE",
            message: "must lie between 400 and 599",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use settings::clock::SystemClock;

    fn faults() -> Faults {
        let metrics = FaultMetrics::register(&prometheus::Registry::new()).unwrap();
        let operations = [("GET", "/a".to_owned()), ("POST", "/b".to_owned())];
        Faults::new(operations, Arc::new(SystemClock), metrics)
    }

    fn spec(json: &serde_json::Value) -> FaultSpec {
        serde_json::from_value(json.clone()).unwrap()
    }

    #[test]
    fn a_fault_acts_on_its_route_by_its_ratio_until_it_is_cleared() {
        let faults = faults();
        faults
            .set(spec(&serde_json::json!({ "path": "/a", "status": 503 })))
            .unwrap();
        faults
            .set(spec(
                &serde_json::json!({ "path": "/b", "panic": true, "ratio": 0.0 }),
            ))
            .unwrap();
        assert_eq!(
            faults.effect("HEAD", "/a").and_then(|effect| effect.status),
            Some(503)
        );
        assert!(faults.effect("POST", "/a").is_none(), "405 is no handler");
        assert!(faults.effect("POST", "/b").is_none() && faults.effect("GET", "/c").is_none());
        faults.clear(Some("/a")).unwrap();
        assert!(faults.effect("GET", "/a").is_none());
        assert_eq!(faults.list().len(), 1);
        faults.clear(None).unwrap();
        assert_eq!(faults.inner.metrics.active.get(), 0);
    }

    #[test]
    fn a_fault_ends_with_its_ttl() {
        let faults = faults();
        let spec = spec(&serde_json::json!({ "path": "/a", "status": 500, "ttl": "1ms" }));
        faults.set(spec).unwrap();
        assert!(faults.list().iter().all(|fault| fault.expires_at.is_some()));
        let set = Instant::now();
        while set.elapsed() <= Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        assert!(faults.effect("GET", "/a").is_none());
        assert_eq!(faults.inner.metrics.active.get(), 0);
    }

    #[test]
    fn everything_that_is_wrong_is_named_and_nothing_is_set() {
        let faults = faults();
        let wrong = spec(&serde_json::json!({
            "path": "/unknown", "latency": "2", "status": 200, "ratio": 2.0, "ttl": "x",
        }));
        let problem = faults.set(wrong).unwrap_err();
        let fields: Vec<_> = problem
            .errors
            .iter()
            .map(|error| error.field.as_str())
            .collect();
        assert_eq!(fields, ["path", "latency", "status", "ratio", "ttl"]);
        assert!(faults.list().is_empty());
    }
}
