//! Consumer groups: committed offsets, and what an administrator does with groups.

use crate::harness::{Backend, PATIENCE, drain, list, offset_of, on_each_backend, text, topic_name, until};
use anyhow::{Context as _, Result, ensure};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetDeleteRequest,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
};
use rdkafka::{
    Message as _, Offset,
    consumer::{CommitMode, Consumer as _},
    error::RDKafkaErrorCode,
};
use std::{collections::BTreeSet, time::Duration};

on_each_backend!(resumes, metadata_of_commits, administered, offsets_set_and_deleted);

const REQUEST: Duration = Duration::from_secs(30);

fn resumes(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(2)?, backend.unique("g"));
    backend.produce(&topic, 200)?;
    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        let consumer = backend.consumer(&group, &[])?;
        consumer.subscribe(&[&topic])?;
        for message in drain(&consumer, 100)? {
            ensure!(seen.insert((message.partition(), message.offset())), "twice: {message:?}");
        }
        consumer.commit_consumer_state(CommitMode::Sync)?;
    }
    let consumer = backend.consumer(&group, &[])?;
    let committed =
        consumer.committed_offsets(list(&topic, &[(0, Offset::Invalid), (1, Offset::Invalid)])?, REQUEST)?;
    let sum: i64 = [0, 1].iter().filter_map(|partition| offset_of(&committed, &topic, *partition)).sum();
    ensure!(sum == 200 && seen.len() == 200, "{sum} committed, {} seen", seen.len());
    Ok(())
}

fn metadata_of_commits(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(1)?, backend.unique("g"));
    let consumer = backend.consumer(&group, &[])?;
    let asked = || list(&topic, &[(0, Offset::Invalid)]);
    let before = consumer.committed_offsets(asked()?, REQUEST)?;
    ensure!(offset_of(&before, &topic, 0).is_none(), "{before:?}");
    let commit = list(&topic, &[(0, Offset::Offset(3))])?;
    commit.find_partition(&topic, 0).context("it is in the list")?.set_metadata("meta-π");
    consumer.commit(&commit, CommitMode::Sync)?;
    let after = consumer.committed_offsets(asked()?, REQUEST)?;
    ensure!(offset_of(&after, &topic, 0) == Some(3), "{after:?}");
    ensure!(after.find_partition(&topic, 0).context("the partition")?.metadata() == "meta-π");
    Ok(())
}

fn administered(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(1)?, backend.unique("g"));
    backend.produce(&topic, 10)?;
    let consumer = backend.consumer(&group, &[("client.id", "the-client")])?;
    consumer.subscribe(&[&topic])?;
    drain(&consumer, 10)?;
    consumer.commit_consumer_state(CommitMode::Sync)?;
    let listed = consumer.fetch_group_list(None, REQUEST)?;
    ensure!(listed.groups().iter().any(|found| found.name() == group), "not listed");
    let described = consumer.fetch_group_list(Some(&group), REQUEST)?;
    let found = described.groups().first().context("not described")?;
    ensure!(found.state() == "Stable" && found.protocol_type() == "consumer", "{found:?}");
    let member = found.members().first().context("no member")?;
    ensure!(member.client_id() == "the-client" && member.client_host().contains("127.0.0.1"), "{found:?}");
    ensure!(delete(backend, &group)? == Some(RDKafkaErrorCode::NonEmptyGroup));
    drop(consumer);
    until("the group can be deleted", PATIENCE, || {
        let result = delete(backend, &group)?;
        ensure!(result.is_none(), "{result:?}");
        Ok(())
    })?;
    ensure!(delete(backend, &group)? == Some(RDKafkaErrorCode::GroupIdNotFound));
    let consumer = backend.consumer(&group, &[])?;
    let committed = consumer.committed_offsets(list(&topic, &[(0, Offset::Invalid)])?, REQUEST)?;
    ensure!(offset_of(&committed, &topic, 0).is_none(), "{committed:?}");
    Ok(())
}

fn delete(backend: &Backend, group: &str) -> Result<Option<RDKafkaErrorCode>> {
    let results = backend.block_on(backend.admin()?.delete_groups(&[group], &backend.options()))?;
    let result = results.into_iter().next().context("no answer")?;
    Ok(result.err().map(|(_, code)| code))
}

/// As an administrator sets a group back, and forgets a topic.
fn offsets_set_and_deleted(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(1)?, backend.unique("g"));
    backend.produce(&topic, 10)?;
    let mut wire = backend.coordinated()?;
    let partition = OffsetCommitRequestPartition::default().with_partition_index(0).with_committed_offset(4);
    let set = OffsetCommitRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(&topic))
                .with_partitions(vec![partition]),
        ]);
    let answer = wire.ask(8, &set)?;
    ensure!(answer.topics[0].partitions[0].error_code == 0, "{answer:?}");
    let consumer = backend.consumer(&group, &[])?;
    consumer.subscribe(&[&topic])?;
    ensure!(drain(&consumer, 6)?.iter().map(|message| message.offset()).eq(4..10));
    drop(consumer);

    let topic_partition = OffsetDeleteRequestTopic::default()
        .with_name(topic_name(&topic))
        .with_partitions(vec![OffsetDeleteRequestPartition::default().with_partition_index(0)]);
    let forget = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_topics(vec![topic_partition]);
    until("the offset is deleted", PATIENCE, || {
        let answer = wire.ask(0, &forget)?;
        let code = answer.topics.first().and_then(|topic| topic.partitions.first());
        ensure!(answer.error_code == 0 && code.is_some_and(|code| code.error_code == 0), "{answer:?}");
        Ok(())
    })?;
    let consumer = backend.consumer(&group, &[])?;
    let committed = consumer.committed_offsets(list(&topic, &[(0, Offset::Invalid)])?, REQUEST)?;
    ensure!(offset_of(&committed, &topic, 0).is_none(), "{committed:?}");
    Ok(())
}
