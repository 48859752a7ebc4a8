//! A log takes what it can give back, and nothing else. The checksum is set right: a fuzzer would never guess it.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use millrace_broker::{
    Fsync,
    clock::now_ms,
    log::{Isolation, LogConfig, PartitionLog, syncer::Syncer},
};
use std::sync::OnceLock;

struct Site {
    log: PartitionLog,
    _folder: tempfile::TempDir,
}

fn site() -> &'static Site {
    static SITE: OnceLock<Site> = OnceLock::new();
    SITE.get_or_init(|| {
        let folder = tempfile::tempdir().expect("a folder");
        let syncer = Syncer::start(Fsync::Os).expect("a thread");
        let config = LogConfig { segment_bytes: 1 << 20, retention_bytes: Some(2 << 20), ..LogConfig::default() };
        let log = PartitionLog::open(folder.path().join("0"), config, syncer, now_ms()).expect("a log");
        Site { log, _folder: folder }
    })
}

fuzz_target!(|data: &[u8]| {
    let mut batch = data.to_vec();
    if batch.len() > 61 {
        let length = i32::try_from(batch.len() - 12).expect("it is small");
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    let log = &site().log;
    if let Ok(appended) = log.append(Bytes::from(batch), now_ms())
        && !appended.duplicate
    {
        let chunk = log.read(appended.base_offset, 1, true, Isolation::ReadUncommitted).expect("it was appended");
        assert!(!chunk.records.is_empty(), "it is not there");
        if appended.base_offset % 1000 == 0 {
            log.maintain(now_ms()).expect("the disk takes it");
        }
    }
});
