//! Sessions of browsers: tokens in cookies, and requests of other sites.

use reqwest::Method;
use reqwest::header::SET_COOKIE;
use serde_json::{Value, json};

use super::client::{PASSWORD, register, send, tokens};
use crate::on_both;
use crate::support::{Answer, Backend, Service};

const OWN_PAGE: (&str, &str) = ("sec-fetch-site", "same-origin");
const OTHER_SITE: (&str, &str) = ("sec-fetch-site", "cross-site");
const COOKIES: [&str; 2] = ["__Host-access_token", "__Host-refresh_token"];

async fn start(backend: Backend) -> Service {
    let service = Service::builder(backend).env("APP__AUTH__BROWSER_SESSIONS", "true");
    let service = service.start().await;
    register(&service, "ada@example.com").await.is(201);
    service
}

/// A browser that keeps the cookies. Each request comes from a page.
struct Browser<'a> {
    service: &'a Service,
    /// The value of `Cookie`.
    cookies: String,
}

impl<'a> Browser<'a> {
    async fn log_in(service: &'a Service) -> Self {
        let mut browser = Self {
            service,
            cookies: String::new(),
        };
        let body = json!({"email": "ada@example.com", "password": PASSWORD});
        let login = browser
            .request(Method::POST, "auth/browser/login", OWN_PAGE, &body)
            .await;
        login.is(204);
        assert!(login.body.is_null(), "scripts see no token: {}", login.body);
        assert_eq!(login.header("cache-control"), "no-store");
        browser.keep(&login);
        browser
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        page: (&str, &str),
        body: &Value,
    ) -> Answer {
        let url = self.service.url(&format!("/api/v1/{path}"));
        let request = self
            .service
            .client
            .request(method, url)
            .header(page.0, page.1);
        send(request.header("cookie", &self.cookies).json(body)).await
    }

    async fn post(&self, path: &str, page: (&str, &str)) -> Answer {
        self.request(Method::POST, path, page, &json!({})).await
    }

    async fn me(&self) -> Answer {
        let url = self.service.url("/api/v1/users/me");
        send(self.service.client.get(url).header("cookie", &self.cookies)).await
    }

    fn keep(&mut self, answer: &Answer) {
        let pairs: Vec<_> = set_cookies(answer)
            .into_iter()
            .map(|cookie| cookie.split(';').next().unwrap().to_owned())
            .collect();
        self.cookies = pairs.join("; ");
    }
}

fn set_cookies(answer: &Answer) -> Vec<String> {
    let values = answer.headers.get_all(SET_COOKIE).iter();
    values
        .map(|value| value.to_str().unwrap().to_owned())
        .collect()
}

fn assert_removed(answer: &Answer) {
    for (cookie, name) in set_cookies(answer).iter().zip(COOKIES) {
        let removed = format!("{name}=; HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age=0");
        assert_eq!(*cookie, removed);
    }
    assert_eq!(set_cookies(answer).len(), COOKIES.len());
}

