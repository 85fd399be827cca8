//! Traces: sampled first, exported by OTLP, never in a request's way.

mod env;
mod late;
mod sampling;
mod spans;
mod times;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, TraceContextExt as _, TraceId, TracerProvider as _};
use opentelemetry::{Context, InstrumentationScope, KeyValue};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::TelemetryResourceDetector;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData};
use quanta::Instant;
use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Config;
use crate::otlp::{self, Outcomes, Queue, Worker};
use crate::own_metrics::TelemetryMetrics;
use crate::service::Service;
use env::Settings;
use late::LateBound;
pub use sampling::Sampling;
use spans::Spans;
pub use times::SpanEnd;
use times::{Anchor, Times};

/// The process's traces.
#[derive(Clone)]
pub struct Traces(Arc<Inner>);

struct Inner {
    service: Service,
    sampling: Sampling,
    trace_context: bool,
    baggage: bool,
    scope: InstrumentationScope,
    resource: Resource,
    export: Option<Export>,
    late_after: Duration,
    late: LateBound,
    /// What the configuration had to ignore; logged once the log stands.
    warnings: Vec<String>,
}

/// There only when somebody wants spans.
struct Export {
    spans: Spans,
    provider: SdkTracerProvider,
    worker: Mutex<Option<Worker>>,
    destination: String,
}

/// The trace that this thread's work is recorded in, if it is.
#[must_use]
pub fn sampled() -> Option<TraceId> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_sampled().then(|| span.trace_id())
    })
}

impl Traces {
    /// Reads the `OTEL_*` variables and starts what they ask for.
    ///
    /// # Errors
    /// When the thread that exports cannot be started.
    pub fn start(
        service: Service,
        config: &Config,
        variables: &BTreeMap<String, String>,
        metrics: &TelemetryMetrics,
    ) -> std::io::Result<Self> {
        let mut settings = Settings::read(variables);
        let sampling = match settings.sampler {
            Some(sampler) => Sampling::new(sampler.ratio, sampler.parent_based),
            None => Sampling::new(config.trace_ratio, true),
        };
        let exporter = settings.exporter.take().filter(|_| !settings.disabled);
        let outcomes = Outcomes::new(&metrics.spans, "late");
        let resource = resource(&service, &settings.resource);
        let export = match exporter {
            Some(exporter) => Some(Export::start(
                service, exporter, &settings, &resource, &sampling, outcomes,
            )?),
            None => None,
        };
        Ok(Self(Arc::new(Inner {
            sampling,
            trace_context: settings.propagators.trace_context,
            baggage: settings.propagators.baggage,
            scope: scope(&service),
            service,
            resource,
            export,
            late_after: config.late_span_after,
            late: LateBound::new(config.late_spans_per_second),
            warnings: settings.warnings,
        })))
    }

    /// Says what was ignored, and where spans go.
    pub(super) fn report(&self) {
        for warning in &self.0.warnings {
            tracing::warn!(warning, "a variable is ignored");
        }
        if let Some(export) = &self.0.export {
            tracing::info!(
                destination = export.destination,
                ratio = self.0.sampling.ratio(),
                "spans are exported"
            );
        }
    }

