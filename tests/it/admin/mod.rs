//! The admin listener: access, switches, faults and profiles.

mod access;
mod faults;
mod panics;
mod profiles;
mod runbooks;
mod switches;

use std::path::Path;

use reqwest::Method;
use serde_json::Value;

use crate::support::{Answer, Backend, Builder, Service, send};

const TOKEN: &str = "a-token-that-no-log-may-show-0123456789";

/// A production service with all required settings and without an admin token.
fn production(folder: &Path) -> Builder {
    let keys = folder.join("keys.json");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .args(["keygen", "--out"])
        .arg(&keys)
        .status()
        .unwrap();
    assert!(made.success());
    Service::builder(Backend::Sqlite)
        .env("APP_ENV", "production")
        .env("APP__DATABASE__ALLOW_SQLITE", "true")
        .env("APP__DATABASE__MIGRATE_ON_START", "true")
        .env("APP__AUTH__KEYS_FILE", keys.to_str().unwrap())
        .env("APP__LIFECYCLE__DRAIN_DELAY", "0s")
}

/// A request on the admin listener.
async fn ask(
    service: &Service,
    method: Method,
    path: &str,
    body: Option<&Value>,
    headers: &[(&str, &str)],
) -> Answer {
    let mut request = service.client.request(method, service.admin(path));
    if let Some(body) = body {
        request = request.json(body);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(request).await
}

pub async fn get(service: &Service, path: &str) -> Answer {
    ask(service, Method::GET, path, None, &[]).await
}

async fn put(service: &Service, path: &str, body: &Value) -> Answer {
    ask(service, Method::PUT, path, Some(body), &[]).await
}

/// Status and problem code of a request on the public listener.
async fn public(service: &Service, path: &str) -> (u16, Option<String>) {
    let answer = send(service.client.get(service.url(path))).await;
    let code = answer.body["code"].as_str().map(str::to_owned);
    (answer.status.as_u16(), code)
}