on_both! {
    async fn a_browser_logs_in_refreshes_and_logs_out_with_cookies(backend: Backend) {
        let service = start(backend).await;
        let mut browser = Browser::log_in(&service).await;
        browser.me().await.is(200);
        let before = browser.cookies.clone();

        let refreshed = browser.post("auth/browser/refresh", OWN_PAGE).await;
        refreshed.is(204);
        browser.keep(&refreshed);
        assert_ne!(browser.cookies, before);
        browser.me().await.is(200);
        let sessions = service.url("/api/v1/sessions");
        let sessions = send(service.client.get(sessions).header("cookie", &browser.cookies)).await;
        assert_eq!(sessions.body["items"].as_array().unwrap().len(), 1, "the session goes on");
        assert_eq!(sessions.body["items"][0]["current"], true);

        let change = json!({"name": "Countess"});
        browser.request(Method::PATCH, "users/me", OWN_PAGE, &change).await.is(200);

        let ended = browser.post("auth/browser/logout", OWN_PAGE).await;
        ended.is(204);
        assert_removed(&ended);
        browser.me().await.is_problem(401, "UNAUTHENTICATED");
        let late = browser.post("auth/browser/refresh", OWN_PAGE).await;
        late.is_problem(401, "INVALID_REFRESH_TOKEN");
        assert_removed(&late);
        let empty = Browser { service: &service, cookies: String::new() };
        empty.post("auth/browser/refresh", OWN_PAGE).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        empty.post("auth/browser/logout", OWN_PAGE).await.is(204);
    }

    async fn cookies_are_out_of_reach_for_scripts_other_hosts_and_other_sites(backend: Backend) {
        let service = start(backend).await;
        let browser = Browser { service: &service, cookies: String::new() };
        let body = json!({"email": "ada@example.com", "password": PASSWORD});
        let login = browser.request(Method::POST, "auth/browser/login", OWN_PAGE, &body).await;
        let ages = [15 * 60, 30 * 24 * 3_600];
        assert_eq!(set_cookies(&login).len(), 2);
        for ((cookie, name), age) in set_cookies(&login).iter().zip(COOKIES).zip(ages) {
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            assert!(pair.starts_with(&format!("{name}=")), "{pair}");
            let expected = format!("HttpOnly; SameSite=Strict; Secure; Path=/; Max-Age={age}");
            assert_eq!(attributes, expected);
        }
    }

    async fn a_page_of_another_site_changes_nothing_with_cookies(backend: Backend) {
        let service = start(backend).await;
        let browser = Browser::log_in(&service).await;
        let change = json!({"name": "Mallory"});
        for page in [OTHER_SITE, ("sec-fetch-site", "same-site"), ("origin", "https://evil.test"), ("x-none", "1")] {
            let answer = browser.request(Method::PATCH, "users/me", page, &change).await;
            answer.is_problem(403, "CROSS_SITE_REQUEST");
            for path in ["login", "refresh", "logout"] {
                let answer = browser.post(&format!("auth/browser/{path}"), page).await;
                answer.is_problem(403, "CROSS_SITE_REQUEST");
                assert!(set_cookies(&answer).is_empty());
            }
        }
        assert_eq!(browser.me().await.text("name"), "Ada");
        let origin = format!("http://{}", service.address());
        let page = ("origin", origin.as_str());
        browser.request(Method::PATCH, "users/me", page, &change).await.is(200);
    }

    /// A header is set by the program that sends the request, never by a browser on its own.
    async fn a_header_has_precedence_over_a_cookie(backend: Backend) {
        let service = start(backend).await;
        let browser = Browser::log_in(&service).await;
        let (grace, _) = tokens(&service, "grace@example.com").await;
        let url = service.url("/api/v1/users/me");
        let request = || service.client.get(&url).header("cookie", &browser.cookies);
        let answer = send(request().bearer_auth(&grace)).await;
        assert_eq!(answer.text("email"), "grace@example.com");
        send(request().bearer_auth("wrong")).await.is_problem(401, "UNAUTHENTICATED");
        send(request().header("x-api-key", "wrong")).await.is_problem(401, "UNAUTHENTICATED");
        // No cookie counts for it, so it may come from everywhere.
        let change = service.client.patch(&url).header("cookie", &browser.cookies);
        let change = change.bearer_auth(&grace).json(&json!({"name": "Grace"}));
        send(change.header(OTHER_SITE.0, OTHER_SITE.1)).await.is(200);
    }

    async fn without_the_setting_cookies_mean_nothing(backend: Backend) {
        let service = Service::start(backend).await;
        let (token, _) = tokens(&service, "ada@example.com").await;
        let browser = Browser { service: &service, cookies: format!("__Host-access_token={token}") };
        browser.me().await.is_problem(401, "UNAUTHENTICATED");
        for path in ["login", "refresh", "logout"] {
            let answer = browser.post(&format!("auth/browser/{path}"), OWN_PAGE).await;
            answer.is_problem(404, "BROWSER_SESSIONS_OFF");
        }
    }
}
