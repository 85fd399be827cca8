//! The client, and the attempts of its calls.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header};
use request::propagation::{self, TRACEPARENT, TRACESTATE};
use telemetry::{Service, Traces, traces};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::Instrument as _;

use crate::error::CallError;
use crate::limits::{Limits, Tls};
use crate::metrics::{ClientMetrics, method_name};
use crate::retry::Retries;
use crate::target::Target;

/// A client with limits. Clones share its connections.
#[derive(Clone)]
pub struct Client {
    name: &'static str,
    http: reqwest::Client,
    limits: Limits,
    traces: Traces,
    metrics: ClientMetrics,
}

impl Client {
    /// A client. `name` is the label `client` of the metric. The requests have the `User-Agent` of
    /// the service.
    ///
    /// # Errors
    /// [`CallError::Request`] if the system has no certificates.
    pub fn new(
        name: &'static str,
        service: &Service,
        (limits, tls): (Limits, Tls),
        traces: Traces,
        metrics: ClientMetrics,
    ) -> Result<Self, CallError> {
        let builder = reqwest::Client::builder()
            .user_agent(format!("{}/{}", service.name, service.version))
            .connect_timeout(limits.connect_timeout)
            .redirect(reqwest::redirect::Policy::none());
        let builder = match tls {
            Tls::System => builder,
            Tls::Off => builder.tls_certs_only([]),
        };
        let http = builder.build();
        let http = http.map_err(|error| CallError::from_library(&error, limits.timeout))?;
        Ok(Self {
            name,
            http,
            limits,
            traces,
            metrics,
        })
    }

    /// Sends a request and reads the response. An idempotent request is repeated after temporary
    /// failures while the time limit allows it. A response of any status is a success.
    ///
    /// # Errors
    /// The error of the last attempt.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let deadline = Instant::now() + self.limits.timeout;
        let mut retries = Retries::new(request.method(), self.limits.attempts);
        let mut resends = 0;
        loop {
            let result = self.attempt(&request, resends, deadline).await;
            let Some(pause) = retries.pause_after(&result) else {
                return result;
            };
            if Instant::now() + pause >= deadline {
                return result;
            }
            tracing::debug!(
                client = self.name,
                ?pause,
                "an outgoing request is repeated"
            );
            sleep(pause).await;
            resends += 1;
        }
    }

    /// One attempt, measured, with a span if the work is sampled.
    async fn attempt(
        &self,
        request: &Request<Bytes>,
        resends: u32,
        deadline: Instant,
    ) -> Result<Response<Bytes>, CallError> {
        let began = Instant::now();
        let exchange = async {
            let exchange = timeout_at(deadline, self.exchange(request)).await;
            exchange.unwrap_or(Err(CallError::TimedOut(self.limits.timeout)))
        };
        // No span is created for unsampled work.
        let result = if traces::sampled().is_some() {
            let span = span(request, resends);
            let ended = traces::SpanEnd(&span);
            let result = exchange.instrument(span.clone()).await;
            drop(ended);
            record(&span, &result);
            result
        } else {
            exchange.await
        };
        let took: Duration = began.elapsed();
        self.metrics
            .observe(self.name, request.method(), &result, took);
        result
    }

    async fn exchange(&self, request: &Request<Bytes>) -> Result<Response<Bytes>, CallError> {
        let library_error =
            |error: reqwest::Error| CallError::from_library(&error, self.limits.timeout);
        let mut request = request.clone();
        self.propagate(request.headers_mut());
        let request = reqwest::Request::try_from(request).map_err(library_error)?;
        let mut response = self.http.execute(request).await.map_err(library_error)?;
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(library_error)? {
            if body.len() + chunk.len() > self.limits.max_body_bytes {
                return Err(CallError::TooLarge(self.limits.max_body_bytes));
            }
            body.extend_from_slice(&chunk);
        }
        let mut complete = Response::new(body.freeze());
        *complete.status_mut() = response.status();
        *complete.version_mut() = response.version();
        *complete.headers_mut() = std::mem::take(response.headers_mut());
        Ok(complete)
    }

    /// Replaces the trace context by that of the current work.
    fn propagate(&self, headers: &mut HeaderMap) {
        let names = [TRACEPARENT, TRACESTATE].map(HeaderName::from_static);
        for name in &names {
            headers.remove(name);
        }
        let carrier = propagation::outgoing(&self.traces);
        for name in names {
            let value = carrier.get(name.as_str());
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        }
        // Bodies are not decoded, and some servers compress without the header.
        headers
            .entry(header::ACCEPT_ENCODING)
            .or_insert(HeaderValue::from_static("identity"));
    }
}

/// The client span of an attempt, by the OpenTelemetry conventions for HTTP.
fn span(request: &Request<Bytes>, resends: u32) -> tracing::Span {
    let method = method_name(request.method());
    let target = Target::of(request.uri());
    tracing::info_span!(
        "http_client",
        otel.name = method.unwrap_or("HTTP"),
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        error.r#type = tracing::field::Empty,
        http.request.method = method.unwrap_or("_OTHER"),
        http.request.resend_count = (resends > 0).then_some(resends),
        http.response.status_code = tracing::field::Empty,
        server.address = target.address,
        server.port = target.port,
        url.full = target.url,
    )
}

/// Records the outcome. A status from 400 is an error of a client span.
fn record(span: &tracing::Span, result: &Result<Response<Bytes>, CallError>) {
    match result {
        Ok(response) => {
            let status = response.status();
            span.record("http.response.status_code", status.as_u16());
            if status.is_client_error() || status.is_server_error() {
                span.record("otel.status_code", "ERROR");
                span.record("error.type", status.as_str());
            }
        }
        Err(error) => {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", error.kind());
        }
    }
}

#[cfg(test)]
mod tests;