    /// Exports the `tracing` spans of this crate's own code. Those of other crates
    /// are left out, the exporter's HTTP stack first of all: exports would feed
    /// themselves. Events are not taken: log lines carry the ids of their span.
    pub(super) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let export = self.0.export.as_ref()?;
        let service = self.0.service;
        let own =
            FilterFn::new(move |metadata| metadata.is_span() && service.owns(metadata.target()));
        let export = tracing_opentelemetry::layer()
            .with_tracer(export.provider.tracer_with_scope(self.0.scope.clone()))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_target(false);
        let own = own.with_max_level_hint(LevelFilter::INFO);
        Some(Times.and_then(export).with_filter(own))
    }

    pub(crate) fn service(&self) -> Service {
        self.0.service
    }

    /// The sampler, for changes at run time.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.0.sampling
    }

    /// Whether a trace is recorded from its start; `parent` is the decision of a
    /// believed caller.
    #[must_use]
    pub fn decide(&self, trace_id: TraceId, parent: Option<bool>) -> bool {
        self.0.export.is_some() && self.0.sampling.decide(trace_id, parent)
    }

    /// Whether `traceparent` is read and written (`OTEL_PROPAGATORS`).
    #[must_use]
    pub fn propagates_trace_context(&self) -> bool {
        self.0.trace_context
    }

    /// Whether `baggage` is read (`OTEL_PROPAGATORS`).
    #[must_use]
    pub fn reads_baggage(&self) -> bool {
        self.0.baggage
    }

    /// Whether unsampled work that took this long, or failed, is exported now that
    /// it has ended. True takes one of the second's places.
    #[must_use]
    pub fn exports_late(&self, failed: bool, took: Duration) -> bool {
        self.0.export.is_some() && (failed || took > self.0.late_after) && self.0.late.take()
    }

    /// Names this service's spans.
    #[must_use]
    pub fn scope(&self) -> InstrumentationScope {
        self.0.scope.clone()
    }

    /// What every signal says of this process.
    pub(super) fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// What was ignored.
    pub(super) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Sends an ended span; `late` tells what was not sampled at its start.
    pub fn export(&self, span: SpanData, late: bool) {
        if let Some(export) = &self.0.export {
            export.spans.push(span, late);
        }
    }

    /// Sends what waits, and is back after `bound` whatever the collector does.
    pub(super) async fn flush(&self, bound: Duration) {
        let Some(export) = &self.0.export else { return };
        let worker = export.worker.lock();
        let worker = worker.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.stop(bound).await;
        }
    }
}

impl Export {
    fn start(
        service: Service,
        exporter: otlp::Settings,
        settings: &Settings,
        resource: &Resource,
        sampling: &Sampling,
        outcomes: Outcomes,
    ) -> std::io::Result<Self> {
        let queue = Queue::new(settings.batch, outcomes);
        let spans = Spans {
            queue: queue.clone(),
            limits: settings.limits,
            value_length: settings.value_length,
        };
        let provider = SdkTracerProvider::builder()
            .with_sampler(sampling.clone())
            .with_span_limits(settings.limits)
            .with_resource(resource.clone())
            .with_span_processor(spans.clone())
            .build();
        let destination = exporter.destination();
        let resource = resource.clone();
        let worker = Worker::start(queue, move || exporter.spans(&resource, &service))?;
        Ok(Self {
            spans,
            provider,
            worker: Mutex::new(Some(worker)),
            destination,
        })
    }
}

fn scope(service: &Service) -> InstrumentationScope {
    InstrumentationScope::builder(service.name)
        .with_version(service.version)
        .build()
}

/// What every signal says of this process; the operator's attributes win.
fn resource(service: &Service, attributes: &[(String, String)]) -> Resource {
    let instance = settings::clock::new_id().to_string();
    Resource::builder_empty()
        .with_detector(Box::new(TelemetryResourceDetector))
        .with_attributes([
            KeyValue::new("service.name", service.name),
            KeyValue::new("service.version", service.version),
            KeyValue::new("service.instance.id", instance),
            KeyValue::new("process.pid", i64::from(std::process::id())),
        ])
        .with_attributes(
            attributes
                .iter()
                .map(|(name, value)| KeyValue::new(name.clone(), value.clone())),
        )
        .build()
}

/// The context in which work of a sampled request runs: its inner spans become
/// children of `span`, and their times are counted from its start, which was at
/// `started` by the wall clock and at `began` by the monotonic one.
#[must_use]
pub fn context_of(
    span: SpanContext,
    parent: &Context,
    (started, began): (SystemTime, Instant),
) -> Context {
    parent
        .with_value(Anchor::new(started, began))
        .with_remote_span_context(span)
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
