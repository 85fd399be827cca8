//! E-mail addresses.

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use settings::validation::{InvalidValue, composed, has_compatibility_characters, is_invisible};

/// Longest address that mail can be sent to, in bytes (RFC 5321, section 4.5.3.1.3, without the
/// angle brackets of a path).
const MAX_EMAIL_BYTES: usize = 254;
/// Longest part before the `@`, in bytes (RFC 5321, section 4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;
/// Longest text that is parsed, in bytes. Normalising shortens a text to a third at most, so longer
/// ones cannot fit.
const MAX_INPUT_BYTES: usize = 4 * MAX_EMAIL_BYTES;

const TOO_LONG: InvalidValue = InvalidValue {
    code: "TOO_LONG",
    message: "must have 254 bytes at most",
};
const NOT_AN_ADDRESS: InvalidValue = InvalidValue {
    code: "INVALID_EMAIL",
    message: "is not an e-mail address",
};
const INVISIBLE: InvalidValue = InvalidValue {
    code: "INVALID_EMAIL",
    message: "must not contain blanks, control characters or invisible characters",
};
const COMPATIBILITY_CHARACTERS: InvalidValue = InvalidValue {
    code: "INVALID_EMAIL",
    message: "must not contain variants of characters before the @, such as letters of full width",
};

/// An e-mail address in one normalised form, so that one mailbox is one user. It is in lower case.
/// The part before the `@` is in normal form C (RFC 6532, section 3.1). The domain is mapped as in
/// Unicode Technical Standard 46 and kept in Unicode.
#[derive(Clone, PartialEq, Eq)]
pub struct Email(String);

impl Email {
    /// Normalises and checks an address. The checks reject texts that cannot be an address, and
    /// invisible characters. Only sending mail to an address proves it.
    ///
    /// Letters of other scripts that look alike (Latin and Cyrillic `a`) make other mailboxes for
    /// the mail system, so they make other addresses here.
    ///
    /// # Errors
    /// The rule that the address breaks.
    pub fn parse(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        if text.len() > MAX_INPUT_BYTES {
            return Err(TOO_LONG);
        }
        if text.chars().any(is_invisible) {
            return Err(INVISIBLE);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(NOT_AN_ADDRESS)?;
        let (local, domain) = (parse_local(local)?, parse_domain(domain)?);
        let address = format!("{local}@{domain}");
        if address.len() > MAX_EMAIL_BYTES {
            return Err(TOO_LONG);
        }
        Ok(Self(address))
    }

    /// Candidates for a login: the address, then the form in which it was stored before addresses
    /// were normalised, if that differs. The second form lets the owner of an old address log in,
    /// even if the address would be rejected now.
    pub fn login_candidates(text: &str) -> impl Iterator<Item = Self> + use<> {
        let text = text.trim();
        let address = Self::parse(text).ok();
        let fits = text.len() <= MAX_EMAIL_BYTES && !text.contains(char::is_control);
        let legacy = fits.then(|| Self(text.to_lowercase()));
        let legacy = legacy.filter(|legacy| address.as_ref() != Some(legacy));
        address.into_iter().chain(legacy)
    }

    /// An address that was parsed when it was stored.
    #[must_use]
    pub fn stored(address: String) -> Self {
        Self(address)
    }

    /// The normalised address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn parse_local(text: &str) -> Result<String, InvalidValue> {
    let local = composed(&text.chars().flat_map(lower_case).collect::<String>());
    if has_compatibility_characters(&local) {
        return Err(COMPATIBILITY_CHARACTERS);
    }
    let is_forbidden = |c: char| r#"<>()[],;:\"@"#.contains(c);
    if (1..=MAX_LOCAL_BYTES).contains(&local.len()) && !local.contains(is_forbidden) {
        Ok(local)
    } else {
        Err(NOT_AN_ADDRESS)
    }
}

/// Lower case, with both small sigmas as one letter.
fn lower_case(c: char) -> impl Iterator<Item = char> {
    c.to_lowercase().map(|c| if c == 'ς' { 'σ' } else { c })
}

fn parse_domain(text: &str) -> Result<String, InvalidValue> {
    let domains = Uts46::new();
    let ascii = domains
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::STD3,
            Hyphens::CheckFirstLast,
            DnsLength::Verify,
        )
        .map_err(|_| NOT_AN_ADDRESS)?;
    let (domain, valid) = domains.to_unicode(
        ascii.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
    );
    valid.map_err(|_| NOT_AN_ADDRESS)?;
    Ok(domain.into_owned())
}

