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
    let four = |at: usize| {
        let digits = text[at..at + 4].try_into().expect("so many");
        u64::from(u32::from_be_bytes(digits))
    };
    let eight = |left, right| digits(four(left) << 32 | four(right));
    let parts = [eight(0, 4), eight(9, 14), eight(19, 24), eight(28, 32)];
    let hyphens = HYPHENS.iter().fold(0, |different, at| different | (text[*at] ^ b'-'));
    let wrong = parts.iter().fold(u64::from(hyphens), |wrong, part| wrong | part.wrong);
    let [a, b, c, d] = parts.map(|part| part.number);
    (wrong == 0).then(|| Uuid::from_u64_pair(a << 32 | b, c << 32 | d))
}

/// Eight digits.
struct Part {
    number: u64,
    /// Not 0 where one of them is none; the number means nothing then.
    wrong: u64,
}

/// The number that eight hexadecimal digits are.
fn digits(text: u64) -> Part {
    // No sum below comes to more than a byte holds, but where a high bit is set. In small letters, which leaves decimal digits as they are.
    let small = text | (0x20 * ONES);
    let at_least = |byte: u8, text: u64| text.wrapping_add((0x80 - u64::from(byte)) * ONES);
    let decimal = at_least(b'0', text) & !at_least(b'9' + 1, text);
    let letter = at_least(b'a', small) & !at_least(b'f' + 1, small);
    let wrong = (text | !(decimal | letter)) & HIGH_BITS;
    // Of letters bit 6 is set, and a is 1 in the low ones.
    let values = (text & (0x0f * ONES)) + 9 * ((text >> 6) & ONES);
    let pairs = (values | (values >> 4)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    Part { number: (fours | (fours >> 16)) & 0xffff_ffff, wrong }
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
            let expected = char::from(byte).to_digit(16).map(u64::from);
            let read = |text: [u8; 8]| {
                let Part { number, wrong } = digits(u64::from_be_bytes(text));
                (wrong == 0).then_some(number)
            };
            assert_eq!(read([b'0', b'0', b'0', b'0', b'0', b'0', b'0', byte]), expected);
            assert_eq!(
                read([byte, b'0', b'0', b'0', b'0', b'0', b'0', b'0']),
                expected.map(|digit| digit << 28)
            );
        }
    }
}
