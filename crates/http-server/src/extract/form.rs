//! The body of a form: `application/x-www-form-urlencoded`.

use axum::extract::{FromRequest, Request};
use request::Problem;
use request::problem::codes;

use super::{has_type, read_body};
use crate::problem::ProblemResponse;

/// The parameters of a form.
pub struct Form(Vec<(String, String)>);

/// A parameter occurs more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the parameter occurs more than once")]
pub struct Repeated;

impl Form {
    /// Removes and returns the value of a parameter. `None` if it is absent or empty.
    ///
    /// # Errors
    /// If it occurs more than once.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Repeated> {
        let mut found = self.0.extract_if(.., |(other, _)| other == name);
        let (first, second) = (found.next(), found.next());
        if second.is_some() {
            return Err(Repeated);
        }
        Ok(first
            .map(|(_, value)| value)
            .filter(|value| !value.is_empty()))
    }
}

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = ProblemResponse;

    async fn from_request(request: Request, _: &S) -> Result<Self, ProblemResponse> {
        let is_form = has_type(request.headers(), |essence| {
            essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
        });
        if !is_form {
            return Err(ProblemResponse(Problem::new(
                codes::UNSUPPORTED_MEDIA_TYPE,
                "The Content-Type of the body must be application/x-www-form-urlencoded.",
            )));
        }
        let body = read_body(request).await?;
        Ok(Self(form_urlencoded::parse(&body).into_owned().collect()))
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::header::CONTENT_TYPE;

    use super::*;

    async fn read(content_type: &str, body: &'static str) -> Result<Form, ProblemResponse> {
        let request = Request::builder().header(CONTENT_TYPE, content_type);
        Form::from_request(request.body(Body::from(body)).unwrap(), &()).await
    }

    #[tokio::test]
    async fn parameters_are_decoded_and_taken_once() {
        let body = "a=x+y%26&b=&c=1&c=2&a%62=3";
        let mut form = read("Application/X-WWW-Form-Urlencoded;charset=utf-8", body)
            .await
            .unwrap();
        assert_eq!(form.take("a"), Ok(Some("x y&".to_owned())));
        assert_eq!(form.take("a"), Ok(None));
        assert_eq!(form.take("b"), Ok(None));
        assert_eq!(form.take("c"), Err(Repeated));
        assert_eq!(form.take("ab"), Ok(Some("3".to_owned())));
    }

    #[tokio::test]
    async fn another_type_is_rejected() {
        for content_type in ["application/json", "text/plain", "multipart/form-data", ""] {
            let rejection = read(content_type, "a=1").await.err().unwrap();
            assert_eq!(
                rejection.0.code,
                codes::UNSUPPORTED_MEDIA_TYPE,
                "{content_type}"
            );
        }
    }
}
