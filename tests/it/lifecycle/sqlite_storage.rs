//! Failures of SQLite's storage, and recovery.

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use reqwest::StatusCode;
use sqlx::{Connection as _, Executor as _, SqliteConnection};

use super::database_outages::{assert_refusal, assert_serving, wait_for_readiness};
use super::database_refusals::{discarded_sessions, failures_until_first_write, write};
use crate::ledger::client::Client;
use crate::support::{Backend, Builder, Service, eventually};

fn builder() -> Builder {
    Service::builder(Backend::Sqlite)
        .env("APP__DATABASE__MAX_CONNECTIONS", "4")
        .env("APP__DATABASE__ACQUIRE_TIMEOUT", "1s")
}

fn path(service: &Service) -> PathBuf {
    let url = service.database.url();
    PathBuf::from(url.strip_prefix("sqlite://").unwrap())
}

async fn second_connection(service: &Service) -> SqliteConnection {
    SqliteConnection::connect(service.database.url())
        .await
        .unwrap()
}

async fn assert_check_reason(service: &Service, why: &str) {
    let answer = service.client.get(service.admin("/health/ready?verbose"));
    let text = answer.send().await.unwrap().text().await.unwrap();
    assert!(text.contains(why), "{text}");
}

/// Asserts that the file is intact and contains no partial write.
async fn assert_intact(service: &Service) {
    let mut beside = second_connection(service).await;
    let check: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut beside)
        .await
        .unwrap();
    assert_eq!(check, "ok");
}

/// Limits the file size of the service from now on.
fn limit_file_size(service: &Service, bytes: &str) {
    let pid = service.pid().to_string();
    let limit = format!("--fsize={bytes}:unlimited");
    let mut command = Command::new("prlimit");
    let set = command.args(["--pid", &pid, &limit]).status();
    assert!(set.unwrap().success());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_until_there_is_space() {
    let mut service = builder().start().await;
    let client = Client::register(&service, "ada").await;
    assert_eq!(write(&client).await.status(), StatusCode::CREATED);
    limit_file_size(&service, "4096");
    for _ in 0..3 {
        assert_refusal(write(&client).await).await;
    }
    wait_for_readiness(&service, false, Duration::from_secs(10)).await;
    // Later requests may not even open a session, because its index cannot grow either.
    assert!(discarded_sessions(&service, "storage").await >= 1.0);
    limit_file_size(&service, "unlimited");
    assert!(failures_until_first_write(&client).await <= 1);
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert_serving(&client).await;
    assert_intact(&service).await;
    assert_eq!(service.terminate().await, Some(0));
}

#[tokio::test]
async fn a_read_only_file_refuses_writes_until_it_is_writable() {
    let service = builder()
        .obeys_permissions()
        .env("APP__DATABASE__MAX_LIFETIME", "1s")
        .start()
        .await;
    let client = Client::register(&service, "ada").await;
    assert_eq!(write(&client).await.status(), StatusCode::CREATED);
    // SQLite gives additional files the mode of the database file.
    let allow = |mode: u32| {
        for end in ["", "-wal", "-shm"] {
            let mut file = path(&service).into_os_string();
            file.push(end);
            let changed = std::fs::set_permissions(file, Permissions::from_mode(mode));
            assert!(changed.is_ok() || !end.is_empty(), "{changed:?}");
        }
    };
    allow(0o400);
    // Existing sessions may continue, new ones can only read.
    eventually("a new session writes", async || {
        let ask = || client.get("/api/v1/accounts");
        tokio::join!(ask(), ask(), ask(), ask());
        let answer = write(&client).await;
        (answer.status() != StatusCode::CREATED).then_some(answer)
    })
    .await;
    wait_for_readiness(&service, false, Duration::from_secs(10)).await;
    assert_refusal(write(&client).await).await;
    allow(0o600);
    assert!(failures_until_first_write(&client).await <= 1);
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert!(discarded_sessions(&service, "read_only").await >= 1.0);
    assert_intact(&service).await;
}

#[tokio::test]
async fn a_moved_file_refuses_writes_until_it_is_back() {
    let service = builder().start().await;
    let client = Client::register(&service, "ada").await;
    assert_eq!(write(&client).await.status(), StatusCode::CREATED);
    let away = path(&service).with_extension("away");
    std::fs::rename(path(&service), &away).unwrap();
    wait_for_readiness(&service, false, Duration::from_secs(5)).await;
    assert_check_reason(&service, "the database's file is missing").await;
    assert_refusal(write(&client).await).await;
    assert_refusal(client.get("/api/v1/accounts").await).await;
    assert!(!path(&service).exists(), "an empty one is no substitute");
    std::fs::rename(&away, path(&service)).unwrap();
    assert!(failures_until_first_write(&client).await <= 1);
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert_serving(&client).await;
    assert_intact(&service).await;
}

#[tokio::test]
async fn a_damaged_page_fails_readiness_until_it_is_repaired() {
    let service = builder().start().await;
    let client = Client::register(&service, "ada").await;
    assert_eq!(write(&client).await.status(), StatusCode::CREATED);
    let mut other = second_connection(&service).await;
    let root = "SELECT rootpage FROM sqlite_master WHERE name = 'accounts'";
    let root: u32 = sqlx::query_scalar(root)
        .fetch_one(&mut other)
        .await
        .unwrap();
    other
        .execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .await
        .unwrap();
    let mut access = OpenOptions::new();
    let file = access.read(true).write(true).open(path(&service)).unwrap();
    let offset = u64::from(root - 1) * 4096;
    let mut good = [0; 4096];
    file.read_exact_at(&mut good, offset).unwrap();
    file.write_all_at(&[0xff; 4096], offset).unwrap();
    // A commit of another process makes the sessions reload their pages.
    other.execute("PRAGMA user_version = 0").await.unwrap();
    assert_refusal(client.get("/api/v1/accounts").await).await;
    assert_refusal(write(&client).await).await;
    wait_for_readiness(&service, false, Duration::from_secs(5)).await;
    assert_check_reason(&service, "the database is damaged").await;
    file.write_all_at(&good, offset).unwrap();
    assert!(failures_until_first_write(&client).await <= 1);
    wait_for_readiness(&service, true, Duration::from_secs(10)).await;
    assert!(discarded_sessions(&service, "corrupt").await >= 2.0);
    assert_serving(&client).await;
    assert_intact(&service).await;
}
