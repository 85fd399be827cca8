//! Every route decides about its caller. The decision is compared with the OpenAPI document, for
//! every operation and every kind of credential.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use super::client::{PASSWORD, login, post, send, tokens};
use crate::on_both;
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};
use crate::support::{Answer, Service};

/// Operations without credentials. A new one belongs here only if everyone may call it.
const PUBLIC: [&str; 6] = [
    "ping",
    "registerUser",
    "logIn",
    "refreshTokens",
    "logOut",
    "getPublicKeys",
];

/// An operation of the OpenAPI document.
struct Operation {
    id: String,
    method: Method,
    path: String,
    /// Whether a bearer token has to belong to an administrator. `None` without credentials.
    bearer: Option<bool>,
    /// The scope that an API key needs. `None` if no API key may call it.
    scope: Option<String>,
}

async fn operations(service: &Service) -> Vec<Operation> {
    let document = send(service.client.get(service.url("/openapi.json"))).await;
    let mut operations = Vec::new();
    for (path, item) in document.body["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let requirements = |scheme: &str| {
                let security = operation["security"].as_array()?;
                let found = security.iter().find_map(|one| one.get(scheme))?;
                let words: Vec<_> = found.as_array()?.iter().filter_map(Value::as_str).collect();
                Some(words.join(" "))
            };
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.replace("{id}", "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f"),
                bearer: requirements("bearer").map(|role| role == "admin"),
                scope: requirements("api_key"),
            });
        }
    }
    operations
}

impl Operation {
    /// Calls the operation with an empty object, which no operation accepts as its body.
    async fn call(&self, service: &Service, credentials: Option<(&str, &str)>) -> Answer {
        let request = service
            .client
            .request(self.method.clone(), service.url(&self.path));
        let request = match credentials {
            Some((header, value)) => request.header(header, value),
            None => request,
        };
        let request = if self.method == Method::GET {
            request
        } else {
            request.json(&json!([]))
        };
        send(request).await
    }

    /// Calls the operation and compares the decision.
    async fn expect(&self, service: &Service, credentials: Option<(&str, &str)>, decision: &str) {
        let answer = self.call(service, credentials).await;
        let found = match (answer.status.as_u16(), answer.body["code"].as_str()) {
            (401, _) => "unauthenticated",
            (403, Some("INSUFFICIENT_SCOPE")) => "scope",
            (403, _) => "role",
            _ => "allowed",
        };
        assert_eq!(
            found, decision,
            "{} with {credentials:?}: {answer:?}",
            self.id
        );
    }
}

/// Logs in. Returns the value of `Authorization`.
async fn bearer(service: &Service, email: &str, password: &str) -> String {
    let token = login(service, email, password).await.text("access_token");
    format!("Bearer {token}")
}

/// Creates an API key with these scopes. Returns its text.
async fn key(service: &Service, token: &str, scopes: &[&str]) -> String {
    let url = service.url("/api/v1/api-keys");
    let request = service.client.post(url).bearer_auth(token);
    let created = send(request.json(&json!({"name": "a key", "scopes": scopes}))).await;
    created.is(201);
    created.text("key")
}

on_both! {
    async fn every_route_decides_as_documented(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = login(&service, ADMIN_EMAIL, ADMIN_PASSWORD).await.text("access_token");
        let (user, _) = tokens(&service, "ada@example.com").await;
        let operations = operations(&service).await;
        assert!(operations.len() > 20, "{}", operations.len());
        let scopes: BTreeSet<&str> =
            operations.iter().filter_map(|operation| operation.scope.as_deref()).collect();
        let all: Vec<&str> = scopes.iter().copied().collect();
        let (all_of_user, all_of_admin) =
            (key(&service, &user, &all).await, key(&service, &admin, &all).await);

        for operation in &operations {
            let Some(needs_admin) = operation.bearer else {
                assert!(PUBLIC.contains(&operation.id.as_str()), "{} is public", operation.id);
                assert!(operation.scope.is_none(), "{}", operation.id);
                continue;
            };
            operation.expect(&service, None, "unauthenticated").await;
            for wrong in [("authorization", "Bearer x"), ("authorization", "Basic eDp5"), ("x-api-key", "x")] {
                operation.expect(&service, Some(wrong), "unauthenticated").await;
            }
            let of_user = if needs_admin { "role" } else { "allowed" };
            // Some operations end the session of their caller.
            let user = bearer(&service, "ada@example.com", PASSWORD).await;
            operation.expect(&service, Some(("authorization", &user)), of_user).await;

            let Some(scope) = operation.scope.as_deref() else {
                let of_user = if needs_admin { "role" } else { "scope" };
                operation.expect(&service, Some(("x-api-key", &all_of_user)), of_user).await;
                operation.expect(&service, Some(("x-api-key", &all_of_admin)), "scope").await;
                continue;
            };
            operation.expect(&service, Some(("x-api-key", &all_of_user)), of_user).await;
            let others: Vec<&str> = all.iter().copied().filter(|other| *other != scope).collect();
            let without = key(&service, &admin, &others).await;
            operation.expect(&service, Some(("x-api-key", &without)), "scope").await;
            let with = key(&service, &admin, &[scope]).await;
            operation.expect(&service, Some(("x-api-key", &with)), "allowed").await;
        }
        // Last, because some of these calls end the session that creates keys above.
        for operation in operations.iter().filter(|operation| operation.bearer.is_some()) {
            let admin = bearer(&service, ADMIN_EMAIL, ADMIN_PASSWORD).await;
            operation.expect(&service, Some(("authorization", &admin)), "allowed").await;
        }
    }

    /// Without a list a key has all scopes, so the list of scopes is complete.
    async fn the_scopes_of_the_document_are_those_of_the_service(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let request = service.client.post(service.url("/api/v1/api-keys")).bearer_auth(&token);
        let created = send(request.json(&json!({"name": "a key"}))).await;
        let of_service: BTreeSet<_> =
            created.body["scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap().to_owned()).collect();
        let documented: BTreeSet<_> =
            operations(&service).await.into_iter().filter_map(|operation| operation.scope).collect();
        assert_eq!(of_service, documented);
    }
}

/// A route that `app` puts behind no authentication is found by the walk.
#[tokio::test]
async fn public_operations_need_no_credentials() {
    let service = Service::start(crate::support::Backend::Sqlite).await;
    let operations = operations(&service).await;
    for id in PUBLIC {
        let operation = operations.iter().find(|operation| operation.id == id);
        assert!(
            operation.is_some_and(|operation| operation.bearer.is_none()),
            "{id}"
        );
    }
    post(
        &service,
        "/api/v1/auth/logout",
        &json!({"refresh_token": "x"}),
    )
    .await
    .is(204);
}
