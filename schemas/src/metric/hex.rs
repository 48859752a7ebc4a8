//! Ids as they are mostly written.

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "what every processor of the kind has is asked for by name")
)]

use uuid::Uuid;

/// With hyphens.
pub(super) const UUID_BYTES: usize = 36;
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, small or large; `None` for all else.
pub(super) fn uuid(text: &[u8; UUID_BYTES]) -> Option<Uuid> {
    let four = |at: usize| text[at..at + 4].try_into().expect("so many");
    let high = digits([four(0), four(4), four(9), four(14)]);
    let low = digits([four(19), four(24), four(28), four(32)]);
    let hyphens = HYPHENS.iter().all(|at| text[*at] == b'-');
    (high.valid & low.valid & hyphens).then(|| Uuid::from_u64_pair(high.number, low.number))
}

/// Sixteen hexadecimal digits.
struct Digits {
    number: u64,
    /// They are digits; the number means nothing else.
    valid: bool,
}

#[cfg(target_arch = "x86_64")]
fn digits(text: [[u8; 4]; 4]) -> Digits {
    // SAFETY: every such processor has SSE2.
    unsafe { sse2::digits(text) }
}

/// All at once.
#[cfg(target_arch = "x86_64")]
mod sse2 {
    use super::Digits;
    use std::arch::x86_64::{
        __m128i, _mm_add_epi8, _mm_and_si128, _mm_cmpgt_epi8, _mm_cmplt_epi8, _mm_cvtsi128_si64,
        _mm_movemask_epi8, _mm_or_si128, _mm_packus_epi16, _mm_set_epi32, _mm_set1_epi8, _mm_set1_epi16,
        _mm_slli_epi16, _mm_srli_epi16,
    };

    #[inline]
    #[target_feature(enable = "sse2")]
    pub(super) fn digits(text: [[u8; 4]; 4]) -> Digits {
        let [a, b, c, d] = text.map(i32::from_le_bytes);
        let text = _mm_set_epi32(d, c, b, a);
        // In small letters, which leaves decimal digits as they are.
        let small = _mm_or_si128(text, _mm_set1_epi8(0x20));
        let (decimal, letter) = (within(text, b'0', b'9'), within(small, b'a', b'f'));
        let valid = _mm_movemask_epi8(_mm_or_si128(decimal, letter)) == 0xffff;
        // a is 1 in the low bits.
        let values =
            _mm_add_epi8(_mm_and_si128(text, _mm_set1_epi8(0x0f)), _mm_and_si128(letter, _mm_set1_epi8(9)));
        let pairs = _mm_or_si128(_mm_slli_epi16::<4>(values), _mm_srli_epi16::<8>(values));
        let bytes = _mm_packus_epi16(_mm_and_si128(pairs, _mm_set1_epi16(0xff)), pairs);
        Digits { number: _mm_cvtsi128_si64(bytes).cast_unsigned().swap_bytes(), valid }
    }

    /// Where the bytes are ASCII from `first` to `last`.
    #[inline]
    #[target_feature(enable = "sse2")]
    fn within(text: __m128i, first: u8, last: u8) -> __m128i {
        let above = _mm_cmpgt_epi8(text, _mm_set1_epi8((first - 1).cast_signed()));
        _mm_and_si128(above, _mm_cmplt_epi8(text, _mm_set1_epi8((last + 1).cast_signed())))
    }
}

#[cfg(not(target_arch = "x86_64"))]
use one_by_one::digits;

#[cfg(any(test, not(target_arch = "x86_64")))]
mod one_by_one {
    use super::Digits;

    pub(super) fn digits(text: [[u8; 4]; 4]) -> Digits {
        let value = |digit: u8| char::from(digit).to_digit(16).map(u64::from);
        let mut digits = text.into_iter().flatten();
        let number = digits.try_fold(0, |number, digit| Some(number << 4 | value(digit)?));
        Digits { number: number.unwrap_or_default(), valid: number.is_some() }
    }
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
            for at in 0..16 {
                let mut text = [b'0'; 16];
                text[at] = byte;
                let (parts, _) = text.as_chunks();
                for read in [digits, one_by_one::digits] {
                    let Digits { number, valid } = read(parts.try_into().expect("four"));
                    assert_eq!(valid.then_some(number), expected.map(|digit| digit << (4 * (15 - at))));
                }
            }
        }
    }
}
