//! Weak passwords, which an attacker guesses first (NIST SP 800-63B, section 3.1.1.2). They consist
//! of common words, sequences of letters, digits or keys, repetitions, or words of the own address. A password is
//! rejected if too few other characters remain, or if it has too few different characters. There is
//! no rule about kinds of characters, because such rules lead to passwords like `Password123!`,
//! which is rejected here.

/// Words of common passwords, one a line, in lower case.
const WORDS: &str = include_str!("common_passwords.txt");

/// Sequences of digits, alphabets and keyboards. Each is tried forwards and backwards.
const SEQUENCES: [&str; 12] = [
    "01234567890123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop[]",
    "asdfghjkl;'",
    "zxcvbnm,./",
    "qwertzuiopü",
    "yxcvbnm,.-",
    "azertyuiop",
    "qsdfghjklm",
    "1qaz2wsx3edc4rfv5tgb6yhn7ujm8ik,9ol.0p;/",
    "qazwsxedcrfvtgbyhnujmikolp",
    "!@#$%^&*()_+",
];

/// Shortest piece of a sequence or of a repetition that counts as one.
const MIN_RUN: usize = 3;
/// Fewest characters that must remain when all guessable pieces are taken out.
const MIN_UNCOVERED: usize = 4;
/// Fewest different characters in a password.
const MIN_DIFFERENT: usize = 5;
/// Shortest word of the own address that counts.
const MIN_ADDRESS_WORD: usize = 3;

/// Whether a password is weak. `own_address` is the address of its user, if it is known.
pub(super) fn is_weak(password: &str, own_address: Option<&str>) -> bool {
    let password: Vec<char> = password.chars().flat_map(char::to_lowercase).collect();
    let mut different = password.clone();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT || is_repetition(&password) {
        return true;
    }
    let own_words = own_address.map(words_of_address).unwrap_or_default();
    let words: Vec<Vec<char>> = WORDS
        .lines()
        .chain(own_words.iter().copied())
        .map(|word| word.chars().collect())
        .collect();
    uncovered(&password, &words) < MIN_UNCOVERED
}

/// The address and its parts.
fn words_of_address(address: &str) -> Vec<&str> {
    let mut words = vec![address];
    if let Some((local, domain)) = address.rsplit_once('@') {
        words.extend([local, domain]);
        words.extend(local.split(['.', '+', '-', '_']));
        words.extend(domain.split('.'));
    }
    words.retain(|word| word.chars().count() >= MIN_ADDRESS_WORD);
    words
}

/// Whether the whole text is one piece that is repeated, the last time perhaps in part.
fn is_repetition(text: &[char]) -> bool {
    (1..=text.len() / 2).any(|length| {
        let (piece, others) = text.split_at(length);
        others.chunks(length).all(|other| piece.starts_with(other))
    })
}

/// Number of characters that no word, sequence or run covers. The longest cover is taken first.
fn uncovered(text: &[char], words: &[Vec<char>]) -> usize {
    let mut text = text;
    let mut uncovered = 0;
    while let Some((_, after)) = text.split_first() {
        let covered = words
            .iter()
            .filter(|word| is_prefix(word, text))
            .map(Vec::len)
            .chain([run_length(text), sequence_length(text)])
            .max()
            .unwrap_or(0);
        if covered == 0 {
            uncovered += 1;
            text = after;
        } else {
            text = text.get(covered..).unwrap_or_default();
        }
    }
    uncovered
}

/// Whether a text begins with a word. Digits and signs may stand for letters.
fn is_prefix(word: &[char], text: &[char]) -> bool {
    word.len() <= text.len()
        && word
            .iter()
            .zip(text)
            .all(|(w, t)| w == t || *w == letter_for(*t))
}

/// The letter for which a digit or a sign usually stands.
fn letter_for(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '4' | '@' => 'a',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// Length of the run of one character at the beginning of a text. 0 if it is shorter than
/// [`MIN_RUN`].
fn run_length(text: &[char]) -> usize {
    let first = text.first();
    let length = text.iter().take_while(|c| Some(*c) == first).count();
    if length < MIN_RUN { 0 } else { length }
}

/// Length of the piece of a sequence at the beginning of a text. 0 if it is shorter than
/// [`MIN_RUN`].
fn sequence_length(text: &[char]) -> usize {
    let length = |line: &[char]| {
        (0..line.len())
            .filter_map(|from| line.get(from..))
            .map(|line| line.iter().zip(text).take_while(|(a, b)| a == b).count())
            .max()
            .unwrap_or(0)
    };
    let longest = SEQUENCES
        .iter()
        .map(|line| {
            let forwards: Vec<char> = line.chars().collect();
            let backwards: Vec<char> = line.chars().rev().collect();
            length(&forwards).max(length(&backwards))
        })
        .max()
        .unwrap_or(0);
    if longest < MIN_RUN { 0 } else { longest }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_words_sequences_and_repetitions_are_weak() {
        for weak in [
            "aaaaaaaaaaaa",
            "ABABABABABAB",
            "passwordpassword",
            "123456789012",
            "210987654321",
            "abcdefghijkl",
            "qwertyuiop12",
            "1qaz2wsx3edc",
            "Password123!",
            "P@ssw0rd1234",
            "Administrator1",
            "letmein123456",
            "iloveyou2026!",
            "changeme-changeme-",
            "aaaabbbbccccdddd",
            "welcome12345",
        ] {
            assert!(is_weak(weak, None), "{weak}");
        }
    }

    #[test]
    fn phrases_and_random_passwords_are_not_weak() {
        for fine in [
            "development-only-password",
            "correct horse battery staple",
            "a passphrase for tests",
            "a much better passphrase",
            "Zk3vTq9wLmX1",
            "9173640285551",
            "пароль из нескольких слов",
        ] {
            assert!(!is_weak(fine, Some("ada@example.com")), "{fine}");
        }
    }

    #[test]
    fn a_password_of_the_own_address_is_weak() {
        let own = Some("ada.lovelace@analytical.example");
        for weak in [
            "ada.lovelace@analytical.example",
            "Ada.Lovelace1",
            "lovelace1234",
            "LovelaceAda!",
            "analytical.example",
            "l0velace-ada",
        ] {
            assert!(is_weak(weak, own), "{weak}");
            assert!(!is_weak("lovelace computes", own));
        }
        assert!(!is_weak("ada.lovelace1", Some("grace@example.org")));
    }

    #[test]
    fn the_list_is_in_lower_case_sorted_and_without_doubles() {
        let words: Vec<&str> = WORDS.lines().collect();
        assert!(words.is_sorted_by(|a, b| a < b));
        assert!(
            words
                .iter()
                .all(|word| word.len() >= MIN_RUN && *word == word.to_lowercase())
        );
    }
}
