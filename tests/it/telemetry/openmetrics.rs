//! The metrics page in both formats. `tests/system/32-openmetrics` reads it with a strict
//! parser and with Prometheus.

use std::collections::BTreeSet;

use super::{exporting, get, sink::Sink};
use crate::support::{Backend, Service};

const OPEN: &str = "application/openmetrics-text; version=1.0.0";

async fn scrape(service: &Service, accept: &str) -> (String, String) {
    let request = service.client.get(service.admin("/metrics"));
    let answer = request.header("accept", accept).send().await.unwrap();
    assert_eq!(answer.headers()["vary"], "accept");
    let kind = answer.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    (kind, answer.text().await.unwrap())
}

/// Lines with an exemplar.
fn exemplars(page: &str) -> Vec<&str> {
    page.lines()
        .filter(|line| !line.starts_with('#') && line.contains(" # "))
        .collect()
}

#[tokio::test]
async fn accept_selects_the_format_and_both_contain_the_same_series() {
    let service = Service::start(Backend::Sqlite).await;
    let (kind, text) = scrape(&service, "text/plain").await;
    assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8");
    let (kind, open) = scrape(&service, OPEN).await;
    assert_eq!(
        kind,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    assert!(open.ends_with("\n# EOF\n"));
    let series = |page: &str| -> BTreeSet<String> {
        page.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.rsplit_once(' ').unwrap().0.replace(".0\"}", "\"}"))
            .collect()
    };
    assert_eq!(series(&text), series(&open));
    assert!(open.contains("# TYPE http_requests counter\n"));
    assert!(open.contains("# UNIT http_request_duration_seconds seconds\n"));
    assert!(open.contains("le=\"1.0\"} 0\n"));
}

/// The trace id of a caller.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// A service that samples exactly the traces that its callers sample.
async fn following_callers(sink: &Sink) -> Service {
    exporting(sink)
        .env("APP__TELEMETRY__TRACE_RATIO", "0")
        .env("APP__HTTP__TRUSTED_PROXIES", "127.0.0.1/32")
        .start()
        .await
}

/// Finds the slow request through the exemplar of its slow query.
#[tokio::test]
async fn only_queries_of_sampled_requests_have_exemplars() {
    let sink = Sink::start();
    let service = following_callers(&sink).await;
    let login = async |flag: &str| {
        let request = service.client.post(service.url("/api/v1/auth/login"));
        let body = serde_json::json!({"email": "a@example.com", "password": "wrong password"});
        let request = request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-{flag}"));
        assert_eq!(request.json(&body).send().await.unwrap().status(), 401);
        let (_, page) = scrape(&service, OPEN).await;
        let found = exemplars(&page).into_iter();
        let of_queries = found.filter(|line| line.starts_with("db_query_duration_seconds_bucket{"));
        of_queries.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(login("00").await, Vec::<String>::new());
    let lines = login("01").await;
    assert_eq!(lines.len(), 2, "{lines:?}");
    // A refused login reads the credentials and is recorded.
    for query in ["user_credentials", "append_audit_event"] {
        let of_query = |line: &&String| line.contains(&format!("query_type=\"{query}\""));
        let line = lines.iter().find(of_query).expect(query);
        let trace = format!(" # {{trace_id=\"{TRACE}\"}} 0.");
        assert!(line.contains(&trace), "{line}");
    }
}

#[tokio::test]
async fn exemplars_refer_to_sampled_traces_only() {
    let sink = Sink::start();
    let service = following_callers(&sink).await;
    get(&service, "/api/v1/ping", &[]).await;
    let (_, before) = scrape(&service, OPEN).await;
    assert!(exemplars(&before).is_empty(), "{:?}", exemplars(&before));

    let parent = format!("00-{TRACE}-b7ad6b7169203331-01");
    get(&service, "/api/v1/ping", &[("traceparent", &parent)]).await;
    // The late span of an unsampled request has no exemplar.
    let (_, page) = scrape(&service, OPEN).await;
    let [line] = exemplars(&page)[..] else {
        panic!("one exemplar: {:?}", exemplars(&page));
    };
    let series = "http_request_duration_seconds_bucket{method=\"GET\",path=\"/api/v1/ping\",le=";
    assert!(line.starts_with(series), "{line}");
    assert!(
        line.contains(&format!(" # {{trace_id=\"{TRACE}\"}} 0.")),
        "{line}"
    );
    let (_, text) = scrape(&service, "text/plain").await;
    assert!(!text.contains("trace_id"), "text 0.0.4 knows no exemplars");
}
