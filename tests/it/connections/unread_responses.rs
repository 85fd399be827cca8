//! HTTP/2 clients that do not read their responses (RFC 9113, section 5.2).

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::service;
use crate::support::http2::{Frame, Http2, get, kind, window_update};
use crate::support::{Backend, Service, eventually};

/// `SETTINGS_INITIAL_WINDOW_SIZE` of 0: no data may be sent on a stream.
const CLOSED: &[(u16, u32)] = &[(4, 0)];
const PING: &str = "/api/v1/ping";
/// A response larger than the window of a connection.
const LARGE: &str = "/openapi.json";

/// Number of recorded requests with this path and status.
async fn recorded(service: &Service, path: &str, status: &str) -> f64 {
    let labels = [("path", path), ("status", status)];
    service.metrics().await.sum("http_requests_total", &labels)
}

async fn ended(service: &Service) -> (f64, f64) {
    let metrics = service.metrics().await;
    let reason = [("reason", "unread")];
    (
        metrics.sum("http_connections_ended_total", &reason),
        metrics.sum("http2_streams_unread_total", &[]),
    )
}

/// Reads frames until the connection ends. Returns them and the time that it took.
async fn read_until_end(connection: &mut Http2) -> (Vec<Frame>, Duration) {
    let began = Instant::now();
    let mut frames = Vec::new();
    while let Some(frame) = connection.next().await {
        frames.push(frame);
    }
    (frames, began.elapsed())
}

