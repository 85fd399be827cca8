//! The first administrator.

use std::sync::Arc;

use super::client::{PASSWORD, login, read_me, register};
use crate::on_both;
use crate::support::{Backend, Service, TestDatabase};

const EMAIL: &str = "root@example.com";
const FIRST: &str = "the first passphrase of root";

fn with_administrator(backend: Backend, email: &str, password: &str) -> crate::support::Builder {
    Service::builder(backend)
        .env("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", email)
        .env("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", password)
}

async fn role(service: &Service, email: &str, password: &str) -> String {
    let answer = login(service, email, password).await;
    answer.is(200);
    let me = read_me(service, &answer.text("access_token")).await;
    me.text("role")
}

on_both! {
    async fn the_first_administrator_is_made_once(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let start = |password| with_administrator(backend, EMAIL, password).database(&database).start();
        // Several processes at once, on an empty database.
        let (one, two) = tokio::join!(start(FIRST), start(FIRST));
        assert_eq!(role(&one, EMAIL, FIRST).await, "admin");
        assert_eq!(role(&two, EMAIL, FIRST).await, "admin");
        // A later start with another password changes nothing.
        let later = start("another passphrase of root").await;
        assert_eq!(role(&later, EMAIL, FIRST).await, "admin");
        login(&later, EMAIL, "another passphrase of root").await.is(401);
        let made = |service: &Service| {
            let is_line = |line: &serde_json::Value| {
                line["message"] == "the first administrator was made"
            };
            service.logs().iter().filter(|line| is_line(line)).count()
        };
        assert_eq!(made(&one) + made(&two) + made(&later), 1);
    }

    async fn somebody_who_has_the_address_becomes_administrator_and_keeps_the_password(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let before = Service::builder(backend).database(&database).start().await;
        register(&before, EMAIL).await.is(201);
        assert_eq!(role(&before, EMAIL, PASSWORD).await, "user");
        let after = with_administrator(backend, "Root@Example.com", FIRST)
            .database(&database)
            .start()
            .await;
        assert_eq!(role(&after, EMAIL, PASSWORD).await, "admin");
        login(&after, EMAIL, FIRST).await.is(401);
    }

    async fn an_administrator_that_could_not_be_made_is_bad_configuration(backend: Backend) {
        let mut process = with_administrator(backend, "not an address", "short-but-not-really")
            .spawn()
            .await;
        assert_eq!(process.wait().await.code(), Some(64));
        let report = process.stderr().join("\n");
        assert!(report.contains("auth.bootstrap_admin_email"), "{report}");
        assert!(!report.contains("not an address"), "{report}");
        let mut process = with_administrator(backend, EMAIL, "short").spawn().await;
        assert_eq!(process.wait().await.code(), Some(64));
        let report = process.stderr().join("\n");
        assert!(report.contains("auth.bootstrap_admin_password"), "{report}");
    }
}
