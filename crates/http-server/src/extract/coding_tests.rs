use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::HeaderValue;

use super::*;

const TEXT: &[u8] = br#"{"email": "a@example.org", "password": "a password that is not short"}"#;

fn codings(lines: &[&str]) -> Option<Codings> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(
            header::CONTENT_ENCODING,
            HeaderValue::from_bytes(line.as_bytes()).unwrap(),
        );
    }
    Codings::of(&headers)
}

fn encode(coding: Coding, text: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        }
        Coding::Brotli => {
            let mut writer = brotli::CompressorWriter::new(Vec::new(), 4_096, 5, 22);
            writer.write_all(text).unwrap();
            writer.into_inner()
        }
        Coding::Zstd => zstd::stream::encode_all(text, 3).unwrap(),
    }
}

fn decode(codings: &[Coding], body: Vec<u8>, limit: usize) -> Result<Bytes, Undecodable> {
    Codings(codings.to_vec()).decode(body.into(), limit)
}

const ALL: [Coding; 3] = [Coding::Gzip, Coding::Brotli, Coding::Zstd];

#[test]
fn names_have_no_case_and_lists_may_span_lines() {
    let some = |codings: &[Coding]| Some(Codings(codings.to_vec()));
    assert_eq!(codings(&[]), some(&[]));
    assert_eq!(codings(&["", "Identity, ,identity"]), some(&[]));
    assert_eq!(codings(&["GZIP"]), some(&[Coding::Gzip]));
    assert_eq!(codings(&["X-GZip,\tBr", "zstd"]), some(&ALL));
    for unknown in [
        "deflate", "gzip;q=1", "gzip br", "compress", "gzip, x", "\u{e9}",
    ] {
        assert_eq!(codings(&[unknown]), None, "{unknown}");
    }
    assert_eq!(codings(&["br, br, br, br"]), None, "too many");
}

#[test]
fn codings_are_taken_off_in_reverse_order() {
    let body = encode(
        Coding::Zstd,
        &encode(Coding::Brotli, &encode(Coding::Gzip, TEXT)),
    );
    assert_eq!(decode(&ALL, body.clone(), 1_000).unwrap(), TEXT);
    let reversed = [Coding::Zstd, Coding::Brotli, Coding::Gzip];
    assert_eq!(decode(&reversed, body, 1_000), Err(Undecodable::Malformed));
}

#[test]
fn all_members_and_frames_are_the_content() {
    let twice = [TEXT, TEXT].concat();
    for coding in [Coding::Gzip, Coding::Zstd] {
        let body = [encode(coding, TEXT), encode(coding, TEXT)].concat();
        assert_eq!(decode(&[coding], body, 1_000).unwrap(), twice, "{coding:?}");
    }
    // Decoders skip this frame (RFC 8878, section 3.1.2).
    let skipped = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 7, 7];
    let body = [encode(Coding::Zstd, TEXT), skipped.to_vec()].concat();
    assert_eq!(decode(&[Coding::Zstd], body, 1_000).unwrap(), TEXT);
}

#[test]
fn half_a_body_is_none_wherever_it_is_cut() {
    for coding in ALL {
        let body = encode(coding, TEXT);
        assert_eq!(decode(&[coding], body.clone(), 1_000).unwrap(), TEXT);
        for length in 0..body.len() {
            let cut = decode(&[coding], body[..length].to_vec(), 1_000);
            assert_eq!(cut, Err(Undecodable::Malformed), "{coding:?} at {length}");
        }
        // A whole body with a truncated one behind it is also rejected.
        for length in 1..body.len() {
            let cut = [&body, &body[..length]].concat();
            let cut = decode(&[coding], cut, 1_000);
            assert_eq!(cut, Err(Undecodable::Malformed), "{coding:?} at {length}");
        }
    }
}

#[test]
fn what_follows_the_end_is_part_of_no_body() {
    for coding in ALL {
        for after in [&b"\0"[..], b"\0\0\0\0\0\0\0\0", b"{}", TEXT] {
            let body = [encode(coding, TEXT), after.to_vec()].concat();
            let decoded = decode(&[coding], body, 1_000);
            assert_eq!(decoded, Err(Undecodable::Malformed), "{coding:?} {after:?}");
        }
    }
}

#[test]
fn damage_is_found() {
    let mut reserved = encode(Coding::Gzip, TEXT);
    reserved[3] |= 0x80;
    assert_eq!(
        decode(&[Coding::Gzip], reserved, 1_000),
        Err(Undecodable::Malformed)
    );
    for byte_from_the_end in [1, 5] {
        // A gzip body ends with a checksum and its length (RFC 1952, section 2.3.1).
        let mut damaged = encode(Coding::Gzip, TEXT);
        let at = damaged.len() - byte_from_the_end;
        damaged[at] ^= 1;
        let decoded = decode(&[Coding::Gzip], damaged, 1_000);
        assert_eq!(decoded, Err(Undecodable::Malformed));
    }
}

#[test]
fn the_limit_is_exact_and_holds_between_codings() {
    for coding in ALL {
        let body = encode(coding, TEXT);
        assert_eq!(decode(&[coding], body.clone(), TEXT.len()).unwrap(), TEXT);
        let decoded = decode(&[coding], body, TEXT.len() - 1);
        assert_eq!(decoded, Err(Undecodable::TooLarge), "{coding:?}");
    }
    let zeros = vec![0; 1 << 20];
    for outer in ALL {
        let body = encode(outer, &encode(Coding::Gzip, &encode(Coding::Zstd, &zeros)));
        let decoded = decode(&[Coding::Zstd, Coding::Gzip, outer], body, 100_000);
        assert_eq!(decoded, Err(Undecodable::TooLarge), "{outer:?}");
    }
}

#[test]
fn windows_that_no_sender_may_ask_for_are_refused() {
    // An empty last block with a window of 16 MiB, and one with 8 MiB (RFC 9659).
    for (exponent, expected) in [(14, Err(Undecodable::TooLarge)), (13, Ok(Bytes::new()))] {
        let frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, exponent << 3, 1, 0, 0];
        assert_eq!(decode(&[Coding::Zstd], frame, 1_000), expected);
    }
    // The first bits of a stream with a large window, which RFC 7932 does not have.
    let large = vec![0x11, 0x1e, 0x03];
    assert_eq!(
        decode(&[Coding::Brotli], large, 1_000),
        Err(Undecodable::Malformed)
    );
}
