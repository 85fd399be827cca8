//! Removes e-mail addresses from a client's text, for logs and spans.

use std::borrow::Cow;

/// Replacement of text that looks like an e-mail address.
const REDACTED: &str = "redacted";

/// The text, cut after `max` bytes and without anything that looks like an e-mail address. Clients
/// put addresses into paths and user agents. Logs have more readers than the database.
#[must_use]
pub fn redact(text: &str, max: usize) -> Cow<'_, str> {
    let cut = (0..=max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .map_or("", |end| &text[..end]);
    if has_at(cut) {
        Cow::Owned(without_addresses(cut))
    } else {
        Cow::Borrowed(cut)
    }
}

fn without_addresses(text: &str) -> String {
    let delimiter = |c: char| matches!(c, '/' | ' ' | ';' | ',' | '(' | ')' | '<' | '>' | '"');
    let mut clean = String::with_capacity(text.len());
    for token in text.split_inclusive(delimiter) {
        let word = token.trim_end_matches(delimiter);
        if has_at(word) {
            clean.push_str(REDACTED);
            clean.push_str(&token[word.len()..]);
        } else {
            clean.push_str(token);
        }
    }
    clean
}

fn has_at(text: &str) -> bool {
    text.bytes().any(|byte| byte == b'@' || byte == b'%')
        && (text.contains('@') || text.contains("%40"))
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn addresses_disappear_and_the_rest_stays() {
        assert_eq!(redact("/api/v1/ping", 100), "/api/v1/ping");
        assert_eq!(redact("/u/a@b.example/x", 100), "/u/redacted/x");
        assert_eq!(redact("/u/a%40b.example", 100), "/u/redacted");
        let agent = "bot/1 (+https://b.example; me@b.example)";
        assert_eq!(redact(agent, 100), "bot/1 (+https://b.example; redacted)");
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(redact("aäb", 2), "a");
        assert_eq!(redact("aäb", 3), "aä");
    }
}
