//! Creation of the first administrator.

use std::sync::Arc;

use super::client::{PASSWORD, leave, login, read_me, register, send};
use super::sql::{execute, value};
use crate::on_both;
use crate::support::service::ADMIN_EMAIL;
use crate::support::{Backend, Service, TestDatabase, eventually};

const EMAIL: &str = "root@example.com";
const FIRST: &str = "the first passphrase of root";

fn with_administrator(backend: Backend, email: &str, password: &str) -> crate::support::Builder {
    Service::builder(backend)
        .env("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", email)
        .env("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", password)
}

/// A service on a database without an administrator.
async fn without_administrator(backend: Backend, database: &Arc<TestDatabase>) -> Service {
    let service = Service::builder(backend).database(database).start().await;
    let set = "UPDATE users SET role = 'user' WHERE email = $1";
    execute(backend, &service, set, ADMIN_EMAIL.to_owned()).await;
    service
}

async fn deposit_status(service: &Service, token: &str) -> u16 {
    let url = service.url("/api/v1/deposits");
    let request = service.client.post(url).bearer_auth(token);
    send(request.json(&serde_json::json!({})))
        .await
        .status
        .as_u16()
}

async fn role(service: &Service, email: &str, password: &str) -> String {
    let answer = login(service, email, password).await;
    answer.is(200);
    let me = read_me(service, &answer.text("access_token")).await;
    me.text("role")
}

on_both! {
    async fn the_first_administrator_is_created_once(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let start = |password| with_administrator(backend, EMAIL, password).database(&database).start();
        // Several processes start at the same time on an empty database.
        let (one, two) = tokio::join!(start(FIRST), start(FIRST));
        assert_eq!(role(&one, EMAIL, FIRST).await, "admin");
        assert_eq!(role(&two, EMAIL, FIRST).await, "admin");
        // A later start with another password changes nothing.
        let later = start("another passphrase of root").await;
        assert_eq!(role(&later, EMAIL, FIRST).await, "admin");
        login(&later, EMAIL, "another passphrase of root").await.is(401);
        let made = |service: &Service| {
            let is_line = |line: &serde_json::Value| {
                line["message"] == "the first administrator was created"
            };
            service.logs().iter().filter(|line| is_line(line)).count()
        };
        assert_eq!(made(&one) + made(&two) + made(&later), 1);
    }

    async fn a_self_registered_user_is_never_promoted_by_the_configuration(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let before = without_administrator(backend, &database).await;
        let id = register(&before, EMAIL).await.text("id");
        drop(before);
        // Without an administrator the service starts, and the log names the command that creates
        // one.
        let after = with_administrator(backend, "Root@Example.com", FIRST)
            .database(&database)
            .start()
            .await;
        assert_eq!(role(&after, EMAIL, PASSWORD).await, "user");
        login(&after, EMAIL, FIRST).await.is(401);
        let logs = after.logs();
        let warning = logs.iter().find(|line| line["level"] == "warn" && line["user"] == id);
        let command = format!("gantry admin promote --id {id}");
        assert_eq!(warning.expect("a warning")["command"], command);
        assert!(!after.stdout().join("\n").to_lowercase().contains(EMAIL));
    }

    async fn the_former_address_of_the_administrator_grants_nothing(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let start = || with_administrator(backend, EMAIL, FIRST).database(&database).start();
        let first = start().await;
        let set = "UPDATE users SET email = $1 WHERE role = 'admin'";
        execute(backend, &first, set, "renamed@example.com".to_owned()).await;
        register(&first, EMAIL).await.is(201);
        drop(first);
        let second = start().await;
        assert_eq!(role(&second, EMAIL, PASSWORD).await, "user");
        assert_eq!(role(&second, "renamed@example.com", FIRST).await, "admin");
        let query = "SELECT count(*) FROM users WHERE role = 'admin'";
        assert_eq!(value::<i64>(backend, &second, query).await, 1);
        // An address without a user does not create an administrator either.
        let third = with_administrator(backend, "third@example.com", FIRST)
            .database(&database)
            .start()
            .await;
        login(&third, "third@example.com", FIRST).await.is(401);
    }

    async fn the_command_promotes_a_user(backend: Backend) {
        let database = Arc::new(TestDatabase::create(backend).await);
        let service = without_administrator(backend, &database).await;
        let id = register(&service, EMAIL).await.text("id");
        let token = login(&service, EMAIL, PASSWORD).await.text("access_token");
        assert_eq!(deposit_status(&service, &token).await, 403);
        let promote = async |id: &str| {
            let mut process = Service::builder(backend)
                .database(&database)
                .arguments(&["admin", "promote", "--id", id])
                .spawn()
                .await;
            let code = process.wait().await.code();
            (code, process.stdout().join("\n") + &process.stderr().join("\n"))
        };
        let now = format!("{id} is an administrator now");
        assert_eq!(promote(&id).await, (Some(0), now));
        let already = format!("{id} is an administrator already");
        assert_eq!(promote(&id).await, (Some(0), already));
        assert_eq!(role(&service, EMAIL, PASSWORD).await, "admin");
        eventually("the running service knows", async || {
            (deposit_status(&service, &token).await != 403).then_some(())
        })
        .await;

        let gone = register(&service, "gone@example.com").await.text("id");
        let answer = login(&service, "gone@example.com", PASSWORD).await;
        let token = answer.text("access_token");
        leave(&service, &token).await.is(204);
        for id in [&gone, "01936f0e-7b5a-7c3e-8f4d-2a1b3c4d5e6f"] {
            let none = format!("error: there is no user {id}");
            assert_eq!(promote(id).await, (Some(1), none));
        }
        let (code, _) = promote("root@example.com").await;
        assert_eq!(code, Some(2), "clap's code for a command line that is wrong");
    }

    async fn an_administrator_that_cannot_be_created_fails_the_start(backend: Backend) {
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
