//! The headers of a request that describe its body.

/// The framing headers of the current request.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) length: Option<u64>,
    pub(crate) coding: Option<Coding>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Chunked,
    /// Unknown codings, and whether `chunked` follows them.
    Unknown {
        chunked: bool,
    },
    Malformed,
}

impl Head {
    #[inline]
    pub(crate) fn read(&mut self, line: &[u8], gap: bool) {
        // The first byte excludes most lines.
        match line.first() {
            Some(b'c' | b'C') => {
                if let Some(value) = value_of(line, b"content-length") {
                    if gap {
                        self.coding = Some(Coding::Malformed);
                    }
                    // hyper rejects a value that is not a number or contradicts another one.
                    self.length = Some(number(value).unwrap_or(0));
                }
            }
            Some(b't' | b'T') => {
                if let Some(value) = value_of(line, b"transfer-encoding") {
                    let coding = Coding::and(self.coding, value);
                    self.coding = Some(if gap { Coding::Malformed } else { coding });
                }
            }
            _ => {}
        }
    }
}

impl Coding {
    /// Adds the codings of a line. Several lines are one list (RFC 9110, section 5.3).
    fn and(before: Option<Self>, value: &[u8]) -> Self {
        let mut coding = before;
        for element in value.split(|byte| *byte == b',') {
            let element = element.trim_ascii();
            coding = Some(match coding {
                Some(Self::Malformed | Self::Chunked | Self::Unknown { chunked: true }) => {
                    return Self::Malformed;
                }
                _ if element.is_empty() || !element.iter().all(|byte| is_token(*byte)) => {
                    return Self::Malformed;
                }
                None if element.eq_ignore_ascii_case(b"chunked") => Self::Chunked,
                _ => Self::Unknown {
                    chunked: element.eq_ignore_ascii_case(b"chunked"),
                },
            });
        }
        coding.unwrap_or(Self::Malformed)
    }
}

/// The value of a header line with the name `name`.
fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Whether a byte is a `tchar` (RFC 9110, section 5.6.2).
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
