//! The end of the journal is lost while the logs, which are forced before it, have what it spoke of.

use super::*;
use crate::{Fsync, log::Isolation};
use transaction::Producer;

const FOR_EVER: i32 = 600_000;

async fn aborted(site: &Site) -> Vec<(i64, i64)> {
    site.until(|| site.bounds().last_stable == FILLED + 2).await;
    let all = site.log().read(0, 1 << 20, true, Isolation::ReadCommitted).unwrap();
    all.aborted
}

#[tokio::test]
async fn producer_ids_that_a_log_knows_are_not_given_out_again() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, FOR_EVER).await;
    site.produce(&coordinator, producer);
    drop(coordinator);
    std::fs::remove_file(site.journal()).unwrap();

    let coordinator = site.open();
    let next = site.ready(&coordinator, FOR_EVER).await;
    assert!(next.id > producer.id, "{next:?}");
    assert_eq!(aborted(&site).await, [(producer.id, FILLED)], "nobody could have ended it any more");
}

#[tokio::test]
async fn an_id_that_a_client_made_up_does_not_use_up_all_others() {
    let site = Site::new();
    let made_up = Producer { id: i64::MAX, epoch: 0 };
    site.log().append(site::batch(made_up), clock::now_ms()).unwrap();
    let coordinator = site.open();
    assert_eq!(site.ready(&coordinator, FOR_EVER).await, Producer { id: 0, epoch: 0 });
}

#[tokio::test]
async fn records_of_a_lost_transaction_are_aborted_and_not_committed_with_the_next() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.ready(&coordinator, FOR_EVER).await;
    let journal = std::fs::read(site.journal()).unwrap();
    site.add(&coordinator, producer).await;
    site.produce(&coordinator, producer);
    drop(coordinator);
    std::fs::write(site.journal(), journal).unwrap();

    let coordinator = site.open();
    assert_eq!(aborted(&site).await, [(producer.id, FILLED)]);
    let next = site.ready(&coordinator, FOR_EVER).await;
    assert_eq!((next.id, next.epoch), (producer.id, producer.epoch + 2));
}

#[tokio::test]
async fn who_is_in_a_lost_transaction_is_not_told_that_it_was_committed() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, FOR_EVER).await;
    assert_eq!(site.end(&coordinator, producer, true).await, 0);
    let journal = std::fs::read(site.journal()).unwrap();
    site.add(&coordinator, producer).await;
    site.produce(&coordinator, producer);
    drop(coordinator);
    std::fs::write(site.journal(), journal).unwrap();

    let coordinator = site.open();
    assert_eq!(aborted(&site).await, [(producer.id, FILLED)]);
    let fenced = ResponseError::ProducerFenced.code();
    assert_eq!(site.end(&coordinator, producer, true).await, fenced);
}

#[tokio::test]
async fn what_must_not_be_taken_back_is_on_the_disk_before_it_is_told() {
    let site = Site::with(Fsync::Within(Duration::from_secs(60)));
    let coordinator = site.open();
    let mut ready = Box::pin(site.ready(&coordinator, FOR_EVER));
    assert!(is_waiting(&mut ready).await, "a producer id");
    site.syncer.stop();
    let producer = ready.await;
    assert_eq!(site.commit(&coordinator, "g", ("", -1), 1).await, 0, "an offset is told before");
    assert!(is_waiting(site.add(&coordinator, producer)).await, "the end of the transaction before");
}

async fn is_waiting(future: impl Future) -> bool {
    tokio::time::timeout(Duration::ZERO, future).await.is_err()
}
