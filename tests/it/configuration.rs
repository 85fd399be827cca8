//! Configuration: layers, files, and one report of all problems.

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
        ("APP__ADMIN__TOKEN", "canary-short"),
    ];
    let (code, _, stderr) = run(&["serve"], &environment).await;
    assert_eq!(code, Some(64));
    assert!(!stderr.contains("canary"), "{stderr}");
    for key in [
        "`admin.token` (environment variable APP__ADMIN__TOKEN) is shorter than 32 characters",
        "`auth.keys`",
        "`database.url`",
        "`http.cors.allowed_origins`",
    ] {
        assert!(stderr.contains(key), "{key} is missing in:\n{stderr}");
    }
}

#[tokio::test]
async fn origins_that_no_browser_sends_are_refused_in_every_profile() {
    for (origins, why) in [
        ("*,https://example.org", "`*` stands alone"),
        ("https://example.org,null", "`null`"),
        (
            "https://example.org/app",
            "the origin is `https://example.org`",
        ),
        ("example.org", "is not an origin"),
    ] {
        let environment = [("APP__HTTP__CORS__ALLOWED_ORIGINS", origins)];
        let (code, _, stderr) = run(&["config"], &environment).await;
        assert_eq!(code, Some(64), "{origins}");
        assert!(stderr.contains("`http.cors.allowed_origins`"), "{stderr}");
        assert!(stderr.contains(why), "{origins}: {stderr}");
    }
    for origins in ["*", "https://example.org,http://localhost:5173"] {
        let environment = [("APP__HTTP__CORS__ALLOWED_ORIGINS", origins)];
        let (code, _, stderr) = run(&["config"], &environment).await;
        assert_eq!(code, Some(0), "{origins}: {stderr}");
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
async fn misspelt_names_are_reported() {
    let environment = [
        ("APP_HTTP_ADDR", "127.0.0.1:1"),
        ("app__admin__token", "canary"),
        ("APP__HTTP", "canary"),
        ("APP__HTTP__ADDR__PORT", "canary"),
    ];
    let (code, _, stderr) = run(&["serve"], &environment).await;
    assert_eq!(code, Some(64));
    for line in [
        "`http.addr` (environment variable APP_HTTP_ADDR) is set by a misspelt name, write APP__HTTP__ADDR ",
        "`admin.token` (environment variable app__admin__token) is set by a misspelt name, write APP__ADMIN__TOKEN ",
        "`http` (environment variable APP__HTTP) is a section and has no value of its own",
        "`http.addr.port` (environment variable APP__HTTP__ADDR__PORT) is not a known key, `http.addr` is a value",
    ] {
        assert!(stderr.contains(line), "{line} is missing in:\n{stderr}");
    }
    assert!(!stderr.contains("canary"), "{stderr}");
    assert!(stderr.contains("4 problem(s)"), "{stderr}");

    let slips = [
        ("DATABASE_ULR", "canary", "DATABASE_URL"),
        ("RUST_LGO", "canary", "RUST_LOG"),
        (
            "OTLE_EXPORTER_OTLP_ENDPOINT",
            "canary",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
        ),
    ];
    let environment = slips.map(|(name, value, _)| (name, value));
    let (code, _, stderr) = run(&["config"], &environment).await;
    assert_eq!(code, Some(0), "{stderr}");
    let mut service = Service::builder(Backend::Sqlite).env("OTEL_EXPORTER_OTLP_ENDPOIN", "canary");
    for (name, value) in environment {
        service = service.env(name, value);
    }
    let logs = service.start().await.logs();
    let warned: Vec<String> = logs
        .iter()
        .filter(|line| line["level"] == "warn")
        .map(ToString::to_string)
        .collect();
    for (name, _, meant) in slips {
        let warning = format!("environment variable {name} is not read, did you mean {meant}?");
        assert_eq!(stderr.matches(&warning).count(), 1, "{warning}: {stderr}");
        let times = warned.iter().filter(|line| line.contains(&warning)).count();
        assert_eq!(times, 1, "{warning}: {warned:#?}");
    }
    let meant =
        "OTEL_EXPORTER_OTLP_ENDPOIN is not known, did you mean OTEL_EXPORTER_OTLP_ENDPOINT?";
    assert!(
        warned.iter().any(|line| line.contains(meant)),
        "{warned:#?}"
    );
    assert!(!format!("{stderr}{warned:?}").contains("canary"));
}

#[tokio::test]
async fn problems_of_files_have_line_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "base.yaml",
        "# comment\nhttp:\n  request_timeout: 15\n  adress: x\n\nadmin: 9464\nledger: {currencies: [euro]}\n",
    );
    write("development.yml", "");
    let place = folder.path().to_str().unwrap();
    let (code, _, stderr) = run(&["serve"], &[("APP_CONFIG_DIR", place)]).await;
    assert_eq!(code, Some(64));
    for (key, line, why) in [
        ("http.request_timeout", ":3", "is not a duration"),
        (
            "http.adress",
            ":4",
            "is not a known key, did you mean `http.addr` (APP__HTTP__ADDR)?",
        ),
        ("admin", ":6", "is a section and has no value of its own"),
        ("ledger.currencies", ":7", ""),
    ] {
        let start = format!("`{key}` ({place}/base.yaml{line}) {why}");
        assert!(stderr.contains(&start), "{start} is missing in:\n{stderr}");
    }
    let other =
        format!("development.yml` (file) is not read, its name must be {place}/development.yaml");
    assert!(stderr.contains(&other), "{stderr}");
    assert!(stderr.contains("5 problem(s)"), "{stderr}");
}

