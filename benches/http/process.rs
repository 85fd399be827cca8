//! The servers as pinned processes, and their resource usage.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::servers::Sink;

/// The service itself.
pub const BINARY: &str = env!("CARGO_BIN_EXE_gantry");
/// The servers run on this core, the load runs on the other one.
const SERVER_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// Pins this process, which generates the load.
pub fn pin_self() -> anyhow::Result<()> {
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset")
        .args(["-apc", LOAD_CORE, &pid])
        .stdout(Stdio::null())
        .status()
        .context("taskset (util-linux) is needed to pin processes to cores")?;
    anyhow::ensure!(
        pinned.success(),
        "the load cannot be pinned to core {LOAD_CORE}"
    );
    Ok(())
}

/// A running server. Stopped when dropped.
pub struct Server {
    name: String,
    child: Child,
    address: SocketAddr,
    /// Its standard output and standard error.
    output: [PathBuf; 2],
    sink: Sink,
}

impl Server {
    /// A server that this program implements.
    pub fn this_binary(
        name: &str,
        mode: &str,
        folder: &Path,
        sink: Sink,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let mut command = pinned(std::env::current_exe()?.as_os_str());
        command
            .arg(mode)
            .env("BENCH_ADDRESS", address.to_string())
            .envs(settings.iter().copied())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url());
        Self::start(name, command, address, folder, sink)
    }

    /// The service with production defaults and these settings.
    pub fn service(
        name: &str,
        folder: &Path,
        sink: Sink,
        settings: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let address = free_address()?;
        let binary = BINARY;
        let keys = Command::new(binary).arg("keygen").output()?;
        let mut command = pinned(binary.as_ref());
        command
            .arg("serve")
            .current_dir(folder)
            .env("APP_ENV", "production")
            .env("APP__HTTP__ADDR", address.to_string())
            .env("APP__ADMIN__ADDR", free_address()?.to_string())
            .env("APP__AUTH__KEYS", String::from_utf8(keys.stdout)?.trim())
            .env("APP__DATABASE__URL", "sqlite://bench.db")
            .env("APP__DATABASE__ALLOW_SQLITE", "true")
            .env("APP__DATABASE__MIGRATE_ON_START", "true")
            .env("APP__LIFECYCLE__DRAIN_DELAY", "0s")
            .env("APP__RATE_LIMIT__DEFAULT__PER_SECOND", "10000000")
            .env("APP__RATE_LIMIT__DEFAULT__BURST", "10000000")
            .envs(settings.iter().copied())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url());
        Self::start(name, command, address, folder, sink)
    }

    fn start(
        name: &str,
        mut command: Command,
        address: SocketAddr,
        folder: &Path,
        sink: Sink,
    ) -> anyhow::Result<Self> {
        let output = ["out", "err"].map(|stream| folder.join(format!("{name}.{stream}")));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&output[0])?)
            .stderr(File::create(&output[1])?)
            .spawn()?;
        let server = Self {
            name: name.to_owned(),
            child,
            address,
            output,
            sink,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(address).is_err() {
            anyhow::ensure!(Instant::now() < deadline, "{name} did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of exported span batches.
    pub fn exported(&self) -> u64 {
        self.sink.batches()
    }

    /// Fails if the server has logged an error or a panic, because the measurement would be
    /// invalid.
    pub fn is_sound(&self) -> anyhow::Result<()> {
        self.output.iter().try_for_each(|path| is_sound(path))
    }

    /// CPU time of the living threads of the process, user and system.
    pub fn cpu(&self) -> anyhow::Result<Duration> {
        let mut nanos = 0;
        // Nanoseconds by thread. The clock ticks of `stat` are too coarse.
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = std::fs::read_to_string(task?.path().join("schedstat"))?;
            nanos += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// CPU time of all threads, also of those that have ended. Its resolution is 10 ms.
    pub fn cpu_with_ended_threads(&self) -> anyhow::Result<Duration> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program ends with the last bracket. `utime` and `stime` are the fields
        // 14 and 15 (proc(5)), in ticks of a hundredth of a second.
        let (_, fields) = text.rsplit_once(')').unwrap_or_default();
        let ticks = fields.split(' ').skip(12).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        resident_mib(self.child.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Fails if the file contains an error or a panic.
pub fn is_sound(path: &Path) -> anyhow::Result<()> {
    for line in BufReader::new(File::open(path)?).lines() {
        let line = line?;
        anyhow::ensure!(!complains(&line), "{}: {line}", path.display());
    }
    Ok(())
}

/// Whether a line is a log line at level ERROR or a panic message.
fn complains(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    line.contains("panicked")
        || line
            .split(|c: char| !c.is_alphanumeric())
            .any(|w| w == "error")
}

fn pinned(program: &std::ffi::OsStr) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", SERVER_CORE]).arg(program).env_clear();
    command
}

/// Resident memory of a process.
pub fn resident_mib(pid: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .context("no VmRSS")?;
    let kib: f64 = line
        .split_whitespace()
        .nth(1)
        .context("no value")?
        .parse()?;
    Ok(kib / 1_024.0)
}

pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
