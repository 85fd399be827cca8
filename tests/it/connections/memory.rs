//! Memory of idle connections.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::REQUEST;
use crate::support::{Backend, Service};

/// Limit for an idle HTTP/1 connection in an unoptimized build: 23 kB plus a seventh. With
/// hyper-util's protocol detection it is 31 kB because hyper's buffer of 8 KiB doubles.
const MOST: f64 = 26_500.0;
const CONNECTIONS: u16 = 1_000;

/// A connection after one response.
async fn idle_connection(service: &Service) -> TcpStream {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\"pong\"}") {
        assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    stream
}

#[tokio::test]
async fn an_idle_connection_holds_one_small_buffer() {
    let service = Service::start(Backend::Sqlite).await;
    // The statistics of the allocator are exact, unlike resident memory.
    let allocated = async || {
        let samples = service.metrics().await;
        samples.get("allocator_allocated_bytes", &[]).unwrap()
    };
    let mut held = Vec::new();
    for _ in 0..50 {
        held.push(idle_connection(&service).await);
    }
    // Allocations of the first connections and the first scrape are not counted.
    allocated().await;
    let before = allocated().await;
    for _ in 0..CONNECTIONS {
        held.push(idle_connection(&service).await);
    }
    let each = (allocated().await - before) / f64::from(CONNECTIONS);
    assert!(each < MOST, "{each} bytes");
    // The figure is per connection.
    assert!(each > 8_192.0, "{each} bytes");
}
