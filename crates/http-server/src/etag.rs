//! Entity tags (RFC 9110, section 8.8.3): the version of an object, in quotes.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use request::Problem;
use request::problem::codes;

use crate::problem::ProblemResponse;

/// The strong tag of a version.
#[must_use]
pub fn tag(version: i64) -> HeaderValue {
    // Digits and quotes are visible ASCII, so the value is valid.
    HeaderValue::from_str(&format!("\"{version}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// The versions that a conditional header names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// The header is absent.
    Absent,
    /// `*`: any version.
    Anything,
    /// These versions. Tags that this service does not write are left out.
    Versions(Vec<i64>),
}

/// The condition of `If-Match` (RFC 9110, section 13.1.1). The comparison is strong, so a weak tag
/// never matches. A malformed header is rejected with 400 `INVALID_HEADER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfMatch(pub Condition);

/// The condition of `If-None-Match` (RFC 9110, section 13.1.2). The comparison is weak. A malformed
/// header is rejected with 400 `INVALID_HEADER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IfNoneMatch(pub Condition);

impl IfNoneMatch {
    /// Whether the header names this version. A `GET` is then answered with 304.
    #[must_use]
    pub fn names(&self, version: i64) -> bool {
        match &self.0 {
            Condition::Absent => false,
            Condition::Anything => true,
            Condition::Versions(versions) => versions.contains(&version),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for IfMatch {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        Ok(Self(read(&parts.headers, &header::IF_MATCH, false)?))
    }
}

impl<S: Sync> FromRequestParts<S> for IfNoneMatch {
    type Rejection = ProblemResponse;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ProblemResponse> {
        Ok(Self(read(&parts.headers, &header::IF_NONE_MATCH, true)?))
    }
}

fn read(headers: &HeaderMap, name: &HeaderName, weak: bool) -> Result<Condition, Problem> {
    let malformed = || {
        Problem::new(
            codes::INVALID_HEADER,
            format!("The header {name} is not a list of entity tags."),
        )
    };
    let mut versions = None;
    for line in headers.get_all(name) {
        let line = line.to_str().map_err(|_| malformed())?.trim();
        if line == "*" && headers.get_all(name).iter().count() == 1 {
            return Ok(Condition::Anything);
        }
        parse(line, weak, versions.get_or_insert_default()).ok_or_else(malformed)?;
    }
    Ok(versions.map_or(Condition::Absent, Condition::Versions))
}

/// Parses a list such as `"1", W/"2"`. `None` when it is not a list of tags.
fn parse(mut rest: &str, weak: bool, versions: &mut Vec<i64>) -> Option<()> {
    loop {
        let (is_weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (tag, after) = quoted.strip_prefix('"')?.split_once('"')?;
        if tag.bytes().any(|byte| byte <= b' ') {
            return None;
        }
        // A version has one tag. `01` and `+1` are not tags of version 1.
        if let Ok(version) = tag.parse::<i64>()
            && version.to_string() == tag
            && (weak || !is_weak)
        {
            versions.push(version);
        }
        let after = after.trim_start();
        if after.is_empty() {
            return Some(());
        }
        rest = after.strip_prefix(',')?.trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    fn matches(lines: &[&str]) -> Option<Condition> {
        read(&headers(&header::IF_MATCH, lines), &header::IF_MATCH, false).ok()
    }

    #[test]
    fn if_match_names_versions_strongly() {
        let versions = |versions: &[i64]| Some(Condition::Versions(versions.to_vec()));
        assert_eq!(matches(&[]), Some(Condition::Absent));
        assert_eq!(matches(&["*"]), Some(Condition::Anything));
        assert_eq!(matches(&["\"3\""]), versions(&[3]));
        assert_eq!(
            matches(&["\"1\" , W/\"2\",\"3\"", "\"4\""]),
            versions(&[1, 3, 4])
        );
        assert_eq!(matches(&["\"01\", \"+1\", \"x,y\", \"\""]), versions(&[]));
        for bad in [
            "",
            "3",
            "\"3",
            "\"3\" \"4\"",
            "\"3\",",
            "*, \"3\"",
            "w/\"3\"",
        ] {
            assert_eq!(matches(&[bad]), None, "{bad}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        let names = |lines: &[&str]| {
            let headers = headers(&header::IF_NONE_MATCH, lines);
            IfNoneMatch(read(&headers, &header::IF_NONE_MATCH, true).unwrap()).names(3)
        };
        for same in ["\"3\"", "W/\"3\"", "\"2\", \"3\"", "*"] {
            assert!(names(&[same]), "{same}");
        }
        assert!(!names(&["\"2\""]));
        assert!(!names(&[]));
    }
}
