//! The types of configuration values, each parsed from text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret as _, SecretString};

/// An untyped value of a layer.
#[derive(Debug, Clone, Default)]
pub struct RawValue {
    /// Scalars as text, lists joined by commas.
    pub text: String,
    /// File that a secret was read from.
    pub file: Option<PathBuf>,
}

impl RawValue {
    /// A plain text value.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            file: None,
        }
    }
}

/// A value of one key and its source.
#[derive(Debug, Clone)]
pub struct SourcedValue {
    /// The value.
    pub raw: RawValue,
    /// The source, for people: `config/base.yaml`, `environment variable DATABASE_URL`.
    pub source: String,
}

/// A type of configuration values.
pub trait Setting: Sized {
    /// Name of the type in documentation and errors.
    const KIND: &'static str;
    /// Whether the value is redacted in every output and can be read from a file.
    const SECRET: bool = false;
    /// Whether the key may stay unset without a default.
    const OPTIONAL: bool = false;

    /// Parses the value.
    ///
    /// # Errors
    /// A message that names the type. It never repeats a secret.
    fn parse(raw: &RawValue) -> Result<Self, String>;

    /// The value of an unset key without a default.
    #[must_use]
    fn absent() -> Option<Self> {
        None
    }

    /// The value as the `config` subcommand shows it.
    #[must_use]
    fn render(raw: &RawValue) -> String {
        if Self::SECRET {
            match &raw.file {
                Some(file) => format!("[redacted, from {}]", file.display()),
                None => "[redacted]".to_owned(),
            }
        } else {
            raw.text.clone()
        }
    }
}

macro_rules! from_str {
    ($($ty:ty => $kind:literal),* $(,)?) => { $(
        impl Setting for $ty {
            const KIND: &'static str = $kind;
            fn parse(raw: &RawValue) -> Result<Self, String> {
                raw.text.trim().parse().map_err(|_| concat!("is not ", $kind).to_owned())
            }
        }
    )* };
}

from_str! {
    bool => "true or false",
    u32 => "a whole number",
    u64 => "a whole number",
    usize => "a whole number",
    f64 => "a number",
}

impl Setting for SocketAddr {
    const KIND: &'static str = "an IP address and a port such as 127.0.0.1:3000";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        let text = raw.text.trim();
        text.parse()
            .map_err(|_| format!("is not {}{}", Self::KIND, address_advice(text)))
    }
}

/// Advice for an address with a missing or superfluous part. Host names are not resolved: a
/// listener binds one address, and a name may have several.
fn address_advice(text: &str) -> String {
    let text = text.trim_start_matches("http://").trim_end_matches('/');
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return format!(", write `{address}`");
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let address = SocketAddr::new(address, 3000);
        return format!(", the port is missing: write `{address}`");
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    match host {
        _ if !is_port(port) => String::new(),
        "" | "*" => format!(
            ", write `0.0.0.0:{port}` for every interface, or `127.0.0.1:{port}` for this machine \
             alone"
        ),
        "localhost" => format!(", write `127.0.0.1:{port}` or `[::1]:{port}`"),
        _ => ", write the IP address because names are not resolved".to_owned(),
    }
}

impl Setting for String {
    const KIND: &'static str = "text";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        Ok(raw.text.clone())
    }
}

impl Setting for Duration {
    const KIND: &'static str = "a duration such as 250ms, 15s, 5m, 12h or 30d";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        parse_duration(raw.text.trim()).ok_or_else(|| format!("is not {}", Self::KIND))
    }
}

/// Parses `250ms`, `15s`, `5m`, `12h`, `30d`. A plain `0` is zero.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The size as `usize`. Saturates on targets where `usize` is narrower.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for ByteSize {
    const KIND: &'static str = "a size such as 512B, 64KiB or 1MiB";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        let text = raw.text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = match unit {
            "" | "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => return Err(format!("is not {}", Self::KIND)),
        };
        number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(factor))
            .map(Self)
            .ok_or_else(|| format!("is not {}", Self::KIND))
    }
}

