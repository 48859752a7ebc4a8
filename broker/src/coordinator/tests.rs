//! The whole coordinator, with topics and a journal in a folder.

mod encoding;
mod power_loss;
mod site;

use super::*;
use kafka_protocol::messages::*;
use site::{FILLED, Site};
use std::time::Duration;

#[tokio::test]
async fn a_group_and_its_offsets_go_on_after_a_restart() {
    let site = Site::new();
    let coordinator = site.open();
    let (member, generation) = site.join(&coordinator, "g").await;
    assert_eq!(site.commit(&coordinator, "g", (&member, generation), 7).await, 0);
    assert_eq!(site.committed(&coordinator, "g", true).await, (7, 0));
    coordinator.close().await.unwrap();
    drop(coordinator);

    let coordinator = site.open();
    assert_eq!(site.committed(&coordinator, "g", true).await, (7, 0));
    let heartbeat = HeartbeatRequest::default().with_group_id(site::name("g").into());
    let heartbeat = heartbeat.with_member_id(site::name(&member)).with_generation_id(generation);
    assert_eq!(coordinator.heartbeat(4, heartbeat).await.error_code, 0);
    assert_eq!(site.commit(&coordinator, "g", (&member, generation), 8).await, 0);
    let other = ResponseError::UnknownMemberId.code();
    assert_eq!(site.commit(&coordinator, "g", ("other", generation), 9).await, other);
    assert_eq!(site.committed(&coordinator, "g", true).await, (8, 0));
}

#[tokio::test]
async fn a_transaction_commits_records_and_offsets() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, 60_000).await;
    let before = site.produce(&coordinator, producer);
    assert_eq!((before.last_stable, before.log_end), (FILLED, FILLED + 1));
    assert_eq!(site.hold(&coordinator, producer, 5).await, 0);
    let unstable = ResponseError::UnstableOffsetCommit.code();
    assert_eq!(site.committed(&coordinator, "g", true).await, (-1, unstable));
    assert_eq!(site.committed(&coordinator, "g", false).await, (-1, 0));
    assert_eq!(site.end(&coordinator, producer, true).await, 0);
    assert_eq!(site.committed(&coordinator, "g", true).await, (5, 0));
    assert_eq!((site.bounds().last_stable, site.bounds().log_end), (FILLED + 2, FILLED + 2));
    assert_eq!(site.end(&coordinator, producer, true).await, 0, "again");
    let refused = coordinator.verify_transactional("t", producer.id, producer.epoch, "topic", 0).err();
    assert_eq!(refused, Some(ResponseError::InvalidTxnState));
}

#[tokio::test]
async fn a_decided_transaction_is_finished_at_open() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, 60_000).await;
    site.produce(&coordinator, producer);
    site.hold(&coordinator, producer, 5).await;
    {
        // The decision is in the journal; then the process dies.
        let now_ms = coordinator.shared.now_ms();
        let state = &mut *coordinator.shared.state();
        let turn = &mut event::Turn { store: &mut state.ledger, now_ms };
        state.transactions.end(turn, "t", producer, crate::log::Outcome::Commit).unwrap();
    }
    drop(coordinator);
    assert_eq!(site.bounds().last_stable, FILLED);

    let coordinator = site.open();
    site.until(|| site.bounds().last_stable == FILLED + 2).await;
    assert_eq!(site.committed(&coordinator, "g", true).await, (5, 0));
    assert_eq!(site.end(&coordinator, producer, true).await, 0, "the client asks again");
}

#[tokio::test]
async fn an_open_transaction_times_out_after_a_restart() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, 300).await;
    site.produce(&coordinator, producer);
    site.hold(&coordinator, producer, 5).await;
    drop(coordinator);

    let coordinator = site.open();
    let unstable = ResponseError::UnstableOffsetCommit.code();
    assert_eq!(site.committed(&coordinator, "g", true).await, (-1, unstable));
    site.until(|| site.bounds().last_stable == FILLED + 2).await;
    assert_eq!(site.committed(&coordinator, "g", true).await, (-1, 0));
    let fenced = ResponseError::ProducerFenced.code();
    assert_eq!(site.end(&coordinator, producer, true).await, fenced);
}

