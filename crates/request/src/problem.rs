//! Errors in the form that clients see, in any protocol: the members of RFC 9457.
//!
//! A [`Code`] is one documented line in a `problem_codes!` block. A cause is logged once, when the
//! request ends, and is never sent.

use std::borrow::Cow;
use std::sync::Arc;

/// A kind of problem, with a stable word that clients match on.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Status code of RFC 9110, section 15. Other protocols translate it.
    pub status: u16,
    /// Upper-snake word.
    pub code: &'static str,
    /// Short text, the same for every occurrence.
    pub title: &'static str,
    /// The condition for this problem, for the documentation.
    pub doc: &'static str,
}

/// Declares problem codes: `/// condition` and `pub NAME = status, "Title";`.
#[macro_export]
macro_rules! problem_codes {
    ($( $(#[doc = $doc:literal])+ pub $name:ident = $status:literal, $title:literal; )*) => {
        $(
            $(#[doc = $doc])+
            pub const $name: &$crate::problem::Code =
                &$crate::problem::Code {
                    status: $status,
                    code: stringify!($name),
                    title: $title,
                    doc: concat!($($doc, "\n"),+),
                };
        )*
        /// All codes of this block.
        pub const ALL: &[&$crate::problem::Code] = &[$($name),*];
    };
}

/// Problems of the request and of the layers around and below the application.
pub mod codes {
    crate::problem_codes! {
        /// The path or the query string cannot be read.
        pub BAD_REQUEST = 400, "Bad request";
        /// The body is not JSON: syntax, invalid UTF-8 or nesting beyond 128 levels.
        pub INVALID_JSON = 400, "The body is not valid JSON";
        /// The body has a member that is unknown to the operation, or the same member twice.
        pub UNKNOWN_FIELD = 400, "Unknown or repeated field";
        /// The body ended early or its encoding is broken.
        pub INVALID_BODY = 400, "The body could not be read";
        /// A path parameter is malformed.
        pub INVALID_PATH = 400, "Invalid path parameter";
        /// A query parameter is malformed, unknown or out of range.
        pub INVALID_QUERY = 400, "Invalid query parameter";
        /// A header is malformed.
        pub INVALID_HEADER = 400, "Invalid header";
        /// The cursor was not made by this list.
        pub INVALID_CURSOR = 400, "Invalid cursor";
        /// The credentials are missing, wrong, expired or revoked.
        pub UNAUTHENTICATED = 401, "Authentication required";
        /// The principal is authenticated but lacks the permission.
        pub FORBIDDEN = 403, "Not allowed";
        /// The API key lacks the scope of the operation, or no API key may use the operation.
        pub INSUFFICIENT_SCOPE = 403, "The API key lacks a scope";
        /// The credential is a cookie, and the request does not come from a page of the same origin.
        pub CROSS_SITE_REQUEST = 403, "Request from another site";
        /// The object does not exist, or the caller may not see it.
        pub NOT_FOUND = 404, "Not found";
        /// The path exists but lacks the method. `Allow` lists its methods.
        pub METHOD_NOT_ALLOWED = 405, "Method not allowed";
        /// The `Accept` header excludes `application/json`, which is the type of the answer.
        pub NOT_ACCEPTABLE = 406, "Not acceptable";
        /// The body did not arrive within `http.body_timeout`.
        pub BODY_TIMEOUT = 408, "The body arrived too slowly";
        /// A request with this `Idempotency-Key` is running. `Retry-After` gives the time to wait.
        pub IDEMPOTENCY_IN_PROGRESS = 409, "A request with this idempotency key is running";
        /// The `If-Match` header names a version that is no longer current.
        pub PRECONDITION_FAILED = 412, "The object has changed";
        /// The body is larger than `http.max_body_bytes`, as sent or decoded.
        pub BODY_TOO_LARGE = 413, "The body is too large";
        /// Path and query are longer than 8 KiB.
        pub URI_TOO_LONG = 414, "The URI is too long";
        /// The `Content-Type` of the body is not the one that the operation takes, or its
        /// `Content-Encoding` is unknown.
        pub UNSUPPORTED_MEDIA_TYPE = 415, "Unsupported media type";
        /// The `Idempotency-Key` was used with another request before.
        pub IDEMPOTENCY_MISMATCH = 422, "The idempotency key belongs to another request";
        /// The body is well-formed, but a value is missing, of the wrong type or out of range. See
        /// `errors`.
        pub VALIDATION_FAILED = 422, "Validation failed";
        /// One client has sent too many requests. `Retry-After` gives the time to wait.
        pub RATE_LIMITED = 429, "Too many requests";
        /// A defect of the service. The log has the cause under this `request_id`.
        pub INTERNAL = 500, "Internal error";
        /// An operator has set a fault. Its status is the one in the fault.
        pub FAULT_INJECTED = 500, "Injected fault";
        /// The request has a `Transfer-Encoding` other than `chunked`.
        pub TRANSFER_CODING_UNKNOWN = 501, "Transfer coding not implemented";
        /// The service has too much work. `Retry-After` gives the time to wait.
        pub OVERLOADED = 503, "Overloaded";
        /// The database is unreachable, read-only or full, or it rejects this service.
        /// `Retry-After` gives the time to wait.
        pub DATABASE_UNAVAILABLE = 503, "The database is unavailable";
        /// The keys of the identity provider are not known, because it could not be reached yet or
        /// for too long. `Retry-After` gives the time to wait.
        pub IDENTITY_PROVIDER_UNAVAILABLE = 503, "The identity provider is unavailable";
        /// The request took longer than `http.request_timeout`.
        pub DEADLINE_EXCEEDED = 503, "Deadline exceeded";
    }
}

/// The error of one field of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, for example `from` or `items[2].name`. Empty for the whole body.
    pub field: String,
    /// Stable upper-snake word.
    pub code: &'static str,
    /// Text for people. It never contains the value.
    pub message: Cow<'static, str>,
}

/// An error on its way to the client.
#[derive(Debug)]
pub struct Problem {
    /// The kind of problem.
    pub code: &'static Code,
    /// Description of this occurrence.
    pub detail: Cow<'static, str>,
    /// Status, if it differs from the code's.
    pub status: Option<u16>,
    /// Errors of the fields, for validation.
    pub errors: Vec<FieldError>,
    /// Seconds after which another try may succeed (`Retry-After`).
    pub retry_after: Option<u64>,
    /// Further metadata of the answer by lower-case name (`www-authenticate`, `allow`). In HTTP
    /// these are headers.
    pub metadata: Vec<(&'static str, Cow<'static, str>)>,
    /// For the log only.
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The part of an answered problem that metrics, log and span contain.
#[derive(Debug, Clone)]
pub struct ReportedProblem {
    /// The kind.
    pub code: &'static Code,
    /// For the log only.
    pub cause: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: &'static Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            status: None,
            errors: Vec::new(),
            retry_after: None,
            metadata: Vec::new(),
            cause: None,
        }
    }

    /// A defect. The log contains the cause, the answer does not.
    pub fn internal(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::new(codes::INTERNAL, "The request could not be completed.").because(cause)
    }

    /// Invalid values in the body.
    #[must_use]
    pub fn validation(errors: Vec<FieldError>) -> Self {
        let mut problem = Self::new(
            codes::VALIDATION_FAILED,
            "The request has fields that are not acceptable.",
        );
        problem.errors = errors;
        problem
    }

    /// Sets a status other than the code's.
    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Sets the time after which another try may succeed.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Adds metadata under a lower-case name.
    #[must_use]
    pub fn metadata(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.metadata.push((name, value.into()));
        self
    }

    /// Adds the cause, for the log.
    #[must_use]
    pub fn because(mut self, cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.cause = Some(Arc::new(cause));
        self
    }
}
