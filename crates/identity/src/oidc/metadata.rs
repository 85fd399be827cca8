//! Fetches the metadata document of an issuer and the key set that it names.

use std::time::Duration;

use bytes::Bytes;
use client::{CallError, Client};
use http::{HeaderMap, Request, StatusCode, header};
use serde::Deserialize;

use super::config::{Issuer, check_url};
use super::key_set::{KeySet, KeySetError};

/// Reasons why the keys of an issuer could not be fetched. Text of the provider is not included.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{document}: {error}")]
    Call {
        document: &'static str,
        error: CallError,
    },
    #[error("{document}: status {status}")]
    Status {
        document: &'static str,
        status: StatusCode,
    },
    #[error("metadata: not a metadata document")]
    Metadata,
    #[error("metadata: they belong to another issuer")]
    WrongIssuer,
    #[error("metadata: jwks_uri {0}")]
    KeysUrl(&'static str),
    #[error("keys: {0}")]
    Keys(#[from] KeySetError),
    #[error("no complete answer within {0:?}")]
    TimedOut(Duration),
}

/// A key set and the time for which it may be cached.
pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) max_age: Option<Duration>,
}

/// The members of the metadata that are read.
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// Fetches metadata and keys within the time limit of the issuer.
pub(super) async fn fetch(client: &Client, issuer: &Issuer) -> Result<Fetched, FetchError> {
    let fetch = tokio::time::timeout(issuer.fetch_timeout, fetch_both(client, issuer)).await;
    fetch.unwrap_or(Err(FetchError::TimedOut(issuer.fetch_timeout)))
}

async fn fetch_both(client: &Client, issuer: &Issuer) -> Result<Fetched, FetchError> {
    let mut answer = Err(FetchError::Metadata);
    for url in metadata_urls(&issuer.issuer) {
        answer = get(client, "metadata", &url).await;
        let not_there = StatusCode::NOT_FOUND;
        if !matches!(answer, Err(FetchError::Status { status, .. }) if status == not_there) {
            break;
        }
    }
    let (_, body) = answer?;
    let metadata: Metadata = serde_json::from_slice(&body).map_err(|_| FetchError::Metadata)?;
    // Otherwise an issuer could take over the tokens of another one (RFC 8414, section 3.3).
    if metadata.issuer != issuer.issuer {
        return Err(FetchError::WrongIssuer);
    }
    // A query is allowed here.
    let url = metadata.jwks_uri.split('?').next().unwrap_or_default();
    check_url(url, issuer.allows_http).map_err(FetchError::KeysUrl)?;
    let (headers, body) = get(client, "keys", &metadata.jwks_uri).await?;
    Ok(Fetched {
        keys: KeySet::parse(&body)?,
        max_age: max_age(&headers),
    })
}

/// The places of the metadata: that of OpenID Connect Discovery 1.0, section 4, and for servers
/// without OpenID Connect that of RFC 8414, section 3.
fn metadata_urls(issuer: &str) -> [String; 2] {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    let origin_end = issuer
        .find("://")
        .and_then(|scheme| Some(scheme + 3 + issuer.get(scheme + 3..)?.find('/')?));
    let (origin, path) = issuer.split_at(origin_end.unwrap_or(issuer.len()));
    [
        format!("{issuer}/.well-known/openid-configuration"),
        format!("{origin}/.well-known/oauth-authorization-server{path}"),
    ]
}

async fn get(
    client: &Client,
    document: &'static str,
    url: &str,
) -> Result<(HeaderMap, Bytes), FetchError> {
    let call = |error| FetchError::Call { document, error };
    let request = Request::get(url)
        .header(header::ACCEPT, "application/json")
        .body(Bytes::new())
        .map_err(|error| call(CallError::request(error)))?;
    let response = client.send(request).await.map_err(call)?;
    let status = response.status();
    let (parts, body) = response.into_parts();
    if status == StatusCode::OK {
        Ok((parts.headers, body))
    } else {
        Err(FetchError::Status { document, status })
    }
}

/// `max-age` of `Cache-Control` (RFC 9111, section 5.2.2.1).
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::CACHE_CONTROL)?.to_str().ok()?;
    let directives = value.split(',').map(str::trim);
    let seconds = directives
        .filter_map(|directive| directive.strip_prefix("max-age="))
        .find_map(|seconds| seconds.trim_matches('"').parse().ok())?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_of_the_metadata_keep_the_path_of_the_issuer() {
        for issuer in [
            "https://example.com/realms/a",
            "https://example.com/realms/a/",
        ] {
            assert_eq!(
                metadata_urls(issuer),
                [
                    "https://example.com/realms/a/.well-known/openid-configuration",
                    "https://example.com/.well-known/oauth-authorization-server/realms/a",
                ]
            );
        }
        let [_, without_path] = metadata_urls("https://example.com");
        assert_eq!(
            without_path,
            "https://example.com/.well-known/oauth-authorization-server"
        );
    }

    #[test]
    fn the_age_of_keys_is_read_from_cache_control() {
        let age = |value: &str| {
            let headers = [(header::CACHE_CONTROL, value.parse().unwrap())];
            max_age(&headers.into_iter().collect())
        };
        assert_eq!(age("public, max-age=300"), Some(Duration::from_mins(5)));
        for other in ["no-cache", "max-age", "max-age=-1", "s-maxage=300"] {
            assert_eq!(age(other), None, "{other}");
        }
        assert_eq!(max_age(&HeaderMap::new()), None);
    }
}
