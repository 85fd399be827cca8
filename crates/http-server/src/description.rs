//! Problems in the OpenAPI document.
//!
//! An operation lists its problems as groups of codes. The texts and examples come from the codes.
//!
//! ```
//! use http_server::description::groups::{ANY, BODY};
//!
//! mod codes {
//!     request::problem_codes! {
//!         /// The mailbox of the recipient has no space left.
//!         pub MAILBOX_FULL = 422, "The mailbox is full";
//!     }
//! }
//!
//! http_server::problem_responses! {
//!     /// Problems of sending a mail.
//!     struct SendMailProblems = [ANY, BODY, &[codes::MAILBOX_FULL]];
//! }
//!
//! #[utoipa::path(
//!     post,
//!     path = "/mails",
//!     responses((status = 201, description = "Sent"), SendMailProblems)
//! )]
//! async fn send_mail() {}
//!
//! # use utoipa::IntoResponses as _;
//! let responses = SendMailProblems::responses();
//! assert!(responses.contains_key("422") && responses.contains_key("503"));
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use request::problem::{Code, codes};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{Header, Object, OpenApi, Ref, RefOr, Response, ResponseBuilder};

use crate::idempotency;

const PROBLEM_JSON: &str = "application/problem+json";

/// Groups of problems for [`problem_responses!`](crate::problem_responses).
pub mod groups {
    use request::problem::{Code, codes};

    /// Problems of every operation with access to the database.
    pub const ANY: &[&Code] = &[
        codes::INVALID_HEADER,
        codes::RATE_LIMITED,
        codes::INTERNAL,
        codes::OVERLOADED,
        codes::DATABASE_UNAVAILABLE,
        codes::DEADLINE_EXCEEDED,
    ];
    /// Problems of operations that need a principal.
    pub const AUTHENTICATED: &[&Code] = &[
        codes::UNAUTHENTICATED,
        codes::INSUFFICIENT_SCOPE,
        codes::IDENTITY_PROVIDER_UNAVAILABLE,
    ];
    /// Problems of operations that need an administrator, beside [`AUTHENTICATED`].
    pub const ADMIN: &[&Code] = &[codes::FORBIDDEN];
    /// Problems of operations on one object, which the path names.
    pub const OBJECT: &[&Code] = &[codes::INVALID_PATH, codes::NOT_FOUND];
    /// Problems of operations with [`PageQuery`](crate::page::PageQuery).
    pub const PAGE: &[&Code] = &[codes::INVALID_QUERY, codes::INVALID_CURSOR];
    /// Problems of operations with a JSON body.
    pub const BODY: &[&Code] = &[
        codes::INVALID_JSON,
        codes::UNKNOWN_FIELD,
        codes::INVALID_BODY,
        codes::BODY_TIMEOUT,
        codes::BODY_TOO_LARGE,
        codes::UNSUPPORTED_MEDIA_TYPE,
        codes::VALIDATION_FAILED,
    ];
    /// Problems of operations with a [`Form`](crate::extract::Form).
    pub const FORM: &[&Code] = &[
        codes::INVALID_BODY,
        codes::BODY_TIMEOUT,
        codes::BODY_TOO_LARGE,
        codes::UNSUPPORTED_MEDIA_TYPE,
    ];
    /// Problems of operations with [`IfMatch`](crate::etag::IfMatch).
    pub const IF_MATCH: &[&Code] = &[codes::PRECONDITION_FAILED];
    /// Problems of operations with
    /// [`IdempotencyKeyHeader`](crate::idempotency::IdempotencyKeyHeader).
    pub const IDEMPOTENCY_KEY: &[&Code] =
        &[codes::IDEMPOTENCY_MISMATCH, codes::IDEMPOTENCY_IN_PROGRESS];
}

