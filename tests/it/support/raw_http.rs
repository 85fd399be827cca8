//! Raw HTTP over TCP, for inputs that client libraries cannot send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Service;

/// Generous for busy machines. Exceeding it fails the test.
const BOUND: Duration = Duration::from_secs(10);

/// A loopback address that is not in use. The port may be taken by another process afterwards.
pub fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// Sends bytes to the public listener and reads until the server closes the connection.
pub async fn exchange(service: &Service, bytes: &[u8]) -> String {
    let stream = TcpStream::connect(service.address()).await.unwrap();
    exchange_on(stream, bytes).await
}

/// Sends bytes over a connection and reads until the server closes it.
pub async fn exchange_on(mut stream: TcpStream, bytes: &[u8]) -> String {
    // The server may answer and close before it has read everything.
    let _partly = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

/// Reads until the server closes the connection.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    String::from_utf8_lossy(&read_bytes(stream).await).into_owned()
}

/// Reads bytes until the server closes the connection.
pub async fn read_bytes(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset ends the response as well.
    let _ended = tokio::time::timeout(BOUND, stream.read_to_end(&mut bytes))
        .await
        .expect("the connection was closed");
    bytes
}

/// Reads a response head, and at most the bytes that arrive with it.
pub async fn read_head(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0, "closed");
        }
    };
    tokio::time::timeout(BOUND, read)
        .await
        .expect("a head came");
    String::from_utf8_lossy(&answer).into_owned()
}

/// The status of every response.
pub fn statuses(answer: &str) -> Vec<u16> {
    answer
        .split("HTTP/1.")
        .skip(1)
        .map(|rest| rest[2..5].parse().unwrap())
        .collect()
}
