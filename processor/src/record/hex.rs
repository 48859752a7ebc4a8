//! Ids as they are mostly written, eight digits at a time.

use uuid::Uuid;

/// With hyphens.
pub(super) const UUID_BYTES: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// One in each byte.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * ONES;

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, small or large; `None` for all else.
pub(super) fn uuid(text: &[u8; UUID_BYTES]) -> Option<Uuid> {
    let hyphens = HYPHENS.iter().all(|at| text[*at] == b'-');
    let [a, b, c, d, e] = [&text[..8], &text[9..13], &text[14..18], &text[19..23], &text[24..]];
    let eight = |left: &[u8], right: &[u8]| {
        let mut both = [0; 8];
        both[..left.len()].copy_from_slice(left);
        both[left.len()..].copy_from_slice(right);
        digits(both)
    };
    let parts = [eight(a, &[])?, eight(b, c)?, eight(d, &e[..4])?, eight(&e[4..], &[])?];
    let number = parts.into_iter().fold(0, |number, part| (number << 32) | u128::from(part));
    hyphens.then(|| Uuid::from_u128(number))
}

/// The number that eight hexadecimal digits are.
fn digits(text: [u8; 8]) -> Option<u32> {
    let text = u64::from_be_bytes(text);
    if text & HIGH_BITS != 0 {
        return None;
    }
    // No sum below comes to more than a byte holds. In small letters, which leaves decimal digits as they are.
    let small = text | (0x20 * ONES);
    let at_least = |byte: u8, text: u64| text + (0x80 - u64::from(byte)) * ONES;
    let decimal = at_least(b'0', text) & !at_least(b'9' + 1, text);
    let letter = at_least(b'a', small) & !at_least(b'f' + 1, small);
    if (decimal | letter) & HIGH_BITS != HIGH_BITS {
        return None;
    }
    // Of letters bit 6 is set, and a is 1 in the low ones.
    let values = (text & (0x0f * ONES)) + 9 * ((text >> 6) & ONES);
    let pairs = (values | (values >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    u32::try_from((fours | (fours >> 16)) & 0xffff_ffff).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(id: u128) -> [u8; UUID_BYTES] {
        let mut text = [0; UUID_BYTES];
        Uuid::from_u128(id).hyphenated().encode_lower(&mut text);
        text
    }

    proptest! {
        #[test]
        fn reads_what_the_uuid_crate_reads(id: u128, large: bool) {
            let mut text = written(id);
            if large {
                text.make_ascii_uppercase();
            }
            prop_assert_eq!(uuid(&text), Some(Uuid::from_u128(id)));
        }

        #[test]
        fn takes_nothing_that_the_uuid_crate_refuses(id: u128, at in 0..UUID_BYTES, byte: u8) {
            let mut text = written(id);
            text[at] = byte;
            prop_assert_eq!(uuid(&text), Uuid::try_parse_ascii(&text).ok());
        }
    }

    #[test]
    fn each_byte_is_a_digit_or_none() {
        for byte in 0..=u8::MAX {
            let expected = char::from(byte).to_digit(16);
            assert_eq!(digits([b'0', b'0', b'0', b'0', b'0', b'0', b'0', byte]), expected);
            assert_eq!(
                digits([byte, b'0', b'0', b'0', b'0', b'0', b'0', b'0']),
                expected.map(|digit| digit << 28)
            );
        }
    }
}
