//! The links in alerts lead to pages of the admin listener.

use std::collections::BTreeSet;

use super::{get, production};
use crate::support::{Backend, Service};

/// The values of a key in the alert rules: all links that a message can contain.
fn links(key: &str) -> BTreeSet<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/rules");
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let values = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix(key));
        found.extend(values.map(|value| value.trim().to_owned()));
    }
    assert!(!found.is_empty(), "{key}");
    found
}

/// The path of an absolute URL.
fn path(link: &str) -> &str {
    let rest = link.strip_prefix("http://").expect(link);
    &rest[rest.find('/').expect(link)..]
}

#[tokio::test]
async fn every_alert_links_to_a_page_of_the_admin_listener() {
    let service = Service::start(Backend::Sqlite).await;
    for link in links("runbook_url:") {
        let name = link.rsplit('/').next().unwrap().trim_end_matches(".md");
        let answer = service.client.get(service.admin(path(&link))).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 200, "{link}");
        assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
        let text = answer.text().await.unwrap();
        assert!(text.contains(&format!("<h1>{name}</h1>")), "{text}");
        assert!(text.contains("<h2>First five minutes</h2>"), "{text}");
    }
    for link in links("dashboard:") {
        let answer = service.client.get(service.admin(path(&link))).send().await;
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 303, "{link}");
        assert_eq!(answer.headers()["location"], "/", "{link}");
    }
    let missing = get(&service, "/runbooks/Nothing.md").await;
    missing.is_problem(404, "NOT_FOUND");
}

#[tokio::test]
async fn runbooks_need_no_token_in_production() {
    let folder = tempfile::tempdir().unwrap();
    let service = production(folder.path()).start().await;
    let (index, page) = ("/runbooks/", "/runbooks/ServiceDown.md");
    assert_eq!(get(&service, index).await.status, 200);
    assert_eq!(get(&service, page).await.status, 200);
}
