//! Access rules of the admin listener.
//!
//! In development a page in a browser can reach a loopback listener through a name that resolves to
//! it (DNS rebinding), so the `Host` must be loopback. Probes and metrics accept any `Host` and
//! none, because load balancers check by HTTP/1.0 and compose scrapes by the name of the service.
//!
//! In production every client that reaches the port may read, except for `/debug`. Writes and
//! `/debug` require the token, and are 404 if none is configured.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use aws_lc_rs::{constant_time, digest};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{Method, header};
use http_server::authenticate::{challenged, refused};
use http_server::extract::single_header;
use http_server::problem::ProblemResponse;
use prometheus::IntCounter;
use request::problem::codes;
use request::{Problem, RequestContext};
use settings::{Profile, Secret};

use crate::metrics::AdminMetrics;
use crate::not_found::not_found;
use crate::token_attempts::TokenAttempts;

/// The rules by profile and configuration.
pub(crate) struct Access {
    profile: Profile,
    /// Digest of the token. Digests have one length, so the length of the token is not revealed.
    digest: Option<digest::Digest>,
    attempts: TokenAttempts,
    accepted: IntCounter,
    refused: IntCounter,
    limited: IntCounter,
}

impl Access {
    pub(crate) fn new(
        profile: Profile,
        token: Option<&Secret>,
        max_token_guesses: u32,
        metrics: &AdminMetrics,
    ) -> Self {
        let checks = |outcome| metrics.token_checks.with_label_values(&[outcome]);
        Self {
            profile,
            digest: token.map(|token| sha256(token.expose())),
            attempts: TokenAttempts::new(max_token_guesses),
            accepted: checks("accepted"),
            refused: checks("refused"),
            limited: checks("limited"),
        }
    }

    fn check(&self, request: &Request) -> Result<(), Problem> {
        if self.profile == Profile::Development
            && !answers_any_host(request)
            && !has_loopback_host(request)
        {
            let detail = "In development the admin listener answers to loopback hosts only.";
            return Err(Problem::new(codes::FORBIDDEN, detail));
        }
        if !is_guarded(request) {
            return Ok(());
        }
        match (&self.digest, self.profile) {
            (Some(expected), _) => self.authorize(request, expected),
            (None, Profile::Development) => Ok(()),
            (None, Profile::Production) => Err(not_found()),
        }
    }

    fn authorize(&self, request: &Request, expected: &digest::Digest) -> Result<(), Problem> {
        let Some(value) = single_header(request.headers(), "authorization")? else {
            let detail = "This needs the admin token.";
            return Err(challenged(Problem::new(codes::UNAUTHENTICATED, detail)));
        };
        let is_right = || {
            value
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                .map(|(_, token)| sha256(token.trim()))
                .is_some_and(|token| {
                    constant_time::verify_slices_are_equal(token.as_ref(), expected.as_ref())
                        .is_ok()
                })
        };
        let client = RequestContext::with(|context| context.client_address);
        let client = client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        match self.attempts.verify(client, Instant::now(), is_right) {
            Ok(true) => {
                self.accepted.inc();
                Ok(())
            }
            Ok(false) => {
                self.refused.inc();
                Err(refused())
            }
            Err(wait) => {
                self.limited.inc();
                let detail = "Too many wrong tokens; wait and try again.";
                let problem = Problem::new(codes::RATE_LIMITED, detail);
                Err(problem.retry_after(wait.as_secs() + 1))
            }
        }
    }
}

/// Rejects forbidden requests before a handler runs.
pub(crate) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => ProblemResponse(problem).into_response(),
    }
}

/// Whether a request requires the token. Method and path decide instead of each route, so that a
/// new switch is guarded by default.
fn is_guarded(request: &Request) -> bool {
    let path = path(request);
    !reads(request) || path == "/debug" || path.starts_with("/debug/")
}

/// Whether a request is a probe or a scrape. In production these are open to every client that
/// reaches the port.
fn answers_any_host(request: &Request) -> bool {
    let path = path(request);
    reads(request) && (path == "/metrics" || path.starts_with("/health/"))
}

fn reads(request: &Request) -> bool {
    matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS
    )
}

fn path(request: &Request) -> &str {
    let matched = request.extensions().get::<MatchedPath>();
    matched.map_or_else(|| request.uri().path(), MatchedPath::as_str)
}

fn sha256(text: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, text.as_bytes())
}

fn has_loopback_host(request: &Request) -> bool {
    let authority = request.uri().authority().cloned().or_else(|| {
        request
            .headers()
            .get(header::HOST)?
            .to_str()
            .ok()?
            .parse::<http::uri::Authority>()
            .ok()
    });
    authority.is_some_and(|authority| {
        let host = authority.host();
        host.eq_ignore_ascii_case("localhost")
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    })
}
