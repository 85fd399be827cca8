//! New ids of traces, spans and requests.

use std::time::SystemTime;

/// Maximal length of a request id that is accepted from a client.
const MAX_REQUEST_ID: usize = 128;

/// The client's id if it is short and visible ASCII, else a new UUIDv7 (RFC 9562) of this time.
#[must_use]
pub fn request_id(own: Option<&str>, now: SystemTime, random: &[u8; 10]) -> Box<str> {
    let acceptable = own.filter(|id| {
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic())
    });
    if let Some(id) = acceptable {
        return Box::from(id);
    }
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let id = uuid::Builder::from_unix_timestamp_millis(millis, random).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    Box::from(&*id.hyphenated().encode_lower(&mut text))
}

/// New ids of a trace and a span, and the random part of a request id.
#[must_use]
pub fn random_ids() -> ([u8; 16], [u8; 8], [u8; 10]) {
    let mut ids = ([0; 16], [0; 8], [0; 10]);
    rand::fill(&mut ids.0);
    rand::fill(&mut ids.1);
    rand::fill(&mut ids.2);
    ids
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_request_id_tells_its_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let id = request_id(None, now, &[0xff; 10]);
        let id = uuid::Uuid::parse_str(&id).unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(
            id.get_timestamp().unwrap().to_unix(),
            (1_700_000_000, 123_000_000)
        );
    }

    #[test]
    fn a_clients_id_is_taken_over_when_it_is_short_and_visible() {
        let long = "x".repeat(MAX_REQUEST_ID + 1);
        let id = |own| request_id(Some(own), SystemTime::UNIX_EPOCH, &[0; 10]);
        assert_eq!(&*id("abc-1"), "abc-1");
        for refused in ["", "a b", "\u{e4}", &long] {
            assert_eq!(id(refused).len(), 36, "{refused}");
        }
    }
}
