//! Context of requests on the admin listener: ids in the answer and the log, and an answer even
//! after a panic. There are no metrics, no span and no request line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, Method, header};
use http_server::observe::{REQUEST_ID, unobserved};
use http_server::problem::ProblemResponse;
use request::{BodyLimits, Problem, ReportedProblem, within};
use telemetry::logs::CaughtPanic;

/// Requests to switches are small.
const LIMITS: BodyLimits = BodyLimits {
    max_body_bytes: 64 << 10,
    body_timeout: Duration::from_secs(10),
};

/// Runs a request in its context.
pub(crate) async fn enter(request: Request, next: Next) -> Response {
    let context = Arc::new(unobserved(&request, LIMITS));
    let answering = async {
        let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = response.unwrap_or_else(|payload| {
            ProblemResponse(Problem::internal(CaughtPanic::caught(payload.as_ref())))
                .into_response()
        });
        report(&response);
        response
    };
    let mut response = within(Arc::clone(&context), answering).await;
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&context.request_id) {
        headers.insert(REQUEST_ID, id);
    }
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// The media type that curl sends with `-d` for any content.
const CURLS_OWN: &[u8] = b"application/x-www-form-urlencoded";

/// Switches accept JSON only, so a `PUT` body without a media type, or with the default one of
/// curl, is read as JSON. This is safe, because a page of another origin cannot send a `PUT` of any
/// media type without a CORS preflight.
pub(crate) async fn default_to_json(mut request: Request, next: Next) -> Response {
    let media_type = request.headers().get(header::CONTENT_TYPE);
    let is_open = media_type.is_none_or(|given| given.as_bytes() == CURLS_OWN);
    if request.method() == Method::PUT && is_open {
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    next.run(request).await
}

/// Logs failures of the listener. Refused requests are errors of the caller and are not logged.
fn report(response: &Response) {
    let failure = response.extensions().get::<ReportedProblem>();
    if let Some(failure) = failure.filter(|_| response.status().is_server_error()) {
        let cause = failure.cause.as_ref().map(ToString::to_string);
        tracing::error!(
            code = failure.code.code,
            cause,
            "a request on the admin listener failed"
        );
    }
}
