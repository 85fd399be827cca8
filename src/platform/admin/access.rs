//! Who may use the admin listener, and for what.
//!
//! In development a page in a browser can reach a loopback listener through a
//! name that resolves to it (DNS rebinding), so the `Host` must be loopback. Probes
//! and metrics answer to any `Host` and to none: load balancers check by HTTP/1.0,
//! and compose scrapes by the name of the service. In production whoever reaches the port may read metrics and probes; everything
//! that writes, and `/debug`, needs the token and does not exist without one.

use std::sync::Arc;

use aws_lc_rs::{constant_time, digest};
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{Method, header};

use crate::platform::auth::{challenged, refused};
use crate::platform::http::extract::single_header;
use crate::platform::http::problem::{Problem, codes};
use crate::platform::settings::{Profile, Secret};

/// What the profile and the configuration allow.
pub(super) struct Access {
    profile: Profile,
    /// Of the token: what is compared has one length, whatever is sent.
    digest: Option<digest::Digest>,
}

impl Access {
    pub(super) fn new(profile: Profile, token: Option<&Secret>) -> Self {
        Self {
            profile,
            digest: token.map(|token| sha256(token.expose())),
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
            (Some(expected), _) => authorize(request, expected),
            (None, Profile::Development) => Ok(()),
            (None, Profile::Production) => Err(super::nothing_here()),
        }
    }
}

/// Refuses what is not allowed before any handler sees it.
pub(super) async fn guard(
    State(access): State<Arc<Access>>,
    request: Request,
    next: Next,
) -> Response {
    match access.check(&request) {
        Ok(()) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// Decided by method and path, not route by route: a new switch is guarded without
/// anybody thinking of it.
fn is_guarded(request: &Request) -> bool {
    let path = path(request);
    !reads(request) || path == "/debug" || path.starts_with("/debug/")
}

/// Probes and scrapes. What they read is open to whoever reaches the port in production.
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

fn authorize(request: &Request, expected: &digest::Digest) -> Result<(), Problem> {
    let Some(value) = single_header(request.headers(), "authorization")? else {
        let detail = "This needs the admin token.";
        return Err(challenged(Problem::new(codes::UNAUTHENTICATED, detail)));
    };
    let token = value
        .split_once(' ')
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| sha256(token.trim()))
        .ok_or_else(refused)?;
    constant_time::verify_slices_are_equal(token.as_ref(), expected.as_ref()).map_err(|_| refused())
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
