//! Administration of users: lists, roles, erasure.

use std::sync::Arc;

use reqwest::{Method, RequestBuilder};
use serde_json::json;

use super::client::{
    Answer, PASSWORD, attempts, login, me, post, read_me, refresh, register, send, tokens,
};
use super::keys::keygen;
use crate::on_both;
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};
use crate::support::{Service, TestDatabase, eventually};

async fn administrator(service: &Service) -> String {
    let answer = login(service, ADMIN_EMAIL, ADMIN_PASSWORD).await;
    answer.is(200);
    answer.text("access_token")
}

/// A request to `/api/v1/users` and the rest of a path.
fn users(service: &Service, method: Method, token: &str, rest: &str) -> RequestBuilder {
    let url = service.url(&format!("/api/v1/users{rest}"));
    service.client.request(method, url).bearer_auth(token)
}

async fn list(service: &Service, token: &str, query: &str) -> Answer {
    send(users(service, Method::GET, token, query)).await
}

async fn set_role(service: &Service, token: &str, id: &str, role: &str) -> Answer {
    let request = users(service, Method::PATCH, token, &format!("/{id}"));
    send(request.json(&json!({"role": role}))).await
}

async fn erase(service: &Service, token: &str, id: &str) -> Answer {
    send(users(service, Method::DELETE, token, &format!("/{id}"))).await
}

/// The addresses of a page.
fn addresses(page: &Answer) -> Vec<String> {
    page.is(200);
    let items = page.body["items"].as_array().unwrap();
    let address = |item: &serde_json::Value| item["email"].as_str().unwrap().to_owned();
    items.iter().map(address).collect()
}

