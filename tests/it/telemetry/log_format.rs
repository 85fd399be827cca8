//! `telemetry.log_format` applies to standard output and standard error from the first line to the
//! last.

use serde_json::Value;

use super::get;
use crate::support::{Backend, Builder, Service};

/// Asserts that all output lines are log lines in JSON.
fn assert_objects(process: &Service) -> Vec<Value> {
    let lines = [process.stdout(), process.stderr()].concat();
    let parse = |line: &String| -> Value {
        let parsed: Value = serde_json::from_str(line).unwrap_or_default();
        for member in ["timestamp", "level", "message", "target"] {
            assert!(parsed[member].is_string(), "no {member} in: {line:?}");
        }
        parsed
    };
    lines.iter().map(parse).collect()
}

fn errors(lines: &[Value]) -> Vec<&str> {
    let errors = lines.iter().filter(|line| line["level"] == "error");
    errors.filter_map(|line| line["message"].as_str()).collect()
}

#[tokio::test]
async fn a_json_logging_service_writes_only_json() {
    let mut service = Service::builder(Backend::Sqlite)
        // With the development administrator, whose credentials are in the banner.
        .env("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", "")
        .env("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", "")
        .start()
        .await;
    let fault = serde_json::json!({ "path": "/api/v1/ping", "panic": true });
    let faults = service.client.put(service.admin("/faults")).json(&fault);
    assert_eq!(faults.send().await.unwrap().status(), 200);
    assert_eq!(get(&service, "/api/v1/ping", &[]).await.status, 500);
    assert_eq!(service.terminate().await, Some(0));
    let lines = assert_objects(&service);
    assert!(lines.iter().any(|line| line["target"] == "panic"));
    assert!(service.stderr().is_empty(), "{:?}", service.stderr());
}

#[tokio::test]
async fn the_banner_is_part_of_the_pretty_format() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__TELEMETRY__LOG_FORMAT", "pretty")
        .spawn()
        .await;
    let banner = crate::support::eventually("the banner", async || {
        let stderr = service.stderr().join("\n");
        stderr.contains("Stop with Ctrl-C").then_some(stderr)
    })
    .await;
    assert!(banner.contains("/docs"), "{banner}");
    assert_eq!(service.terminate().await, Some(0));
}

/// Runs a process to its end. Returns exit code and lines.
async fn ended(builder: Builder) -> (Option<i32>, Vec<Value>) {
    let mut process = builder.spawn().await;
    let code = process.wait().await.code();
    (code, assert_objects(&process))
}

#[tokio::test]
async fn configuration_problems_use_the_configured_format() {
    for command in ["serve", "migrate"] {
        let refused = || {
            Service::builder(Backend::Sqlite)
                .arguments(&[command])
                .env("APP__HTTP__ADDR", "nowhere")
                .env("APP__HTTP__NO_SUCH_KEY", "1")
        };
        let (code, lines) = ended(refused()).await;
        assert_eq!(code, Some(64));
        let errors = errors(&lines);
        assert_eq!(errors.len(), 3, "{errors:?}");
        for word in ["2 problem(s)", "http.addr", "http.no_such_key"] {
            let found = errors.iter().any(|error| error.contains(word));
            assert!(found, "{word} is missing in {errors:?}");
        }
        // The pretty format is text.
        let mut process = refused()
            .env("APP__TELEMETRY__LOG_FORMAT", "pretty")
            .spawn()
            .await;
        assert_eq!(process.wait().await.code(), Some(64));
        assert!(process.stderr()[0].starts_with("error: "));
    }
}

#[tokio::test]
async fn production_logs_json_before_the_configuration_is_read() {
    let builder = Service::builder(Backend::Sqlite)
        .env("APP_ENV", "production")
        .env("APP__TELEMETRY__LOG_FORMAT", "xml");
    let (code, lines) = ended(builder).await;
    assert_eq!(code, Some(64));
    let errors = errors(&lines);
    let named = |key: &str| errors.iter().any(|error| error.contains(key));
    assert!(named("telemetry.log_format"), "{errors:?}");
}

#[tokio::test]
async fn a_failed_start_is_logged_in_json() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (command, name, value) in [
        ("serve", "APP__HTTP__ADDR", address.as_str()),
        ("serve", "APP__ADMIN__ADDR", address.as_str()),
        (
            "serve",
            "APP__DATABASE__URL",
            "sqlite:///dev/null/no/folder.db",
        ),
        (
            "migrate",
            "APP__DATABASE__URL",
            "sqlite:///dev/null/no/folder.db",
        ),
    ] {
        let builder = Service::builder(Backend::Sqlite).arguments(&[command]);
        let (code, lines) = ended(builder.env(name, value)).await;
        assert_eq!(code, Some(1), "{command} {name}: {lines:?}");
        assert!(!errors(&lines).is_empty(), "{command} {name}: {lines:?}");
    }
}

#[tokio::test]
async fn the_migrate_subcommand_logs_json() {
    let builder = Service::builder(Backend::Sqlite).arguments(&["migrate"]);
    let (code, _) = ended(builder).await;
    assert_eq!(code, Some(0));
}
