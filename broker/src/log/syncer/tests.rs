//! Tests of group commit and of failing disks.

use super::*;
use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

fn file() -> Arc<File> {
    Arc::new(tempfile::tempfile().unwrap())
}

#[tokio::test]
async fn always_resolves_when_the_disk_has_it() {
    let syncer = Syncer::start(Fsync::Always).unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&seen);
    let target = syncer.target(Box::new(move |mark| told.store(mark, Ordering::SeqCst)));
    let file = file();
    let waits: Vec<Durable> = (1..=100).map(|mark| target.wrote(&file, mark)).collect();
    for wait in waits {
        wait.wait().await.unwrap();
    }
    assert_eq!(target.reached(100).wait().await, Ok(()));
    syncer.stop();
    assert_eq!(seen.load(Ordering::SeqCst), 100);
}

#[tokio::test]
async fn an_idle_syncer_begins_at_once_an_interval_groups_and_stopping_syncs_what_is_left() {
    static FORCED: AtomicUsize = AtomicUsize::new(0);
    let count = |_: &File| {
        FORCED.fetch_add(1, Ordering::SeqCst);
        Ok(())
    };
    let syncer = Syncer::start_with(Fsync::Within(Duration::from_secs(60)), count).unwrap();
    let synced = watch::Sender::new(0);
    let (told, mut first) = (synced.clone(), synced.subscribe());
    let (target, file) = (
        syncer.target(Box::new(move |mark| {
            told.send_replace(mark);
        })),
        file(),
    );
    target.wrote(&file, 1).wait().await.unwrap();
    let at_once = tokio::time::timeout(Duration::from_secs(10), first.wait_for(|mark| *mark == 1));
    at_once.await.expect("long before the interval ends").unwrap();
    for mark in 2..1000 {
        target.wrote(&file, mark).wait().await.unwrap();
    }
    assert_eq!(FORCED.load(Ordering::SeqCst), 1);
    syncer.stop();
    assert_eq!((FORCED.load(Ordering::SeqCst), *synced.borrow()), (2, 999));
}

#[tokio::test]
async fn a_failed_sync_is_final_and_told_to_all() {
    let fail = |_: &File| Err(io::Error::other("no disk"));
    let syncer = Syncer::start_with(Fsync::Always, fail).unwrap();
    let (target, file) = (syncer.target(Box::new(|_| panic!("nothing was synced"))), file());
    let (first, second) = (target.wrote(&file, 1), target.wrote(&file, 2));
    assert_eq!(first.wait().await.unwrap_err().error, ResponseError::KafkaStorageError);
    assert!(second.wait().await.is_err());
    assert_eq!((syncer.failed().await, syncer.is_failed()), ("no disk".to_owned(), true));
    assert!(target.wrote(&file, 3).wait().await.is_err());
    syncer.stop();
}
