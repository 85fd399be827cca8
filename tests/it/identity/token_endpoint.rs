//! The token endpoint of RFC 6749.

use super::client::{PASSWORD, attempts, read_me, register, send};
use crate::on_both;
use crate::support::{Answer, Service};

async fn ask(service: &Service, form: &[(&str, &str)]) -> Answer {
    let url = service.url("/api/v1/auth/token");
    send(service.client.post(url).form(form)).await
}

fn is_error(answer: &Answer, error: &str) {
    answer.is(400);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.body["error"], error, "{answer:?}");
    assert_eq!(answer.body["error_description"], answer.body["detail"]);
    assert_eq!(answer.body["code"], error.to_ascii_uppercase());
    assert_eq!(answer.body["request_id"], answer.request_id());
}

on_both! {
    async fn both_grants_give_tokens(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let password = [
            ("grant_type", "password"), ("username", "Ada@example.com"), ("password", PASSWORD),
            // Unknown, or without a value.
            ("client_id", "app"), ("scope", ""), ("x", "1"), ("x", "2"),
        ];
        let login = ask(&service, &password).await;
        login.is(200);
        assert_eq!(login.header("cache-control"), "no-store");
        assert_eq!(login.body["token_type"], "Bearer");
        assert_eq!(login.body["expires_in"], 900);
        read_me(&service, &login.text("access_token")).await.is(200);

        let token = login.text("refresh_token");
        let refresh = [("grant_type", "refresh_token"), ("refresh_token", token.as_str())];
        let refreshed = ask(&service, &refresh).await;
        refreshed.is(200);
        read_me(&service, &refreshed.text("access_token")).await.is(200);
        is_error(&ask(&service, &refresh).await, "invalid_grant");
        assert!((attempts(&service, "login", "success").await - 1.0).abs() < f64::EPSILON);
    }

    async fn errors_have_the_form_of_the_rfc(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let (grant, user) = (("grant_type", "password"), ("username", "ada@example.com"));
        let password = ("password", PASSWORD);
        for (form, error) in [
            (&[][..], "invalid_request"),
            (&[("grant_type", "")], "invalid_request"),
            (&[grant, grant, user, password], "invalid_request"),
            (&[grant, user], "invalid_request"),
            (&[grant, password], "invalid_request"),
            (&[grant, user, password, password], "invalid_request"),
            (&[("grant_type", "refresh_token")], "invalid_request"),
            (&[("grant_type", "client_credentials")], "unsupported_grant_type"),
            (&[("grant_type", "Password"), user, password], "unsupported_grant_type"),
            (&[grant, user, password, ("scope", "users:read")], "invalid_scope"),
            (&[grant, user, ("password", "a wrong passphrase")], "invalid_grant"),
            (&[grant, ("username", "nobody@example.com"), password], "invalid_grant"),
            (&[grant, ("username", "x"), ("password", "x")], "invalid_grant"),
            (&[("grant_type", "refresh_token"), ("refresh_token", "x")], "invalid_grant"),
        ] {
            is_error(&ask(&service, form).await, error);
        }
        let url = service.url("/api/v1/auth/token");
        let json = service.client.post(&url).json(&serde_json::json!({"grant_type": "password"}));
        send(json).await.is_problem(415, "UNSUPPORTED_MEDIA_TYPE");
    }
}
