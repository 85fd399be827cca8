//! Lower-case hexadecimal, as `traceparent` and log lines have it.

/// The two digits of every byte.
const DIGITS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < pairs.len() {
        pairs[byte] = [digits[byte >> 4], digits[byte & 15]];
        byte += 1;
    }
    pairs
};

/// Writes two digits for each byte; what has no place in `text` is left out.
pub(crate) fn write(bytes: &[u8], text: &mut [u8]) {
    for (pair, byte) in text.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = DIGITS[usize::from(*byte)];
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_its_digits() {
        for byte in 0..=u8::MAX {
            let mut text = [b'x'; 5];
            super::write(&[byte, 0x0f], &mut text);
            let text = std::str::from_utf8(&text).unwrap();
            assert_eq!(text, format!("{byte:02x}0fx"));
        }
    }
}
