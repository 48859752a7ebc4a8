//! Appending, reading, opening again.

use super::*;

fn values(seen: &Seen) -> Vec<String> {
    seen.iter().map(|(_, _, value)| String::from_utf8(value.clone().unwrap()).unwrap()).collect()
}

#[test]
fn what_is_appended_is_read_and_is_there_after_a_clean_close_and_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 2000, ..LogConfig::default() };
    let log = open(folder.path(), &config);
    for i in 0..100 {
        let appended = log.append(Made::values(3).bytes(), NOW_MS).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (3 * i, 3 * i + 2));
    }
    let before = read_all(&log, Isolation::ReadUncommitted, 500);
    assert_eq!(before.len(), 300);
    assert_eq!(before.iter().map(|(offset, ..)| *offset).collect::<Vec<_>>(), (0..300).collect::<Vec<_>>());
    assert_eq!(values(&before)[..3], ["value 0", "value 1", "value 2"]);
    drop(log); // killed
    let log = open(folder.path(), &config);
    assert_eq!(read_all(&log, Isolation::ReadUncommitted, 1 << 20), before);
    log.maintain(NOW_MS).unwrap();
    log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    log.close().unwrap();
    assert!(log.append(Made::values(1).bytes(), NOW_MS).is_err());
    let log = open(folder.path(), &config);
    assert_eq!(log.bounds().log_end, 301);
    let chunk = log.read(150, 1, true, Isolation::ReadUncommitted).unwrap();
    assert_eq!(batch::check(&chunk.records).unwrap().base_offset, 150);
    assert!(log.read(150, 1, false, Isolation::ReadUncommitted).unwrap().records.is_empty());
    assert!(log.read(301, 1000, true, Isolation::ReadUncommitted).unwrap().records.is_empty());
    let error = log.read(302, 1000, true, Isolation::ReadUncommitted).unwrap_err().error;
    assert_eq!(error, ResponseError::OffsetOutOfRange);
}

#[test]
fn sequences_are_kept_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig::default();
    let log = open(folder.path(), &config);
    let first = Made::values(3).of(7, 0, 0).bytes();
    log.append(first.clone(), NOW_MS).unwrap();
    log.append(Made::values(3).of(7, 0, 3).bytes(), NOW_MS).unwrap();
    for clean in [true, false, true] {
        if clean {
            log.close().unwrap();
        }
        let log = open(folder.path(), &config);
        let again = log.append(first.clone(), NOW_MS).unwrap();
        assert_eq!((again.base_offset, again.last_offset, again.duplicate), (0, 2, true));
        let gap = log.append(Made::values(1).of(7, 0, 20).bytes(), NOW_MS).unwrap_err();
        assert_eq!(gap.error, ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(log.bounds().log_end, 6);
    }
}

#[test]
fn an_open_transaction_holds_the_last_stable_offset_back() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &LogConfig::default());
    log.append(Made::values(2).bytes(), NOW_MS).unwrap();
    log.append(Made::values(2).of(1, 0, 0).in_transaction().bytes(), NOW_MS).unwrap();
    log.append(Made::values(2).bytes(), NOW_MS).unwrap();
    assert_eq!(log.bounds(), Bounds { log_start: 0, last_stable: 2, high_watermark: 6, log_end: 6 });
    assert_eq!(read_all(&log, Isolation::ReadCommitted, 1 << 20).len(), 2);
    let marker = log.append_marker(1, 0, Outcome::Abort, NOW_MS).unwrap().unwrap();
    assert_eq!((marker.base_offset, log.bounds().last_stable), (6, 7));
    assert!(log.append_marker(1, 0, Outcome::Abort, NOW_MS).unwrap().is_none());
    let offsets = |log: &PartitionLog| -> Vec<i64> {
        read_all(log, Isolation::ReadCommitted, 1 << 20).iter().map(|(offset, ..)| *offset).collect()
    };
    assert_eq!(offsets(&log), [0, 1, 4, 5]);
    assert_eq!(log.read(3, 1 << 20, true, Isolation::ReadCommitted).unwrap().aborted, [(1, 2)]);
    drop(log);
    let log = open(folder.path(), &LogConfig::default());
    assert_eq!(offsets(&log), [0, 1, 4, 5]);
    log.close().unwrap();
    assert_eq!(offsets(&open(folder.path(), &LogConfig::default())), [0, 1, 4, 5]);
}

#[test]
fn offsets_are_found_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &LogConfig { segment_bytes: 500, ..LogConfig::default() });
    assert_eq!((log.offset_for(0).unwrap(), log.latest_timestamp().unwrap()), (None, None));
    for i in 0..100 {
        let timestamp = NOW_MS - 100_000 + i * 1000;
        log.append(Made { timestamp, attributes: (i % 5) as i16, ..Made::values(2) }.bytes(), NOW_MS)
            .unwrap();
    }
    let start = NOW_MS - 100_000;
    for saved in [false, true] {
        assert_eq!(log.offset_for(start - 5).unwrap(), Some((0, start)), "saved {saved}");
        assert_eq!(log.offset_for(start).unwrap(), Some((0, start)));
        assert_eq!(log.offset_for(start + 1).unwrap(), Some((1, start + 1)));
        assert_eq!(log.offset_for(start + 41_500).unwrap(), Some((84, start + 42_000)));
        assert_eq!(log.offset_for(start + 99_001).unwrap(), Some((199, start + 99_001)));
        assert_eq!(log.offset_for(start + 99_002).unwrap(), None);
        assert_eq!(log.latest_timestamp().unwrap(), Some((199, start + 99_001)));
        log.maintain(NOW_MS).unwrap();
    }
    assert_eq!(log.delete_before(50).unwrap(), 50);
    assert_eq!(log.offset_for(start).unwrap(), Some((50, start + 25_000)));
}
