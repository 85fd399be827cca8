//! Acknowledgements of a collector. Only an OTLP response acknowledges a batch, because proxies,
//! captive portals and web servers on a wrong port also answer 200.

use http::{HeaderMap, HeaderValue, header};
use prost::Message;
use serde_json::{Map, Value};

use super::queue::Acknowledgement;

/// `ExportTraceServiceResponse` and `ExportLogsServiceResponse`, which have the same fields.
#[derive(Clone, PartialEq, Message)]
struct Response {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess` and `ExportLogsPartialSuccess`.
#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    /// Rejected spans or log records.
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    error_message: String,
}

impl Response {
    fn taken(self) -> Acknowledgement {
        let partial = self.partial_success.unwrap_or_default();
        Acknowledgement {
            rejected: u64::try_from(partial.rejected).unwrap_or(0),
            message: partial.error_message,
        }
    }

    /// Parses the JSON encoding: an empty object, or one with `partialSuccess`. Other objects are
    /// rejected because many services answer with JSON.
    fn of_json(body: &[u8]) -> Option<Self> {
        let object: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let find = |object: &Map<String, Value>, names: [&str; 2]| {
            names.iter().find_map(|name| object.get(*name).cloned())
        };
        let partial = match find(&object, ["partialSuccess", "partial_success"]) {
            None if object.is_empty() => return Some(Self::default()),
            None => return None,
            Some(partial) => partial,
        };
        let partial = match partial {
            Value::Null => return Some(Self::default()),
            Value::Object(partial) => partial,
            _ => return None,
        };
        let rejected = ["rejectedSpans", "rejectedLogRecords"];
        let rejected = match find(&partial, rejected) {
            // 64-bit integers are strings in the JSON encoding of Protocol Buffers.
            Some(Value::String(number)) => number.parse().ok()?,
            Some(Value::Number(number)) => number.as_i64()?,
            Some(Value::Null) | None => 0,
            Some(_) => return None,
        };
        let error_message = match find(&partial, ["errorMessage", "error_message"]) {
            Some(Value::String(message)) => message,
            Some(Value::Null) | None => String::new(),
            Some(_) => return None,
        };
        Some(Self {
            partial_success: Some(PartialSuccess {
                rejected,
                error_message,
            }),
        })
    }
}

/// Parses a gRPC response. `None` if it is not OTLP.
pub(super) fn of_grpc(message: &[u8]) -> Option<Acknowledgement> {
    Some(Response::decode(message).ok()?.taken())
}

/// Parses the body of a successful HTTP response. `None` if it is not OTLP. Some collectors omit
/// the content type or answer in JSON. An empty body is an empty message.
pub(super) fn of_http(headers: &HeaderMap, body: &[u8]) -> Option<Acknowledgement> {
    if body.is_empty() {
        return Some(Acknowledgement::default());
    }
    let kind = headers.get(header::CONTENT_TYPE).map(essence);
    let protobuf = || Response::decode(body).ok();
    let response = match kind.as_deref() {
        Some("application/x-protobuf" | "application/protobuf" | "application/octet-stream") => {
            protobuf()
        }
        Some("application/json") => Response::of_json(body),
        None => protobuf().or_else(|| Response::of_json(body)),
        Some(_) => None,
    };
    Some(response?.taken())
}

/// A media type without parameters, in lower case.
fn essence(value: &HeaderValue) -> String {
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(kind: &'static str, body: &[u8]) -> Option<Acknowledgement> {
        let mut headers = HeaderMap::new();
        if !kind.is_empty() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        of_http(&headers, body)
    }

    #[expect(
        clippy::unnecessary_wraps,
        reason = "compared with the results of the tested functions"
    )]
    fn taken(rejected: u64, message: &str) -> Option<Acknowledgement> {
        let message = message.to_owned();
        Some(Acknowledgement { rejected, message })
    }

    #[test]
    fn a_response_may_reject_items_warn_or_be_empty() {
        for (refused, message, rejected) in [(3, "too old", 3), (0, "use gzip", 0), (-1, "", 0)] {
            let response = Response {
                partial_success: Some(PartialSuccess {
                    rejected: refused,
                    error_message: message.to_owned(),
                }),
            };
            let body = response.encode_to_vec();
            let expected = taken(rejected, message);
            assert_eq!(of_grpc(&body), expected);
            assert_eq!(by("application/x-protobuf", &body), expected);
            assert_eq!(by("", &body), expected);
        }
        for nothing in [&b""[..], b"\x0a\x00"] {
            assert_eq!(of_grpc(nothing), taken(0, ""));
            assert_eq!(by("application/x-protobuf", nothing), taken(0, ""));
        }
        // An empty body needs no content type.
        assert_eq!(by("text/plain", b""), taken(0, ""));
    }

    #[test]
    fn a_response_may_be_json() {
        let kind = "Application/JSON; charset=utf-8";
        for (body, expected) in [
            ("{}", taken(0, "")),
            (r#"{"partialSuccess":null}"#, taken(0, "")),
            (r#"{"partialSuccess":{}}"#, taken(0, "")),
            (
                r#"{"partialSuccess":{"rejectedSpans":"2","errorMessage":"old"}}"#,
                taken(2, "old"),
            ),
            (
                r#"{"partial_success":{"rejectedLogRecords":1}}"#,
                taken(1, ""),
            ),
        ] {
            assert_eq!(by(kind, body.as_bytes()), expected, "{body}");
            assert_eq!(by("", body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn other_responses_acknowledge_nothing() {
        let page = "<!doctype html><title>Sign in</title>";
        for kind in ["text/html", "application/x-protobuf", ""] {
            for body in [page, "ok", "OK\n", "true", "\u{ff}\u{ff}"] {
                assert_eq!(by(kind, body.as_bytes()), None, "{kind} {body}");
            }
        }
        for body in [
            page,
            "[]",
            "null",
            r#"{"status":"ok"}"#,
            r#"{"partialSuccess":1}"#,
            r#"{"partialSuccess":{"rejectedSpans":"many"}}"#,
        ] {
            assert_eq!(by("application/json", body.as_bytes()), None, "{body}");
        }
        // A valid body with a wrong content type.
        assert_eq!(by("text/plain", b"{}"), None);
        assert_eq!(of_grpc(page.as_bytes()), None);
    }
}
