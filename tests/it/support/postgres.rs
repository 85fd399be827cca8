//! A Postgres server for a single test, which may stop, kill and freeze it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sqlx::Connection as _;

use super::eventually;
use super::raw_http::free_address;

/// Stopped when dropped, and its folder is removed.
pub struct PostgresServer {
    programs: PathBuf,
    libraries: String,
    /// Unprivileged user for the server, which refuses to run as root.
    user: Option<&'static str>,
    port: u16,
    child: Option<Child>,
    folder: tempfile::TempDir,
}

impl PostgresServer {
    /// Starts a server with the programs, and so the version, of the common one.
    pub async fn start() -> Self {
        let programs = programs().await;
        let root = programs
            .to_str()
            .and_then(|path| path.split_once("/usr/lib/postgresql/"));
        let libraries = match root {
            Some((root, _)) if !root.is_empty() => unpacked_libraries(root),
            _ => String::new(),
        };
        let mut server = Self {
            programs,
            libraries,
            user: is_root().then_some("postgres"),
            port: 0,
            child: None,
            folder: tempfile::tempdir().expect("a temporary folder"),
        };
        server.give_folder_away();
        let made = server
            .command("initdb")
            .args([
                "-U",
                "postgres",
                "--auth=trust",
                "--no-sync",
                "--encoding=UTF8",
                "--locale=C",
                "-D",
            ])
            .arg(server.data())
            .status();
        assert!(made.expect("initdb runs").success());
        loop {
            server.port = free_address().port();
            // The server exits if another process has taken the port in the meantime.
            if server.run().await {
                return server;
            }
        }
    }

    /// Restarts it with the same port and data.
    pub async fn restart(&mut self) {
        assert!(self.run().await, "the server starts again");
    }

    /// Kills it without a checkpoint, like a lost machine.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(child.id(), "QUIT");
            let _reaped = child.wait();
        }
    }

    /// Freezes it: connections stay open, but nothing is answered.
    pub fn freeze(&self) {
        let main = self.child.as_ref().expect("it runs").id();
        // The postmaster first, so that it starts no further processes.
        signal(main, "STOP");
        for process in children(main) {
            signal(process, "STOP");
        }
    }

    pub fn thaw(&self) {
        let main = self.child.as_ref().expect("it runs").id();
        for process in children(main) {
            signal(process, "CONT");
        }
        signal(main, "CONT");
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts the server and waits until it answers. False if it has exited.
    async fn run(&mut self) -> bool {
        let mut command = self.command("postgres");
        command
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.folder.path())
            .args(["-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "jit=off",
            "max_connections=40",
        ] {
            command.args(["-c", setting]);
        }
        let mut child = command.spawn().expect("the server starts");
        let url = self.url();
        let runs = eventually("the Postgres server", async || {
            if child.try_wait().expect("a status").is_some() {
                return Some(false);
            }
            sqlx::PgConnection::connect(&url).await.ok().map(|_| true)
        })
        .await;
        self.child = Some(child);
        runs
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match self.user {
            None => Command::new(program),
            Some(user) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={user}"))
                    .arg(format!("--regid={user}"))
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
        };
        if !self.libraries.is_empty() {
            command.env("LD_LIBRARY_PATH", &self.libraries);
        }
        command
            .env_remove("PGDATA")
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn give_folder_away(&mut self) {
        let Some(user) = self.user else { return };
        let known = Command::new("id")
            .arg(user)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let known = known.expect("id runs").success();
        let user = if known { user } else { "nobody" };
        self.user = Some(user);
        let given = Command::new("chown")
            .arg(user)
            .arg(self.folder.path())
            .status();
        assert!(given.expect("chown runs").success());
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.thaw();
            self.kill();
        }
    }
}

async fn programs() -> PathBuf {
    let url = std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL names a Postgres server; `make test` starts one");
    let mut connection = sqlx::PgConnection::connect(&url)
        .await
        .expect("the Postgres server answers");
    let folder: String =
        sqlx::query_scalar("SELECT setting FROM pg_config() WHERE name = 'BINDIR'")
            .fetch_one(&mut connection)
            .await
            .expect("the folder of the server's programs");
    let folder = PathBuf::from(folder);
    assert!(
        folder.join("initdb").exists(),
        "TEST_DATABASE_URL names a server on another machine; this test needs one of its own: \
         leave it unset"
    );
    folder
}

fn unpacked_libraries(root: &str) -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/unpack");
    let said = Command::new(script).args(["--libraries", root]).output();
    String::from_utf8(said.expect("scripts/unpack runs").stdout).expect("a path")
}

pub fn is_root() -> bool {
    let said = Command::new("id").arg("-u").output().expect("id runs");
    said.stdout.trim_ascii() == b"0"
}

fn children(process: u32) -> Vec<u32> {
    let path = format!("/proc/{process}/task/{process}/children");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_ascii_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect()
}

fn signal(process: u32, name: &str) {
    // A process that has exited needs no signal.
    let _gone = Command::new("kill")
        .args(["-s", name, &process.to_string()])
        .stderr(Stdio::null())
        .status();
}