#[tokio::test]
async fn a_missing_folder_or_environment_file_is_reported() {
    let missing = ("APP_CONFIG_DIR", "/no/such/folder");
    let (code, _, stderr) = run(&["check"], &[missing]).await;
    assert_eq!(code, Some(64));
    let line = "`APP_CONFIG_DIR` (environment variable APP_CONFIG_DIR) names /no/such/folder, which is not a folder";
    assert!(stderr.contains(line), "{stderr}");

    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    let keys = keys();
    let environment = |name| {
        [
            ("APP_CONFIG_DIR", place),
            ("APP_ENV", name),
            ("APP__AUTH__KEYS", keys.as_str()),
            ("APP__DATABASE__URL", "postgres://x@localhost/x"),
        ]
    };
    for (name, why) in [
        ("staging", "which needs"),
        ("Production", "is not the name of an environment"),
        ("../staging", "is not the name of an environment"),
        ("base", "is not the name of an environment"),
    ] {
        let (code, _, stderr) = run(&["config"], &environment(name)).await;
        assert_eq!(code, Some(64), "{name}");
        assert!(
            stderr.contains("`APP_ENV`") && stderr.contains(why),
            "{stderr}"
        );
    }
    std::fs::write(
        folder.path().join("staging.yaml"),
        "http: {idle_timeout: 12s}\n",
    )
    .unwrap();
    let (code, text, stderr) = run(&["config"], &environment("staging")).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        text.contains("# APP_ENV: staging (the rules of production)"),
        "{text}"
    );
    assert!(text.contains("staging.yaml:1"), "{text}");
    let line = |key: &str| text.lines().find(|line| line.starts_with(key)).unwrap();
    assert!(
        line("database.migrate_on_start").contains("false"),
        "{text}"
    );
}

#[tokio::test]
async fn an_invalid_address_is_reported_with_advice() {
    for (address, advice) in [
        ("localhost:3000", "write `127.0.0.1:3000`"),
        (":3000", "write `0.0.0.0:3000` for every interface"),
    ] {
        let (code, _, stderr) = run(&["serve"], &[("APP__HTTP__ADDR", address)]).await;
        assert_eq!(code, Some(64));
        assert!(stderr.contains(advice), "{stderr}");
    }
}

#[tokio::test]
async fn a_secret_is_read_from_a_file_and_not_shown() {
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

/// All lines of `.env.example` as `NAME=value`.
fn example_variables() -> Vec<String> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(".env.example");
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter(|line| !line.is_empty() && !line.starts_with(' '))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn every_line_of_the_example_env_file_takes_effect() {
    let variables = example_variables();
    assert!(variables.len() > 5, "{variables:?}");
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/keys.json"), keys()).unwrap();
    std::fs::write(folder.path().join(".env"), variables.join("\n")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .arg("config")
        .current_dir(folder.path())
        .env_clear()
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{stderr}");
    assert_eq!(stderr, "", "a warning");
    for variable in &variables {
        let (name, _) = variable.split_once('=').unwrap();
        let source = format!("# {name} in .env");
        let telemetry = format!("{name} ");
        assert!(
            text.lines()
                .any(|line| line.ends_with(&source) || line.starts_with(&telemetry)),
            "{name} has no effect:\n{text}"
        );
    }
}

fn keys() -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_gantry"))
        .arg("keygen")
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
