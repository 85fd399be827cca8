//! Bodies that are too large, too slow, too deeply nested or invalid.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::raw_http::{exchange, read_to_end, statuses};
use crate::support::service::{ADMIN_EMAIL, ADMIN_PASSWORD};
use crate::support::{Backend, Service};

const LOGIN: &str =
    "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";

/// 256 MiB of zeros at brotli's highest level: 211 bytes.
const BROTLI_BOMB: &str = "cfffff7ff82700e2b14020f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c32200ddfb7ffeffffc33f0110870500baf7fffcffff877f02200e0b0074effff9ffff0fff04401c1600e8defff3ffff1ffe0980382c00d0bdffe7ffff3ffc1300715800a07bffcfffff7ff82700e2b00040f7fe9ffffffff04f00c4610180eefd3fffffffe19f0088c30200ddfb7ffeffffc33f0110870500baf7fffcffff877f02200e0b0074effff9ffff0fff04401c1600e8defff3ffff1ffe0980382c00d0bdffe7ffff3ffc1300715800a07bff3f";

/// 512 MiB of zeros as zstd blocks of a repeated byte (RFC 8878, section 3.1.1.2.2), with a window
/// of 1 KiB times two to the power of the exponent: 16 KiB.
fn zstd_bomb(window_exponent: u8) -> Vec<u8> {
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, window_exponent << 3];
    let block = (128 << 10) << 3 | 1 << 1;
    for _ in 0..4_000 {
        bomb.extend(&u32::to_le_bytes(block)[..3]);
        bomb.push(0);
    }
    bomb.extend([1, 0, 0]);
    bomb
}

/// Empty deflate blocks (RFC 1951, section 3.2.4).
fn empty_gzip(length: usize) -> Vec<u8> {
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    while gzip.len() < length {
        gzip.extend([0, 0, 0, 0xff, 0xff]);
    }
    gzip
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

async fn login(service: &Service, coding: &str, body: Vec<u8>) -> (u16, Value) {
    let request = service
        .client
        .post(service.url("/api/v1/auth/login"))
        .header("content-type", "application/json")
        .header("content-encoding", coding)
        .body(body);
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("a problem"))
}

#[tokio::test]
async fn decompression_bombs_are_limited() {
    let service = Service::start(Backend::Sqlite).await;
    let resident = async || {
        let metrics = service.metrics().await;
        metrics.get("process_resident_memory_bytes", &[]).unwrap()
    };
    let before = resident().await;
    // Windows of 8 MiB and 128 MiB, which RFC 9659 forbids.
    for (coding, bomb) in [
        ("zstd", zstd_bomb(13)),
        ("zstd", zstd_bomb(17)),
        ("br", unhex(BROTLI_BOMB)),
    ] {
        for _ in 0..10 {
            let (status, body) = login(&service, coding, bomb.clone()).await;
            assert_eq!(status, 413, "{coding}: {body}");
            assert_eq!(body["code"], "BODY_TOO_LARGE");
        }
    }
    let grown = resident().await - before;
    assert!(grown < 48.0 * 1024.0 * 1024.0, "{grown} bytes");
}

