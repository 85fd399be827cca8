//! Lower-case hexadecimal text for `traceparent` and log lines.

/// The two digits of each byte. `as_flattened` joins them to one text. Formatting a trace id with
/// `LowerHex` takes 570 instructions instead of 70, which is 2% of a ping.
#[must_use]
pub fn digits<const N: usize>(bytes: [u8; N]) -> [[u8; 2]; N] {
    let mut digits = [[0; 2]; N];
    for (digits, byte) in digits.iter_mut().zip(bytes) {
        *digits = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

fn digit(nibble: u8) -> u8 {
    nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_byte_has_two_digits() {
        for byte in 0..=u8::MAX {
            let digits = super::digits([byte, 0x0f]);
            let text = std::str::from_utf8(digits.as_flattened()).unwrap();
            assert_eq!(text, format!("{byte:02x}0f"));
        }
    }
}