impl std::fmt::Debug for Email {
    /// Redacted, because addresses must not be logged.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_one_mailbox_however_it_is_written() {
        for (written, address) in [
            ("  Ada@Example.ORG ", "ada@example.org"),
            ("jose\u{301}@example.org", "josé@example.org"),
            ("JOSE\u{301}@example.org", "josé@example.org"),
            ("\u{212a}ay@example.org", "kay@example.org"),
            ("ΟΔΥΣΣΕΥΣ@example.org", "οδυσσευσ@example.org"),
            ("οδυσσευς@example.org", "οδυσσευσ@example.org"),
            ("ada@ｅｘａｍｐｌｅ.org", "ada@example.org"),
            ("ada@example\u{3002}org", "ada@example.org"),
            ("ada@bu\u{308}cher.example", "ada@bücher.example"),
            ("ada@xn--bcher-kva.example", "ada@bücher.example"),
            ("ada@XN--BCHER-KVA.example", "ada@bücher.example"),
            ("admin@localhost", "admin@localhost"),
            (
                "o'brien+tag@mail.example.org",
                "o'brien+tag@mail.example.org",
            ),
        ] {
            let email = Email::parse(written).unwrap_or_else(|_| panic!("{written:?}"));
            assert_eq!(email.as_str(), address, "{written:?}");
            assert_eq!(Email::parse(email.as_str()).unwrap(), email, "{written:?}");
        }
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        let long = format!("{}@{}.org", "a".repeat(64), "b".repeat(190));
        let local = format!("{}@example.org", "a".repeat(65));
        let label = format!("a@{}.org", "b".repeat(64));
        let huge = "a".repeat(100_000);
        for bad in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c.org",
            "a@b@c.org",
            "a@b..org",
            "a@b.org.",
            "a@-b.org",
            "a@b_c.org",
            "a@xn--a.org",
            "a@\u{301}b.org",
            "a\n@b.org",
            "<a@b.org>",
            "a@b.org\u{0}",
            "a@b.org\u{338}>",
            &long,
            &local,
            &label,
            &huge,
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_login_finds_addresses_stored_before_characters_were_checked() {
        let candidates = |text: &str| {
            let forms = Email::login_candidates(text).map(|email| email.0);
            forms.collect::<Vec<_>>()
        };
        let legacy = "a\u{200b}da@example.org";
        assert_eq!(candidates("A\u{200b}da@example.org"), [legacy]);
        let forms = ["josé@example.org", "jose\u{301}@example.org"];
        assert_eq!(candidates("JOSE\u{301}@example.org"), forms);
        assert_eq!(candidates("Ada@example.org"), ["ada@example.org"]);
        for text in ["a\0da@example.org", &"a".repeat(255)] {
            assert!(candidates(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn invisible_characters_and_compatibility_characters_are_rejected() {
        for c in "\u{ad}\u{34f}\u{61c}\u{200b}\u{200c}\u{200d}\u{200e}\u{202e}\u{2060}\u{2066}\u{3164}\u{feff}\u{fe0f}\u{e0061}\u{a0}\u{2800}".chars()
        {
            for text in [format!("a{c}da@example.org"), format!("ada@exam{c}ple.org")] {
                assert_eq!(Email::parse(&text), Err(INVISIBLE), "{text:?}");
            }
        }
        for text in [
            "ａda@example.org",
            "ﬁn@example.org",
            "ada²@example.org",
            "ſ@example.org",
        ] {
            assert_eq!(
                Email::parse(text),
                Err(COMPATIBILITY_CHARACTERS),
                "{text:?}"
            );
        }
    }
}
