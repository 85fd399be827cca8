use std::path::Path;

use settings::{Layers, Problem};

use super::*;

const URL: (&str, &str) = ("ISSUER", "https://issuer.example");
const AUDIENCE: (&str, &str) = ("AUDIENCE", "an-api");

/// Reads variables below `APP__AUTH__OIDC__`.
fn read(profile: &str, variables: &[(&str, &str)]) -> Result<Vec<Issuer>, Vec<Problem>> {
    let own = variables.iter().map(|(name, value)| {
        let name = format!("APP__AUTH__OIDC__{name}");
        (name, (*value).to_owned())
    });
    let environment = own.chain([("APP_ENV".to_owned(), profile.to_owned())]);
    let nowhere = Path::new("/nonexistent");
    let mut reader = Reader::new(Layers::load(nowhere, nowhere, environment));
    let config = Config::read(&mut reader);
    config.validate("https://own.example", &mut reader);
    reader.finish().map(|_| config.issuers)
}

/// The only problem of these variables in production.
#[track_caller]
fn problem(variables: &[(&str, &str)]) -> String {
    let problems = read("production", variables).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    format!("{} {}", problems[0].key, problems[0].why)
}

#[test]
fn there_is_no_issuer_by_default() {
    assert!(read("production", &[]).unwrap().is_empty());
}

#[test]
fn issuers_have_a_section_each() {
    let variables = [
        URL,
        AUDIENCE,
        ("ROLE_CLAIM", "roles"),
        ("ADMIN_VALUES", "boss"),
        ("ISSUERS", "partner"),
        ("PARTNER__ISSUER", "https://partner.example/realm"),
        ("PARTNER__AUDIENCE", "another-api"),
        ("PARTNER__MAX_KEY_AGE", "1h"),
    ];
    let issuers = read("production", &variables).unwrap();
    let found: Vec<_> = issuers
        .iter()
        .map(|it| (it.name, &*it.issuer, &*it.audience))
        .collect();
    assert_eq!(
        found,
        [
            ("default", "https://issuer.example", "an-api"),
            ("partner", "https://partner.example/realm", "another-api"),
        ]
    );
    assert!(issuers[0].role.is_some() && issuers[1].role.is_none());
    let ages = [&issuers[0], &issuers[1]].map(|issuer| issuer.max_key_age);
    assert_eq!(ages, [Duration::from_hours(24), Duration::from_hours(1)]);
    assert!(!issuers[0].allows_http);
}

#[test]
fn an_issuer_is_a_url_that_others_cannot_forge() {
    for (url, accepted) in [
        ("https://issuer.example/realms/a", true),
        ("http://localhost:8080/realms/a", true),
        ("http://127.0.0.1:8080", true),
        ("http://[::1]:8080", true),
        ("http://issuer.example", false),
        ("http://127.0.0.1.example", false),
        ("https://issuer.example?tenant=a", false),
        ("https://issuer.example#a", false),
        ("https://user@issuer.example", false),
        ("ftp://issuer.example", false),
        ("issuer.example", false),
        ("/realm", false),
        ("https://", false),
    ] {
        let found = read("production", &[("ISSUER", url), AUDIENCE]);
        assert_eq!(found.is_ok(), accepted, "{url}: {found:?}");
        if let Err(problems) = found {
            assert_eq!(problems[0].key, "auth.oidc.issuer", "{url}");
        }
    }
    let development = read(
        "development",
        &[("ISSUER", "http://keycloak:8080"), AUDIENCE],
    );
    assert!(development.unwrap()[0].allows_http);
}

#[test]
fn an_error_names_its_key() {
    let partner = ("ISSUERS", "partner");
    let url = ("PARTNER__ISSUER", "https://partner.example");
    let audience = ("PARTNER__AUDIENCE", "an-api");
    for (variables, expected) in [
        (&[URL][..], "auth.oidc.audience is required"),
        (&[AUDIENCE], "auth.oidc.audience has no effect"),
        (
            &[URL, AUDIENCE, ("ROLE_CLAIM", "roles")],
            "auth.oidc.role_claim and",
        ),
        (
            &[URL, AUDIENCE, ("ADMIN_VALUES", "boss")],
            "auth.oidc.role_claim and",
        ),
        (
            &[URL, AUDIENCE, ("MAX_KEY_AGE", "1m")],
            "auth.oidc.max_key_age must",
        ),
        (
            &[("ISSUER", "https://own.example"), AUDIENCE],
            "auth.oidc.issuer is auth.issuer",
        ),
        (&[partner, url], "auth.oidc.partner.audience is required"),
        (&[partner], "auth.oidc.partner.issuer is required"),
        (
            &[partner, url, audience, ("PARTNER__FETCH_TIMEOUT", "0")],
            "auth.oidc.partner.fetch_timeout must be longer",
        ),
        (
            &[partner, url, audience, ("PARTNER__ROLES", "a")],
            "auth.oidc.partner.roles is not a known key",
        ),
        (
            &[URL, AUDIENCE, partner, ("PARTNER__ISSUER", URL.1), audience],
            "auth.oidc.partner.issuer is the issuer of another section",
        ),
        (&[url], "auth.oidc.partner.issuer is not a known key"),
        (
            &[("ISSUERS", "issuer")],
            "auth.oidc.issuers has the name `issuer`, which",
        ),
        (
            &[("ISSUERS", "default")],
            "auth.oidc.issuers has the name `default`, which",
        ),
        (
            &[("ISSUERS", "Partner")],
            "auth.oidc.issuers has the name `Partner`, expected",
        ),
        (
            &[("ISSUERS", "a__b")],
            "auth.oidc.issuers has the name `a__b`, expected",
        ),
        (
            &[partner, url, audience, ("ISSUERS", "partner,partner")],
            "auth.oidc.issuers has the name `partner`, which the list has twice",
        ),
    ] {
        let found = problem(variables);
        assert!(found.starts_with(expected), "{found}");
    }
}
