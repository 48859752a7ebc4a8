//! Full disks, damaged files, and durability before an acknowledgement.

use super::*;
use std::fs::File;

#[test]
fn a_full_disk_refuses_the_batch_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &LogConfig::default());
    log.append(Made::values(3).of(1, 0, 0).bytes(), NOW_MS).unwrap();
    let full = Arc::new(File::options().write(true).open("/dev/full").unwrap());
    let real = std::mem::replace(&mut log.core.lock().active.file, full);
    let refused = log.append(Made::values(2).of(1, 0, 3).bytes(), NOW_MS).unwrap_err();
    assert_eq!(refused.error, ResponseError::KafkaStorageError);
    assert_eq!(log.bounds().log_end, 3);
    log.core.lock().active.file = real;
    let appended = log.append(Made::values(2).of(1, 0, 3).bytes(), NOW_MS).unwrap();
    assert_eq!((appended.base_offset, appended.duplicate), (3, false));
    drop(log);
    assert_eq!(
        read_all(&open(folder.path(), &LogConfig::default()), Isolation::ReadUncommitted, 100).len(),
        5
    );
}

#[test]
fn a_damaged_batch_is_never_served() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &LogConfig::default());
    for _ in 0..3 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    let path = files::named(folder.path(), 0, "log");
    let mut bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() / 3;
    bytes[size + 65] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    // Up to it all is served, from it on nothing.
    assert_eq!(log.read(0, 1 << 20, true, Isolation::ReadUncommitted).unwrap().records.len(), size);
    let refused = log.read(1, 1 << 20, true, Isolation::ReadUncommitted).unwrap_err();
    assert_eq!(refused.error, ResponseError::CorruptMessage);
    assert_eq!(log.read(2, 1 << 20, true, Isolation::ReadUncommitted).unwrap().records.len(), size);
}

#[test]
fn damage_in_the_middle_takes_what_follows_and_missing_indexes_are_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1024, ..LogConfig::default() };
    let log = open(folder.path(), &config);
    for _ in 0..60 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    log.close().unwrap();
    let bases = recovery::bases(folder.path()).unwrap();
    for base in &bases {
        files::remove(&files::named(folder.path(), *base, "index")).unwrap();
        std::fs::write(files::named(folder.path(), *base, "timeindex"), b"bad").unwrap();
    }
    assert_eq!(read_all(&open(folder.path(), &config), Isolation::ReadUncommitted, 100).len(), 60);
    // Without the checkpoint all is scanned, and damage is found.
    files::remove(&folder.path().join("checkpoint")).unwrap();
    let path = files::named(folder.path(), bases[1], "log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[30] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let log = open(folder.path(), &config);
    assert_eq!(log.bounds().log_end, bases[1]);
    assert_eq!(log.append(Made::values(1).bytes(), NOW_MS).unwrap().base_offset, bases[1]);
    assert_eq!(recovery::bases(folder.path()).unwrap(), bases[..2]);
}

#[tokio::test]
async fn always_shows_only_what_the_disk_has() {
    let folder = tempfile::tempdir().unwrap();
    let syncer = syncer(Fsync::Always);
    let log = PartitionLog::open(folder.path().to_owned(), LogConfig::default(), Arc::clone(&syncer), NOW_MS)
        .unwrap();
    let mut changes = log.changes();
    let appended = log.append(Made::values(3).of(1, 0, 0).bytes(), NOW_MS).unwrap();
    appended.durable.wait().await.unwrap();
    changes.wait_for(|bounds| bounds.high_watermark == 3).await.unwrap();
    let again = log.append(Made::values(3).of(1, 0, 0).bytes(), NOW_MS).unwrap();
    assert!(again.duplicate);
    again.durable.wait().await.unwrap();
    drop(log);
    // After a restart a duplicate from before does not wait for ever.
    let log = PartitionLog::open(folder.path().to_owned(), LogConfig::default(), Arc::clone(&syncer), NOW_MS)
        .unwrap();
    assert_eq!(log.bounds().high_watermark, 3);
    log.append(Made::values(3).of(1, 0, 0).bytes(), NOW_MS).unwrap().durable.wait().await.unwrap();
    log.close().unwrap();
    syncer.stop();
}

