//! An HTTP/2 client for single frames (RFC 9113, section 4.1).

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The empty SETTINGS frame that every client sends first.
pub const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;

/// Types of frames.
pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// An encoded frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A HEADERS frame of a GET request without a body (RFC 7541, static table and literals without
/// indexing).
pub fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    block.extend([0x01, 1, b'x']);
    frame(kind::HEADERS, 0x5, stream, &block)
}

/// A `WINDOW_UPDATE` frame. Stream 0 is the connection.
pub fn window_update(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

/// A received frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    pub fn ends_stream(&self) -> bool {
        matches!(self.kind, kind::DATA | kind::HEADERS) && self.flags & END_STREAM != 0
    }
}

/// A connection that acknowledges SETTINGS and PING.
pub struct Http2 {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Http2 {
    /// Connects and sends the preface and these settings.
    pub async fn connect(address: &str, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut payload = Vec::new();
        for (name, value) in settings {
            payload.extend(name.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        let mut connection = Self {
            stream,
            read: Vec::new(),
        };
        connection.send(PREFACE).await.unwrap();
        let settings = frame(kind::SETTINGS, 0, 0, &payload);
        connection.send(&settings).await.unwrap();
        connection
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next frame other than SETTINGS and PING; `None` when the connection has ended.
    ///
    /// # Panics
    /// When no frame arrives within ten seconds.
    pub async fn next(&mut self) -> Option<Frame> {
        tokio::time::timeout(Duration::from_secs(10), self.receive())
            .await
            .expect("a frame or the end")
    }

    /// Cancel-safe: received bytes are kept.
    pub async fn receive(&mut self) -> Option<Frame> {
        loop {
            let Some(frame) = self.take() else {
                match self.stream.read_buf(&mut self.read).await {
                    Ok(1..) => continue,
                    // A reset ends the connection as well.
                    Ok(0) | Err(_) => return None,
                }
            };
            if !matches!(frame.kind, kind::SETTINGS | kind::PING) {
                return Some(frame);
            }
            if frame.flags & ACK == 0 {
                let payload = match frame.kind {
                    kind::PING => &frame.payload[..],
                    _ => &[],
                };
                let _gone = self.send(&self::frame(frame.kind, ACK, 0, payload)).await;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let (head, after) = self.read.split_at_checked(9)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let frame = Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5], head[6], head[7], head[8]]),
            payload: after.get(..length)?.to_vec(),
        };
        self.read.drain(..9 + length);
        Some(frame)
    }
}
