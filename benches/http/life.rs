//! Start time, memory at rest, scrape time and shutdown time of a process.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::process::{BINARY, free_address, is_sound, resident_mib};

/// Number of sequential process runs.
const LIVES: usize = 5;
/// Scrapes in each run.
const SCRAPES: usize = 20;
/// Time after which the background work of a start has finished.
const REST: Duration = Duration::from_secs(1);
/// Log file of the process.
const OUTPUT: &str = "out";
const ERRORS: &str = "err";

/// Results of one run.
struct Life {
    ready: Duration,
    resident_mib: f64,
    scrape: Duration,
    series: usize,
    exit: Duration,
}

/// Prints a table of several runs in development mode with SQLite.
pub fn report() -> anyhow::Result<()> {
    let lives = (0..LIVES)
        .map(|_| live())
        .collect::<anyhow::Result<Vec<_>>>()?;
    println!();
    println!("The process, SQLite, development, median of {LIVES} (min to max)");
    println!();
    println!("| what | measured |");
    println!("| --- | --- |");
    let row = |name: &str, unit: &str, value: fn(&Life) -> f64| {
        let mut values: Vec<f64> = lives.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        println!(
            "| {name} | {:.1} {unit} ({:.1} to {:.1}) |",
            values[LIVES / 2],
            values[0],
            values[LIVES - 1]
        );
    };
    row("start to the first 200 on `/health/ready`", "ms", |life| {
        life.ready.as_secs_f64() * 1e3
    });
    row("resident at rest", "MiB", |life| life.resident_mib);
    let series = lives[0].series;
    row(&format!("`/metrics` with {series} series"), "ms", |life| {
        life.scrape.as_secs_f64() * 1e3
    });
    row("SIGTERM to exit, idle", "ms", |life| {
        life.exit.as_secs_f64() * 1e3
    });
    Ok(())
}

fn live() -> anyhow::Result<Life> {
    let folder = tempfile::tempdir()?;
    let (public, admin) = (free_address()?, free_address()?);
    let began = Instant::now();
    let mut process = Process::start(folder.path(), public, admin)?;
    while !matches!(get(public, "/health/ready"), Ok(answer) if answer.starts_with("HTTP/1.1 200"))
    {
        ensure!(began.elapsed() < Duration::from_secs(20), "it is not ready");
        std::thread::sleep(Duration::from_millis(1));
    }
    let ready = began.elapsed();
    // One request for each route creates its series.
    ensure!(get(public, "/api/v1/ping")?.starts_with("HTTP/1.1 200"));
    std::thread::sleep(REST);
    let resident_mib = resident_mib(process.0.id())?;
    let mut scrapes = Vec::new();
    let mut series = 0;
    for _ in 0..SCRAPES {
        let began = Instant::now();
        let text = get(admin, "/metrics")?;
        scrapes.push(began.elapsed());
        let (_, body) = text.split_once("\r\n\r\n").context("a head")?;
        let is_series = |line: &&str| !line.is_empty() && !line.starts_with('#');
        series = body.lines().filter(is_series).count();
    }
    scrapes.sort_unstable();
    let exit = process.end()?;
    for stream in [OUTPUT, ERRORS] {
        is_sound(&folder.path().join(stream))?;
    }
    Ok(Life {
        ready,
        resident_mib,
        scrape: scrapes[SCRAPES / 2],
        series,
        exit,
    })
}

struct Process(Child);

impl Process {
    fn start(folder: &Path, public: SocketAddr, admin: SocketAddr) -> anyhow::Result<Self> {
        let child = Command::new(BINARY)
            .arg("serve")
            .current_dir(folder)
            .env_clear()
            .env("APP__HTTP__ADDR", public.to_string())
            .env("APP__ADMIN__ADDR", admin.to_string())
            .stdin(Stdio::null())
            .stdout(File::create(folder.join(OUTPUT))?)
            .stderr(File::create(folder.join(ERRORS))?)
            .spawn()?;
        Ok(Self(child))
    }

    /// Time from the signal to a clean exit.
    fn end(&mut self) -> anyhow::Result<Duration> {
        let pid = self.0.id().to_string();
        let began = Instant::now();
        ensure!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()?
                .success()
        );
        ensure!(self.0.wait()?.success(), "it did not end cleanly");
        Ok(began.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn get(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
