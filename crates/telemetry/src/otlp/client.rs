//! The HTTP client of exporters, which remembers why a request got no answer: to the
//! exporter itself all of that is a "network error".

use std::cell::Cell;
use std::error::Error;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};

thread_local! {
    /// An exporter has a thread of its own, and one export at a time.
    static WHY: Cell<Option<String>> = const { Cell::new(None) };
}

/// Why this thread's last request got no answer, if it got none.
pub(super) fn why() -> Option<String> {
    WHY.take()
}

/// See above.
#[derive(Debug)]
pub(super) struct Client(pub(super) reqwest::Client);

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.0.send_bytes(request).await;
        WHY.set(sent.as_ref().err().and_then(|error| root(&**error)));
        sent
    }
}

/// What lies at the bottom (`Connection refused`); the error itself repeats the URL,
/// which may hold a secret.
pub(super) fn root(error: &(dyn Error + 'static)) -> Option<String> {
    let mut root = error.source()?;
    while let Some(source) = root.source() {
        root = source;
    }
    Some(root.to_string())
}
