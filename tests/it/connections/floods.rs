//! Floods of HTTP/2 control frames.

use std::time::{Duration, Instant};

use crate::support::http2::{Frame, Http2, frame, get, kind, window_update};
use crate::support::{Backend, Service, eventually};

const PING: &str = "/api/v1/ping";
/// The size of a flood. At 100 MB/s it takes two thirds of a second.
const BYTES: usize = 64 << 20;

async fn service(control_frames: u32) -> Service {
    Service::builder(Backend::Sqlite)
        .env("APP__HTTP__MAX_CONTROL_FRAMES", control_frames.to_string())
        .start()
        .await
}

/// Sends the same frames until the service closes the connection. Returns whether it did.
async fn is_disconnected(service: &Service, before: &[u8], frames: &[u8]) -> bool {
    let mut connection = Http2::connect(service.address(), &[]).await;
    connection.send(before).await.unwrap();
    let burst = frames.repeat((64 << 10) / frames.len());
    for _ in 0..BYTES / burst.len() {
        if connection.send(&burst).await.is_err() {
            return true;
        }
    }
    false
}

#[tokio::test]
async fn floods_of_any_control_frame_end_the_connection() {
    let service = service(1_000).await;
    let request = get(1, PING);
    for (label, before, flood) in [
        ("ping", &[][..], frame(kind::PING, 0, 0, &[0; 8])),
        ("ping", &[], frame(kind::PING, 1, 0, &[0; 8])),
        ("settings", &[], frame(kind::SETTINGS, 0, 0, &[])),
        (
            "settings",
            &[],
            frame(kind::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255].repeat(2_000)),
        ),
        (
            "priority",
            &[],
            frame(kind::PRIORITY, 0, 1, &[0, 0, 0, 0, 9]),
        ),
        ("window_update", &[], window_update(0, 1)),
        ("window_update", &request, window_update(1, 1)),
        (
            "rst_stream",
            &request,
            frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]),
        ),
        ("goaway", &[], frame(kind::GOAWAY, 0, 0, &[0; 8])),
        ("other", &[], frame(0xfa, 0, 0, b"nothing")),
    ] {
        let floods = async || {
            let metrics = service.metrics().await;
            metrics.get("http2_floods_total", &[("frame", label)])
        };
        let before_it = floods().await.expect("the series exists from the start");
        let began = Instant::now();
        assert!(is_disconnected(&service, before, &flood).await, "{label}");
        assert!(began.elapsed() < Duration::from_secs(5), "{label}");
        eventually(&format!("a flood of {label} is counted"), async || {
            (floods().await == Some(before_it + 1.0)).then_some(())
        })
        .await;
    }
    let metrics = service.metrics().await;
    let ended = metrics.get("http_connections_ended_total", &[("reason", "flood")]);
    assert_eq!(ended, Some(10.0));
    let answer = service.client.get(service.url(PING)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
}

/// Limits of h2 for frames that belong to a request.
#[tokio::test]
async fn empty_data_and_continuation_frames_end_the_connection() {
    let service = service(u32::MAX).await;
    let mut post = get(1, PING);
    // A POST request whose stream stays open.
    post[9] = 0x83;
    post[4] = 0x4;
    let mut half = get(1, PING);
    half[4] = 0x1;
    for (what, before, flood) in [
        ("empty DATA", &post, frame(kind::DATA, 0, 1, &[])),
        (
            "DATA with padding alone",
            &post,
            frame(kind::DATA, 8, 1, &[3, 0, 0, 0]),
        ),
        (
            "empty CONTINUATION",
            &half,
            frame(kind::CONTINUATION, 0, 1, &[]),
        ),
    ] {
        assert!(is_disconnected(&service, before, &flood).await, "{what}");
    }
}

#[tokio::test]
async fn frames_in_proportion_to_requests_are_allowed() {
    let service = service(10).await;
    let mut connection = Http2::connect(service.address(), &[]).await;
    let mut ended = async |request: Vec<u8>, then: &dyn Fn(&Frame) -> Vec<u8>| {
        connection.send(&request).await.unwrap();
        loop {
            let frame = connection.next().await.expect("the connection stays");
            connection.send(&then(&frame)).await.unwrap();
            if frame.ends_stream() {
                break;
            }
        }
    };
    // A client that opens both windows after every frame.
    ended(get(1, "/openapi.json"), &|frame| match &frame.payload {
        data if frame.kind == kind::DATA && !data.is_empty() => {
            let length = u32::try_from(data.len()).unwrap();
            [
                window_update(0, length),
                window_update(frame.stream, length),
            ]
            .concat()
        }
        _ => Vec::new(),
    })
    .await;
    for number in 1..200 {
        let stream = 2 * number + 1;
        let priority = frame(kind::PRIORITY, 0, stream, &[0, 0, 0, 0, 9]);
        let request = [priority.repeat(3), get(stream, PING), priority.repeat(4)].concat();
        ended(request, &|_| Vec::new()).await;
    }
}
