//! Tests of the header: what is checked, patched and made; arbitrary bytes do no harm.

use super::*;
use crate::log::tests::Made;
use proptest::prelude::*;

#[test]
fn a_header_is_what_was_encoded() {
    let batch = Made::values(3).of(7, 1, i32::MAX - 1).bytes();
    let header = check_produced(&batch, u32::MAX).unwrap();
    assert_eq!((header.count, header.producer_id, header.size), (3, 7, batch.len()));
    assert_eq!((header.last_offset(), header.last_sequence()), (2, 0));
    let mut placed = batch.to_vec();
    placed[..HEADER].copy_from_slice(&assigned(&batch, 42));
    assert_eq!(check(&placed).map(|header| (header.base_offset, header.leader_epoch)), Ok((42, 0)));
    let mut stamped = assigned(&batch, 42);
    set_timestamp(&mut stamped, &batch[HEADER..], 5, true);
    placed[..HEADER].copy_from_slice(&stamped);
    assert_eq!(
        check(&placed).map(|header| (header.max_timestamp, header.is(LOG_APPEND_TIME))),
        Ok((5, true))
    );
}

#[test]
fn what_no_producer_may_send_is_refused() {
    let good = Made::values(2).of(7, 0, 0).bytes().to_vec();
    // (where, byte, under the checksum, error)
    for (at, byte, error) in [
        (7, 1, ResponseError::InvalidRecord),  // base offset
        (16, 1, ResponseError::InvalidRecord), // magic
        (16, 3, ResponseError::InvalidRecord),
        (11, 255, ResponseError::InvalidRecord), // length: no whole batch
        (20, good[20] ^ 1, ResponseError::CorruptMessage), // checksum
        (70, good[70] ^ 1, ResponseError::CorruptMessage), // a record
    ] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(check_produced(&bad, 1000).unwrap_err().error, error, "byte {at}");
    }
    for (at, bytes, error) in [
        (22, &[CONTROL as u8][..], ResponseError::InvalidRecord),
        (22, &[LOG_APPEND_TIME as u8], ResponseError::InvalidTimestamp),
        (23, &5i32.to_be_bytes(), ResponseError::InvalidRecord), // last offset delta
        (57, &0i32.to_be_bytes(), ResponseError::InvalidRecord), // count
        (53, &(-1i32).to_be_bytes(), ResponseError::InvalidRecord), // sequence
    ] {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        let crc = crc32c::crc32c(&bad[CRC_FROM..]);
        bad[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(check_produced(&bad, 1000).unwrap_err().error, error, "bytes from {at}");
    }
    let two = [&good[..], &good].concat();
    assert_eq!(check_produced(&two, 1000).unwrap_err().error, ResponseError::InvalidRecord);
    assert_eq!(check_produced(&good, 50).unwrap_err().error, ResponseError::MessageTooLarge);
    assert_eq!(check_produced(&[], 50).unwrap_err().error, ResponseError::InvalidRecord);
}

#[test]
fn a_marker_says_what_it_ends() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let marker = marker(9, 3, outcome, 1000);
        let header = check(&marker).unwrap();
        assert!(header.is(CONTROL) && header.is(TRANSACTIONAL));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 3, -1));
        assert_eq!(crate::log::recovery::outcome_in(&header, &marker), Some(outcome));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_or_walked(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check_produced(&bytes, 1 << 20).is_err());
    }

    /// Damage under a right checksum, as only a malicious producer sends it.
    #[test]
    fn damaged_batches_are_refused_or_walked(codec in 0i16..8, damage in prop::collection::vec((0usize..400, any::<u8>()), 0..4)) {
        let made = Made { attributes: codec.min(4), ..Made::values(20) };
        let mut bytes = made.bytes().to_vec();
        bytes[22] = codec as u8;
        for (at, byte) in damage {
            let at = CRC_FROM + at % (bytes.len() - CRC_FROM);
            bytes[at] = byte;
        }
        let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
        bytes[CRC_AT..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
        if let Ok(header) = check_produced(&bytes, 1 << 20) {
            let mut count = 0;
            if records::walk(&bytes, &header, |_| { count += 1; true }).is_ok() {
                prop_assert_eq!(count, header.count);
            }
        }
    }
}
