//! Problems in the OpenAPI document.

use std::collections::BTreeMap;

use request::problem::{Code, codes};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::example::ExampleBuilder;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{Object, OpenApi, Ref, RefOr, Response, ResponseBuilder};

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
/// The texts come from the codes.
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
                .content("application/problem+json", content)
                .build();
            (status.to_string(), response.into())
        })
        .collect()
}

/// Completes the problems of every operation.
///
/// Problems of the layers are added for each status that an operation does not describe itself.
/// Problems that are described only by the names of their codes get one example for each code, and
/// their headers.
pub fn complete(document: &mut OpenApi, codes: &[&'static Code]) {
    let refusals = describe(&[LAYERS]);
    for item in document.paths.paths.values_mut() {
        let operations = [
            &mut item.get,
            &mut item.put,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let described = &mut operation.responses.responses;
            for (status, refusal) in &refusals {
                described
                    .entry(status.clone())
                    .or_insert_with(|| refusal.clone());
            }
            for (status, response) in described {
                if let RefOr::T(response) = response {
                    deepen(status, response, codes);
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

/// Sets the codes of a response that an operation leaves to other parts of the service.
pub fn name_codes(operation: &mut Operation, status: &str, codes: &[&Code]) {
    if let Some(RefOr::T(response)) = operation.responses.responses.get_mut(status) {
        let names: Vec<_> = codes.iter().map(|code| code.code).collect();
        response.description = names.join(", ");
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

fn deepen(status: &str, response: &mut Response, codes: &[&'static Code]) {
    let Some(RefOr::T(content)) = response.content.get_mut("application/problem+json") else {
        return;
    };
    if content.examples.is_empty() {
        let words = response.description.split(|letter: char| {
            !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
        });
        content.examples = words
            .filter_map(|word| codes.iter().find(|code| code.code == word))
            .map(|code| (code.code.to_owned(), example(code).into()))
            .collect();
    }
    for (name, description) in headers(status) {
        let header = HeaderBuilder::new()
            .schema(Some(Object::with_type(Type::String)))
            .description(Some(*description));
        response
            .headers
            .entry((*name).to_owned())
            .or_insert_with(|| header.build().into());
    }
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
