//! Extractors for handlers. Every rejection is a [`Problem`].
//!
//! No rejection repeats a value that the client sent.

mod coding;
mod form;

pub use form::{Form, Repeated};

use std::borrow::Cow;

use axum::extract::{FromRequest, FromRequestParts, OptionalFromRequest, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use limits::concurrency::Overloaded;
use request::problem::codes;
use request::{BodyLimits, FieldError, Problem, RequestContext};
use serde::de::{DeserializeOwned, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::extract::coding::{Codings, Undecodable};
use crate::problem::ProblemResponse;

/// A JSON body of a request or an answer.
#[derive(Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T, S> FromRequest<S> for Json<T>
where
    T: DeserializeOwned + 'static,
    S: Send + Sync,
{
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemResponse> {
        if !is_json(request.headers()) {
            return Err(ProblemResponse(Problem::new(
                codes::UNSUPPORTED_MEDIA_TYPE,
                "The Content-Type of the body must be application/json.",
            )));
        }
        Ok(Self(parse(&read_body(request).await?)?))
    }
}

impl<T, S> OptionalFromRequest<S> for Json<T>
where
    T: DeserializeOwned + 'static,
    S: Send + Sync,
{
    type Rejection = ProblemResponse;

    /// `None` when there is no body. A body of another type is rejected.
    async fn from_request(request: Request, state: &S) -> Result<Option<Self>, ProblemResponse> {
        let typed = request.headers().contains_key(header::CONTENT_TYPE);
        if !typed && request.body().is_end_stream() {
            return Ok(None);
        }
        <Self as FromRequest<S>>::from_request(request, state)
            .await
            .map(Some)
    }
}

/// Reads the whole content of a body without its codings, within the limits of size and time.
///
/// # Errors
/// 408 when the body is too slow, 413 when it is too large, or 415 when a coding is unknown. 400
/// when it breaks off or cannot be decoded, or 503 when a concurrency limit is reached.
pub async fn read_body(request: Request) -> Result<bytes::Bytes, Problem> {
    let Some(codings) = Codings::of(request.headers()) else {
        return Err(Problem::new(
            codes::UNSUPPORTED_MEDIA_TYPE,
            "The Content-Encoding of the body is not known here.",
        )
        .metadata("accept-encoding", coding::ACCEPTED));
    };
    let limits = RequestContext::with(|context| context.limits);
    let limits = limits.unwrap_or_default();
    let body = Limited::new(request.into_body(), limits.max_body_bytes);
    match tokio::time::timeout(limits.body_timeout, body.collect()).await {
        Err(_) => Err(Problem::new(
            codes::BODY_TIMEOUT,
            "The body did not arrive within the time limit.",
        )
        .metadata("connection", "close")),
        Ok(Err(error)) => Err(unreadable(error.as_ref(), limits)),
        Ok(Ok(collected)) => codings
            .decode(collected.to_bytes(), limits.max_body_bytes)
            .map_err(|error| undecodable(error, limits)),
    }
}

/// The problem of a body that could not be read.
fn unreadable(error: &(dyn std::error::Error + 'static), limits: BodyLimits) -> Problem {
    if cause::<LengthLimitError>(error).is_some() {
        return too_large(limits);
    }
    match cause::<Overloaded>(error) {
        Some(overloaded) => overloaded.into(),
        None => Problem::new(codes::INVALID_BODY, "The body ended early."),
    }
}

fn undecodable(error: Undecodable, limits: BodyLimits) -> Problem {
    match error {
        Undecodable::TooLarge => too_large(limits),
        Undecodable::Malformed => Problem::new(
            codes::INVALID_BODY,
            "The body is cut short, damaged or longer than its Content-Encoding allows.",
        ),
    }
}

fn too_large(limits: BodyLimits) -> Problem {
    Problem::new(
        codes::BODY_TOO_LARGE,
        format!("The body may have {} bytes at most.", limits.max_body_bytes),
    )
}

/// Finds an error of this type in a chain of errors.
fn cause<'a, E: std::error::Error + 'static>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // `source` of an I/O error does not return the error that it contains.
        let carried = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    None
}

fn is_json(headers: &HeaderMap) -> bool {
    has_type(headers, |essence| {
        let essence = essence.to_ascii_lowercase();
        let subtype = essence.strip_prefix("application/");
        subtype.is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
    })
}

/// Whether the media type of the body, without its parameters, satisfies a condition.
fn has_type(headers: &HeaderMap, condition: impl FnOnce(&str) -> bool) -> bool {
    let value = headers.get(header::CONTENT_TYPE);
    let value = value.and_then(|value| value.to_str().ok());
    value
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| condition(essence.trim()))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // Derived types would also accept an array, with their members in order.
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    if first.is_some_and(|first| *first != b'{') {
        well_formed(bytes)?;
        return Err(Problem::validation(vec![FieldError {
            field: String::new(),
            code: "INVALID_TYPE",
            message: Cow::Borrowed("must be an object"),
        }]));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // Deserialization stops at the first mismatch. The rest of the body may not even be JSON.
        let path = error.path().to_string();
        well_formed(bytes)
            .err()
            .unwrap_or_else(|| refusal(&path, error.inner()))
    })?;
    deserializer.end().map_err(|error| refusal("", &error))?;
    Ok(value)
}

