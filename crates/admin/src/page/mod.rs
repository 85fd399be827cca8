//! A dashboard without Grafana: a page that draws the metrics of the process.
//!
//! It is for situations without monitoring: a laptop, a port-forward, or an outage of the
//! monitoring system. All of its files are in the binary. It connects to its own listener only. It
//! keeps its history in the browser, so the process only answers requests.

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::{HeaderName, header};

/// A file of the page: path, media type and content.
type Asset = (&'static str, &'static str, &'static str);

pub(crate) const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

/// All paths except the first are below `/page/`, which is reserved for the page.
const ASSETS: &[Asset] = &[
    ("/", HTML, include_str!("index.html")),
    ("/page/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("/page/page.css", CSS, include_str!("page.css")),
    ("/page/page.js", JS, include_str!("page.js")),
    ("/page/exposition.js", JS, include_str!("exposition.js")),
    ("/page/history.js", JS, include_str!("history.js")),
    ("/page/charts.js", JS, include_str!("charts.js")),
    ("/page/panels.js", JS, include_str!("panels.js")),
    ("/page/figures.js", JS, include_str!("figures.js")),
    ("/page/switches.js", JS, include_str!("switches.js")),
    ("/page/overrides.js", JS, include_str!("overrides.js")),
    ("/page/format.js", JS, include_str!("format.js")),
    (
        "/page/vendor/uPlot.js",
        JS,
        include_str!("vendor/uPlot.iife.min.js"),
    ),
    (
        "/page/vendor/uPlot.css",
        CSS,
        include_str!("vendor/uPlot.min.css"),
    ),
];

/// The page can change the process, for example its log level. So only files of the page can run in
/// it, other pages cannot frame it, and it cannot send data elsewhere.
pub(crate) const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    ),
    // An upgrade changes the page, and a browser must not mix files of two versions.
    (header::CACHE_CONTROL, "no-store"),
];

/// The page at `/` and its files.
pub(crate) fn routes() -> Router {
    ASSETS
        .iter()
        .fold(Router::new(), |router, &(path, media_type, text)| {
            router.route(path, get(async move || answer(media_type, text)))
        })
}

fn answer(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], HEADERS, text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;
    use std::path::Path;

    use axum::body::Body;
    use http::Request;
    use tower::ServiceExt as _;

    use super::*;

    #[tokio::test]
    async fn every_file_is_served_under_the_strict_policy() {
        for (path, media_type, text) in ASSETS {
            let request = Request::get(*path).body(Body::empty()).unwrap();
            let response = routes().oneshot(request).await.unwrap();
            assert_eq!(response.status(), 200, "{path}");
            assert_eq!(response.headers()["content-type"], media_type, "{path}");
            let policy = response.headers()["content-security-policy"]
                .to_str()
                .unwrap();
            assert!(policy.starts_with("default-src 'none';"), "{policy}");
            assert!(!policy.contains("unsafe"), "{policy}");
            let body = axum::body::to_bytes(response.into_body(), usize::MAX).await;
            assert_eq!(body.unwrap(), text.as_bytes(), "{path}");
        }
    }

    /// If a file names another one that is missing in the table, the page does not load.
    #[test]
    fn the_table_has_exactly_the_files_that_the_page_names() {
        let mut named = BTreeSet::from(["/".to_owned()]);
        for (_, _, text) in ASSETS.iter().filter(|asset| !asset.0.contains("vendor")) {
            for attribute in ["src=\"", "href=\""] {
                let rest = text.split(attribute).skip(1);
                named.extend(rest.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
            }
            let imports = text.split(" from \"./").skip(1);
            named.extend(
                imports.filter_map(|rest| Some(format!("/page/{}", rest.split_once('"')?.0))),
            );
        }
        named.retain(|path| path == "/" || path.starts_with("/page/"));
        let table: BTreeSet<_> = ASSETS.iter().map(|asset| asset.0.to_owned()).collect();
        assert_eq!(named, table);
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        let own = ASSETS.iter().filter(|asset| !asset.0.contains("vendor"));
        for (path, _, text) in own {
            for word in [
                "https://",
                "http://",
                "style=\"",
                "<style",
                "onclick",
                "javascript:",
            ] {
                let at = text.find(word);
                let is_namespace =
                    at.is_some_and(|at| text[at..].starts_with("http://www.w3.org/"));
                assert!(at.is_none() || is_namespace, "{path} has {word}");
            }
        }
    }

    #[test]
    fn the_library_is_the_one_that_its_note_names() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/page/vendor");
        let note = std::fs::read_to_string(folder.join("README.md")).unwrap();
        for file in ["uPlot.iife.min.js", "uPlot.min.css"] {
            let bytes = std::fs::read(folder.join(file)).unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
            let hex = digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("a string takes all");
                hex
            });
            assert!(note.contains(&format!("{hex}  {file}")), "{file}: {hex}");
        }
    }
}
