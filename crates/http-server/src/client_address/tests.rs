//! Client addresses behind chains of trusted and untrusted proxies.

use AddressHeader::{Forwarded, XForwardedFor};
use http::HeaderValue;

use super::*;

/// Resolves the client of a request from `peer`. The network 10.0.0.0/8 is trusted.
fn resolve(
    header: AddressHeader,
    peer: &str,
    headers: &[(&'static str, &'static str)],
) -> ResolvedAddress {
    let mut lines = HeaderMap::new();
    let mut present = AddressHeaders::default();
    for (name, value) in headers {
        let name = HeaderName::from_static(name);
        present.note(&name);
        lines.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    ClientAddress::new(vec!["10.0.0.0/8".parse().unwrap()], header).resolve(
        peer.parse().unwrap(),
        &lines,
        present,
    )
}

fn client(header: AddressHeader, headers: &[(&'static str, &'static str)]) -> String {
    resolve(header, "::ffff:10.0.0.1", headers)
        .address
        .to_string()
}

#[test]
fn a_strangers_header_changes_nothing_and_is_seen() {
    for name in ["x-forwarded-for", "forwarded"] {
        let resolved = resolve(Forwarded, "198.51.100.7", &[(name, "for=1.2.3.4")]);
        assert_eq!(resolved.address.to_string(), "198.51.100.7");
        assert!(resolved.flaws.untrusted && !resolved.flaws.ignored);
    }
}

#[test]
fn the_chain_is_walked_from_the_right_over_all_lines() {
    let chain = [("x-forwarded-for", "6.6.6.6, 203.0.113.9, 10.0.0.2")];
    assert_eq!(client(XForwardedFor, &chain), "203.0.113.9");
    let chain = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-for", "203.0.113.9:80,,[::ffff:10.0.0.2]:80"),
    ];
    assert_eq!(client(XForwardedFor, &chain), "203.0.113.9");
    let chain = [("forwarded", "for=6.6.6.6"), ("forwarded", "for=10.0.0.2")];
    assert_eq!(client(Forwarded, &chain), "6.6.6.6");
}

#[test]
fn the_other_header_is_the_clients_own_and_has_no_effect() {
    let both = [
        ("x-forwarded-for", "203.0.113.9"),
        ("forwarded", "for=10.0.0.9"),
    ];
    let resolved = resolve(XForwardedFor, "10.0.0.1", &both);
    assert_eq!(resolved.address.to_string(), "203.0.113.9");
    assert!(resolved.flaws.ignored && !resolved.flaws.unreadable && !resolved.trusted);
    let both = [
        ("x-forwarded-for", "10.0.0.9"),
        ("forwarded", "for=203.0.113.9"),
    ];
    let resolved = resolve(Forwarded, "10.0.0.1", &both);
    assert_eq!(resolved.address.to_string(), "203.0.113.9");
    assert!(resolved.flaws.ignored && !resolved.flaws.unreadable && !resolved.trusted);
}

/// When every hop is trusted, the leftmost one is the client and no hop is added before it.
#[test]
fn the_other_header_does_not_lengthen_a_chain_that_is_trusted() {
    for (header, own, other) in [
        (
            XForwardedFor,
            ("x-forwarded-for", "10.0.0.9"),
            ("forwarded", "for=1.2.3.4"),
        ),
        (
            Forwarded,
            ("forwarded", "for=10.0.0.9"),
            ("x-forwarded-for", "1.2.3.4"),
        ),
    ] {
        let resolved = resolve(header, "10.0.0.1", &[own, other]);
        assert_eq!(resolved.address.to_string(), "10.0.0.9", "{header:?}");
        assert!(resolved.trusted && resolved.flaws.ignored, "{header:?}");
    }
}

#[test]
fn forwarded_is_read_with_ports_quotes_and_mapped_addresses() {
    let chain = [(
        "forwarded",
        r#"for="[2001:db8::1]:4711";proto=https, For="[::ffff:10.0.0.2]""#,
    )];
    assert_eq!(client(Forwarded, &chain), "2001:db8::1");
    // The client's own element contains a quoted comma. The proxy's element is the last one.
    let chain = [(
        "forwarded",
        r#"for=10.0.0.9;ext="a, for=10.0.0.8", for=203.0.113.9"#,
    )];
    assert_eq!(client(Forwarded, &chain), "203.0.113.9");
}

#[test]
fn who_stands_behind_an_unreadable_hop_is_nobody_to_trust() {
    let endless = "10.0.0.2,".repeat(MAX_HOPS + 1).leak();
    for (header, headers) in [
        (XForwardedFor, [("x-forwarded-for", "1.2.3.4, unknown")]),
        (XForwardedFor, [("x-forwarded-for", "caf\u{e9}")]),
        (XForwardedFor, [("x-forwarded-for", endless)]),
        (XForwardedFor, [("forwarded", "for=1.2.3.4")]),
        (Forwarded, [("forwarded", "for=1.2.3.4, for=_hidden")]),
        (Forwarded, [("forwarded", "for=\"1.2.3.4, for=5.6.7.8")]),
        (Forwarded, [("x-forwarded-for", "1.2.3.4")]),
    ] {
        let resolved = resolve(header, "10.0.0.2", &headers);
        assert_eq!(resolved.address.to_string(), "10.0.0.2", "{headers:?}");
        assert!(
            resolved.flaws.unreadable && !resolved.trusted,
            "{headers:?}"
        );
    }
    let inside = [("x-forwarded-for", "10.0.0.3, 10.0.0.2")];
    let resolved = resolve(XForwardedFor, "10.0.0.1", &inside);
    assert!(resolved.trusted && !resolved.flaws.unreadable);
}

#[test]
fn strangers_are_warned_of_once_a_minute() {
    let addresses = ClientAddress::default();
    let began = Instant::now();
    let warned =
        (0..600).filter(|second| addresses.is_time_to_warn(began + Duration::from_secs(*second)));
    assert_eq!(warned.count(), 10);
}