#[tokio::test]
async fn an_interval_acknowledges_at_once_and_shows_only_what_the_disk_has() {
    static DISK: Mutex<()> = Mutex::new(());
    let force = |file: &File| {
        drop(DISK.lock().unwrap());
        file.sync_all()
    };
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig::default();
    let syncer = Syncer::start_with(Fsync::Within(std::time::Duration::from_millis(1)), force).unwrap();
    let open = || PartitionLog::open(folder.path().to_owned(), config.clone(), Arc::clone(&syncer), NOW_MS);
    let log = open().unwrap();
    let mut changes = log.changes();
    let busy = DISK.lock().unwrap();
    for epoch in 0..2 {
        let appended = log.append(Made::values(3).of(1, epoch, 0).bytes(), NOW_MS).unwrap();
        assert!(appended.durable.is_now());
    }
    assert_eq!((log.bounds().high_watermark, log.bounds().log_end), (0, 6));
    assert!(log.read(0, 1 << 20, true, Isolation::ReadUncommitted).unwrap().records.is_empty());
    drop(busy);
    changes.wait_for(|bounds| bounds.high_watermark == 6).await.unwrap();
    assert_eq!(read_all(&log, Isolation::ReadUncommitted, 1 << 20).len(), 6);
    syncer.stop();
}

#[test]
fn what_a_killed_process_left_is_on_the_disk_before_it_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path(), &LogConfig::default());
    log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    drop(log);
    for fsync in [Fsync::Always, Fsync::Within(std::time::Duration::from_secs(60))] {
        let syncer = Syncer::start_with(fsync, |_| Err(io::Error::other("no disk"))).unwrap();
        let log = PartitionLog::open(folder.path().to_owned(), LogConfig::default(), syncer, NOW_MS);
        assert!(log.is_err(), "{fsync}");
    }
}

#[tokio::test]
async fn a_disk_that_fails_to_sync_ends_all_writing() {
    let folder = tempfile::tempdir().unwrap();
    let syncer = Syncer::start_with(Fsync::Always, |_| Err(io::Error::other("no disk"))).unwrap();
    let log = PartitionLog::open(folder.path().to_owned(), LogConfig::default(), Arc::clone(&syncer), NOW_MS)
        .unwrap();
    // The disk may have failed before the append ends.
    match log.append(Made::values(1).bytes(), NOW_MS) {
        Ok(appended) => assert!(appended.durable.wait().await.is_err()),
        Err(refused) => assert_eq!(refused.error, ResponseError::KafkaStorageError),
    }
    assert_eq!(
        log.append(Made::values(1).bytes(), NOW_MS).unwrap_err().error,
        ResponseError::KafkaStorageError
    );
    assert_eq!(log.bounds().high_watermark, 0);
    syncer.stop();
}

#[test]
fn old_and_superfluous_segments_go() {
    let folder = tempfile::tempdir().unwrap();
    let config =
        LogConfig { segment_bytes: 1024, retention_ms: Some(2000), segment_ms: 1000, ..LogConfig::default() };
    let log = open(folder.path(), &config);
    for _ in 0..60 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    log.maintain(NOW_MS + 1500).unwrap();
    assert_eq!(log.bounds().log_start, 0);
    log.maintain(NOW_MS + 2500).unwrap();
    assert_eq!((log.bounds().log_start, log.bounds().log_end, log.size_bytes()), (60, 60, 0));
    let saved = checkpoint::Checkpoint::load(folder.path()).unwrap();
    assert_eq!((saved.base, saved.offset), (60, 60));
    log.reconfigure(LogConfig { retention_ms: None, retention_bytes: Some(2000), ..config.clone() });
    for _ in 0..60 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    log.maintain(NOW_MS).unwrap();
    let (start, size) = (log.bounds().log_start, log.size_bytes());
    assert!(start > 60 && (2000..3100).contains(&size), "{start} {size}");
    drop(log);
    assert_eq!(open(folder.path(), &config).bounds().log_start, start);
}

