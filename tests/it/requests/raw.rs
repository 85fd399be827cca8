//! Requests as bytes, for what no client library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::Service;

/// Long enough for a busy machine; a hang ends the test.
const BOUND: Duration = Duration::from_secs(10);

/// Sends bytes and reads until the server closes.
pub async fn exchange(service: &Service, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    // The server may answer, and close, before it has read all of it.
    let _partly = stream.write_all(bytes).await;
    read_to_end(&mut stream).await
}

pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    // A reset is an end as well.
    let _ended = tokio::time::timeout(BOUND, stream.read_to_end(&mut answer))
        .await
        .expect("the connection was closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Reads until the end of a head, and no further than what came with it.
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

/// The status of every answer in what was read.
pub fn statuses(answer: &str) -> Vec<u16> {
    answer
        .split("HTTP/1.")
        .skip(1)
        .map(|rest| rest[2..5].parse().unwrap())
        .collect()
}