on_both! {
    async fn lists_have_filters_an_order_and_pages(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        for (email, name) in [
            ("ada@example.com", "Ada Lovelace"),
            ("grace@example.com", "Grace_Hopper 100%"),
            ("emmy@example.org", "Emmy Noether"),
        ] {
            let body = json!({"email": email, "name": name, "password": PASSWORD});
            post(&service, "/api/v1/auth/register", &body).await.is(201);
        }
        let newest = ["emmy@example.org", "grace@example.com", "ada@example.com", ADMIN_EMAIL];
        assert_eq!(addresses(&list(&service, &admin, "").await), newest);
        assert_eq!(addresses(&list(&service, &admin, "?sort=-created_at").await), newest);
        let mut oldest = newest;
        oldest.reverse();
        assert_eq!(addresses(&list(&service, &admin, "?sort=created_at").await), oldest);

        assert_eq!(addresses(&list(&service, &admin, "?role=admin").await), [ADMIN_EMAIL]);
        assert_eq!(addresses(&list(&service, &admin, "?role=user").await), newest[..3]);
        for (text, found) in [
            ("LOVELACE", &newest[2..3]),
            ("EXAMPLE.COM", &newest[1..3]),
            // Characters of patterns stand for themselves.
            ("100%25", &newest[1..2]),
            ("e_h", &newest[1..2]),
            ("%25", &newest[1..2]),
            ("a_l", &[]),
            ("nobody", &[]),
        ] {
            let page = list(&service, &admin, &format!("?role=user&q={text}")).await;
            assert_eq!(addresses(&page), found, "{text}");
        }

        for (query, expected) in [("sort=created_at", oldest), ("sort=-created_at", newest)] {
            let mut seen = Vec::new();
            let mut cursor = String::new();
            loop {
                let page = list(&service, &admin, &format!("?limit=1&{query}{cursor}")).await;
                seen.extend(addresses(&page));
                let Some(next) = page.body["next_cursor"].as_str() else { break };
                cursor = format!("&cursor={next}");
            }
            assert_eq!(seen, expected, "{query}");
        }
    }

    async fn lists_accept_values_from_closed_sets_only(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        for (query, status, code) in [
            ("?role=root", 422, "VALIDATION_FAILED"),
            ("?sort=email", 422, "VALIDATION_FAILED"),
            ("?q=%20", 422, "VALIDATION_FAILED"),
            ("?q=a%0Ab", 422, "VALIDATION_FAILED"),
            ("?limit=101", 400, "INVALID_QUERY"),
            ("?order=asc", 400, "INVALID_QUERY"),
            ("?cursor=x", 400, "INVALID_CURSOR"),
        ] {
            list(&service, &admin, query).await.is_problem(status, code);
        }
    }

    async fn only_administrators_manage_users(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let id = register(&service, "grace@example.com").await.text("id");
        let (token, _) = tokens(&service, "ada@example.com").await;
        for (method, rest) in [
            (Method::GET, String::new()),
            (Method::GET, format!("/{id}")),
            (Method::PATCH, format!("/{id}")),
            (Method::DELETE, format!("/{id}")),
        ] {
            let body = json!({"role": "admin"});
            let answer = send(users(&service, method.clone(), &token, &rest).json(&body)).await;
            answer.is_problem(403, "FORBIDDEN");
            let url = service.url(&format!("/api/v1/users{rest}"));
            let answer = send(service.client.request(method, url).json(&body)).await;
            answer.is_problem(401, "UNAUTHENTICATED");
        }
        let unchanged = list(&service, &admin, "?q=grace").await;
        assert_eq!(unchanged.body["items"][0]["role"], "user");
    }

    async fn a_user_is_read_with_an_etag(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let id = register(&service, "ada@example.com").await.text("id");
        let path = format!("/{id}");
        let user = send(users(&service, Method::GET, &admin, &path)).await;
        user.is(200);
        assert_eq!(user.text("email"), "ada@example.com");
        let known = users(&service, Method::GET, &admin, &path).header("if-none-match", user.etag());
        send(known).await.is(304);
        let change = |tag: &str| {
            let request = users(&service, Method::PATCH, &admin, &path).header("if-match", tag);
            send(request.json(&json!({"role": "admin"})))
        };
        change("\"77\"").await.is_problem(412, "PRECONDITION_FAILED");
        let changed = change(&user.etag()).await;
        changed.is(200);
        assert_ne!(changed.etag(), user.etag());
        let stale = users(&service, Method::DELETE, &admin, &path).header("if-match", user.etag());
        send(stale).await.is_problem(412, "PRECONDITION_FAILED");

        let unknown = "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f";
        for method in [Method::GET, Method::PATCH, Method::DELETE] {
            let request = users(&service, method.clone(), &admin, &format!("/{unknown}"));
            let answer = send(request.json(&json!({"role": "admin"}))).await;
            answer.is_problem(404, "NOT_FOUND");
            let request = users(&service, method, &admin, "/x");
            let answer = send(request.json(&json!({"role": "admin"}))).await;
            answer.is_problem(400, "INVALID_PATH");
        }
    }

    /// No other field of a user is set by an administrator.
    async fn a_change_of_the_role_changes_nothing_else(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let id = register(&service, "ada@example.com").await.text("id");
        for body in [
            json!({"role": "admin", "email": "eve@example.com"}),
            json!({"role": "admin", "version": 9}),
            json!({"role": "admin", "password_hash": "x"}),
        ] {
            let request = users(&service, Method::PATCH, &admin, &format!("/{id}"));
            send(request.json(&body)).await.is_problem(400, "UNKNOWN_FIELD");
        }
        set_role(&service, &admin, &id, "root").await.is_problem(422, "VALIDATION_FAILED");
        let user = set_role(&service, &admin, &id, "user").await;
        user.is(200);
        assert_eq!(user.etag(), "\"1\"", "the role was the same, so nothing was written");
    }

    async fn a_new_role_ends_sessions_and_access_tokens_on_every_replica(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let keys = keygen().await;
        let replica = || {
            Service::builder(backend)
                .database(&database)
                .env("APP__AUTH__KEYS", &keys)
        };
        let (one, other) = tokio::join!(replica().start(), replica().start());
        let admin = administrator(&one).await;
        let (token, renewal) = tokens(&one, "ada@example.com").await;
        let id = read_me(&other, &token).await.text("id");
        set_role(&one, &admin, &id, "admin").await.is(200);

        read_me(&one, &token).await.is_problem(401, "UNAUTHENTICATED");
        refresh(&one, &renewal).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        eventually("the other replica refuses the token", async || {
            (read_me(&other, &token).await.status == 401).then_some(())
        })
        .await;
        // The role is in force with the next login.
        let answer = login(&other, "ada@example.com", PASSWORD).await;
        let token = answer.text("access_token");
        list(&other, &token, "").await.is(200);

        // A role that is taken away ends the rights of the tokens that had it.
        set_role(&one, &admin, &id, "user").await.is(200);
        list(&one, &token, "").await.is_problem(401, "UNAUTHENTICATED");
        eventually("the other replica refuses the token", async || {
            (list(&other, &token, "").await.status == 401).then_some(())
        })
        .await;
        assert!(attempts(&other, "token", "failure").await >= 1.0);
    }

    async fn the_last_administrator_stays(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let own = read_me(&service, &admin).await.text("id");
        let id = register(&service, "ada@example.com").await.text("id");

        set_role(&service, &admin, &own, "user").await.is_problem(409, "LAST_ADMINISTRATOR");
        let leave = me(&service, Method::DELETE, &admin);
        let leave = leave.json(&json!({"current_password": ADMIN_PASSWORD}));
        send(leave).await.is_problem(409, "LAST_ADMINISTRATOR");
        list(&service, &admin, "").await.is(200);

        // Two administrators who remove each other at the same time: one stays.
        for _ in 0..10 {
            let admin = administrator(&service).await;
            set_role(&service, &admin, &id, "admin").await.is(200);
            let other = login(&service, "ada@example.com", PASSWORD).await.text("access_token");
            let (one, two) = tokio::join!(
                set_role(&service, &admin, &id, "user"),
                set_role(&service, &other, &own, "user"),
            );
            let statuses = [one.status.as_u16(), two.status.as_u16()];
            let removed = statuses.iter().filter(|status| **status == 200).count();
            assert_eq!(removed, 1, "{statuses:?}");
            let (survivor, lost) = if statuses[0] == 200 { (admin, &id) } else { (other, &own) };
            let remaining = list(&service, &survivor, "?role=admin").await;
            assert_eq!(addresses(&remaining).len(), 1);
            if lost == &own {
                set_role(&service, &survivor, &own, "admin").await.is(200);
                let admin = administrator(&service).await;
                set_role(&service, &admin, &id, "user").await.is(200);
            }
        }
    }

    async fn an_administrator_ends_the_sessions_of_a_user(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let (token, renewal) = tokens(&service, "ada@example.com").await;
        let id = read_me(&service, &token).await.text("id");
        let end = |id: &str| send(users(&service, Method::DELETE, &admin, &format!("/{id}/sessions")));
        end("01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f").await.is_problem(404, "NOT_FOUND");
        end(&id).await.is(204);
        read_me(&service, &token).await.is_problem(401, "UNAUTHENTICATED");
        refresh(&service, &renewal).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        login(&service, "ada@example.com", PASSWORD).await.is(200);
        read_me(&service, &admin).await.is(200);
    }

    async fn an_administrator_erases_a_user(backend: Backend) {
        let service = Service::start(backend).await;
        let admin = administrator(&service).await;
        let (token, renewal) = tokens(&service, "ada@example.com").await;
        let id = read_me(&service, &token).await.text("id");
        erase(&service, &admin, &id).await.is(204);
        read_me(&service, &token).await.is_problem(401, "UNAUTHENTICATED");
        refresh(&service, &renewal).await.is_problem(401, "INVALID_REFRESH_TOKEN");
        login(&service, "ada@example.com", PASSWORD).await.is(401);
        erase(&service, &admin, &id).await.is_problem(404, "NOT_FOUND");
        let empty: [&str; 0] = [];
        assert_eq!(addresses(&list(&service, &admin, "?q=ada").await), empty);

        // The own account asks for the password, so there is no way around it.
        let own = read_me(&service, &admin).await.text("id");
        erase(&service, &admin, &own).await.is_problem(403, "FORBIDDEN");
        read_me(&service, &admin).await.is(200);
    }
}
