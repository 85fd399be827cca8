//! Configuration as an operator meets it: layers, files, one report of all problems.

use crate::support::{Backend, Service};

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut builder = Service::builder(Backend::Sqlite).arguments(arguments);
    for (name, value) in environment {
        builder = builder.env(name, *value);
    }
    let mut process = builder.spawn().await;
    let code = process.wait().await.code();
    (
        code,
        process.stdout().join("\n"),
        process.stderr().join("\n"),
    )
}

#[tokio::test]
async fn every_problem_is_reported_at_once_with_its_key_and_source() {
    let environment = [
        ("APP__HTTP__ADRESS", "x"),
        ("APP__HTTP__REQUEST_TIMEOUT", "15"),
        ("APP__TELEMETRY__TRACE_RATIO", "1.5"),
        ("APP__DATABASE__MAX_CONNECTIONS", "0"),
        ("APP__LEDGER__CURRENCIES", "EUR,euro"),
        ("RUST_LOG", "gantry=loud"),
    ];
    let (code, _, stderr) = run(&["serve"], &environment).await;
    assert_eq!(code, Some(64));
    for key in [
        "`http.adress` (environment variable APP__HTTP__ADRESS) is not a known key",
        "`http.request_timeout` (environment variable APP__HTTP__REQUEST_TIMEOUT) is not a duration",
        "`telemetry.trace_ratio`",
        "`database.max_connections`",
        "`ledger.currencies`",
        "`telemetry.log_filter` (environment variable RUST_LOG)",
    ] {
        assert!(stderr.contains(key), "{key} is missing in:\n{stderr}");
    }
    assert!(stderr.contains("6 problem(s)"), "{stderr}");
}

#[tokio::test]
async fn production_refuses_what_is_unsafe() {
    let environment = [
        ("APP_ENV", "production"),
        ("APP__HTTP__CORS__ALLOWED_ORIGINS", "*"),
    ];
    let (code, _, stderr) = run(&["serve"], &environment).await;
    assert_eq!(code, Some(64));
    for key in [
        "`auth.keys`",
        "`database.url`",
        "`http.cors.allowed_origins`",
    ] {
        assert!(stderr.contains(key), "{key} is missing in:\n{stderr}");
    }
}

#[tokio::test]
async fn layers_override_each_other_in_the_documented_order() {
    let process = Service::builder(Backend::Sqlite).arguments(&["config"]);
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "base.yaml",
        "http:\n  idle_timeout: 11s\n  header_timeout: 12s\n  body_timeout: 13s\n",
    );
    write(
        "development.yaml",
        "http:\n  header_timeout: 22s\nledger:\n  currencies: [CHF, EUR]\n",
    );
    let mut process = process
        .env("APP_CONFIG_DIR", folder.path().to_str().unwrap())
        .env("APP__HTTP__BODY_TIMEOUT", "33s")
        .env("DATABASE_URL", "postgres://standard@localhost/x")
        .spawn()
        .await;
    assert_eq!(process.wait().await.code(), Some(0));
    let text = process.stdout().join("\n");
    let line = |key: &str| {
        let found = text
            .lines()
            .find(|line| line.split_whitespace().next() == Some(key));
        found
            .unwrap_or_else(|| panic!("{key} is missing in:\n{text}"))
            .to_owned()
    };
    assert!(
        line("http.idle_timeout").contains("11s  # ")
            && line("http.idle_timeout").contains("base.yaml")
    );
    assert!(line("http.header_timeout").contains("development.yaml"));
    assert!(
        line("http.body_timeout").contains("33s  # environment variable APP__HTTP__BODY_TIMEOUT")
    );
    assert!(line("ledger.currencies").contains("CHF,EUR"));
    assert!(line("http.request_timeout").contains("15s  # default"));
    assert!(
        line("database.url").contains("APP__DATABASE__URL"),
        "APP__ stands over DATABASE_URL"
    );
}

#[tokio::test]
async fn a_secret_comes_from_a_file_and_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    std::fs::write(&path, "postgres://service:hunter2hunter2@127.0.0.1/x\n").unwrap();
    let mut process = Service::builder(Backend::Sqlite)
        .arguments(&["config"])
        .env("APP__ADMIN__TOKEN", "canary-token")
        .env("DATABASE_URL_FILE", path.to_str().unwrap())
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary-header")
        .spawn()
        .await;
    assert_eq!(process.wait().await.code(), Some(0));
    let output = [process.stdout(), process.stderr()].concat().join("\n");
    for secret in ["hunter2", "canary"] {
        assert!(!output.contains(secret), "{output}");
    }
}

#[tokio::test]
async fn a_value_and_its_file_together_are_an_error() {
    let environment = [
        ("APP__ADMIN__TOKEN", "a"),
        ("APP__ADMIN__TOKEN_FILE", "/dev/null"),
    ];
    let (code, _, stderr) = run(&["config"], &environment).await;
    assert_eq!(code, Some(64));
    assert!(
        stderr.contains("`admin.token`") && stderr.contains("keep one"),
        "{stderr}"
    );
    let (code, _, stderr) = run(&["config"], &[("APP__ADMIN__TOKEN_FILE", "/no/such/file")]).await;
    assert_eq!(code, Some(64));
    assert!(stderr.contains("/no/such/file"), "{stderr}");
}

#[tokio::test]
async fn an_env_file_counts_in_development_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(".env"), "APP__HTTP__IDLE_TIMEOUT=44s\n").unwrap();
    for (profile, counts) in [("development", true), ("production", false)] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
            .arg("config")
            .current_dir(folder.path())
            .env_clear()
            .env("APP_ENV", profile)
            .env("DATABASE_URL", "postgres://x@localhost/x")
            .env("APP__AUTH__KEYS", keys())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(text.contains("44s"), counts, "{profile}:\n{text}");
    }
}

fn keys() -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .arg("keygen")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