#[tokio::test]
async fn closed_windows_end_the_connection_after_the_idle_timeout() {
    let service = service().await;
    let mut connection = Http2::connect(service.address(), CLOSED).await;
    connection.send(&get(1, PING)).await.unwrap();
    let (frames, open) = read_until_end(&mut connection).await;
    let range = Duration::from_millis(1_300)..Duration::from_secs(3);
    assert!(range.contains(&open), "{open:?}");
    assert!(frames.iter().any(|frame| frame.kind == kind::HEADERS));
    eventually("the request is recorded", async || {
        (recorded(&service, PING, "499").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(recorded(&service, PING, "200").await, 0.0);
    assert_eq!(ended(&service).await.0, 1.0);
}

/// The stream windows are open, but the connection window is exhausted.
#[tokio::test]
async fn an_exhausted_connection_window_ends_the_connection() {
    let service = service().await;
    let mut connection = Http2::connect(service.address(), &[(4, 1 << 30)]).await;
    connection.send(&get(1, LARGE)).await.unwrap();
    connection.send(&get(3, PING)).await.unwrap();
    let (frames, open) = read_until_end(&mut connection).await;
    let range = Duration::from_millis(1_300)..Duration::from_secs(3);
    assert!(range.contains(&open), "{open:?}");
    let data = frames.iter().filter(|frame| frame.kind == kind::DATA);
    assert_eq!(data.map(|data| data.payload.len()).sum::<usize>(), 65_535);
    eventually("the request is recorded", async || {
        (recorded(&service, LARGE, "499").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(ended(&service).await.0, 1.0);
}

#[tokio::test]
async fn an_unread_stream_is_reset_and_others_are_served() {
    let service = service().await;
    let mut connection = Http2::connect(service.address(), CLOSED).await;
    connection.send(&get(1, LARGE)).await.unwrap();
    let began = Instant::now();
    let mut served = 0;
    let mut stream = 1;
    let mut pace = interval(Duration::from_millis(50));
    let reset = loop {
        tokio::select! {
            frame = connection.receive() => {
                let frame = frame.expect("the connection stays");
                served += u32::from(frame.stream > 1 && frame.ends_stream());
                if frame.kind == kind::RST_STREAM {
                    break frame;
                }
            }
            _now = pace.tick() => {
                assert!(began.elapsed() < Duration::from_secs(10), "it was not reset");
                stream += 2;
                let request = [get(stream, PING), window_update(stream, 100)].concat();
                connection.send(&request).await.unwrap();
            }
        }
    };
    let range = Duration::from_millis(1_300)..Duration::from_secs(3);
    assert!(range.contains(&began.elapsed()), "{:?}", began.elapsed());
    // CANCEL.
    assert_eq!((reset.stream, &reset.payload[..]), (1, &[0, 0, 0, 8][..]));
    while f64::from(served) < f64::from(stream / 2) {
        let frame = connection.next().await.expect("the connection stays");
        served += u32::from(frame.stream > 1 && frame.ends_stream());
    }
    eventually("the requests are recorded", async || {
        let cut = recorded(&service, LARGE, "499").await;
        let whole = recorded(&service, PING, "200").await;
        (cut == 1.0 && whole == f64::from(served)).then_some(())
    })
    .await;
    assert_eq!(ended(&service).await, (0.0, 1.0));
    assert_eq!(recorded(&service, LARGE, "200").await, 0.0);
    assert_eq!(recorded(&service, PING, "499").await, 0.0);
}

/// Opens the window of a stream repeatedly until the response or the connection ends.
async fn read_slowly(service: &Service, every: Duration, bytes: u32) -> (Vec<Frame>, Duration) {
    let mut connection = Http2::connect(service.address(), CLOSED).await;
    let mut frames = Vec::new();
    connection.send(&get(1, LARGE)).await.unwrap();
    let began = Instant::now();
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let reading = async {
        loop {
            tokio::select! {
                frame = connection.receive() => {
                    let Some(frame) = frame else { break };
                    let last = frame.kind == kind::RST_STREAM || frame.ends_stream();
                    frames.push(frame);
                    if last {
                        break;
                    }
                }
                _now = pace.tick() => {
                    let opened = [window_update(0, bytes), window_update(1, bytes)].concat();
                    // The end of the stream.
                    let _gone = connection.send(&opened).await;
                }
            }
        }
    };
    timeout(Duration::from_secs(20), reading)
        .await
        .expect("an end");
    (frames, began.elapsed())
}

#[tokio::test]
async fn opening_windows_byte_by_byte_ends_the_stream() {
    let service = service().await;
    let (frames, open) = read_slowly(&service, Duration::from_millis(50), 1).await;
    let range = Duration::from_millis(1_300)..Duration::from_secs(5);
    assert!(range.contains(&open), "{open:?}");
    assert!(!frames.iter().any(Frame::ends_stream));
    eventually("the request is recorded", async || {
        (recorded(&service, LARGE, "499").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(recorded(&service, LARGE, "200").await, 0.0);
}

#[tokio::test]
async fn a_slowly_reading_client_receives_the_complete_response() {
    let service = service().await;
    let whole = service.client.get(service.url(LARGE)).send().await.unwrap();
    let whole = whole.bytes().await.unwrap();
    // About three times the idle timeout.
    let steps = 45;
    let step = u32::try_from(whole.len()).unwrap() / steps;
    let (frames, open) = read_slowly(&service, Duration::from_millis(100), step).await;
    assert!(open > Duration::from_secs(3), "{open:?}");
    assert!(frames.last().is_some_and(Frame::ends_stream));
    let data = frames.iter().filter(|frame| frame.kind == kind::DATA);
    let data: Vec<u8> = data.flat_map(|data| data.payload.clone()).collect();
    assert!(data == whole, "{} of {} bytes", data.len(), whole.len());
    eventually("the requests are recorded", async || {
        (recorded(&service, LARGE, "200").await == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_does_not_read_does_not_delay_the_exit() {
    let mut service = Service::builder(Backend::Sqlite)
        .env("APP__LIFECYCLE__GRACE_PERIOD", "20s")
        .start()
        .await;
    let mut closed = Http2::connect(service.address(), CLOSED).await;
    closed.send(&get(1, PING)).await.unwrap();
    // Over HTTP/1.1: more responses than the buffers of both ends can hold.
    let mut deaf = TcpStream::connect(service.address()).await.unwrap();
    let burst = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    let write = async { while deaf.write_all(&burst).await.is_ok() {} };
    let stuck = timeout(Duration::from_secs(1), write).await;
    assert!(stuck.is_err(), "the service stopped reading");
    let began = Instant::now();
    assert_eq!(service.terminate().await, Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
}
