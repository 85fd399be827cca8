//! A client of the identity routes.

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::support::Service;

pub const PASSWORD: &str = "a passphrase for tests";

/// A response: status, headers and body.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    /// Asserts that the response is this problem and is well-formed.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status.as_u16(), &self.body["code"]),
            (status, &json!(code)),
            "{self:?}"
        );
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(self.body["status"], status);
        for member in ["type", "title", "detail", "request_id", "trace_id"] {
            assert!(self.body[member].is_string(), "{member}: {self:?}");
        }
    }

    #[track_caller]
    pub fn is(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
    }

    pub fn text(&self, member: &str) -> String {
        self.body[member].as_str().expect(member).to_owned()
    }

    pub fn etag(&self) -> String {
        self.headers["etag"].to_str().unwrap().to_owned()
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.expect("a body");
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).expect("JSON")
    };
    Answer {
        status,
        headers,
        body,
    }
}

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
