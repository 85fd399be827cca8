//! The OpenAPI document.

use settings::Default;

use super::golden;

#[test]
fn the_document_is_written_from_the_code() {
    let mut document = gantry::app::openapi().to_pretty_json().unwrap();
    document.push('\n');
    golden("docs/openapi.json", &document);
}

/// Generated clients name their methods after operation ids, and Swagger UI addresses operations by
/// them. Handlers of two slices may have the same name, operations may not.
#[test]
fn operation_ids_are_unique_and_descriptive() {
    let document = serde_json::to_value(gantry::app::openapi()).unwrap();
    let mut owners = std::collections::HashMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(operation) = operation.as_object().filter(|_| is_method(method)) else {
                continue;
            };
            let here = format!("{method} {path}");
            let id = operation["operationId"].as_str().unwrap_or_default();
            // A single verb is the default id from the name of the handler.
            let telling = id == "ping" || id.contains(|letter: char| letter.is_ascii_uppercase());
            let word = id.starts_with(|letter: char| letter.is_ascii_lowercase())
                && id.chars().all(|letter| letter.is_ascii_alphanumeric());
            assert!(
                telling && word,
                "{here}: give it an operation_id such as listTransfers, not {id:?}"
            );
            if let Some(other) = owners.insert(id.to_owned(), here.clone()) {
                panic!("{here} and {other} share the operationId {id}");
            }
        }
    }
    assert!(owners.len() >= 17, "{owners:?}");
}

/// Swagger UI shows the meaning of each problem in every slice.
#[test]
fn every_operation_describes_its_problems_to_the_same_depth() {
    let document = serde_json::to_value(gantry::app::openapi()).unwrap();
    let codes: Vec<_> = gantry::app::problem_codes();
    let (mut answers, always) = (0, ["400", "406", "413", "414", "429", "500", "503"]);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let here = format!("{method} {path}");
            let responses = operation["responses"].as_object().unwrap();
            let mut expected = always.to_vec();
            if let Some(body) = operation.get("requestBody") {
                expected.extend(["408", "415"]);
                // Wrong fields of a form are 400 (RFC 6749, 5.2).
                if body["content"].get("application/json").is_some() {
                    expected.push("422");
                }
            }
            if operation.get("security").is_some() {
                expected.push("401");
            }
            for status in expected {
                assert!(responses.contains_key(status), "{here} lacks {status}");
            }
            for (status, response) in responses {
                let Some(content) = response["content"].get("application/problem+json") else {
                    assert!(
                        status.starts_with(['2', '3']),
                        "{here}: {status} has no body"
                    );
                    continue;
                };
                answers += 1;
                let here = format!("{here}: {status}");
                assert_eq!(
                    content["schema"]["$ref"], "#/components/schemas/Problem",
                    "{here}"
                );
                let examples = content["examples"]
                    .as_object()
                    .unwrap_or_else(|| panic!("{here}"));
                let text = response["description"].as_str().unwrap();
                for code in &codes {
                    let named = text.split([',', ' ']).any(|word| word == code.code);
                    assert_eq!(
                        named,
                        examples.contains_key(code.code),
                        "{here}: {}",
                        code.code
                    );
                    let right = !named || code.status.to_string() == *status;
                    assert!(right, "{here}: {} is {}", code.code, code.status);
                }
                assert!(!examples.is_empty(), "{here}: {text} names no code");
                let headers = response["headers"].as_object();
                let has = |name| headers.is_some_and(|headers| headers.contains_key(name));
                assert!(status != "429" || has("Retry-After"), "{here}");
                assert!(status != "401" || has("WWW-Authenticate"), "{here}");
            }
        }
    }
    assert!(answers >= 150, "{answers}");
}

/// The requests in the description exist, and its login works in development.
#[test]
fn the_servers_and_login_of_the_description_exist() {
    let document = serde_json::to_value(gantry::app::openapi()).unwrap();
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    assert_eq!(schemes.keys().collect::<Vec<_>>(), ["api_key", "bearer"]);
    let tags = document["tags"].as_array().unwrap();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let tag = &operation["tags"][0];
            assert!(tags.iter().any(|known| known["name"] == *tag), "{tag}");
            let security = operation["security"].as_array().into_iter().flatten();
            for scheme in security.flat_map(|one| one.as_object().unwrap().keys()) {
                assert!(schemes.contains_key(scheme), "{scheme}");
            }
        }
    }
    let login = &document["components"]["schemas"]["Login"]["example"];
    for (member, key) in [
        ("email", "auth.bootstrap_admin_email"),
        ("password", "auth.bootstrap_admin_password"),
    ] {
        let mut keys = gantry::config::SECTIONS.iter().copied().flatten();
        let key = keys.find(|known| known.path == key).unwrap();
        let Default::DevelopmentOnly(value) = key.default else {
            panic!("{}", key.path);
        };
        assert_eq!(login[member], value, "{member}");
    }
}

fn is_method(member: &str) -> bool {
    [
        "get", "put", "post", "delete", "options", "head", "patch", "trace",
    ]
    .contains(&member)
}
