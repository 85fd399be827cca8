//! A client of the identity routes.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::Service;
pub use crate::support::{Answer, send};

pub const PASSWORD: &str = "a passphrase for tests";

pub async fn post(service: &Service, path: &str, body: &Value) -> Answer {
    send(service.client.post(service.url(path)).json(body)).await
}

pub async fn register(service: &Service, email: &str) -> Answer {
    let body = json!({"email": email, "name": "Ada", "password": PASSWORD});
    post(service, "/api/v1/auth/register", &body).await
}

pub async fn login(service: &Service, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    post(service, "/api/v1/auth/login", &body).await
}

pub async fn refresh(service: &Service, token: &str) -> Answer {
    post(
        service,
        "/api/v1/auth/refresh",
        &json!({"refresh_token": token}),
    )
    .await
}

pub async fn logout(service: &Service, token: &str) -> Answer {
    post(
        service,
        "/api/v1/auth/logout",
        &json!({"refresh_token": token}),
    )
    .await
}

/// Registers and logs in. Returns the tokens.
pub async fn tokens(service: &Service, email: &str) -> (String, String) {
    register(service, email).await.is(201);
    let answer = login(service, email, PASSWORD).await;
    answer.is(200);
    (answer.text("access_token"), answer.text("refresh_token"))
}

/// A request to the user's own account.
pub fn me(service: &Service, method: Method, token: &str) -> RequestBuilder {
    let url = service.url("/api/v1/users/me");
    service.client.request(method, url).bearer_auth(token)
}

pub async fn read_me(service: &Service, token: &str) -> Answer {
    send(me(service, Method::GET, token)).await
}

/// Erases the user's own account.
pub async fn leave(service: &Service, token: &str) -> Answer {
    let body = json!({"current_password": PASSWORD});
    send(me(service, Method::DELETE, token).json(&body)).await
}

/// `auth_attempts_total` of one kind and outcome.
pub async fn attempts(service: &Service, kind: &str, outcome: &str) -> f64 {
    let samples = service.metrics().await;
    let labels = [("kind", kind), ("outcome", outcome)];
    samples
        .get("auth_attempts_total", &labels)
        .expect("the series exists")
}
