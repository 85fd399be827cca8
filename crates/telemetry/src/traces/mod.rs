//! Traces: sampled at the start, exported by OTLP in the background.

mod late_limit;
mod sampling;
mod span_queue;
mod span_times;
mod variables;

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
use crate::otlp::{ExporterSettings, Outcomes, Queue, Signal, SpanEncoder, Worker};
use crate::own_metrics::TelemetryMetrics;
use crate::service::Service;
use late_limit::LateSpanLimit;
pub use sampling::Sampling;
use span_queue::SpanQueue;
pub use span_times::SpanEnd;
use span_times::{ClockAnchor, SpanClock};
use variables::TraceSettings;

/// Handle of the traces.
#[derive(Clone)]
pub struct Traces(Arc<Inner>);

struct Inner {
    service: Service,
    sampling: Sampling,
    trace_context: bool,
    baggage: bool,
    scope: InstrumentationScope,
    resource: Resource,
    export: Option<SpanExport>,
    late_after: Duration,
    late: LateSpanLimit,
    /// Ignored configuration, logged once the logger is installed.
    warnings: Vec<String>,
}

/// The export of spans, if it is enabled.
struct SpanExport {
    spans: SpanQueue,
    provider: SdkTracerProvider,
    worker: Mutex<Option<Worker>>,
    destination: String,
}

/// The trace that records the work on the current thread, if it is sampled.
#[must_use]
pub fn sampled() -> Option<TraceId> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_sampled().then(|| span.trace_id())
    })
}

impl Traces {
    /// Reads the `OTEL_*` variables and starts the export that they configure.
    ///
    /// # Errors
    /// When the exporter thread cannot be started.
    pub fn start(
        service: Service,
        config: &Config,
        variables: &BTreeMap<String, String>,
        metrics: &TelemetryMetrics,
    ) -> std::io::Result<Self> {
        let mut settings = TraceSettings::read(variables);
        let sampling = match settings.sampler {
            Some(sampler) => Sampling::new(sampler.ratio, sampler.parent_based),
            None => Sampling::new(config.trace_ratio, true),
        };
        let exporter = settings.exporter.take().filter(|_| !settings.disabled);
        let outcomes = Outcomes::new(&metrics.spans, "late");
        let resource = resource(&service, &settings.resource);
        let export = match exporter {
            Some(exporter) => Some(SpanExport::start(
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
            late: LateSpanLimit::new(config.late_spans_per_second),
            warnings: settings.warnings,
        })))
    }

    /// Logs the ignored variables and the destination of the spans.
    pub(super) fn report(&self) {
        for warning in &self.0.warnings {
            tracing::warn!(warning, "variable ignored");
        }
        if let Some(export) = &self.0.export {
            tracing::info!(
                destination = export.destination,
                ratio = self.0.sampling.ratio(),
                "spans are exported"
            );
        }
    }

    /// The layer that exports `tracing` spans of the service's crates. Spans of other crates are
    /// excluded, above all those of the exporter's HTTP stack, because each export would cause
    /// another one. Events are excluded because log lines carry the ids of their span.
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
        Some(SpanClock.and_then(export).with_filter(own))
    }

    pub(crate) fn service(&self) -> Service {
        self.0.service
    }

    /// The sampler. Its ratio can be changed at run time.
    #[must_use]
    pub fn sampling(&self) -> &Sampling {
        &self.0.sampling
    }

    /// Whether a trace is recorded from its start. `parent` is the decision of a trusted caller.
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

    /// Whether the span of unsampled work is exported after its end, because it failed or was slow.
    /// Counts towards the rate limit of late spans.
    #[must_use]
    pub fn exports_late(&self, failed: bool, took: Duration) -> bool {
        self.0.export.is_some() && (failed || took > self.0.late_after) && self.0.late.take()
    }

    /// The instrumentation scope of the service.
    #[must_use]
    pub fn scope(&self) -> InstrumentationScope {
        self.0.scope.clone()
    }

    /// The resource of the process, common to all signals.
    pub(super) fn resource(&self) -> &Resource {
        &self.0.resource
    }

    /// Warnings about ignored variables.
    pub(super) fn warnings(&self) -> &[String] {
        &self.0.warnings
    }

    /// Exports an ended span. `late` marks spans that were not sampled at the start.
    pub fn export(&self, span: SpanData, late: bool) {
        if let Some(export) = &self.0.export {
            export.spans.push(span, late);
        }
    }

    /// Exports the queued spans and returns after at most `bound`.
    pub(super) async fn flush(&self, bound: Duration) {
        let Some(export) = &self.0.export else { return };
        let worker = export.worker.lock();
        let worker = worker.unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            worker.stop(bound).await;
        }
    }
}

impl SpanExport {
    fn start(
        service: Service,
        exporter: ExporterSettings,
        settings: &TraceSettings,
        resource: &Resource,
        sampling: &Sampling,
        outcomes: Outcomes,
    ) -> std::io::Result<Self> {
        let queue = Queue::new(settings.batch, outcomes);
        let spans = SpanQueue {
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
        let encoder = SpanEncoder::new(resource);
        let worker = Worker::start(queue, move || {
            exporter.exporter(&Signal::TRACES, encoder, &service)
        })?;
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

/// The resource of the process. The attributes of the operator have precedence.
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

/// The context in which a sampled request runs. Inner spans become children of `span`, and their
/// times are relative to its start, which was at `started` by the wall clock and at `began` by the
/// monotonic clock.
#[must_use]
pub fn request_context(
    span: SpanContext,
    parent: &Context,
    (started, began): (SystemTime, Instant),
) -> Context {
    parent
        .with_value(ClockAnchor::new(started, began))
        .with_remote_span_context(span)
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