#[test]
fn a_full_disk_comes_free() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1024, retention_bytes: Some(2000), ..LogConfig::default() };
    let log = open(folder.path(), &config);
    for _ in 0..60 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    // No small file can be written.
    let in_the_way = ["offsets.tmp", "checkpoint.tmp"].map(|name| folder.path().join(name));
    in_the_way.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    assert!(log.maintain(NOW_MS).is_err());
    let (start, size) = (log.bounds().log_start, log.size_bytes());
    assert!(start > 0 && size < 3100, "{start} {size}");
    assert_eq!(recovery::bases(folder.path()).unwrap()[0], start);
    in_the_way.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    let seen = read_all(&log, Isolation::ReadUncommitted, 100);
    assert_eq!(read_all(&open(folder.path(), &config), Isolation::ReadUncommitted, 100), seen);
    log.maintain(NOW_MS).unwrap();
    assert_eq!(checkpoint::Checkpoint::load(folder.path()).unwrap().offset, 60);
}

#[test]
fn files_that_could_not_be_removed_are_removed_later() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 1024, retention_bytes: Some(2000), ..LogConfig::default() };
    let log = open(folder.path(), &config);
    for _ in 0..60 {
        log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    }
    let in_the_way = files::named(folder.path(), 0, "txnindex");
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(log.maintain(NOW_MS).is_err());
    let start = log.bounds().log_start;
    assert!(recovery::bases(folder.path()).unwrap()[0] < start);
    std::fs::remove_dir(&in_the_way).unwrap();
    log.maintain(NOW_MS).unwrap();
    assert_eq!((recovery::bases(folder.path()).unwrap()[0], log.bounds().log_start), (start, start));
}

#[test]
fn a_segment_begins_though_an_index_can_not_be_written_and_not_while_maintenance_writes() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { segment_bytes: 100, ..LogConfig::default() };
    let log = open(folder.path(), &config);
    let append = || log.append(Made::values(1).bytes(), NOW_MS).unwrap();
    let under_way = log.core.maintenance.lock().unwrap();
    (0..20).for_each(|_| drop(append()));
    assert!(!files::named(folder.path(), 2, "index").exists());
    drop(under_way);
    let sealed = log.core.lock().unsaved.len();
    let next = files::named(folder.path(), (sealed - 8) as i64, "index");
    std::fs::create_dir(&next).unwrap();
    std::fs::create_dir(next.join("full")).unwrap();
    assert_eq!(append().base_offset, 20);
    append();
    assert!(files::named(folder.path(), (sealed - 7) as i64, "index").exists());
}

#[test]
fn log_append_time_and_keys_are_as_the_topic_says() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { log_append_time: true, compact: true, ..LogConfig::default() };
    let log = open(folder.path(), &config);
    let error = |made: Made| log.append(made.bytes(), NOW_MS + 5).unwrap_err().error;
    for codec in 0..5 {
        assert_eq!(
            error(Made { attributes: codec, ..Made::values(2) }),
            ResponseError::InvalidRecord,
            "no key"
        );
    }
    let keyed = Made { records: vec![(Some(vec![1]), None)], ..Made::default() };
    assert_eq!(log.append(keyed.bytes(), NOW_MS + 5).unwrap().log_append_time, Some(NOW_MS + 5));
    assert_eq!(log.offset_for(NOW_MS + 5).unwrap(), Some((0, NOW_MS + 5)));
    log.reconfigure(LogConfig::default());
    let late = Made { timestamp: NOW_MS + 3_600_010, ..Made::values(1) };
    assert_eq!(error(late), ResponseError::InvalidTimestamp);
}
