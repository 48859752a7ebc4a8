//! Tests of the walker.

use super::*;
use crate::log::tests::Made;
use proptest::prelude::*;

proptest! {
    #[test]
    fn varints_are_read_as_written(value in any::<i64>(), rest in prop::collection::vec(any::<u8>(), 0..3)) {
        let mut bytes = Vec::new();
        put_varint(&mut bytes, value);
        bytes.extend_from_slice(&rest);
        let mut at = &bytes[..];
        prop_assert_eq!(varint(&mut at), Some(value));
        prop_assert_eq!(at, &rest[..]);
        prop_assert_eq!(read_varint(&mut &bytes[..]).unwrap(), value);
    }

    #[test]
    fn records_are_walked_as_written(
        codec in 0i16..5,
        records in prop::collection::vec(
            (prop::option::of(prop::collection::vec(any::<u8>(), 0..40)), prop::option::of(prop::collection::vec(any::<u8>(), 0..300))),
            1..40,
        ),
    ) {
        let made = Made { attributes: codec, records: records.clone(), ..Made::default() };
        let bytes = made.bytes();
        let header = Header::parse(&bytes).unwrap();
        let mut walked = Vec::new();
        walk(&bytes, &header, |record| {
            walked.push((record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec)));
            record.timestamp == made.timestamp + i64::from(record.offset_delta)
        })
        .unwrap();
        prop_assert_eq!(walked, records);
    }
}

#[test]
fn a_count_that_lies_is_found_out() {
    for codec in 0..5 {
        let bytes = Made { attributes: codec, ..Made::values(5) }.bytes();
        let header = Header::parse(&bytes).unwrap();
        for count in [4, 6, i32::MAX] {
            let lying = Header { count, ..header };
            assert!(walk(&bytes, &lying, |_| true).is_err(), "codec {codec} count {count}");
        }
    }
}
