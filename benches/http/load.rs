//! The load: keep-alive HTTP/1.1 over plain sockets. Every response is checked. One core has to send
//! the 120,000 requests a second that saturate bare axum, so the load does as little as it can.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const REQUEST: &[u8] = b"GET /api/v1/ping HTTP/1.1\r\nHost: bench\r\nUser-Agent: bench\r\n\r\n";
const BODY: &[u8] = b"{\"message\":\"pong\"}";

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(2_048),
        })
    }

    async fn request(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(REQUEST).await?;
        self.buffer.clear();
        // The expected body is known, so its end is the end of the response.
        while !self.buffer.ends_with(BODY) {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection was closed"
            );
            ensure!(
                self.buffer.len() < 4_096,
                "an answer without the expected body"
            );
        }
        ensure!(
            self.buffer.starts_with(b"HTTP/1.1 200 "),
            "{}",
            String::from_utf8_lossy(&self.buffer)
        );
        Ok(())
    }
}

impl Connection {
    /// Sends a request and reads the complete response, which must be a success.
    async fn ask(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            ensure!(
                self.stream.read_buf(&mut self.buffer).await? > 0,
                "the connection was closed"
            );
            if let Some(end) = end_of_answer(&self.buffer)?
                && self.buffer.len() >= end
            {
                break;
            }
        }
        ensure!(
            self.buffer.starts_with(b"HTTP/1.1 2"),
            "{}",
            String::from_utf8_lossy(&self.buffer)
        );
        Ok(())
    }
}

/// The end of a response, once its head has arrived.
fn end_of_answer(bytes: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head])?.to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .context("an answer without a length")?;
    Ok(Some(head + 4 + length.trim().parse::<usize>()?))
}

/// Sends requests one after the other on one connection.
pub async fn once(address: SocketAddr, requests: &[Vec<u8>]) -> anyhow::Result<()> {
    let mut connection = Connection::open(address).await?;
    for request in requests {
        connection.ask(request).await?;
    }
    Ok(())
}

/// Each connection sends its requests in a loop for this duration. Returns the number of responses.
pub async fn repeated(
    address: SocketAddr,
    requests: &[Vec<Vec<u8>>],
    time: Duration,
) -> anyhow::Result<u64> {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for own in requests {
        let own = own.clone();
        tasks.spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut answered = 0;
            while began.elapsed() < time {
                for request in &own {
                    connection.ask(request).await?;
                    answered += 1;
                }
            }
            anyhow::Ok(answered)
        });
    }
    let mut all = 0;
    while let Some(done) = tasks.join_next().await {
        all += done??;
    }
    Ok(all)
}

/// Open connections that have received one response each.
pub struct OpenConnections(Vec<Connection>);

impl OpenConnections {
    pub fn none() -> Self {
        Self(Vec::new())
    }

    /// Opens missing connections.
    pub async fn grow(&mut self, address: SocketAddr, count: usize) -> anyhow::Result<()> {
        while self.0.len() < count {
            let mut connection = Connection::open(address).await?;
            connection.request().await?;
            self.0.push(connection);
        }
        Ok(())
    }
}

/// Sends all requests at full speed and returns the total time.
pub async fn closed(
    address: SocketAddr,
    connections: usize,
    requests: u64,
) -> anyhow::Result<Duration> {
    let share = requests / connections as u64;
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(Connection::open(address).await?);
    }
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for mut connection in open {
        tasks.spawn(async move {
            for _ in 0..share {
                connection.request().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(began.elapsed())
}

/// Sorted latencies in microseconds.
pub struct Latencies(Vec<f64>);

impl Latencies {
    /// Number of responses.
    pub fn count(&self) -> f64 {
        self.0.len() as f64
    }

    /// The given quantile.
    pub fn quantile(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the share is between 0 and 1"
        )]
        let index = (self.0.len() as f64 * share) as usize;
        self.0
            .get(index.min(self.0.len().saturating_sub(1)))
            .copied()
            .unwrap_or(f64::NAN)
    }
}

/// Tokio's timer fires up to two milliseconds late, so the rest of the wait is a busy loop on the
/// load's own core.
async fn wait_until(due: Instant) {
    const TIMER: Duration = Duration::from_millis(2);
    if let Some(early) = due.checked_sub(TIMER) {
        tokio::time::sleep_until(early.into()).await;
    }
    while Instant::now() < due {
        tokio::task::yield_now().await;
    }
}

/// Sends requests at a fixed rate and measures from the time at which each was due.
pub async fn open(
    address: SocketAddr,
    connections: usize,
    rate: f64,
    time: Duration,
) -> anyhow::Result<Latencies> {
    let began = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    let pause = Duration::from_secs_f64(connections as f64 / rate);
    for index in 0..connections {
        let mut connection = Connection::open(address).await?;
        let mut due = began + pause.mul_f64(index as f64 / connections as f64);
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            while due < began + time {
                wait_until(due).await;
                connection.request().await?;
                // Not measured from sending: a request that is delayed by the previous one is late
                // for its client as well.
                latencies.push(due.elapsed().as_secs_f64() * 1e6);
                due += pause;
            }
            anyhow::Ok(latencies)
        });
    }
    let mut all = Vec::new();
    while let Some(done) = tasks.join_next().await {
        all.extend(done.context("the load failed")??);
    }
    all.sort_by(f64::total_cmp);
    Ok(Latencies(all))
}
