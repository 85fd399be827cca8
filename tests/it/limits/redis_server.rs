//! A Redis server for a single test, which may kill and freeze it.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::support::eventually;
use crate::support::raw_http::free_address;

/// The Redis server that `make test` starts for all tests.
pub fn common_url() -> String {
    std::env::var("TEST_REDIS_URL")
        .expect("TEST_REDIS_URL names a Redis server; `make test` starts one")
}

/// Killed when dropped, and its folder is removed.
pub struct RedisServer {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl RedisServer {
    pub async fn start() -> Self {
        loop {
            let port = free_address().port();
            let folder = tempfile::tempdir().expect("a temporary folder");
            let mut child = spawn(port, &folder);
            // The server exits if another process has taken the port in the meantime.
            if answers(port, &mut child).await {
                return Self {
                    child,
                    port,
                    folder,
                };
            }
        }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Kills the server without a shutdown.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server can be killed");
        self.child.wait().expect("the server can be waited for");
    }

    /// Restarts it without data on the same port.
    pub async fn restart(&mut self) {
        self.child = spawn(self.port, &self.folder);
        assert!(answers(self.port, &mut self.child).await);
    }

    /// Freezes it: connections stay open, but nothing is answered.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Runs one command and returns the reply.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let client = redis::Client::open(self.url()).expect("a URL");
        let connection = client.get_multiplexed_async_connection().await;
        let mut connection = connection.expect("a connection");
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        let answer = command.query_async(&mut connection).await;
        answer.expect("an answer")
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill runs").success(), "the signal was sent");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir) -> Child {
    let program = std::env::var("TEST_REDIS_SERVER")
        .expect("TEST_REDIS_SERVER names the program of a Redis server; `make test` finds one");
    Command::new(program)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the server starts")
}

/// Waits for the server. False if it has exited.
async fn answers(port: u16, child: &mut Child) -> bool {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    eventually("the Redis server", async || {
        if child.try_wait().expect("a status").is_some() {
            return Some(false);
        }
        std::net::TcpStream::connect(address).ok().map(|_| true)
    })
    .await
}
