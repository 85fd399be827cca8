//! Problems as HTTP answers: `application/problem+json` (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
pub use request::problem::{Code, FieldError, Problem, codes};
use request::{ReportedProblem, RequestContext};
use serde::Serialize;

/// A problem as an answer for an HTTP client. Handlers return it. `?` makes it from any error that
/// converts to a [`Problem`].
#[derive(Debug)]
pub struct ProblemResponse(pub Problem);

impl<E> From<E> for ProblemResponse
where
    Problem: From<E>,
{
    fn from(error: E) -> Self {
        Self(Problem::from(error))
    }
}

/// An error of one field of the body.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = FieldError)]
pub struct FieldErrorBody {
    /// Path of the field, for example `name` or `items[2].name`. Empty for the whole body.
    field: String,
    /// Stable word in upper snake case.
    code: &'static str,
    /// Text for people. It never repeats the value.
    message: String,
}

impl From<FieldError> for FieldErrorBody {
    fn from(error: FieldError) -> Self {
        Self {
            field: error.field,
            code: error.code,
            message: error.message.into_owned(),
        }
    }
}

/// The body of a problem.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem, title = "Problem")]
pub struct Body {
    /// Identifier of the kind of problem: `urn:problem:<code in lower case>`.
    r#type: String,
    /// Short text, the same for every occurrence of the kind.
    title: &'static str,
    /// HTTP status.
    status: u16,
    /// Description of this occurrence.
    detail: String,
    /// Stable word that clients match on.
    code: &'static str,
    /// Id of the request, also in the `X-Request-Id` header and in the log.
    request_id: String,
    /// Id of the trace, also in the log. The trace is exported when it was sampled.
    trace_id: String,
    /// Errors of single fields, when validation failed.
    errors: Vec<FieldErrorBody>,
}

impl IntoResponse for ProblemResponse {
    fn into_response(self) -> Response {
        self.respond("application/problem+json", serde_json::to_vec)
    }
}

impl ProblemResponse {
    /// The answer with further members of the body, for a specification with errors of its own.
    pub fn with_members<M: Serialize>(self, media_type: &'static str, members: &M) -> Response {
        /// A body with further members.
        #[derive(Serialize)]
        struct Extended<'a, M> {
            #[serde(flatten)]
            body: &'a Body,
            #[serde(flatten)]
            members: &'a M,
        }
        self.respond(media_type, |body| {
            serde_json::to_vec(&Extended { body, members })
        })
    }

    fn respond(
        self,
        media_type: &'static str,
        write: impl FnOnce(&Body) -> serde_json::Result<Vec<u8>>,
    ) -> Response {
        let Self(problem) = self;
        let ids = RequestContext::with(|context| {
            (context.request_id.to_string(), context.trace_id.to_string())
        });
        let (request_id, trace_id) = ids.unwrap_or_default();
        let status = problem.status.unwrap_or(problem.code.status);
        let body = Body {
            r#type: format!("urn:problem:{}", problem.code.code.to_ascii_lowercase()),
            title: problem.code.title,
            status,
            detail: problem.detail.into_owned(),
            code: problem.code.code,
            request_id,
            trace_id,
            errors: problem.errors.into_iter().map(Into::into).collect(),
        };
        // Serialising structs of texts cannot fail.
        let json = write(&body).unwrap_or_default();
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, json).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        if let Some(seconds) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        for (name, value) in problem.metadata {
            if let Ok(value) = HeaderValue::try_from(value.as_ref()) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        response.extensions_mut().insert(ReportedProblem {
            code: problem.code,
            cause: problem.cause,
        });
        response
    }
}
