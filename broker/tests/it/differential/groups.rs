//! Requests about groups that no member needs to wait for.

use super::{Names, Operation, members, members::Claim};
use crate::harness::{Random, text, topic_name};
use anyhow::Result;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, GroupId, HeartbeatRequest, LeaveGroupRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
    leave_group_request::MemberIdentity,
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
};

pub fn choose(random: &mut Random, names: &Names) -> Operation {
    let group = random.pick(&names.groups).clone();
    match random.below(16) {
        0..=3 => members::choose(random, group),
        4..=5 => heartbeat(random, group),
        6 => leave(random, group),
        7..=9 => commit(random, names, group),
        10..=11 => fetch(random, names, group),
        12 => describe(random, group),
        13 => list(random, names),
        14 => forget(random, names, group),
        _ => delete(random, group),
    }
}

fn heartbeat(random: &mut Random, group: String) -> Operation {
    let (claim, version) = (Claim::choose(random), i16::try_from(random.between(0, 4)).expect("small"));
    Operation::new(format!("heartbeat {group} {claim:?} v{version}"), move |side| {
        let (member, generation) = claim.of(side, &group);
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(member)
            .with_generation_id(generation);
        side.tell(version, &request)
    })
}

fn leave(random: &mut Random, group: String) -> Operation {
    let (claim, version) = (Claim::choose(random), i16::try_from(random.between(0, 5)).expect("small"));
    Operation::new(format!("leave {group} {claim:?} v{version}"), move |side| {
        let (member, _) = claim.of(side, &group);
        let request = LeaveGroupRequest::default().with_group_id(GroupId(text(&group)));
        let request = match version {
            0..=2 => request.with_member_id(member),
            _ => request.with_members(vec![MemberIdentity::default().with_member_id(member)]),
        };
        let answer = side.tell(version, &request)?;
        if !claim.wrong() {
            side.members.remove(&(group.clone(), claim.number));
        }
        Ok(answer)
    })
}

/// As a member, or as an administrator with no member at all.
fn commit(random: &mut Random, names: &Names, group: String) -> Operation {
    let claim = random.one_in(2).then(|| Claim::choose(random));
    let (topic, partition) = (random.pick(&names.topics).clone(), *random.pick(&[0, 0, 1, 9]));
    let (offset, version) = (random.between(-1, 50), i16::try_from(random.between(2, 8)).expect("small"));
    // Without a member it would make a group in Kafka, though nothing is stored.
    let large = claim.is_some() && random.one_in(5);
    let words = format!("commit {group} {topic}/{partition} {offset} {claim:?} v{version} large {large}");
    Operation::new(words, move |side| {
        let (member, generation) =
            claim.as_ref().map_or_else(|| (text(""), -1), |claim| claim.of(side, &group));
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset)
            .with_committed_metadata(Some(text(&"m".repeat(if large { 5000 } else { 3 }))));
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(member)
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topic]);
        side.tell(version, &request)
    })
}

fn fetch(random: &mut Random, names: &Names, group: String) -> Operation {
    let version = i16::try_from(random.between(1, 8)).expect("small");
    let topics = (version < 2 || random.one_in(2)).then(|| random.pick(&names.topics).clone());
    Operation::new(format!("offsets of {group} {topics:?} v{version}"), move |side| {
        let mut request = OffsetFetchRequest::default();
        let partitions = vec![0, 1, 9];
        if version < 8 {
            let topic = |name| {
                OffsetFetchRequestTopic::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions.clone())
            };
            request = request
                .with_group_id(GroupId(text(&group)))
                .with_topics(topics.as_ref().map(|name| vec![topic(name)]));
        } else {
            let topic = |name| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic_name(name))
                    .with_partition_indexes(partitions.clone())
            };
            request.groups = vec![
                OffsetFetchRequestGroup::default()
                    .with_group_id(GroupId(text(&group)))
                    .with_topics(topics.as_ref().map(|name| vec![topic(name)])),
            ];
        }
        let mut answer = side.ask(version, &request)?;
        answer.topics.sort_by(|one, other| one.name.cmp(&other.name));
        answer
            .topics
            .iter_mut()
            .for_each(|topic| topic.partitions.sort_by_key(|found| found.partition_index));
        for group in &mut answer.groups {
            group.topics.sort_by(|one, other| one.name.cmp(&other.name));
            group
                .topics
                .iter_mut()
                .for_each(|topic| topic.partitions.sort_by_key(|found| found.partition_index));
        }
        Ok(side.normal(&answer))
    })
}

fn describe(random: &mut Random, group: String) -> Operation {
    let version = i16::try_from(random.between(0, 5)).expect("small");
    Operation::new(format!("describe {group} v{version}"), move |side| {
        let request = DescribeGroupsRequest::default().with_groups(vec![GroupId(text(&group))]);
        let mut answer = side.ask(version, &request)?;
        for group in &mut answer.groups {
            group
                .members
                .sort_by_key(|member| (member.member_metadata.clone(), member.member_assignment.clone()));
        }
        Ok(side.normal(&answer))
    })
}

/// Only those of this round: Kafka has those of others too.
fn list(random: &mut Random, names: &Names) -> Operation {
    let version = i16::try_from(random.between(0, 5)).expect("small");
    let filter =
        (version >= 4 && random.one_in(2)).then(|| *random.pick(&["Stable", "Empty", "Dead", "Nonsense"]));
    let ours = names.groups.clone();
    Operation::new(format!("list groups {filter:?} v{version}"), move |side| {
        let request = ListGroupsRequest::default().with_states_filter(filter.into_iter().map(text).collect());
        let mut answer = side.ask(version, &request)?;
        answer.groups.retain(|group| ours.iter().any(|name| *name == *group.group_id.0));
        answer.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        Ok(side.normal(&answer))
    })
}

fn forget(random: &mut Random, names: &Names, group: String) -> Operation {
    let (topic, partition) = (random.pick(&names.topics).clone(), *random.pick(&[0, 1, 9]));
    Operation::new(format!("forget offsets of {group} {topic}/{partition}"), move |side| {
        let partition = OffsetDeleteRequestPartition::default().with_partition_index(partition);
        let topic = OffsetDeleteRequestTopic::default()
            .with_name(topic_name(&topic))
            .with_partitions(vec![partition]);
        let request =
            OffsetDeleteRequest::default().with_group_id(GroupId(text(&group))).with_topics(vec![topic]);
        side.tell(0, &request)
    })
}

fn delete(random: &mut Random, group: String) -> Operation {
    let version = i16::try_from(random.between(0, 2)).expect("small");
    Operation::new(format!("delete {group} v{version}"), move |side| -> Result<String> {
        let request = DeleteGroupsRequest::default().with_groups_names(vec![GroupId(text(&group))]);
        side.tell(version, &request)
    })
}