impl Setting for IpNet {
    const KIND: &'static str = "a network in CIDR notation such as 10.0.0.0/8";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        let text = raw.text.trim();
        text.parse()
            .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
            .map_err(|_| format!("is not {}", Self::KIND))
    }
}

impl<T: Setting> Setting for Vec<T> {
    const KIND: &'static str = "a list";
    fn parse(raw: &RawValue) -> Result<Self, String> {
        raw.text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| {
                T::parse(&RawValue::text(item))
                    .map_err(|why| format!("has an entry that {why}: `{item}`"))
            })
            .collect()
    }
}

impl<T: Setting> Setting for Option<T> {
    const KIND: &'static str = T::KIND;
    const SECRET: bool = T::SECRET;
    const OPTIONAL: bool = true;
    fn parse(raw: &RawValue) -> Result<Self, String> {
        if raw.text.is_empty() {
            Ok(None)
        } else {
            T::parse(raw).map(Some)
        }
    }
    fn absent() -> Option<Self> {
        Some(None)
    }
    fn render(raw: &RawValue) -> String {
        T::render(raw)
    }
}

/// A secret. It is redacted in debug output and wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret text. Each call marks a place where the secret leaves its wrapper.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(SecretString::from(text))
    }
}

impl Setting for Secret {
    const KIND: &'static str = "a secret";
    const SECRET: bool = true;
    fn parse(raw: &RawValue) -> Result<Self, String> {
        Ok(Self::from(raw.text.as_str()))
    }
}

/// A secret together with its file, for secrets that are reloaded.
#[derive(Debug, Clone)]
pub struct SecretSource {
    /// The content at the time when the configuration was read.
    pub content: Secret,
    /// The file that it was read from, if any.
    pub file: Option<PathBuf>,
}

impl Setting for SecretSource {
    const KIND: &'static str = "a secret or a file that holds it";
    const SECRET: bool = true;
    fn parse(raw: &RawValue) -> Result<Self, String> {
        Ok(Self {
            content: Secret::parse(raw)?,
            file: raw.file.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_duration("30d"), Some(Duration::from_hours(30 * 24)));
        assert_eq!(parse_duration("0"), Some(Duration::ZERO));
        for bad in ["", "5", "s", "-1s", "1.5s", "5 s", "18446744073709551615d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_are_powers_of_two_and_do_not_overflow() {
        let size = |text: &str| ByteSize::parse(&RawValue::text(text)).ok();
        assert_eq!(size("1MiB"), Some(ByteSize(1 << 20)));
        assert_eq!(size("64KiB"), Some(ByteSize(65_536)));
        assert_eq!(size("17179869184GiB"), None);
        assert_eq!(size("1MB"), None);
    }

    #[test]
    fn an_invalid_address_is_rejected_with_advice() {
        let parse = |text: &str| SocketAddr::parse(&RawValue::text(text));
        for good in ["127.0.0.1:3000", " [::1]:0 ", "0.0.0.0:65535"] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for (text, advice) in [
            ("localhost:3000", "write `127.0.0.1:3000`"),
            (":3000", "write `0.0.0.0:3000` for every interface"),
            ("*:3000", "write `0.0.0.0:3000` for every interface"),
            ("3000", "write `0.0.0.0:3000` for every interface"),
            ("127.0.0.1", "the port is missing: write `127.0.0.1:3000`"),
            ("::1", "the port is missing: write `[::1]:3000`"),
            ("[::]", "the port is missing: write `[::]:3000`"),
            ("http://127.0.0.1:80/", "write `127.0.0.1:80`"),
            ("db.example.org:3000", "names are not resolved"),
            ("127.0.0.1:70000", "an IP address and a port"),
            ("", "an IP address and a port"),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.contains(advice), "{text}: {why}");
        }
    }

    #[test]
    fn a_secret_is_not_in_its_debug_text() {
        assert_eq!(format!("{:?}", Secret::from("hunter2")), "[redacted]");
    }
}