#[tokio::test]
async fn a_long_encoding_of_an_empty_body_is_too_large() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_BODY_BYTES", "16KiB")
        .start()
        .await;
    let chunk = empty_gzip(64 << 10);
    let head = format!(
        "{LOGIN}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    );
    let body = [
        format!("{:x}\r\n", chunk.len()).as_bytes(),
        &chunk,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let answer = exchange(&service, &[head.as_bytes(), &body].concat()).await;
    assert_eq!(statuses(&answer), [413], "{answer}");
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn brotli(text: &[u8]) -> Vec<u8> {
    let mut writer = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
    writer.write_all(text).unwrap();
    writer.into_inner()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(text, 3).unwrap()
}

#[tokio::test]
async fn content_codings_are_selected_by_name() {
    let service = Service::start(Backend::Sqlite).await;
    let text = format!(r#"{{"email": "{ADMIN_EMAIL}", "password": "{ADMIN_PASSWORD}"}}"#);
    let text = text.as_bytes();
    for (coding, body) in [
        ("GZIP", gzip(text)),
        ("x-gzip", gzip(text)),
        ("Br", brotli(text)),
        ("ZSTD", zstd(text)),
        ("identity", text.to_vec()),
        ("Identity, gzip ,", gzip(text)),
        ("gzip, br", brotli(&gzip(text))),
        ("zstd,X-GZIP", gzip(&zstd(text))),
    ] {
        let (status, body) = login(&service, coding, body).await;
        assert_eq!(status, 200, "{coding}: {body}");
    }
    for coding in [
        "lzma",
        "deflate",
        "gzip, lzma",
        "gzip;q=1",
        "br, br, br, br",
    ] {
        let request = service
            .client
            .post(service.url("/api/v1/auth/login"))
            .header("content-encoding", coding)
            .header("content-type", "application/json")
            .body(gzip(text));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 415, "{coding}");
        assert_eq!(answer.headers()["accept-encoding"], "gzip, br, zstd");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["code"], "UNSUPPORTED_MEDIA_TYPE", "{coding}");
    }
}

/// Each body starts or ends with a complete login.
#[tokio::test]
async fn incomplete_bodies_reach_no_handler() {
    let service = Service::start(Backend::Sqlite).await;
    let text = format!(r#"{{"email": "{ADMIN_EMAIL}", "password": "{ADMIN_PASSWORD}"}}"#);
    let (text, more) = (text.as_bytes(), &br#"{"more": 1}"#[..]);
    let both = |encode: fn(&[u8]) -> Vec<u8>| [encode(text), encode(more)].concat();
    let halves = |encode: fn(&[u8]) -> Vec<u8>| {
        let (first, second) = text.split_at(20);
        [encode(first), encode(second)].concat()
    };
    let followed = |encode: fn(&[u8]) -> Vec<u8>, by: &[u8]| [&encode(text), by].concat();
    let cut = |encode: fn(&[u8]) -> Vec<u8>| {
        let mut body = encode(text);
        body.pop();
        body
    };
    let damaged = [&gzip(text)[..], &gzip(text)[..3], b"x"].concat();
    for (coding, body, expected) in [
        ("gzip", halves(gzip), (200, Value::Null)),
        ("zstd", halves(zstd), (200, Value::Null)),
        ("gzip", both(gzip), (400, "INVALID_JSON".into())),
        ("zstd", both(zstd), (400, "INVALID_JSON".into())),
        ("br", both(brotli), (400, "INVALID_BODY".into())),
        ("gzip", followed(gzip, b"\0"), (400, "INVALID_BODY".into())),
        ("gzip", followed(gzip, more), (400, "INVALID_BODY".into())),
        ("br", followed(brotli, b"\0"), (400, "INVALID_BODY".into())),
        ("zstd", followed(zstd, b"\0"), (400, "INVALID_BODY".into())),
        ("gzip", damaged, (400, "INVALID_BODY".into())),
        ("gzip", cut(gzip), (400, "INVALID_BODY".into())),
        ("br", cut(brotli), (400, "INVALID_BODY".into())),
        ("zstd", cut(zstd), (400, "INVALID_BODY".into())),
        ("gzip", text.to_vec(), (400, "INVALID_BODY".into())),
        ("zstd", Vec::new(), (400, "INVALID_BODY".into())),
    ] {
        let length = body.len();
        let (status, body) = login(&service, coding, body).await;
        let got = (status, body["code"].clone());
        assert_eq!(got, expected, "{coding}, {length} bytes: {body}");
    }
}

#[tokio::test]
async fn a_too_large_declared_length_is_refused_unread() {
    let service = Service::start(Backend::Sqlite).await;
    let began = Instant::now();
    let answer = exchange(
        &service,
        format!("{LOGIN}Content-Length: 1073741824\r\n\r\n").as_bytes(),
    )
    .await;
    assert_eq!(statuses(&answer), [413], "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_slowly_sent_body_times_out() {
    let service = Service::builder(Backend::Sqlite)
        .env("APP__HTTP__BODY_TIMEOUT", "300ms")
        .start()
        .await;
    let mut stream = TcpStream::connect(service.address()).await.unwrap();
    let head = format!("{LOGIN}Content-Length: 1000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let began = Instant::now();
    for _ in 0..20 {
        // The sleep is the pace of the attack, it does not wait for anything.
        tokio::time::sleep(Duration::from_millis(50)).await;
        if stream.write_all(b" ").await.is_err() {
            break;
        }
    }
    let answer = read_to_end(&mut stream).await;
    assert_eq!(statuses(&answer), [408], "{answer}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn deeply_nested_json_is_answered_with_400() {
    let service = Service::start(Backend::Sqlite).await;
    for body in ["[".repeat(100_000), "{\"a\":".repeat(100_000)] {
        let (status, body) = login(&service, "identity", body.into_bytes()).await;
        assert_eq!(status, 400, "{body}");
        assert_eq!(body["code"], "INVALID_JSON");
    }
    let answer = service.client.get(service.url("/api/v1/ping"));
    assert_eq!(answer.send().await.unwrap().status(), 200);
}
