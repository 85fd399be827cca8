//! Responses of the service.

use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// A complete response.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// JSON, otherwise the text as a string. `Null` if the body is empty.
    pub body: Value,
}

/// Sends a request and reads the complete response.
pub async fn send(request: RequestBuilder) -> Answer {
    let answer = request.send().await.expect("an answer");
    let (status, headers) = (answer.status(), answer.headers().clone());
    let text = answer.text().await.expect("a body");
    let body = match serde_json::from_str(&text) {
        Ok(json) => json,
        Err(_) if text.is_empty() => Value::Null,
        Err(_) => Value::String(text),
    };
    Answer {
        status,
        headers,
        body,
    }
}

impl Answer {
    #[track_caller]
    pub fn is(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
    }

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

    /// A header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    /// A text member of the body.
    pub fn text(&self, member: &str) -> String {
        self.body[member].as_str().expect(member).to_owned()
    }

    pub fn etag(&self) -> String {
        self.header("etag").to_owned()
    }

    pub fn request_id(&self) -> &str {
        self.header("x-request-id")
    }

    /// The trace id of a problem.
    pub fn trace_id(&self) -> Option<&str> {
        self.body["trace_id"].as_str()
    }
}
