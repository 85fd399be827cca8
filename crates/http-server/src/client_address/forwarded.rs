//! The grammar of `Forwarded` (RFC 7239, section 4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads the nodes that the elements of one line name with `for`, from left to right.
///
/// A node is `None` when it is not an address: `unknown`, an obfuscated name, or no `for` at all.
/// The result is `None` when the line breaks the grammar. No part of such a line is reliable,
/// because a quoted string may begin or end anywhere.
pub(crate) fn nodes(line: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut rest = Rest(line.as_bytes());
    let mut nodes = Vec::new();
    loop {
        rest.skip_spaces();
        // A recipient ignores empty elements of a list (RFC 9110, section 5.6.1.2).
        if rest.peek().is_some_and(|byte| byte != b',') {
            rest.element(&mut nodes)?;
        }
        rest.skip_spaces();
        match rest.next() {
            None => return Some(nodes),
            Some(b',') => {}
            Some(_) => return None,
        }
    }
}

/// The unread rest of a line.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn skip_spaces(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t')) {
            self.next();
        }
    }

    /// Reads `[pair] *( ";" [pair] )`, where each parameter may occur once. Spaces around the
    /// semicolon are not in the grammar. They are accepted because some proxies write them and they
    /// have only one reading.
    fn element(&mut self, nodes: &mut Vec<Option<IpAddr>>) -> Option<()> {
        let mut names = Vec::<String>::new();
        let mut node = None;
        loop {
            if self.peek().is_some_and(is_token) {
                let name = self.token()?.to_ascii_lowercase();
                if self.next()? != b'=' || names.contains(&name) {
                    return None;
                }
                let value = self.value()?;
                if name == "for" {
                    node = address(&value);
                }
                names.push(name);
            }
            self.skip_spaces();
            if self.peek() != Some(b';') {
                nodes.push(node);
                return Some(());
            }
            self.next();
            self.skip_spaces();
        }
    }

    fn token(&mut self) -> Option<String> {
        let end = self.0.iter().position(|byte| !is_token(*byte));
        let (token, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
        self.0 = rest;
        // Token characters are ASCII.
        (!token.is_empty()).then(|| String::from_utf8_lossy(token).into_owned())
    }

    /// Reads a token, or a quoted string without its quotes and escapes.
    fn value(&mut self) -> Option<String> {
        if self.peek() != Some(b'"') {
            return self.token();
        }
        self.next();
        let mut value = Vec::new();
        loop {
            match self.next()? {
                b'"' => return String::from_utf8(value).ok(),
                b'\\' => value.push(self.next()?),
                byte => value.push(byte),
            }
        }
    }
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The address in a node: `IPv4address / "[" IPv6address "]"`, with an optional port or obfuscated
/// port.
fn address(node: &str) -> Option<IpAddr> {
    let (name, port) = if let Some(rest) = node.strip_prefix('[') {
        let (name, port) = rest.split_once(']')?;
        (name.parse::<Ipv6Addr>().ok()?.into(), port)
    } else {
        let end = node.find(':').unwrap_or(node.len());
        let (name, port) = node.split_at(end);
        (name.parse::<Ipv4Addr>().ok()?.into(), port)
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some(name),
        Some(port) if is_port(port) => Some(name),
        _ => None,
    }
}

/// Whether a port is one to five digits, or `_` and letters, digits, `.`, `_`, `-`.
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            !name.is_empty() && name.bytes().all(allowed)
        }
        None => (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<Vec<Option<String>>> {
        let texts = |node: Option<IpAddr>| node.map(|address| address.to_string());
        nodes(line).map(|nodes| nodes.into_iter().map(texts).collect())
    }

    #[test]
    fn nodes_are_read_by_the_grammar() {
        let some = |text: &str| Some(text.to_owned());
        for (line, expected) in [
            ("for=192.0.2.43", vec![some("192.0.2.43")]),
            (
                "For=\"[2001:db8:cafe::17]:4711\"",
                vec![some("2001:db8:cafe::17")],
            ),
            (
                "for=192.0.2.43, for=198.51.100.17;by=203.0.113.60;proto=http",
                vec![some("192.0.2.43"), some("198.51.100.17")],
            ),
            // Commas, semicolons and escapes inside quotes belong to the value.
            (
                "for=192.0.2.1;ext=\"a, for=6.6.6.6\", for=192.0.2.2",
                vec![some("192.0.2.1"), some("192.0.2.2")],
            ),
            (
                "ext=\"\\\", for=6.6.6.6;for=7.7.7.7\";for=192.0.2.1",
                vec![some("192.0.2.1")],
            ),
            ("for=\"192.0.2.1:_edge\"", vec![some("192.0.2.1")]),
            ("for=\"19\\2.0.2.1\"", vec![some("192.0.2.1")]),
            (", for=192.0.2.1,,", vec![some("192.0.2.1")]),
            (";for=192.0.2.1;", vec![some("192.0.2.1")]),
            ("for=192.0.2.1; proto=http", vec![some("192.0.2.1")]),
            (
                "for=unknown, for=_hidden, proto=https",
                vec![None, None, None],
            ),
            // The grammar requires brackets around IPv6 addresses and at most five digits in a
            // port.
            (
                "for=\"2001:db8::1\", for=\"192.0.2.1:123456\"",
                vec![None, None],
            ),
            ("", vec![]),
        ] {
            assert_eq!(read(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_line_outside_of_the_grammar_says_nothing() {
        for line in [
            "for=\"192.0.2.1",
            "for=\"192.0.2.1\\",
            "for=\"x, for=192.0.2.2",
            "for=192.0.2.1:4711",
            "for=[2001:db8::1]",
            "for = 192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "for=",
            "for",
            "for=\"192.0.2.1\"x, for=192.0.2.2",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
