//! Expiry of a certificate: `notAfter` of an X.509 certificate (RFC 5280, section 4.1). rustls
//! checks certificates but does not return this time. A parser of the whole format would add eight
//! crates.

use time::{Date, Month, PrimitiveDateTime, Time};

const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0] EXPLICIT`, the tag of a certificate's version.
const VERSION: u8 = 0xa0;

/// The expiry in seconds since the epoch. `None` when the bytes are not a certificate.
pub(crate) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = sequence(certificate)?;
    let (_, mut fields) = sequence(certificate)?;
    if fields.first() == Some(&VERSION) {
        (fields, _) = element(fields, VERSION)?;
    }
    // Serial number, algorithm of the signature, issuer.
    for tag in [0x02, SEQUENCE, SEQUENCE] {
        (fields, _) = element(fields, tag)?;
    }
    let (_, validity) = sequence(fields)?;
    let (not_after, _) = time(validity)?;
    let (_, (tag, text)) = time(not_after)?;
    seconds(tag, text)
}

/// The bytes after an element of DER, and its content.
type Element<'a, T> = Option<(&'a [u8], T)>;

fn sequence(bytes: &[u8]) -> Element<'_, &[u8]> {
    element(bytes, SEQUENCE)
}

fn time(bytes: &[u8]) -> Element<'_, (u8, &[u8])> {
    let tag = *bytes
        .first()
        .filter(|tag| [UTC_TIME, GENERALIZED_TIME].contains(tag))?;
    let (rest, text) = element(bytes, tag)?;
    Some((rest, (tag, text)))
}

fn element(bytes: &[u8], tag: u8) -> Element<'_, &[u8]> {
    let (found, bytes) = bytes.split_first()?;
    let (first, bytes) = bytes.split_first()?;
    // Above 127 the lower seven bits are the number of bytes that hold the length.
    let (length, bytes) = match *first {
        short @ 0..=0x7f => (usize::from(short), bytes),
        long => {
            let (length, bytes) = bytes.split_at_checked(usize::from(long & 0x7f))?;
            if length.len() > 4 {
                return None;
            }
            let add = |sum: usize, byte: &u8| (sum << 8) | usize::from(*byte);
            (length.iter().fold(0, add), bytes)
        }
    };
    let (content, rest) = bytes.split_at_checked(length)?;
    (*found == tag).then_some((rest, content))
}

/// Parses `YYMMDDHHMMSSZ` until 2049 and `YYYYMMDDHHMMSSZ` after, as RFC 5280 requires.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let (year, rest) = text.split_at_checked(if tag == UTC_TIME { 2 } else { 4 })?;
    if rest.len() != 10 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year: i32 = year.parse().ok()?;
    let year = match (tag, year) {
        (UTC_TIME, 50..) => 1900 + year,
        (UTC_TIME, _) => 2000 + year,
        _ => year,
    };
    let at = |index: usize| rest.get(index..index + 2)?.parse::<u8>().ok();
    let date = Date::from_calendar_date(year, Month::try_from(at(0)?).ok()?, at(2)?).ok()?;
    let time = Time::from_hms(at(4)?, at(6)?, at(8)?).ok()?;
    Some(
        PrimitiveDateTime::new(date, time)
            .assume_utc()
            .unix_timestamp(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, 3, 4);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn both_forms_of_a_time_are_read() {
        assert_eq!(not_after(&made(2027)), Some(1_804_118_400));
        assert_eq!(not_after(&made(2060)), Some(2_845_584_000));
        assert_eq!(seconds(UTC_TIME, b"991231235959Z"), Some(946_684_799));
    }

    /// Malformed bytes must not cause a panic.
    #[test]
    fn anything_else_is_no_certificate() {
        let whole = made(2027);
        for end in 0..whole.len() / 2 {
            let _read = not_after(&whole[..end]);
            let mut broken = whole.clone();
            broken[end] ^= 0xff;
            let _read = not_after(&broken);
        }
        assert_eq!(not_after(b""), None);
        assert_eq!(not_after(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(seconds(UTC_TIME, b"991331235959Z"), None);
        assert_eq!(seconds(GENERALIZED_TIME, b"20270304"), None);
        assert_eq!(seconds(UTC_TIME, "9912312359\u{e9}Z".as_bytes()), None);
    }
}
