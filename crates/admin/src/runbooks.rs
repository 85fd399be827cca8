//! The runbooks of the running version, for example `/runbooks/ServiceDown.md`. With them, the
//! links of alerts work before anything else is set up.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use http::header;
use http_server::problem::ProblemResponse;
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

use crate::not_found::not_found;
use crate::page;

/// The pages by file name, as Markdown.
pub type Pages = &'static [(&'static str, &'static str)];

/// The page that lists the others.
const INDEX: &str = "README.md";
/// Target of links to a dashboard. The live page draws the same process.
const LIVE_PAGE: &str = "/";

/// The pages below `/runbooks`, and `/d/{dashboard}`. The latter is the path of a dashboard in
/// Grafana, for links without a configured Grafana.
pub(crate) fn routes(pages: Pages) -> Router {
    Router::new()
        .route("/runbooks", get(async || Redirect::to("/runbooks/")))
        .route("/runbooks/", get(async move || answer(pages, INDEX)))
        .route("/runbooks/{page}", get(show))
        .route("/d/{dashboard}", get(async || Redirect::to(LIVE_PAGE)))
        .with_state(Arc::new(pages))
}

async fn show(State(pages): State<Arc<Pages>>, Path(page): Path<String>) -> Response {
    answer(&pages, &page)
}

/// Answers a page by its name, with or without `.md`.
fn answer(pages: Pages, name: &str) -> Response {
    let title = title(name);
    match pages.iter().find(|(page, _)| self::title(page) == title) {
        Some((page, text)) => {
            let media_type = (header::CONTENT_TYPE, page::HTML);
            ([media_type], page::HEADERS, rendered(pages, page, text)).into_response()
        }
        None => ProblemResponse(not_found()).into_response(),
    }
}

fn title(name: &str) -> &str {
    name.strip_suffix(".md").unwrap_or(name)
}

fn rendered(pages: Pages, name: &str, text: &str) -> String {
    let title = title(name);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"/page/icon.svg\">\n\
         <link rel=\"stylesheet\" href=\"/page/page.css\">\n</head>\n<body>\n\
         <nav><a href=\"/\">Live page</a> <a href=\"/runbooks/\">All runbooks</a></nav>\n\
         <main class=\"runbook\">\n"
    );
    let events = Parser::new_ext(text, Options::ENABLE_TABLES);
    html::push_html(&mut page, resolved(pages, events).into_iter());
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

/// Resolves links to files of the repository. A link to a page of the table stays. A link to a
/// dashboard leads to the live page. Any other link to a file becomes text.
fn resolved<'a>(pages: Pages, events: impl Iterator<Item = Event<'a>>) -> Vec<Event<'a>> {
    let mut is_link = true;
    events
        .filter_map(|event| match event {
            Event::Start(Tag::Link {
                link_type,
                dest_url,
                title,
                id,
            }) => {
                let target = target(pages, dest_url);
                is_link = target.is_some();
                target.map(|dest_url| {
                    Event::Start(Tag::Link {
                        link_type,
                        dest_url,
                        title,
                        id,
                    })
                })
            }
            Event::End(TagEnd::Link) => is_link.then_some(event),
            // These are placeholders such as `<name>`, not HTML.
            Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
            event => Some(event),
        })
        .collect()
}

fn target(pages: Pages, url: CowStr<'_>) -> Option<CowStr<'_>> {
    let (file, _) = url.split_once('#').unwrap_or((&url, ""));
    let here = file.is_empty() || pages.iter().any(|(page, _)| *page == file);
    if here || url.starts_with("https://") {
        return Some(url);
    }
    url.contains("grafana/dashboards/")
        .then_some(CowStr::Borrowed(LIVE_PAGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: Pages = &[
        ("README.md", "[a](ServiceDown.md)"),
        (
            "ServiceDown.md",
            "# ServiceDown\n\n[index](README.md) [graph](../../grafana/dashboards/service.json) \
             [why](../adr/0001.md)\n\n```promql\nup{job=\"x\"} == 0\n```\n\n| a |\n| - |\n| <b> |\n",
        ),
    ];

    #[test]
    fn links_lead_to_what_the_listener_serves() {
        let page = rendered(PAGES, PAGES[1].0, PAGES[1].1);
        assert!(page.contains("<h1>ServiceDown</h1>"), "{page}");
        assert!(page.contains("<a href=\"README.md\">index</a>"), "{page}");
        assert!(page.contains("<a href=\"/\">graph</a>"), "{page}");
        assert!(
            page.contains("\n<p>") && page.contains(" why</p>"),
            "{page}"
        );
        assert!(page.contains("<table>"), "{page}");
        assert!(page.contains("<td>&lt;b&gt;</td>"), "{page}");
        assert!(page.contains("up{job=\"x\"} == 0"), "{page}");
    }
}
