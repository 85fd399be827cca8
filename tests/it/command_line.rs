//! Subcommands and their exit codes.

use std::process::Command;

use crate::support::{Backend, Service, TestDatabase};

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_gantry"))
}

#[test]
fn keygen_creates_private_files_and_keeps_existing_ones() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    for _ in 0..2 {
        let status = binary()
            .arg("keygen")
            .arg("--out")
            .arg(&path)
            .status()
            .unwrap();
        assert!(status.success());
    }
    let first = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let set: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(set["keys"].as_array().unwrap().len(), 1);
}

/// The database, the files that SQLite keeps next to it, the migration lock and the folder.
#[tokio::test]
async fn database_files_are_readable_by_the_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let url = |folder: &std::path::Path| format!("sqlite://{}", folder.join("new/x.db").display());
    let folder = tempfile::tempdir().unwrap();
    let service = Service::builder(Backend::Sqlite)
        .env("APP__DATABASE__URL", url(folder.path()))
        .start()
        .await;
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    let new = folder.path().join("new");
    assert_eq!(mode(&new), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&new).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["x.db", "x.db-shm", "x.db-wal", "x.migrate.lock"]);
    let is_warning = |line: &serde_json::Value| line["message"].to_string().contains("chmod 600");
    assert!(!service.logs().iter().any(is_warning));
    drop(service);

    let database = new.join("x.db");
    std::fs::set_permissions(&database, std::fs::Permissions::from_mode(0o644)).unwrap();
    let service = Service::builder(Backend::Sqlite)
        .env("APP__DATABASE__URL", url(folder.path()))
        .start()
        .await;
    assert_eq!(mode(&database), 0o644, "what is there is left as it is");
    let logs = service.logs();
    let warning = logs.iter().find(|line| is_warning(line)).unwrap();
    assert_eq!(warning["level"], "warn");
    assert!(
        warning["message"]
            .to_string()
            .contains("x.db can be opened")
    );
    drop(service);
    for (command, code) in [("check", 0), ("migrate", 0)] {
        let mut process = Service::builder(Backend::Sqlite)
            .arguments(&[command])
            .env("APP__DATABASE__URL", url(folder.path()))
            .spawn()
            .await;
        assert_eq!(process.wait().await.code(), Some(code));
        let output = process.stderr().join("\n");
        // A leftover write-ahead log has the mode of the database.
        let once = format!("{} can be opened", database.display());
        assert_eq!(output.matches(&once).count(), 1, "{command}: {output}");
        assert!(output.contains("run chmod 600"), "{command}: {output}");
    }
}

#[test]
fn help_lists_subcommands_and_configuration_sources() {
    let output = binary().arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "serve",
        "migrate",
        "check",
        "config",
        "openapi",
        "keygen",
        "admin",
        "healthcheck",
        "APP__",
    ] {
        assert!(text.contains(word), "{word}:\n{text}");
    }
}

#[tokio::test]
async fn check_reaches_every_dependency() {
    let mut migrate = Service::builder(Backend::Sqlite)
        .arguments(&["migrate"])
        .spawn()
        .await;
    assert_eq!(migrate.wait().await.code(), Some(0));
    let check = Service::builder(Backend::Sqlite).database(&migrate.database);
    let mut good = check.arguments(&["check"]).spawn().await;
    assert_eq!(good.wait().await.code(), Some(0), "{:#?}", good.stderr());

    let mut bad = Service::builder(Backend::Sqlite)
        .arguments(&["check"])
        .env(
            "APP__DATABASE__URL",
            "postgres://nobody@127.0.0.1:1/nothing",
        )
        .env("APP__DATABASE__ACQUIRE_TIMEOUT", "200ms")
        .spawn()
        .await;
    assert_eq!(bad.wait().await.code(), Some(1));
    let output = bad.stderr().join("\n");
    assert!(output.contains("database: 127.0.0.1:1: "), "{output}");
    assert_eq!(
        output.matches("refused").count(),
        1,
        "one cause, once: {output}"
    );
    assert!(!output.contains("pool timed out"), "{output}");
}

crate::on_both! {
    async fn check_and_migrate_report_pending_and_applied_migrations(backend: Backend) {
        let database = std::sync::Arc::new(TestDatabase::create(backend).await);
        let run = async |command: &'static str, on_start: &str| {
            let mut process = Service::builder(backend)
                .database(&database)
                .arguments(&[command])
                .env("APP__DATABASE__MIGRATE_ON_START", on_start)
                .env("APP__TELEMETRY__LOG_FORMAT", "pretty")
                .spawn()
                .await;
            let code = process.wait().await.code();
            (code, [process.stdout(), process.stderr()].concat().join("\n"))
        };
        // An unmigrated database is not a failure if the start migrates it.
        let (code, output) = run("check", "true").await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("migrations are pending") && output.contains("1 identity"), "{output}");
        let (code, output) = run("check", "false").await;
        assert_eq!(code, Some(1), "{output}");
        assert!(output.contains("run the migrate subcommand"), "{output}");

        let (code, output) = run("migrate", "false").await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("applied: 1 identity"), "{output}");
        assert!(output.contains("migrations applied now"), "{output}");
        let (code, output) = run("migrate", "false").await;
        assert_eq!(code, Some(0), "{output}");
        assert!(output.contains("nothing to do") && !output.contains("applied: "), "{output}");
        let (code, output) = run("check", "false").await;
        assert_eq!((code, output.trim()), (Some(0), "ok: configuration, database, migrations"));
    }
}

#[tokio::test]
async fn check_and_migrate_are_bounded_against_a_silent_server() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = silent.local_addr().unwrap().to_string();
    // Accepts all connections and never answers.
    let accept = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = silent.accept().await {
            kept.push(stream);
        }
    });
    for command in ["check", "migrate"] {
        let mut process = Service::builder(Backend::Sqlite)
            .arguments(&[command])
            .env(
                "APP__DATABASE__URL",
                format!("postgres://nobody@{place}/nothing"),
            )
            .env("APP__DATABASE__ACQUIRE_TIMEOUT", "200ms")
            .spawn()
            .await;
        let ended = tokio::time::timeout(std::time::Duration::from_secs(8), process.wait());
        let ended = ended.await.expect("bounded");
        assert_eq!(ended.code(), Some(1), "{command}");
        let output = process.stderr().join("\n");
        let hung = format!("{place} did not answer within 200ms (connecting)");
        assert!(output.contains(&hung), "{command}: {output}");
    }
    accept.abort();
}

#[tokio::test]
async fn healthcheck_queries_a_running_service() {
    let mut service = Service::start(Backend::Sqlite).await;
    let url = service.admin("/health/ready");
    let ask = || {
        binary()
            .args(["healthcheck", "--url", &url, "--timeout", "2s"])
            .status()
            .unwrap()
    };
    assert_eq!(ask().code(), Some(0));
    assert_eq!(service.terminate().await, Some(0));
    assert_eq!(ask().code(), Some(1));
}
