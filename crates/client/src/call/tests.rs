use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use http::{Method, StatusCode};
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId};
use settings::{Layers, Reader};
use telemetry::TelemetryMetrics;

use super::*;

const SERVICE: Service = Service {
    name: "mailer",
    version: "1.2.3",
    revision: "0",
    modules: &[],
    packages: &[],
};
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// A server that answers each connection with the next of its answers, and repeats the last one.
struct Server {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        std::thread::spawn(move || {
            let mut kept = Vec::new();
            for stream in listener.incoming().map(Result::unwrap) {
                let index = seen.lock().unwrap().len().min(answers.len() - 1);
                seen.lock().unwrap().push(read_head(&stream));
                (&stream).write_all(answers[index].as_bytes()).unwrap();
                // An answer that is not complete stays open.
                if answers[index].is_empty() {
                    kept.push(stream);
                }
            }
        });
        Self { address, heads }
    }

    fn request(&self, method: Method) -> Request<Bytes> {
        let url = format!("http://{}/a?secret=1", self.address);
        let request = Request::builder().method(method).uri(url);
        request.body(Bytes::new()).unwrap()
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

fn read_head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
    head.join("\n")
}

fn limits() -> Limits {
    Limits {
        timeout: Duration::from_secs(5),
        max_body_bytes: 5,
        ..Limits::default()
    }
}

fn client(limits: Limits) -> Client {
    let registry = prometheus::Registry::new();
    let metrics = TelemetryMetrics::register(&registry).unwrap();
    let nowhere = Path::new("/nonexistent");
    let config = telemetry::Config::read(&mut Reader::new(Layers::load(nowhere, nowhere, [])));
    let traces = Traces::start(
        SERVICE,
        &config,
        &std::collections::BTreeMap::new(),
        &metrics,
    );
    let metrics = ClientMetrics::register(&registry).unwrap();
    Client::new(
        "test",
        &SERVICE,
        (limits, Tls::Off),
        traces.unwrap(),
        metrics,
    )
    .unwrap()
}

fn count(client: &Client, outcome: &str) -> u64 {
    let labels = ["test", "GET", outcome];
    let histogram = client.metrics.duration.with_label_values(&labels);
    histogram.get_sample_count()
}

#[tokio::test]
async fn a_request_names_the_service_and_its_trace() {
    let server = Server::start(&[OK]);
    let mut request = server.request(Method::GET);
    let foreign =
        HeaderValue::from_static("00-11111111111111111111111111111111-1111111111111111-01");
    request.headers_mut().insert(TRACEPARENT, foreign);
    let span = SpanContext::new(
        TraceId::from_bytes([0xab; 16]),
        SpanId::from_bytes([0xcd; 8]),
        TraceFlags::NOT_SAMPLED,
        false,
        opentelemetry::trace::TraceState::default(),
    );
    let client = client(limits());
    let call = client.send(request);
    let response = {
        let _attached = Context::new().with_remote_span_context(span).attach();
        call.await.unwrap()
    };
    assert_eq!(
        (response.status(), &**response.body()),
        (StatusCode::OK, &b"hello"[..])
    );
    let heads = server.heads();
    let expected = format!("traceparent: 00-{}-{}-00", "ab".repeat(16), "cd".repeat(8));
    assert!(heads[0].contains("user-agent: mailer/1.2.3"), "{heads:?}");
    assert!(heads[0].contains(&expected), "{heads:?}");
    assert_eq!(heads[0].matches("traceparent").count(), 1, "{heads:?}");
    assert_eq!(count(&client, "2xx"), 1);
}

#[tokio::test]
async fn outside_of_all_work_a_request_has_no_trace() {
    let server = Server::start(&[OK]);
    let mut request = server.request(Method::GET);
    for name in [TRACEPARENT, TRACESTATE] {
        let foreign = HeaderValue::from_static("foreign");
        request.headers_mut().insert(name, foreign);
    }
    client(limits()).send(request).await.unwrap();
    let heads = server.heads();
    assert!(!heads[0].contains("foreign"), "{heads:?}");
}

#[tokio::test]
async fn a_temporary_failure_is_repeated() {
    let server = Server::start(&[BUSY, BUSY, OK]);
    let client = client(limits());
    let response = client.send(server.request(Method::GET)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(server.heads().len(), 3);
    assert_eq!((count(&client, "5xx"), count(&client, "2xx")), (2, 1));

    let server = Server::start(&[BUSY, OK]);
    let response = client.send(server.request(Method::POST)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(server.heads().len(), 1);
}

#[tokio::test]
async fn a_connection_that_breaks_is_repeated() {
    let server = Server::start(&["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe\r\n", OK]);
    // The first answer announces one byte more than it has.
    let client = client(limits());
    client.send(server.request(Method::GET)).await.unwrap();
    assert_eq!((count(&client, "broken"), count(&client, "2xx")), (1, 1));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let server =
        Server::start(&["HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"]);
    let client = client(limits());
    let response = client.send(server.request(Method::GET)).await.unwrap();
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(server.heads().len(), 1);
    assert_eq!(count(&client, "3xx"), 1);
}

#[tokio::test]
async fn a_large_body_is_an_error_and_is_not_asked_for_again() {
    for large in [
        &["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello!"],
        &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n3\r\nlo!\r\n0\r\n\r\n"],
    ] {
        let server = Server::start(large);
        let client = client(limits());
        let error = client.send(server.request(Method::GET)).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge(5)), "{error}");
        assert_eq!(server.heads().len(), 1);
        assert_eq!(count(&client, "too_large"), 1);
    }
}

#[tokio::test]
async fn a_silent_server_ends_a_call_at_its_time_limit() {
    let server = Server::start(&[""]);
    let timeout = Duration::from_millis(100);
    let client = client(Limits {
        timeout,
        ..limits()
    });
    let began = Instant::now();
    let error = client.send(server.request(Method::GET)).await.unwrap_err();
    assert!(matches!(error, CallError::TimedOut(_)), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3));
    assert_eq!(count(&client, "timeout"), 1);
}

#[tokio::test]
async fn an_error_has_its_cause_and_not_the_url() {
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let request = Request::get(format!("http://{free}/?secret=1"));
    let client = client(limits());
    let error = client.send(request.body(Bytes::new()).unwrap()).await;
    let text = error.unwrap_err().to_string();
    assert!(text.contains("Connection refused"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(count(&client, "connect"), 3);
}
