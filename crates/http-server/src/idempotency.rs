//! Idempotency keys over HTTP: the header `Idempotency-Key` of a request and the header
//! `Idempotency-Replayed` of its answer. The rules of keys are in [`request::idempotency`].
//!
//! A handler takes [`IdempotencyKeyHeader`], names it in the `params(...)` of its `utoipa::path`,
//! and answers with [`IdempotencyReplayed`]. [`crate::description::complete`] documents the header
//! of the answer.
//!
//! ```
//! use axum::response::IntoResponse;
//! use http_server::idempotency::{IdempotencyKeyHeader, IdempotencyReplayed};
//!
//! #[utoipa::path(
//!     post,
//!     path = "/mails",
//!     params(IdempotencyKeyHeader),
//!     responses((status = 201, description = "Sent"))
//! )]
//! async fn send_mail(IdempotencyKeyHeader { key }: IdempotencyKeyHeader) -> impl IntoResponse {
//!     // The store sends the mail, or finds the answer that an earlier request with the key got.
//!     let replayed = key.is_some();
//!     (http::StatusCode::CREATED, IdempotencyReplayed(replayed), "sent")
//! }
//! ```

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::response::{IntoResponseParts, ResponseParts};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use request::Problem;
use request::idempotency::IdempotencyKey;
use request::problem::codes;
use utoipa::IntoParams;
use utoipa::openapi::RefOr;
use utoipa::openapi::path::{Operation, ParameterIn};

use crate::extract::single_header;
use crate::problem::ProblemResponse;

const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Name and description of the header of the answer, for the OpenAPI document.
pub(crate) const REPLAYED_DESCRIPTION: (&str, &str) = (
    "Idempotency-Replayed",
    "`true` when an earlier request with the key made it",
);

/// Reads the `Idempotency-Key` of a request. A malformed or repeated header is rejected with 400
/// `INVALID_HEADER`.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKeyHeader {
    /// Chosen by the client, new for each operation: 1 to 255 visible ASCII characters
    #[param(
        rename = "Idempotency-Key",
        value_type = Option<String>,
        min_length = 1,
        max_length = 255,
        pattern = "^[!-~]+$",
        example = "8e03978e-40d5-43dd-bc93-6894a57f9324",
    )]
    pub key: Option<IdempotencyKey>,
}

impl<S: Sync> FromRequestParts<S> for IdempotencyKeyHeader {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        let Some(text) = single_header(&parts.headers, "idempotency-key")? else {
            return Ok(Self { key: None });
        };
        let key = IdempotencyKey::parse(text).ok_or_else(|| {
            Problem::new(
                codes::INVALID_HEADER,
                "The header Idempotency-Key must have 1 to 255 visible ASCII characters.",
            )
        })?;
        Ok(Self { key: Some(key) })
    }
}

/// Sets `Idempotency-Replayed: true` on an answer if an earlier request with the key got it first.
/// Status and body of the answer equal those of the first one.
#[derive(Debug, Clone, Copy)]
pub struct IdempotencyReplayed(pub bool);

impl IntoResponseParts for IdempotencyReplayed {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        if self.0 {
            let headers = parts.headers_mut();
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        Ok(parts)
    }
}

/// True if the operation takes an [`IdempotencyKeyHeader`].
pub(crate) fn is_parameter_of(operation: &Operation) -> bool {
    let mut parameters = operation.parameters.iter().flatten();
    parameters.any(|parameter| match parameter {
        RefOr::T(parameter) => {
            parameter.name == "Idempotency-Key" && parameter.parameter_in == ParameterIn::Header
        }
        RefOr::Ref(_) => false,
    })
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse as _;
    use http::Request;

    use super::*;

    async fn read(keys: &[&str]) -> Result<Option<String>, &'static str> {
        let mut request = Request::new(());
        for key in keys {
            let key = HeaderValue::from_str(key).unwrap();
            request.headers_mut().append("idempotency-key", key);
        }
        let (mut parts, ()) = request.into_parts();
        IdempotencyKeyHeader::from_request_parts(&mut parts, &())
            .await
            .map(|header| header.key.map(|key| key.as_str().to_owned()))
            .map_err(|ProblemResponse(problem)| problem.code.code)
    }

    #[tokio::test]
    async fn a_key_is_optional_and_must_be_valid() {
        assert_eq!(read(&[]).await, Ok(None));
        assert_eq!(read(&["k-1"]).await, Ok(Some("k-1".to_owned())));
        for invalid in [&["a b"][..], &[""], &["ä"], &["k", "k"]] {
            assert_eq!(read(invalid).await, Err("INVALID_HEADER"), "{invalid:?}");
        }
    }

    #[test]
    fn only_a_replayed_answer_has_the_header() {
        for (replayed, value) in [(true, Some("true")), (false, None)] {
            let answer = (IdempotencyReplayed(replayed), "body").into_response();
            let header = answer.headers().get("idempotency-replayed");
            assert_eq!(header.and_then(|header| header.to_str().ok()), value);
        }
    }
}
