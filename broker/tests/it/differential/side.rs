//! One of the two brokers: connections to it, and what it has given out that the other gives otherwise.

use super::{Names, normal};
use crate::harness::{PATIENCE, Wire, text, topic_name, until};
use anyhow::{Context as _, Result, ensure};
use kafka_protocol::{
    messages::{
        DeleteGroupsRequest, DeleteTopicsRequest, FindCoordinatorRequest, GroupId, ListOffsetsRequest,
        MetadataRequest, OffsetFetchRequest,
        delete_topics_request::DeleteTopicState,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
        metadata_request::MetadataRequestTopic,
        offset_fetch_request::OffsetFetchRequestGroup,
    },
    protocol::{Request, StrBytes},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// A producer by its number among those of a round.
#[derive(Clone, Default)]
pub struct Producer {
    pub id: i64,
    pub epoch: i16,
    /// The sequence that each partition expects next.
    pub next: BTreeMap<(String, i32), i32>,
}

/// A member of a group by its number.
#[derive(Clone, Default)]
pub struct Member {
    pub id: StrBytes,
    pub generation: i32,
    pub leads: bool,
}

pub struct Side {
    bootstrap: String,
    wire: Wire,
    node: i32,
    pub producers: BTreeMap<usize, Producer>,
    /// By group and number.
    pub members: BTreeMap<(String, usize), Member>,
    /// Topics that were deleted, and may be there again.
    pub deleted: BTreeSet<String>,
    /// What stands for what in the answers of this side.
    pub words: BTreeMap<String, String>,
}

impl Side {
    pub fn new(bootstrap: &str) -> Result<Self> {
        let mut wire = Wire::connect(bootstrap)?;
        let metadata = wire.ask(1, &MetadataRequest::default().with_topics(Some(vec![])))?;
        let node = metadata.brokers.first().context("no broker")?.node_id.0;
        for kind in [0, 1] {
            let request = FindCoordinatorRequest::default()
                .with_key_type(kind)
                .with_coordinator_keys(vec![text("warm")]);
            until("the coordinators are ready", PATIENCE, || {
                let answer = wire.ask(4, &request)?;
                ensure!(answer.coordinators[0].error_code == 0, "{answer:?}");
                Ok(())
            })?;
        }
        Ok(Self {
            bootstrap: bootstrap.to_owned(),
            wire,
            node,
            producers: BTreeMap::new(),
            members: BTreeMap::new(),
            deleted: BTreeSet::new(),
            words: BTreeMap::new(),
        })
    }

    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        self.wire.ask(version, request)
    }

    /// A connection of its own, for what waits.
    pub fn connect(&self) -> Result<Wire> {
        Wire::connect(&self.bootstrap)
    }

    /// Sends it; the whole answer as text.
    pub fn tell<R: Request>(&mut self, version: i16, request: &R) -> Result<String>
    where
        R::Response: Debug,
    {
        let answer = self.ask(version, request)?;
        Ok(self.normal(&answer))
    }

    /// An answer as text, with the words of both sides.
    pub fn normal(&self, answer: &impl Debug) -> String {
        normal::text(&format!("{answer:?}"), self.node, &self.words)
    }

    /// The broker closed the connection: a new one, and what there is to tell.
    pub fn after_failure(&mut self, error: &anyhow::Error) -> String {
        match Wire::connect(&self.bootstrap) {
            Ok(wire) => self.wire = wire,
            Err(error) => return format!("gone: {error:#}"),
        }
        match error.chain().any(|cause| cause.is::<std::io::Error>()) {
            true => "closed".to_owned(),
            false => format!("failed: {error:#}"),
        }
    }

    pub fn producer(&mut self, number: usize) -> &mut Producer {
        let unknown = Producer { id: -1, epoch: -1, next: BTreeMap::new() };
        self.producers.entry(number).or_insert(unknown)
    }

    /// A producer's id is written with its number.
    pub fn learn_producer(&mut self, number: usize, id: i64, epoch: i16) {
        if id >= 0 {
            self.words.insert(format!("producer_id: {id},"), format!("producer_id: P{number},"));
            self.producers.insert(number, Producer { id, epoch, next: BTreeMap::new() });
        }
    }

    /// The topic as all requests find it: its id, or none where there is no such topic.
    pub fn topic_id(&mut self, topic: &str) -> Result<Option<uuid::Uuid>> {
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let answer = self.ask(12, &request)?;
        let found = answer.topics.first().context("the topic is not in the answer")?;
        Ok((found.error_code == 0).then_some(found.topic_id))
    }

    /// Waits until a topic that was made or deleted is seen so, and learns its id.
    pub fn settle(&mut self, topic: &str, partitions: Option<usize>) -> Result<()> {
        let asked = MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request =
            MetadataRequest::default().with_topics(Some(vec![asked])).with_allow_auto_topic_creation(false);
        let id = until("the topic is as wanted", PATIENCE, || {
            let answer = self.ask(12, &request)?;
            let found = answer.topics.first().context("the topic is not in the answer")?;
            let led = found.partitions.iter().filter(|partition| partition.leader_id.0 >= 0).count();
            let now = (found.error_code == 0).then_some(led);
            ensure!(now == partitions, "{now:?} and not {partitions:?}");
            Ok(found.topic_id)
        })?;
        if let Some(partitions) = partitions {
            self.led(topic, partitions)?;
            self.words.insert(id.to_string(), format!("id of {topic}"));
        }
        Ok(())
    }

    /// Waits until each partition is served: in Kafka the metadata is a little ahead.
    fn led(&mut self, topic: &str, partitions: usize) -> Result<()> {
        let wanted = |index| ListOffsetsPartition::default().with_partition_index(index).with_timestamp(-1);
        let wanted = (0..i32::try_from(partitions)?).map(wanted).collect();
        let wanted = ListOffsetsTopic::default().with_name(topic_name(topic)).with_partitions(wanted);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![wanted]);
        until("each partition is served", PATIENCE, || {
            let answer = self.ask(5, &request)?;
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            ensure!(partitions.all(|partition| partition.error_code == 0), "{answer:?}");
            Ok(())
        })
    }

    /// Waits until the groups have no offsets of a topic that was deleted: Kafka takes its time.
    pub fn forgotten(&mut self, topic: &str, groups: &[String]) -> Result<()> {
        let group = |name: &String| {
            OffsetFetchRequestGroup::default().with_group_id(GroupId(text(name))).with_topics(None)
        };
        let request = OffsetFetchRequest::default().with_groups(groups.iter().map(group).collect());
        until("the groups forget the topic", PATIENCE, || {
            let answer = self.ask(8, &request)?;
            let mut topics = answer.groups.iter().flat_map(|group| &group.topics);
            ensure!(topics.all(|found| found.name.as_str() != topic), "{answer:?}");
            Ok(())
        })
    }

    /// Removes what a round has made.
    pub fn clear(&mut self, names: &Names) -> Result<()> {
        let topic = |name: &String| DeleteTopicState::default().with_name(Some(topic_name(name)));
        let topics = names.topics.iter().map(topic).collect();
        self.ask(6, &DeleteTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000))?;
        let groups = names.groups.iter().map(|name| GroupId(text(name))).collect();
        self.ask(2, &DeleteGroupsRequest::default().with_groups_names(groups))?;
        Ok(())
    }
}
