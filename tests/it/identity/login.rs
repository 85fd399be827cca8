//! Registration and login.

use std::io::Write as _;

use argon2::Argon2;
use argon2::password_hash::PasswordHasher as _;
use argon2::password_hash::phc::PasswordHash;
use serde_json::{Value, json};

use super::client::{self, PASSWORD, attempts, login, post, read_me, register};
use super::sql::{execute, value};
use crate::on_both;
use crate::support::{Backend, Service, eventually};

on_both! {
    async fn a_password_of_the_configured_list_is_refused(backend: Backend) {
        let mut list = tempfile::NamedTempFile::new().unwrap();
        writeln!(list, "short\nnineteen purple owls\n{PASSWORD}").unwrap();
        let path = list.path().to_str().unwrap();
        let service = Service::builder(backend)
            .env("APP__AUTH__BREACHED_PASSWORDS_PATH", path)
            .start()
            .await;
        let body = json!({"email": "ada@example.com", "name": "Ada", "password": "nineteen purple owls"});
        let refused = post(&service, "/api/v1/auth/register", &body).await;
        refused.is_problem(422, "VALIDATION_FAILED");
        assert_eq!(refused.body["errors"][0]["code"], "BREACHED");
        let body = json!({"email": "ada@example.com", "name": "Ada", "password": "twenty purple owls"});
        post(&service, "/api/v1/auth/register", &body).await.is(201);
        let token = login(&service, "ada@example.com", "twenty purple owls").await.text("access_token");
        let change = json!({"current_password": "twenty purple owls", "new_password": PASSWORD});
        let request = service.client.post(service.url("/api/v1/users/me/password"));
        let refused = client::send(request.bearer_auth(&token).json(&change)).await;
        refused.is_problem(422, "VALIDATION_FAILED");
        assert_eq!(refused.body["errors"][0]["field"], "new_password");

        let mut process = Service::builder(backend)
            .env("APP__AUTH__BREACHED_PASSWORDS_PATH", "/nonexistent/list")
            .spawn()
            .await;
        assert_eq!(process.wait().await.code(), Some(64));
        let report = process.stderr().join("\n");
        assert!(report.contains("auth.breached_passwords_path"), "{report}");
    }

    async fn a_registered_user_logs_in_and_reads_the_account(backend: Backend) {
        let service = Service::start(backend).await;
        let user = register(&service, "  Ada@Example.COM ").await;
        user.is(201);
        assert_eq!(user.body["email"], "ada@example.com");
        assert_eq!(user.body["name"], "Ada");
        assert_eq!(user.body["role"], "user");
        assert!(user.text("created_at").ends_with('Z'));
        assert_eq!(&user.text("id")[14..15], "7", "a UUIDv7");
        assert_eq!(user.body.as_object().unwrap().len(), 5, "nothing else: {:?}", user.body);

        let tokens = login(&service, "ADA@example.com", PASSWORD).await;
        tokens.is(200);
        assert_eq!(tokens.body["token_type"], "Bearer");
        assert_eq!(tokens.body["expires_in"], 900);
        assert_eq!(tokens.headers["cache-control"], "no-store");
        // The second request uses the cached token and user.
        for _ in 0..2 {
            let me = read_me(&service, &tokens.text("access_token")).await;
            me.is(200);
            assert_eq!(me.body, user.body);
        }
        for (kind, expected) in [("register", 1.0), ("login", 1.0), ("token", 2.0)] {
            assert_eq!(attempts(&service, kind, "success").await, expected, "{kind}");
        }
    }

    async fn an_address_is_unique_in_every_spelling(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        register(&service, "ADA@example.com").await.is_problem(409, "EMAIL_TAKEN");
        assert_eq!(attempts(&service, "register", "failure").await, 1.0);
        let racing = futures_util::future::join_all(
            (0..3).map(|_| register(&service, "grace@example.com")),
        )
        .await;
        let mut statuses: Vec<_> = racing.iter().map(|answer| answer.status.as_u16()).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409]);
    }

    async fn an_address_is_unique_in_every_unicode_form(backend: Backend) {
        let service = Service::start(backend).await;
        let user = register(&service, "jose\u{301}@bu\u{308}cher.example").await;
        user.is(201);
        assert_eq!(user.body["email"], "josé@bücher.example");
        for form in ["JOSÉ@xn--bcher-kva.example", "josé@bücher\u{3002}example"] {
            register(&service, form).await.is_problem(409, "EMAIL_TAKEN");
            login(&service, form, PASSWORD).await.is(200);
        }
        for refused in ["ada\u{200b}@example.com", "a\u{ad}da@example.com", "ａda@example.com"] {
            let answer = register(&service, refused).await;
            answer.is_problem(422, "VALIDATION_FAILED");
            assert_eq!(answer.body["errors"][0]["code"], "INVALID_EMAIL");
        }
        for name in ["\u{200b}\u{3164}", "Ada\u{202e}", "Ada\u{2066}"] {
            let body = json!({"email": "a@b.org", "name": name, "password": PASSWORD});
            let answer = post(&service, "/api/v1/auth/register", &body).await;
            answer.is_problem(422, "VALIDATION_FAILED");
            assert_eq!(answer.body["errors"][0]["code"], "INVALID_CHARACTER");
        }
    }

    async fn a_user_with_an_unnormalized_address_can_log_in(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "jose\u{301}@xn--bcher-kva.example").await.is(201);
        let set = "UPDATE users SET email = $1 WHERE email = 'josé@bücher.example'";
        let former = "jose\u{301}@xn--bcher-kva.example";
        execute(backend, &service, set, former.to_owned()).await;
        login(&service, "Jose\u{301}@xn--bcher-kva.example", PASSWORD).await.is(200);
        login(&service, former, "another passphrase").await.is(401);
    }

    async fn common_passwords_are_refused(backend: Backend) {
        let service = Service::start(backend).await;
        let email = "ada.lovelace@example.com";
        for password in ["Password1234", "aaaaaaaaaaaa", "123456789012", email, "Ada.Lovelace1"] {
            let body = json!({"email": email, "name": "Ada", "password": password});
            let answer = post(&service, "/api/v1/auth/register", &body).await;
            answer.is_problem(422, "VALIDATION_FAILED");
            assert_eq!(answer.body["errors"][0]["code"], "TOO_COMMON", "{password}");
        }
        register(&service, email).await.is(201);
        let token = login(&service, email, PASSWORD).await.text("access_token");
        let url = service.url("/api/v1/users/me/password");
        let body = json!({"current_password": PASSWORD, "new_password": "lovelace-ada"});
        let request = service.client.post(url).bearer_auth(token).json(&body);
        client::send(request).await.is_problem(422, "VALIDATION_FAILED");
    }

    async fn wrong_password_and_unknown_user_have_equal_responses(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let wrong = login(&service, "ada@example.com", "another passphrase").await;
        wrong.is_problem(401, "INVALID_CREDENTIALS");
        assert_eq!(wrong.headers["www-authenticate"], "Bearer");
        let long = "x".repeat(300);
        for (email, password) in [
            ("nobody@example.com", PASSWORD),
            ("not an address", PASSWORD),
            ("ada@example.com", ""),
            ("ada@example.com", long.as_str()),
        ] {
            let other = login(&service, email, password).await;
            let words = |body: &Value| {
                let mut body = body.clone();
                let members = body.as_object_mut().unwrap();
                members.remove("request_id");
                members.remove("trace_id");
                body
            };
            assert_eq!(words(&other.body), words(&wrong.body));
            let names = |answer: &client::Answer| {
                let mut names: Vec<_> =
                    answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
                names.sort_unstable();
                names
            };
            assert_eq!(names(&other), names(&wrong));
            assert_eq!(other.headers["content-length"], wrong.headers["content-length"]);
        }
        assert_eq!(attempts(&service, "login", "failure").await, 5.0);
    }

    async fn all_invalid_fields_are_reported_together(backend: Backend) {
        let service = Service::start(backend).await;
        let body = json!({"email": "nobody", "name": " ", "password": "short"});
        let answer = post(&service, "/api/v1/auth/register", &body).await;
        answer.is_problem(422, "VALIDATION_FAILED");
        let errors: Vec<_> = answer.body["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| (error["field"].as_str().unwrap(), error["code"].as_str().unwrap()))
            .collect();
        assert_eq!(
            errors,
            [("email", "INVALID_EMAIL"), ("name", "TOO_SHORT"), ("password", "TOO_SHORT")]
        );
        let text = answer.body.to_string();
        assert!(!text.contains("nobody") && !text.contains("\"short\""), "{text}");
        let body = json!({"email": "a@b.org", "name": "Ada", "password": PASSWORD, "role": "admin"});
        let answer = post(&service, "/api/v1/auth/register", &body).await;
        answer.is_problem(400, "UNKNOWN_FIELD");
        let body = json!({"email": 1, "name": "Ada", "password": PASSWORD});
        let answer = post(&service, "/api/v1/auth/register", &body).await;
        answer.is_problem(422, "VALIDATION_FAILED");
    }

    async fn excess_hashes_are_refused_with_retry_after(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__AUTH__MAX_CONCURRENT_HASHES", "1")
            .env("APP__AUTH__HASH_QUEUE_TIMEOUT", "0s")
            .start()
            .await;
        let answers = futures_util::future::join_all(
            (0..8).map(|_| login(&service, "nobody@example.com", PASSWORD)),
        )
        .await;
        let overloaded: Vec<_> =
            answers.iter().filter(|answer| answer.status.as_u16() == 503).collect();
        assert!(!overloaded.is_empty(), "eight at once pass through one permit");
        for answer in &overloaded {
            answer.is_problem(503, "OVERLOADED");
            assert_eq!(answer.headers["retry-after"], "1");
        }
        let counted = attempts(&service, "login", "overloaded").await;
        let refused = u32::try_from(overloaded.len()).unwrap();
        assert_eq!(counted, f64::from(refused));
        // The slot is free again.
        login(&service, "nobody@example.com", PASSWORD).await.is(401);
    }

    async fn a_login_replaces_a_hash_with_older_parameters(backend: Backend) {
        let service = Service::start(backend).await;
        register(&service, "ada@example.com").await.is(201);
        let older = argon2::Params::new(8 * 1024, 1, 1, None).unwrap();
        let hash: PasswordHash = Argon2::from(older).hash_password(PASSWORD.as_bytes()).unwrap();
        let set = "UPDATE users SET password_hash = $1 WHERE email = 'ada@example.com'";
        execute(backend, &service, set, hash.to_string()).await;
        login(&service, "ada@example.com", "another passphrase").await.is(401);
        assert_eq!(stored_hash(backend, &service).await, hash.to_string());
        login(&service, "ada@example.com", PASSWORD).await.is(200);
        let replaced = stored_hash(backend, &service).await;
        assert!(replaced.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{replaced}");
        login(&service, "ada@example.com", PASSWORD).await.is(200);
        assert_eq!(stored_hash(backend, &service).await, replaced, "once");
    }

    async fn credentials_have_a_stricter_limit(backend: Backend) {
        let service = Service::builder(backend)
            .env("APP__RATE_LIMIT__ENABLED", "true")
            .env("APP__RATE_LIMIT__AUTH__BURST", "2")
            .env("APP__RATE_LIMIT__AUTH__PER_SECOND", "0.01")
            .start()
            .await;
        for _ in 0..2 {
            client::logout(&service, "unknown").await.is(204);
        }
        let answer = client::logout(&service, "unknown").await;
        answer.is_problem(429, "RATE_LIMITED");
        assert!(answer.headers.contains_key("retry-after"));
        // Only the user's own address.
        let ping = service.client.get(service.url("/api/v1/ping")).send().await.unwrap();
        assert_eq!(ping.status(), 200);
    }

    async fn no_signal_holds_an_address_a_password_or_a_token(backend: Backend) {
        let service = Service::builder(backend)
            .env("RUST_LOG", "debug")
            .env("APP__AUTH__REFRESH_GRACE", "0s")
            .start()
            .await;
        let (access, refresh) = client::tokens(&service, "ada@example.com").await;
        register(&service, "ada@example.com").await.is(409);
        login(&service, "ada@example.com", "some wrong passphrase").await.is(401);
        read_me(&service, &access).await.is(200);
        read_me(&service, &format!("{access}x")).await.is(401);
        let next = client::refresh(&service, &refresh).await;
        next.is(200);
        client::refresh(&service, &refresh).await.is(401);
        let scrape = service.client.get(service.admin("/metrics")).send().await.unwrap();
        let scrape = scrape.text().await.unwrap();
        let lines = eventually("the warning", async || {
            let lines = service.stdout().join("\n") + &service.stderr().join("\n");
            lines.contains("its family was revoked").then_some(lines)
        })
        .await;
        let next = next.text("refresh_token");
        for secret in [
            "ada@example.com", "admin@example.com", PASSWORD, "some wrong passphrase",
            "argon2id$v", &access, &refresh, &next,
        ] {
            assert!(!lines.contains(secret), "a log line holds {secret}");
            assert!(!scrape.contains(secret), "a metric holds {secret}");
        }
    }
}

async fn stored_hash(backend: Backend, service: &Service) -> String {
    let query = "SELECT password_hash FROM users WHERE email = 'ada@example.com'";
    value(backend, service, query).await
}
