//! The built binary as a child process.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::{Backend, Samples, TestDatabase, eventually, eventually_within};

/// Credentials of the administrator of every test service.
pub const ADMIN_EMAIL: &str = "admin@example.com";
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

/// Configuration of a test service.
pub struct Builder {
    environment: BTreeMap<String, String>,
    database: Option<Arc<TestDatabase>>,
    backend: Backend,
    arguments: Vec<String>,
    open_files: Option<(u32, u32)>,
    obeys_permissions: bool,
    stdin: Stdio,
}

impl Builder {
    /// Sets an environment variable.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.insert(name.to_owned(), value.into());
        self
    }

    /// Shares a database with other services.
    pub fn database(mut self, database: &Arc<TestDatabase>) -> Self {
        self.database = Some(Arc::clone(database));
        self
    }

    /// Runs a subcommand other than `serve`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments = arguments
            .iter()
            .map(|argument| (*argument).to_owned())
            .collect();
        self
    }

    /// Sets the soft and hard limit of open files.
    pub fn open_files(mut self, soft: u32, hard: u32) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    /// Enforces file permissions even if the tests run as root.
    pub fn obeys_permissions(mut self) -> Self {
        self.obeys_permissions = true;
        self
    }

    /// Sets the standard input, which is empty by default.
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = stdin.into();
        self
    }

    /// Starts the process without waiting for it.
    pub async fn spawn(self) -> Service {
        let database = match self.database {
            Some(database) => database,
            None => Arc::new(TestDatabase::create(self.backend).await),
        };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let binary = env!("CARGO_BIN_EXE_gantry");
        let mut command = match self.open_files {
            None if self.obeys_permissions && super::postgres::is_root() => {
                let mut drop = Command::new("setpriv");
                drop.args(["--bounding-set", "-dac_override", "--", binary]);
                drop
            }
            None => Command::new(binary),
            Some((soft, hard)) => {
                let mut shell = Command::new("/bin/sh");
                let script =
                    format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
                shell.args(["-c", &script, binary]);
                shell
            }
        };
        command
            .args(&self.arguments)
            .current_dir(folder.path())
            .env_clear()
            .env("APP__DATABASE__URL", database.url())
            .envs(&self.environment)
            .stdin(self.stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let stdout = collect(child.stdout.take().expect("stdout is piped"));
        let stderr = collect(child.stderr.take().expect("stderr is piped"));
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client");
        Service {
            child,
            stdout,
            stderr,
            client,
            database,
            public: String::new(),
            admin: String::new(),
            _folder: folder,
        }
    }

    /// Starts the process and waits until it is ready.
    pub async fn start(self) -> Service {
        let mut service = self.spawn().await;
        service.wait_ready().await;
        service
    }
}

/// A running service. Killed when dropped.
pub struct Service {
    child: Child,
    stdout: Lines,
    stderr: Lines,
    pub client: reqwest::Client,
    pub database: Arc<TestDatabase>,
    public: String,
    admin: String,
    /// Working directory of the process.
    _folder: tempfile::TempDir,
}

#[derive(Clone)]
struct Lines(Arc<Mutex<(Vec<String>, bool)>>);

fn collect(stream: impl std::io::Read + Send + 'static) -> Lines {
    let lines = Lines(Arc::default());
    let sink = lines.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            sink.0.lock().unwrap().0.push(line);
        }
        sink.0.lock().unwrap().1 = true;
    });
    lines
}

impl Lines {
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }

    fn ended(&self) -> bool {
        self.0.lock().unwrap().1
    }
}

impl Service {
    /// A service on free loopback ports with JSON logs and without rate limits.
    pub fn builder(backend: Backend) -> Builder {
        let environment = [
            ("APP__HTTP__ADDR", "127.0.0.1:0"),
            ("APP__ADMIN__ADDR", "127.0.0.1:0"),
            ("APP__GRPC__ADDR", "127.0.0.1:0"),
            ("APP__TELEMETRY__LOG_FORMAT", "json"),
            ("APP__RATE_LIMIT__ENABLED", "false"),
            ("APP__AUTH__BOOTSTRAP_ADMIN_EMAIL", ADMIN_EMAIL),
            ("APP__AUTH__BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Builder {
            environment: environment.into_iter().collect(),
            database: None,
            backend,
            arguments: vec!["serve".to_owned()],
            open_files: None,
            obeys_permissions: false,
            stdin: Stdio::null(),
        }
    }

    pub async fn start(backend: Backend) -> Self {
        Self::builder(backend).start().await
    }

    /// Waits until the addresses of both listeners are logged and the service is ready.
    pub async fn wait_ready(&mut self) {
        self.public = self.listening("public").await;
        self.admin = self.listening("admin").await;
        let url = self.url("/health/ready");
        eventually("ready", async || {
            let answer = self.client.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    }

    /// Waits until the address of the admin listener is logged.
    pub async fn wait_admin(&mut self) {
        self.admin = self.listening("admin").await;
    }

    async fn listening(&mut self, name: &str) -> String {
        let stdout = self.stdout.clone();
        let address = eventually(&format!("the {name} listener"), async || {
            let lines = stdout.all();
            let address = lines.iter().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let listener = line.get("listener")?.as_str()?;
                (line["message"] == "listening" && listener == name)
                    .then(|| line["address"].as_str().map(str::to_owned))?
            });
            let alive = address.is_some() || !stdout.ended();
            assert!(
                alive,
                "the service ended: {lines:#?}\n{:#?}",
                self.stderr.all()
            );
            address
        })
        .await;
        format!("http://{address}")
    }

    /// A URL on the public listener.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.public)
    }

    /// Host and port of the public listener.
    pub fn address(&self) -> &str {
        self.public.trim_start_matches("http://")
    }

    /// A URL on the admin listener.
    pub fn admin(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    /// Scrapes the admin listener.
    pub async fn metrics(&self) -> Samples {
        let answer = self
            .client
            .get(self.admin("/metrics"))
            .send()
            .await
            .expect("a scrape");
        Samples::parse(&answer.text().await.expect("text"))
    }

    /// The JSON log lines so far.
    pub fn logs(&self) -> Vec<Value> {
        self.stdout
            .all()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// The lines of standard output so far.
    pub fn stdout(&self) -> Vec<String> {
        self.stdout.all()
    }

    /// The lines of standard error so far.
    pub fn stderr(&self) -> Vec<String> {
        self.stderr.all()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, named without SIG.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "the signal was sent");
    }

    /// Waits until the process has exited and its output is complete.
    pub async fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        let bound = Duration::from_secs(30);
        let status = eventually_within(bound, "the end of the process", async || {
            child.try_wait().expect("the child can be waited for")
        })
        .await;
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        eventually("the end of the output", async || {
            (stdout.ended() && stderr.ended()).then_some(())
        })
        .await;
        status
    }

    /// Sends SIGTERM and returns the exit code.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.wait().await.code()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The process may have exited already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}
