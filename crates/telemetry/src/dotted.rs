//! IPv4 addresses, as log lines and spans have them.

use std::net::Ipv4Addr;

/// The digits of each octet, and how many they are.
const OCTETS: [([u8; 3], usize); 256] = {
    let digits = b"0123456789";
    let mut octets = [([0; 3], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let hundreds = digits[octet / 100];
        let tens = digits[octet / 10 % 10];
        let ones = digits[octet % 10];
        octets[octet] = match octet {
            100.. => ([hundreds, tens, ones], 3),
            10.. => ([tens, ones, 0], 2),
            _ => ([ones, 0, 0], 1),
        };
        octet += 1;
    }
    octets
};

/// The usual text of an IPv4 address, without a detour over `fmt`.
pub fn dotted(address: Ipv4Addr, text: &mut [u8; 16]) -> &str {
    let mut end = 0;
    for octet in address.octets() {
        let (digits, length) = OCTETS[usize::from(octet)];
        text[end..end + 3].copy_from_slice(&digits);
        text[end + length] = b'.';
        end += length + 1;
    }
    std::str::from_utf8(&text[..end - 1]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_usual() {
        for address in [
            [0, 0, 0, 0],
            [192, 0, 2, 1],
            [10, 100, 99, 9],
            [255, 255, 255, 255],
        ] {
            let address = Ipv4Addr::from(address);
            assert_eq!(dotted(address, &mut [0; 16]), address.to_string());
        }
    }
}
