//! What every request on the admin listener has: ids in answer and log, and an
//! answer even after a panic. No metrics, no span, no request line.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use http::{HeaderValue, header};

use crate::platform::http::problem::{Failure, Problem};
use crate::platform::observe::{BodyLimits, REQUEST_ID, RequestContext, within};
use crate::platform::telemetry::logs::Panicked;

/// Switches are small; nobody sends a megabyte to them.
const LIMITS: BodyLimits = BodyLimits {
    max_body_bytes: 64 << 10,
    body_timeout: Duration::from_secs(10),
};

/// Runs a request in its context.
pub(super) async fn enter(request: Request, next: Next) -> Response {
    let context = Arc::new(RequestContext::unobserved(&request, LIMITS));
    let answering = async {
        let response = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = response.unwrap_or_else(|payload| {
            Problem::internal(Panicked::caught(payload.as_ref())).into_response()
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

/// A failure of the listener itself; what was merely refused is the caller's affair.
fn report(response: &Response) {
    let failure = response.extensions().get::<Failure>();
    if let Some(failure) = failure.filter(|_| response.status().is_server_error()) {
        let cause = failure.cause.as_ref().map(ToString::to_string);
        tracing::error!(
            code = failure.code.code,
            cause,
            "a request on the admin listener failed"
        );
    }
}