/// Declares types for the `responses(...)` of `utoipa::path`, each with the groups of problems of
/// an operation: `/// description` and `struct Name = [GROUP, ...];`. The module
/// [`description`](crate::description) has an example. The calling crate depends on `utoipa`.
#[macro_export]
macro_rules! problem_responses {
    ($(
        $(#[doc = $doc:literal])+
        $visibility:vis struct $name:ident = [$($group:expr),+ $(,)?];
    )*) => { $(
        $(#[doc = $doc])+
        $visibility struct $name;

        impl ::utoipa::IntoResponses for $name {
            fn responses() -> ::std::collections::BTreeMap<
                ::std::string::String,
                ::utoipa::openapi::RefOr<::utoipa::openapi::Response>,
            > {
                $crate::description::describe(&[$($group),+])
            }
        }
    )* };
}

/// Problems that the layers may return for any operation, independent of its handler.
const LAYERS: &[&Code] = &[
    codes::INVALID_HEADER,
    codes::NOT_ACCEPTABLE,
    codes::BODY_TOO_LARGE,
    codes::URI_TOO_LONG,
    codes::RATE_LIMITED,
    codes::INTERNAL,
    codes::OVERLOADED,
    codes::DEADLINE_EXCEEDED,
];

/// Describes the problems of an operation: one response for each status, one example for each code.
#[must_use]
pub fn describe(groups: &[&[&'static Code]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&Code>> = BTreeMap::new();
    for code in groups.iter().copied().flatten() {
        by_status.entry(code.status).or_default().push(code);
    }
    by_status
        .into_iter()
        .map(|(status, codes)| {
            let names: Vec<_> = codes.iter().map(|code| code.code).collect();
            let examples = codes.iter().map(|code| (code.code, example(code)));
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .examples_from_iter(examples)
                .build();
            let response = ResponseBuilder::new()
                .description(names.join(", "))
                .content(PROBLEM_JSON, content)
                .build();
            (status.to_string(), response.into())
        })
        .collect()
}

/// Completes every operation.
///
/// Problems of the layers are added for each status that an operation does not describe itself.
/// Responses get the headers that the layers set, and `Idempotency-Replayed` if the operation takes
/// an `Idempotency-Key`.
pub fn complete(document: &mut OpenApi) {
    let layers = describe(&[LAYERS]);
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let takes_key = idempotency::is_parameter_of(operation);
            let responses = &mut operation.responses.responses;
            for (status, response) in &layers {
                responses
                    .entry(status.clone())
                    .or_insert_with(|| response.clone());
            }
            for (status, response) in responses {
                if let RefOr::T(response) = response {
                    add_headers(response, headers(status));
                    if takes_key && status.starts_with('2') {
                        add_headers(response, &[idempotency::REPLAYED_DESCRIPTION]);
                    }
                }
            }
        }
    }
}

/// Method and route template of every operation of a document.
#[must_use]
pub fn operations(document: &OpenApi) -> Vec<(&'static str, String)> {
    let mut operations = Vec::new();
    for (path, item) in &document.paths.paths {
        for (method, operation) in [
            ("GET", &item.get),
            ("POST", &item.post),
            ("PUT", &item.put),
            ("PATCH", &item.patch),
            ("DELETE", &item.delete),
        ] {
            if operation.is_some() {
                operations.push((method, path.clone()));
            }
        }
    }
    operations
}

/// Adds problems to an operation that come from another part of the service.
pub fn add_problems(operation: &mut Operation, codes: &[&'static Code]) {
    for (status, added) in describe(&[codes]) {
        match operation.responses.responses.entry(status) {
            Entry::Vacant(entry) => {
                entry.insert(added);
            }
            Entry::Occupied(mut entry) => {
                if let (RefOr::T(present), RefOr::T(added)) = (entry.get_mut(), added) {
                    merge(present, added);
                }
            }
        }
    }
}

/// Adds the codes of a response to another response with the same status.
fn merge(present: &mut Response, mut added: Response) {
    present.description = format!("{}, {}", present.description, added.description);
    let added = added.content.swap_remove(PROBLEM_JSON);
    let present = present.content.get_mut(PROBLEM_JSON);
    if let (Some(RefOr::T(present)), Some(RefOr::T(added))) = (present, added) {
        present.examples.extend(added.examples);
    }
}

/// Headers of problems with a status, for all operations.
fn headers(status: &str) -> &'static [(&'static str, &'static str)] {
    match status {
        "401" => &[("WWW-Authenticate", "How to authenticate (RFC 6750)")],
        "429" => &[
            (
                "Retry-After",
                "Seconds until the next request is let through",
            ),
            ("RateLimit", "What is left of the quota"),
            ("RateLimit-Policy", "The quota"),
        ],
        _ => &[],
    }
}

fn add_headers(response: &mut Response, headers: &[(&str, &str)]) {
    for (name, description) in headers {
        response
            .headers
            .entry((*name).to_owned())
            .or_insert_with(|| header(description).into());
    }
}

fn header(description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(Object::with_type(Type::String)))
        .description(Some(description))
        .build()
}

fn example(code: &Code) -> utoipa::openapi::example::Example {
    let when = code.doc.split_whitespace().collect::<Vec<_>>().join(" ");
    let value = serde_json::json!({
        "type": format!("urn:problem:{}", code.code.to_ascii_lowercase()),
        "title": code.title,
        "status": code.status,
        "detail": when,
        "code": code.code,
        "request_id": "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
        "errors": [],
    });
    ExampleBuilder::new()
        .summary(code.title)
        .value(Some(value))
        .build()
}

#[cfg(test)]
mod tests {
    use utoipa::OpenApi as _;

    use super::*;
    use crate::idempotency::IdempotencyKeyHeader;

    crate::problem_responses! {
        /// Problems of sending a mail.
        struct SendMailProblems = [&[codes::UNAUTHENTICATED], groups::IDEMPOTENCY_KEY];
    }

    #[utoipa::path(
        post,
        path = "/mails",
        params(IdempotencyKeyHeader),
        responses((status = 201, description = "Sent"), SendMailProblems)
    )]
    #[expect(dead_code, reason = "only its description is used")]
    fn send_mail() {}

    #[utoipa::path(get, path = "/mails", responses((status = 200, description = "Mails")))]
    #[expect(dead_code, reason = "only its description is used")]
    fn list_mails() {}

    #[derive(utoipa::OpenApi)]
    #[openapi(paths(send_mail, list_mails))]
    struct Document;

    /// The response of an operation as JSON. `null` if there is none.
    fn response(document: &OpenApi, method: &str, status: &str) -> serde_json::Value {
        let document = serde_json::to_value(document).unwrap();
        document["paths"]["/mails"][method]["responses"][status].clone()
    }

    #[test]
    fn an_operation_describes_its_own_problems_and_those_of_the_layers() {
        let mut document = Document::openapi();
        assert!(response(&document, "post", "503").is_null());
        complete(&mut document);
        let conflict = response(&document, "post", "409");
        assert_eq!(conflict["description"], "IDEMPOTENCY_IN_PROGRESS");
        let unauthenticated = response(&document, "post", "401");
        assert!(!unauthenticated["headers"]["WWW-Authenticate"].is_null());
        for method in ["get", "post"] {
            let overloaded = response(&document, method, "503");
            assert_eq!(overloaded["description"], "OVERLOADED, DEADLINE_EXCEEDED");
        }
    }

    #[test]
    fn the_replay_header_belongs_to_operations_with_a_key() {
        let mut document = Document::openapi();
        complete(&mut document);
        let replayed = |method, status| {
            let response = response(&document, method, status);
            !response["headers"]["Idempotency-Replayed"].is_null()
        };
        assert!(replayed("post", "201"));
        assert!(!replayed("post", "409"));
        assert!(!replayed("get", "200"));
    }

    #[test]
    fn problems_of_other_parts_are_added() {
        let mut document = Document::openapi();
        let post = document.paths.paths.get_mut("/mails").unwrap();
        let post = post.post.as_mut().unwrap();
        add_problems(
            post,
            &[codes::PRECONDITION_FAILED, codes::VALIDATION_FAILED],
        );
        let added = response(&document, "post", "412");
        assert_eq!(added["description"], "PRECONDITION_FAILED");
        let both = response(&document, "post", "422");
        let names = "IDEMPOTENCY_MISMATCH, VALIDATION_FAILED";
        assert_eq!(both["description"], names);
        let examples = &both["content"][PROBLEM_JSON]["examples"];
        assert_eq!(examples.as_object().unwrap().len(), 2);
    }
}
