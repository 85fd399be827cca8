//! Output of start and shutdown on a terminal.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use crate::on_both;
use crate::support::{Service, TestDatabase, eventually};

/// A development process in an empty folder, with both output streams combined like on a terminal.
/// Killed when dropped.
struct TerminalProcess(Child);

impl Drop for TerminalProcess {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn at_a_terminal(folder: &Path, environment: &[(&str, &str)]) -> TerminalProcess {
    let output = std::fs::File::create(folder.join("output")).unwrap();
    let process = Command::new(env!("CARGO_BIN_EXE_gantry"))
        .current_dir(folder)
        .env_clear()
        .env("APP__HTTP__ADDR", "127.0.0.1:0")
        .env("APP__ADMIN__ADDR", "127.0.0.1:0")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn();
    TerminalProcess(process.unwrap())
}

fn output(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("output")).unwrap()
}

async fn exit_code(TerminalProcess(child): &mut TerminalProcess) -> Option<i32> {
    let code = eventually("the end", async || child.try_wait().unwrap()).await;
    code.code()
}

#[tokio::test]
async fn the_banner_follows_the_start_and_ctrl_c_logs_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = at_a_terminal(folder.path(), &[]);
    let text = eventually("the banner and all checks", async || {
        let text = output(folder.path());
        let checks = text.matches("readiness check passed").count();
        (text.contains("Stop with Ctrl-C") && checks == 3).then_some(text)
    })
    .await;
    let place = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what}: {text}"));
    for line in [
        "listener=admin",
        "first administrator",
        "listener=public",
        "state=ready",
    ] {
        assert!(place(line) < place("is ready\n"), "{line}: {text}");
    }
    let url = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    };
    let page = reqwest::get(url("  Live ")).await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<html"));
    let docs = url("  Docs ");
    let root = docs.strip_suffix("docs").unwrap();
    let led = reqwest::get(root).await.unwrap();
    assert_eq!(led.url().as_str(), format!("{docs}/"));
    assert_eq!(led.status(), 200);

    let before = eventually("the lines of the three requests", async || {
        let text = output(folder.path());
        (text.matches("INFO  request ").count() == 3).then_some(text.len())
    })
    .await;
    let pid = child.0.id().to_string();
    let sent = Command::new("kill").args(["-s", "INT", &pid]).status();
    assert!(sent.unwrap().success());
    assert_eq!(exit_code(&mut child).await, Some(0));
    let after = output(folder.path()).split_off(before);
    // On a busy machine further steps may be slow enough to be logged.
    let mut lines = after
        .lines()
        .filter(|line| !line.contains("shutdown step") && !line.contains("readiness check"));
    let only = lines.next().unwrap_or_default();
    assert!(only.contains("shutting down reason=SIGINT"), "{after}");
    assert_eq!(lines.next(), None, "{after}");
}

#[tokio::test]
async fn a_taken_port_is_reported_last_and_nothing_is_created() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    for (variable, key) in [
        ("APP__HTTP__ADDR", "http.addr"),
        ("APP__ADMIN__ADDR", "admin.addr"),
    ] {
        for (name, value) in [
            ("RUST_LOG", "info"),
            ("RUST_LOG", "off"),
            ("APP__TELEMETRY__LOG_FORMAT", "json"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let environment = [(variable, address.as_str()), (name, value)];
            let mut child = at_a_terminal(folder.path(), &environment);
            assert_eq!(exit_code(&mut child).await, Some(1));
            let text = output(folder.path());
            let cause = format!("cannot listen on {address} ({key}): Address already in use");
            assert!(text.lines().last().unwrap().contains(&cause), "{text}");
            assert_eq!(text.matches("already in use").count(), 1, "{text}");
            let made = std::fs::read_dir(folder.path()).unwrap().count();
            assert_eq!(made, 1, "the output alone");
        }
    }
}

on_both! {
    async fn a_taken_port_fails_before_the_migrations(backend: Backend) {
        let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let database = Arc::new(TestDatabase::create(backend).await);
        let builder = || Service::builder(backend).database(&database);
        let address = other.local_addr().unwrap().to_string();
        let mut process = builder()
            .env("APP__DATABASE__MIGRATE_ON_START", "true")
            .env("APP__HTTP__ADDR", address)
            .spawn()
            .await;
        assert_eq!(process.wait().await.code(), Some(1));
        let mut check = builder()
            .env("APP__DATABASE__MIGRATE_ON_START", "false")
            .arguments(&["check"])
            .spawn()
            .await;
        assert_eq!(check.wait().await.code(), Some(1));
        let output = check.stderr().join("\n");
        assert!(output.contains("are missing; run the migrate subcommand"), "{output}");
    }
}
