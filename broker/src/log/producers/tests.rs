//! Tests of sequences, epochs and what is remembered, by Kafka's rules.

use super::*;
use crate::log::tests::Made;

fn header(id: i64, epoch: i16, sequence: i32, count: usize) -> Header {
    Header::parse(&Made::values(count).of(id, epoch, sequence).bytes()).unwrap()
}

/// Checks, and appends at `offset` what is new.
fn take(producers: &mut Producers, header: Header, offset: i64) -> Result<Verdict, ResponseError> {
    let verdict = producers.check(&header).map_err(|refused| refused.error)?;
    if verdict == Verdict::New {
        producers.appended(&Header { base_offset: offset, ..header }, 0);
    }
    Ok(verdict)
}

#[test]
fn the_last_five_batches_are_known_again() {
    let mut producers = Producers::default();
    for i in 0..7 {
        assert_eq!(take(&mut producers, header(1, 0, i * 2, 2), i64::from(i) * 10), Ok(Verdict::New));
    }
    for i in 2..7 {
        let Ok(Verdict::Duplicate(known)) = take(&mut producers, header(1, 0, i * 2, 2), 99) else {
            panic!("batch {i}")
        };
        assert_eq!((known.base_offset, known.last_offset), (i64::from(i) * 10, i64::from(i) * 10 + 1));
    }
    let out_of_order = Err(ResponseError::OutOfOrderSequenceNumber);
    assert_eq!(take(&mut producers, header(1, 0, 2, 2), 99), out_of_order);
    assert_eq!(take(&mut producers, header(1, 0, 12, 1), 99), out_of_order); // another range
    assert_eq!(take(&mut producers, header(1, 0, 15, 1), 99), out_of_order);
    assert_eq!(take(&mut producers, header(1, 0, 14, 1), 99), Ok(Verdict::New));
}

#[test]
fn epochs_only_rise_and_begin_at_zero() {
    let mut producers = Producers::default();
    assert_eq!(take(&mut producers, header(1, 3, 0, 1), 0), Ok(Verdict::New));
    assert_eq!(take(&mut producers, header(1, 2, 1, 1), 1), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(take(&mut producers, header(1, 4, 1, 1), 1), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(take(&mut producers, header(1, 4, 0, 1), 1), Ok(Verdict::New));
    producers.remember_epoch(1, 5, 0);
    assert_eq!(take(&mut producers, header(1, 4, 1, 1), 2), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(take(&mut producers, header(1, 5, 0, 1), 2), Ok(Verdict::New));
}

#[test]
fn an_unknown_producer_may_begin_anywhere_and_sequences_wrap() {
    let mut producers = Producers::default();
    assert_eq!(take(&mut producers, header(1, 0, i32::MAX - 1, 2), 0), Ok(Verdict::New));
    assert_eq!(take(&mut producers, header(1, 0, 0, 2), 2), Ok(Verdict::New));
    assert_eq!(take(&mut producers, header(2, 0, i32::MAX, 3), 4), Ok(Verdict::New));
    assert_eq!(take(&mut producers, header(2, 0, 2, 1), 7), Ok(Verdict::New));
}

#[test]
fn in_a_transaction_nothing_else_is_written() {
    let mut producers = Producers::default();
    let transactional = Header { attributes: TRANSACTIONAL, ..header(1, 0, 0, 1) };
    assert_eq!(take(&mut producers, transactional, 5), Ok(Verdict::New));
    assert_eq!(take(&mut producers, header(1, 0, 1, 1), 6), Err(ResponseError::InvalidTxnState));
    assert_eq!((producers.first_open(), producers.check_marker(1, 0)), (Some(5), Ok(true)));
    assert!(producers.check_marker(1, -1).is_err());
    let ended =
        producers.ended(&Header { base_offset: 9, ..header(1, 0, -1, 1) }, Outcome::Abort, 0).unwrap();
    assert_eq!((ended.first_offset, ended.last_offset, producers.first_open()), (5, 9, None));
    // Sequences go on over transactions.
    assert_eq!(take(&mut producers, header(1, 0, 1, 1), 10), Ok(Verdict::New));
}

#[test]
fn idle_producers_are_forgotten_those_in_transactions_are_not() {
    let mut producers = Producers::default();
    let transactional = Header { attributes: TRANSACTIONAL, ..header(0, 0, 0, 1) };
    take(&mut producers, transactional, 0).unwrap();
    for id in 1..=(PRODUCERS_MAX as i64 + 10) {
        take(&mut producers, header(id, 0, 0, 1), id).unwrap();
    }
    assert!(producers.known.len() <= PRODUCERS_MAX && producers.known.len() > PRODUCERS_MAX / 2);
    assert_eq!(producers.first_open(), Some(0));
    producers.expire(EXPIRATION_MS - 1);
    assert!(producers.known.len() > 1);
    producers.expire(EXPIRATION_MS);
    assert_eq!(producers.known.keys().collect::<Vec<_>>(), [&0]);
}

#[test]
fn a_snapshot_is_read_back_and_any_cut_of_it_is_none() {
    let mut producers = Producers::default();
    for id in 0..3 {
        let transactional = Header { attributes: TRANSACTIONAL, ..header(id, 2, 0, 3) };
        take(&mut producers, transactional, id * 10).unwrap();
    }
    let mut bytes = Vec::new();
    snapshot::encode(&producers, &mut bytes);
    assert_eq!(snapshot::decode(&bytes), Some(producers));
    for length in 0..bytes.len() {
        assert_eq!(snapshot::decode(&bytes[..length]), None, "cut at {length}");
    }
    assert_eq!(snapshot::decode(&[255; 64]), None);
}
