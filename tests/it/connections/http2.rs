//! Limits of HTTP/2, tested with raw frames (RFC 9113, section 4.1).

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{ping_over_http2, service};
use crate::support::Service;
use crate::support::http2::{PREFACE, SETTINGS, frame};
use crate::support::raw_http::read_bytes;

const RST_STREAM: u8 = 3;
const SETTINGS_FRAME: u8 = 4;
const GOAWAY: u8 = 7;
const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A ping request on another stream.
fn ping_on(stream: u32) -> Vec<u8> {
    let mut frame = ping_over_http2();
    frame[5..9].copy_from_slice(&stream.to_be_bytes());
    frame
}

/// Sends bytes and returns all frames until the server closes the connection.
async fn frames_after(service: &Service, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    // The server may close the connection before it has read everything.
    let _partly = stream.write_all(bytes).await;
    let read = read_bytes(&mut stream).await;
    let mut frames = Vec::new();
    let mut rest = &read[..];
    while let Some((head, after)) = rest.split_at_checked(9) {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let payload = &after[..length.min(after.len())];
        frames.push((head[3], payload.to_vec()));
        rest = &after[payload.len()..];
    }
    frames
}

fn error_of(frames: &[(u8, Vec<u8>)]) -> Option<u32> {
    let (_, payload) = frames.iter().rfind(|(kind, _)| *kind == GOAWAY)?;
    Some(u32::from_be_bytes(payload.get(4..8)?.try_into().ok()?))
}

async fn answers(service: &Service) {
    let answer = service.client.get(service.url("/api/v1/ping")).send();
    assert_eq!(answer.await.unwrap().status(), 200);
}

/// CVE-2023-44487: streams that are opened and reset immediately.
#[tokio::test]
async fn rapid_resets_end_the_connection_only() {
    let service = service().await;
    let mut attack = [PREFACE, SETTINGS].concat();
    for number in 0..2_000 {
        let stream = 2 * number + 1;
        attack.extend(ping_on(stream));
        attack.extend(frame(RST_STREAM, 0, stream, &CANCEL));
    }
    let frames = frames_after(&service, &attack).await;
    // ENHANCE_YOUR_CALM, unless the reset overtakes the GOAWAY frame.
    assert!(matches!(error_of(&frames), None | Some(11)), "{frames:?}");
    let metrics = service.metrics().await;
    let labels = [("path", "/api/v1/ping")];
    let served = metrics.sum("http_requests_total", &labels);
    assert!(served < 500.0, "{served} requests were begun");
    answers(&service).await;
}

/// Client errors that make the server reset streams (`MadeYouReset`, CVE-2025-8671).
#[tokio::test]
async fn errors_that_make_the_server_reset_end_the_connection() {
    let service = service().await;
    let mut attack = [PREFACE, SETTINGS].concat();
    for number in 0..2_000 {
        let stream = 2 * number + 1;
        attack.extend(ping_on(stream));
        // A window update of zero is a stream error.
        attack.extend(frame(8, 0, stream, &[0, 0, 0, 0]));
    }
    let frames = frames_after(&service, &attack).await;
    assert!(
        matches!(error_of(&frames), None | Some(1 | 11)),
        "{frames:?}"
    );
    let resets = frames
        .iter()
        .filter(|(kind, _)| *kind == RST_STREAM)
        .count();
    assert!(resets <= 200, "{resets} resets");
    answers(&service).await;
}

/// CVE-2024-27316: header blocks with endless continuation.
#[tokio::test]
async fn an_endless_header_block_is_not_buffered() {
    let service = service().await;
    let mut attack = [PREFACE, SETTINGS].concat();
    attack.extend(frame(1, 0, 1, &[0x82, 0x86]));
    // A literal of 16,000 bytes, repeated (RFC 7541, section 6.2.2).
    let mut literal = vec![0, 1, b'x', 0x7f, 0x81, 0x7c];
    literal.resize(16_006, b'a');
    for _ in 0..200 {
        attack.extend(frame(9, 0, 1, &literal));
    }
    let frames = frames_after(&service, &attack).await;
    assert!(!frames.iter().any(|(kind, _)| *kind == 1), "{frames:?}");
    let metrics = service.metrics().await;
    assert_eq!(metrics.sum("http_requests_total", &[]), 0.0);
    answers(&service).await;
}

/// HTTP/2 forbids transfer codings (RFC 9113, section 8.2.2), so the stream is reset.
#[tokio::test]
async fn a_transfer_coding_resets_the_stream() {
    let service = service().await;
    let mut block = ping_over_http2().split_off(9);
    block.extend([0, 17]);
    block.extend(b"transfer-encoding");
    block.push(7);
    block.extend(b"chunked");
    let bytes = [PREFACE, SETTINGS, &frame(1, 5, 1, &block)].concat();
    let frames = frames_after(&service, &bytes).await;
    assert!(
        frames.contains(&(RST_STREAM, vec![0, 0, 0, 1])),
        "{frames:?}"
    );
    assert!(!frames.iter().any(|(kind, _)| *kind == 1), "{frames:?}");
}

#[tokio::test]
async fn the_server_announces_its_limits() {
    let service = service().await;
    let frames = frames_after(&service, &[PREFACE, SETTINGS].concat()).await;
    let (_, settings) = frames
        .iter()
        .find(|(kind, _)| *kind == SETTINGS_FRAME)
        .expect("settings");
    let settings: Vec<(u16, u32)> = settings
        .chunks(6)
        .map(|s| {
            (
                u16::from_be_bytes([s[0], s[1]]),
                u32::from_be_bytes([s[2], s[3], s[4], s[5]]),
            )
        })
        .collect();
    // MAX_CONCURRENT_STREAMS and MAX_HEADER_LIST_SIZE.
    assert!(settings.contains(&(3, 100)), "{settings:?}");
    assert!(settings.contains(&(6, 64 * 1_024)), "{settings:?}");
}