/// Checks that a body is JSON and not nested deeper than `serde_json` allows.
fn well_formed(bytes: &[u8]) -> Result<(), Problem> {
    serde_json::from_slice::<Anything>(bytes)
        .map(|Anything| ())
        .map_err(|error| refusal("", &error))
}

/// Any JSON value, which is read and discarded. `serde_json` skips an `IgnoredAny` without counting
/// its depth. This type meets the limit of nesting and checks every string.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Anything {
    type Value = Self;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while let Some(Self) = items.next_element()? {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        while let Some((Self, Self)) = members.next_entry()? {}
        Ok(self)
    }
}

/// Maps serde's errors to problems: 400 for invalid JSON and for unknown or repeated members, 422
/// for well-formed values that do not fit. Only the fixed part of serde's messages is read, because
/// the rest repeats the client's input.
fn refusal(path: &str, error: &serde_json::Error) -> Problem {
    let message = error.to_string();
    if !error.is_data() {
        return Problem::new(
            codes::INVALID_JSON,
            format!(
                "Not JSON at line {}, column {}.",
                error.line(),
                error.column()
            ),
        );
    }
    if message.starts_with("unknown field") {
        let expected = message
            .split_once("`, ")
            .and_then(|(_, rest)| rest.split_once(" at line"))
            .map_or("", |(expected, _)| expected);
        return Problem::new(
            codes::UNKNOWN_FIELD,
            format!("The body has an unknown field; {expected}."),
        );
    }
    if message.starts_with("duplicate field") {
        return Problem::new(codes::UNKNOWN_FIELD, "The body has a field twice.");
    }
    let field = if path == "." {
        String::new()
    } else {
        path.to_owned()
    };
    let missing = message
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split_once('`'));
    Problem::validation(vec![match missing {
        Some((name, _)) => FieldError {
            field: match field.as_str() {
                "" => name.to_owned(),
                parent => format!("{parent}.{name}"),
            },
            code: "REQUIRED",
            message: Cow::Borrowed("is required"),
        },
        None => FieldError {
            field,
            code: "INVALID_TYPE",
            message: Cow::Borrowed("has the wrong type or is out of its range"),
        },
    }])
}

/// Path parameters.
#[derive(Debug)]
pub struct Path<T>(pub T);

impl<T, S> FromRequestParts<S> for Path<T>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(value)| Self(value))
            .map_err(|_| {
                let detail = "An id in the path is malformed.";
                ProblemResponse(Problem::new(codes::INVALID_PATH, detail))
            })
    }
}

/// Query parameters. A repeated parameter is rejected. An unknown one is rejected when the type has
/// `#[serde(deny_unknown_fields)]`.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<T, S> FromRequestParts<S> for Query<T>
where
    T: DeserializeOwned,
    S: Send + Sync,
{
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ProblemResponse> {
        axum::extract::Query::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Query(value)| Self(value))
            .map_err(|_| {
                let detail = "A query parameter is unknown, repeated, malformed or out of range.";
                ProblemResponse(Problem::new(codes::INVALID_QUERY, detail))
            })
    }
}

/// A header as text. `None` when it is absent.
///
/// # Errors
/// `INVALID_HEADER` when the header occurs twice or is not visible ASCII.
pub fn single_header<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let refuse = || {
        Problem::new(
            codes::INVALID_HEADER,
            format!("The header {name} is malformed."),
        )
    };
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| refuse()),
        (Some(_), Some(_)) => Err(refuse()),
    }
}
