//! How fast one partition's log appends and reads on this machine: `cargo bench -p millrace-broker --bench log`.

use bytes::{BufMut, Bytes, BytesMut};
use millrace_broker::{
    Fsync,
    log::{Isolation, LogConfig, PartitionLog, Syncer},
    topics::Topics,
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Instant};

const RECORDS: usize = 50;
const VALUE: usize = 300;
const BATCHES: usize = 40_000;
const NOW_MS: i64 = 1_760_000_000_000;

/// 50 records of 300 bytes, about what librdkafka sends.
fn batch() -> Bytes {
    let mut records = BytesMut::new();
    for delta in 0..RECORDS {
        // length | attributes, timestamp delta, offset delta, no key | value | no headers
        put_varint(&mut records, 4 + 2 + VALUE as u64 + 1);
        records.put_slice(&[0, 0, (delta * 2) as u8, 1]);
        put_varint(&mut records, VALUE as u64);
        records.put_bytes(b'x', VALUE);
        records.put_u8(0);
    }
    let mut covered = BytesMut::new();
    covered.put_i16(0);
    covered.put_i32(RECORDS as i32 - 1);
    covered.put_i64(NOW_MS);
    covered.put_i64(NOW_MS);
    covered.put_slice(&[255; 14]);
    covered.put_i32(RECORDS as i32);
    covered.put_slice(&records);
    let mut batch = BytesMut::new();
    batch.put_i64(0);
    batch.put_i32(covered.len() as i32 + 9);
    batch.put_i32(-1);
    batch.put_i8(2);
    batch.put_u32(crc32c::crc32c(&covered));
    batch.put_slice(&covered);
    batch.freeze()
}

/// Zigzag, of what is not negative.
fn put_varint(to: &mut BytesMut, value: u64) {
    let mut left = value << 1;
    while left >= 0x80 {
        to.put_u8((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    to.put_u8(left as u8);
}

fn report(what: &str, bytes: usize, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    let megabytes = bytes as f64 / 1e6;
    eprintln!(
        "{what:28} {:7.0} MB/s {:10.0} records/s",
        megabytes / seconds,
        bytes as f64 / VALUE as f64 / seconds
    );
}

fn open(folder: &Path, fsync: Fsync) -> (PartitionLog, Arc<Syncer>) {
    let syncer = Syncer::start(fsync).expect("a thread can be started");
    let config = LogConfig { retention_ms: None, ..LogConfig::default() };
    let log = PartitionLog::open(folder.to_owned(), config, Arc::clone(&syncer), NOW_MS)
        .expect("the folder is new");
    (log, syncer)
}

/// 1 GB in 100 partitions, opened after a kill and after a clean close.
fn open_many(batch: &Bytes) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let syncer = Syncer::start(Fsync::Os).expect("a thread can be started");
    let open = || Topics::open(folder.path(), Arc::clone(&syncer), NOW_MS).expect("the folder is ours");
    let topics = open();
    let topic = topics.create("t", 100, BTreeMap::new(), false, NOW_MS).expect("it is a good name");
    for log in &topic.partitions {
        for _ in 0..10_000_000 / batch.len() {
            log.append(batch.clone(), NOW_MS).expect("it is a good batch");
        }
    }
    let began = Instant::now();
    let again = open();
    eprintln!("open 100 of 10 MB, killed    {:?}", began.elapsed());
    again.close().expect("the disk works");
    let began = Instant::now();
    drop(open());
    eprintln!("open 100 of 10 MB, closed    {:?}", began.elapsed());
}

fn main() {
    let batch = batch();
    open_many(&batch);
    for fsync in ["os", "5ms"] {
        let folder = tempfile::tempdir().expect("there is a folder for temporary files");
        let (log, syncer) = open(folder.path(), fsync.parse().expect("it is one"));
        let began = Instant::now();
        for _ in 0..BATCHES {
            log.append(batch.clone(), NOW_MS).expect("it is a good batch");
        }
        report(&format!("append, --log-fsync {fsync}"), BATCHES * batch.len(), began);
        let began = Instant::now();
        log.maintain(NOW_MS).expect("the disk works");
        eprintln!("maintenance                  {:?}", began.elapsed());
        for max_bytes in [1 << 20, 64 << 10] {
            let (began, mut from, mut bytes) = (Instant::now(), 0, 0);
            while from < log.bounds().log_end {
                let chunk = log.read(from, max_bytes, true, Isolation::ReadCommitted).expect("it is there");
                bytes += chunk.records.len();
                from += (chunk.records.len() / batch.len() * RECORDS) as i64;
            }
            report(&format!("read, {} KiB a call", max_bytes >> 10), bytes, began);
        }
        drop(log);
        let began = Instant::now();
        let (log, again) = open(folder.path(), Fsync::Os);
        eprintln!(
            "open after a kill            {:?} of {} MB",
            began.elapsed(),
            log.size_bytes() / 1_000_000
        );
        syncer.stop();
        again.stop();
    }
}
