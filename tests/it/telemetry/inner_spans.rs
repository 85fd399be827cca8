//! Spans inside requests and worker runs: queries and defects, on both databases.

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};

use super::sink::{ReceivedSpan, Sink, hex};
use super::{exporting_on, request_line};
use crate::on_both;
use crate::support::{Backend, Service, eventually};

const EMAIL: &str = "canary@example.com";
const PASSWORD: &str = "canary correct horse";

/// Sends a login and returns status and request id.
async fn login(service: &Service) -> (u16, String) {
    let request = service.client.post(service.url("/api/v1/auth/login"));
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let answer = request.json(&body).send().await.unwrap();
    let id = answer.headers()["x-request-id"].to_str().unwrap();
    (answer.status().as_u16(), id.to_owned())
}

/// Runs a statement on the database of the service.
async fn execute(service: &Service, statement: &'static str) {
    let url = service.database.url();
    if url.starts_with("sqlite") {
        let mut connection = sqlx::SqliteConnection::connect(url).await.unwrap();
        connection.execute(statement).await.unwrap();
    } else {
        let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
        connection.execute(statement).await.unwrap();
    }
}

fn children<'a>(spans: &'a [ReceivedSpan], parent: &ReceivedSpan) -> Vec<&'a ReceivedSpan> {
    spans
        .iter()
        .filter(|received| received.parent() == parent.span_id())
        .collect()
}