#[tokio::test]
async fn a_client_that_goes_while_its_transaction_ends_leaves_nothing_open() {
    let site = Site::new();
    let coordinator = site.open();
    let producer = site.begin(&coordinator, 60_000).await;
    site.produce(&coordinator, producer);
    let gone = tokio::time::timeout(Duration::ZERO, site.end(&coordinator, producer, false)).await;
    site.until(|| site.bounds().last_stable == FILLED + 2).await;
    drop(gone);
}

#[tokio::test]
async fn a_new_instance_aborts_what_the_old_one_left_open() {
    let site = Site::new();
    let coordinator = site.open();
    let old = site.begin(&coordinator, 60_000).await;
    site.produce(&coordinator, old);
    let concurrent = ResponseError::ConcurrentTransactions.code();
    let initialize = || coordinator.init_producer_id(4, site::initialize("t", 60_000));
    assert_eq!(initialize().await.error_code, concurrent);
    site.until(|| site.bounds().last_stable == FILLED + 2).await;
    let mut again = initialize().await;
    while again.error_code == concurrent {
        tokio::task::yield_now().await;
        again = initialize().await;
    }
    assert_eq!((again.error_code, again.producer_epoch), (0, old.epoch + 2));
}

#[tokio::test]
async fn offsets_past_the_end_of_a_log_are_cut_back() {
    let site = Site::new();
    let coordinator = site.open();
    assert_eq!(site.commit(&coordinator, "g", ("", -1), 1_000).await, 0);
    drop(coordinator);
    for _ in 0..2 {
        let coordinator = site.open();
        assert_eq!(site.committed(&coordinator, "g", true).await, (FILLED, 0));
    }
}

#[tokio::test]
async fn a_deleted_topic_takes_its_offsets_along() {
    let site = Site::new();
    let coordinator = site.open();
    assert_eq!(site.commit(&coordinator, "g", ("", -1), 0).await, 0);
    site.topics.delete("topic").unwrap();
    // The process dies before the coordinator hears of it.
    drop(coordinator);
    let coordinator = site.open();
    assert_eq!(site.committed(&coordinator, "g", true).await, (-1, 0));
    let unknown = ResponseError::UnknownTopicOrPartition.code();
    assert_eq!(site.commit(&coordinator, "g", ("", -1), 0).await, unknown);
}

#[tokio::test]
async fn groups_are_deleted_when_nobody_is_in_them() {
    let site = Site::new();
    let coordinator = site.open();
    let (member, generation) = site.join(&coordinator, "g").await;
    site.commit(&coordinator, "g", (&member, generation), 0).await;
    let delete = || async {
        let names = vec![site::name("g").into(), site::name("unknown").into()];
        let deleted =
            coordinator.delete_groups(2, DeleteGroupsRequest::default().with_groups_names(names)).await;
        deleted.results.iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    let (full, unknown) = (ResponseError::NonEmptyGroup.code(), ResponseError::GroupIdNotFound.code());
    assert_eq!(delete().await, [full, unknown]);
    let leave = LeaveGroupRequest::default().with_group_id(site::name("g").into());
    assert_eq!(coordinator.leave_group(2, leave.with_member_id(site::name(&member))).await.error_code, 0);
    assert_eq!(delete().await, [0, unknown]);
    assert_eq!(site.committed(&coordinator, "g", true).await, (-1, 0));
}

#[tokio::test]
async fn a_panic_with_the_state_in_hand_ends_it() {
    let site = Site::new();
    let coordinator = site.open();
    let shared = Arc::clone(&coordinator.shared);
    let panics = move || {
        let _state = shared.state();
        panic!("as asked")
    };
    assert!(std::thread::spawn(panics).join().is_err());
    let shared = Arc::clone(&coordinator.shared);
    assert!(std::thread::spawn(move || drop(shared.state())).join().is_err(), "it is not used any more");
    assert!(coordinator.failed().await.contains("panicked"));
    coordinator.close().await.unwrap();
}

#[tokio::test]
async fn closing_answers_who_waits() {
    let site = Site::new();
    let coordinator = site.open();
    let waiting = Arc::clone(&coordinator);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let client = Client { id: "c".into(), host: "/h".into() };
        waiting.join_group(&client, 3, site::join_request("g", "")).await.error_code
    });
    site.until(|| !coordinator.shared.state().groups.is_empty()).await;
    coordinator.close().await.unwrap();
    assert_eq!(tasks.join_next().await.unwrap().unwrap(), ResponseError::NotCoordinator.code());
}
