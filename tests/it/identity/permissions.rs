//! Every route decides about its caller. The decision is compared with the OpenAPI document, for
//! every operation and every kind of credential.

use std::collections::BTreeSet;

use request::Role;
use reqwest::Method;
use serde_json::{Value, json};

use super::client::{PASSWORD, login, post, register, send, tokens};
use crate::on_both;
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};
use crate::support::{Answer, Service};

/// Operations without credentials. A new one belongs here only if everyone may call it.
const PUBLIC: [&str; 10] = [
    "ping",
    "registerUser",
    "logIn",
    "refreshTokens",
    "logOut",
    "requestToken",
    "logInBrowser",
    "refreshBrowser",
    "logOutBrowser",
    "getPublicKeys",
];

/// An operation of the OpenAPI document.
struct Operation {
    id: String,
    method: Method,
    path: String,
    /// The least role of the user. `None` without credentials.
    role: Option<Role>,
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
                role: requirements("bearer").map(|role| Role::parse(&role).unwrap_or(Role::User)),
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

/// A user with a role.
struct Account {
    role: Role,
    email: String,
    /// An API key with all scopes.
    key: String,
}

impl Account {
    /// Registers a user and gives it the role.
    async fn create(service: &Service, admin: &str, role: Role, scopes: &[&str]) -> Self {
        let email = format!("{}@roles.example", role.as_str());
        let id = register(service, &email).await.text("id");
        if role != Role::User {
            let url = service.url(&format!("/api/v1/users/{id}"));
            let change = service.client.patch(url).bearer_auth(admin);
            send(change.json(&json!({"role": role.as_str()})))
                .await
                .is(200);
        }
        let token = login(service, &email, PASSWORD).await.text("access_token");
        let key = key(service, &token, scopes).await;
        Self { role, email, key }
    }
}

on_both! {
    async fn every_route_decides_as_documented(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = login(&service, ADMIN_EMAIL, ADMIN_PASSWORD).await.text("access_token");
        let operations = operations(&service).await;
        assert!(operations.len() > 20, "{}", operations.len());
        let scopes: BTreeSet<&str> =
            operations.iter().filter_map(|operation| operation.scope.as_deref()).collect();
        let all: Vec<&str> = scopes.iter().copied().collect();
        let mut accounts = Vec::new();
        for role in Role::ALL {
            accounts.push(Account::create(&service, &admin, role, &all).await);
        }

        for operation in &operations {
            let Some(least) = operation.role else {
                assert!(PUBLIC.contains(&operation.id.as_str()), "{} is public", operation.id);
                assert!(operation.scope.is_none(), "{}", operation.id);
                continue;
            };
            operation.expect(&service, None, "unauthenticated").await;
            for wrong in [("authorization", "Bearer x"), ("authorization", "Basic eDp5"), ("x-api-key", "x")] {
                operation.expect(&service, Some(wrong), "unauthenticated").await;
            }
            for Account { role, email, key } in &accounts {
                let has_role = *role >= least;
                let decision = if has_role { "allowed" } else { "role" };
                // Some operations end the session of their caller.
                let token = bearer(&service, email, PASSWORD).await;
                operation.expect(&service, Some(("authorization", &token)), decision).await;
                let without_scope = if has_role { "scope" } else { "role" };
                let decision = if operation.scope.is_some() { decision } else { without_scope };
                operation.expect(&service, Some(("x-api-key", key)), decision).await;
            }
            if let Some(scope) = operation.scope.as_deref() {
                let others: Vec<&str> = all.iter().copied().filter(|other| *other != scope).collect();
                let without = key(&service, &admin, &others).await;
                operation.expect(&service, Some(("x-api-key", &without)), "scope").await;
                let with = key(&service, &admin, &[scope]).await;
                operation.expect(&service, Some(("x-api-key", &with)), "allowed").await;
            }
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
            operation.is_some_and(|operation| operation.role.is_none()),
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