on_both! {
    async fn queries_of_a_sampled_request_are_children_of_its_span(backend: Backend) {
        let sink = Sink::start();
        let mut service = exporting_on(&sink, backend).start().await;
        let (status, id) = login(&service).await;
        assert_eq!(status, 401);
        assert_eq!(service.terminate().await, Some(0));
        let server = sink.span_of(&id).await;
        assert_eq!(server.span.name, "POST /api/v1/auth/login");
        let spans = sink.spans();
        let queries = children(&spans, &server);
        assert!(!queries.is_empty(), "a login asks the database");
        let system = match backend {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgresql",
        };
        let url = reqwest::Url::parse(service.database.url()).unwrap();
        let server_of = |url: &reqwest::Url| {
            let namespace = url.path().trim_start_matches('/').to_owned();
            (url.host_str().map(str::to_owned), url.port().map(|it| it.to_string()), Some(namespace))
        };
        let peer = match backend {
            Backend::Sqlite => (None, None, None),
            Backend::Postgres => server_of(&url),
        };
        for query in queries {
            let found = ["server.address", "server.port", "db.namespace"].map(|it| query.text(it));
            assert_eq!(found, <[_; 3]>::from(peer.clone()));
            assert_eq!(query.span.kind, 3, "CLIENT");
            assert_eq!(query.trace_id(), server.trace_id());
            assert_eq!(query.text("db.system.name").as_deref(), Some(system));
            assert_eq!(query.text("db.operation.name").as_ref(), Some(&query.span.name));
            assert!(server.span.start_time_unix_nano <= query.span.start_time_unix_nano);
            assert!(query.span.end_time_unix_nano <= server.span.end_time_unix_nano);
        }
    }

    async fn failed_queries_have_an_error_status_and_refusals_do_not(backend: Backend) {
        let sink = Sink::start();
        let mut service = exporting_on(&sink, backend).start().await;
        let body = json!({"email": EMAIL, "password": PASSWORD, "name": "canary"});
        for status in [201, 409] {
            let request = service.client.post(service.url("/api/v1/auth/register"));
            assert_eq!(request.json(&body).send().await.unwrap().status(), status);
        }
        execute(&service, "ALTER TABLE users RENAME TO gone").await;
        let (status, id) = login(&service).await;
        assert_eq!(status, 500);
        assert_eq!(service.terminate().await, Some(0));
        let server = sink.span_of(&id).await;
        let spans = sink.spans();
        let failed: Vec<_> = spans
            .iter()
            .filter(|received| received.span.kind == 3 && received.is_error())
            .collect();
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0].parent(), server.span_id());
        let code = match backend {
            Backend::Sqlite => "1",
            Backend::Postgres => "42P01",
        };
        assert_eq!(failed[0].text("db.response.status_code").as_deref(), Some(code));
        assert_eq!(failed[0].text("error.type").as_deref(), Some(code));
    }

    async fn a_worker_run_is_a_trace_of_its_own_with_its_queries(backend: Backend) {
        let sink = Sink::start();
        let service = exporting_on(&sink, backend)
            .env("APP__WORKERS__CLEANUP_INTERVAL", "100ms")
            .start()
            .await;
        let (run, query) = eventually("a run with a query", async || {
            let spans = sink.spans();
            let run = spans.iter().find(|received| {
                received.span.kind == 1 && !children(&spans, received).is_empty()
            })?;
            Some((run.clone(), children(&spans, run)[0].clone()))
        })
        .await;
        assert_eq!(run.parent(), "");
        assert_eq!(query.trace_id(), run.trace_id());
        drop(service);
    }

    async fn a_run_after_a_failed_one_is_linked_to_it(backend: Backend) {
        let sink = Sink::start();
        let service = exporting_on(&sink, backend)
            .env("APP__WORKERS__CLEANUP_INTERVAL", "100ms")
            .start()
            .await;
        let runs = || sink.spans().into_iter().filter(|span| span.span.name == "cleanup");
        eventually("a run", async || runs().next()).await;
        assert!(runs().all(|run| run.span.links.is_empty()), "of its own accord");
        execute(&service, "ALTER TABLE refresh_tokens RENAME TO away").await;
        let (retry, failed) = eventually("a retry", async || {
            let retry = runs().find(|run| !run.span.links.is_empty())?;
            let link = &retry.span.links[0];
            let failed = runs().find(|run| run.span.span_id == link.span_id)?;
            Some((retry, failed))
        })
        .await;
        assert!(failed.is_error());
        assert_eq!((retry.parent(), retry.span.links.len()), (String::new(), 1));
        assert_eq!(hex(&retry.span.links[0].trace_id), failed.trace_id());
        assert_ne!(retry.trace_id(), failed.trace_id());
        let reason = &retry.span.links[0].attributes[0];
        assert_eq!(reason.key, "link.reason");
        assert!(format!("{reason:?}").contains("retry"));
        // The next run succeeds and is linked, and the one after it is not.
        execute(&service, "ALTER TABLE away RENAME TO refresh_tokens").await;
        eventually("a run of its own accord", async || {
            let last = runs().max_by_key(|run| run.span.start_time_unix_nano)?;
            last.span.links.is_empty().then_some(())
        })
        .await;
    }

    async fn the_attribute_limit_applies_to_links(backend: Backend) {
        let sink = Sink::start();
        let service = exporting_on(&sink, backend)
            .env("APP__WORKERS__CLEANUP_INTERVAL", "100ms")
            .env("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", "0")
            .start()
            .await;
        execute(&service, "ALTER TABLE refresh_tokens RENAME TO away").await;
        let link = eventually("a retry", async || {
            let mut links = sink.spans().into_iter().flat_map(|span| span.span.links);
            links.next()
        })
        .await;
        assert!(link.attributes.is_empty());
        assert_eq!(link.dropped_attributes_count, 1);
    }

    async fn an_unsampled_defect_is_logged_counted_and_exported(backend: Backend) {
        let sink = Sink::start();
        let mut service = exporting_on(&sink, backend)
            .env("APP__TELEMETRY__TRACE_RATIO", "0")
            .start()
            .await;
        execute(&service, "ALTER TABLE users RENAME TO gone").await;
        let (status, first) = login(&service).await;
        assert_eq!(status, 500);
        let (_, second) = login(&service).await;

        let span = sink.span_of(&first).await;
        assert!(span.is_error());
        assert_eq!(span.text("sampling.reason").as_deref(), Some("error"));
        assert_eq!(span.text("error.type").as_deref(), Some("500"));
        assert_eq!(span.span.events[0].name, "exception");
        sink.span_of(&second).await;
        assert_eq!(sink.spans().len(), 2, "a late trace has no inner spans");
        let line = request_line(&service, &first).await;
        assert_eq!(line["trace_id"], span.trace_id().as_str());
        // Spans are counted after the acknowledgement of the collector.
        let metrics = eventually("two late spans are counted", async || {
            let metrics = service.metrics().await;
            let late = metrics.get("trace_spans_total", &[("outcome", "late")]);
            (late == Some(2.0)).then_some(metrics)
        })
        .await;
        let exported = metrics.get("trace_spans_total", &[("outcome", "exported")]);
        assert_eq!(exported, Some(0.0));
        assert_eq!(metrics.get("errors_total", &[("type", "internal")]), Some(2.0));

        assert_eq!(service.terminate().await, Some(0));
        let events: Vec<Value> = service
            .logs()
            .into_iter()
            .filter(|line| line["message"] == "request failed")
            .collect();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["request_id"], first.as_str());
        assert_eq!(events[0]["level"], "error");
        assert_eq!(events[0]["code"], "INTERNAL");
        let kind = events[0]["error_type"].as_str().unwrap();
        assert!(kind.starts_with("Failed.Database."), "{kind}");
        assert!(kind.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.'), "{kind}");
        assert_eq!(events[0]["fingerprint"].as_str().map(str::len), Some(16));
        for same in ["fingerprint", "first_seen"] {
            assert_eq!(events[0][same], events[1][same], "{same}");
        }
        assert_eq!((&events[0]["count"], &events[1]["count"]), (&json!(1), &json!(2)));
        let everything = format!("{:?}{:?}", sink.spans(), service.stdout());
        assert!(!everything.contains("canary"), "address or password leaked");
    }
}
