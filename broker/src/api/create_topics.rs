//! CreateTopics.

use super::{Api, NODE, call::Call, configs, on_disk, text};
use crate::{clock, log::Refused, topics::Topics};
use kafka_protocol::{
    ResponseError,
    messages::{
        CreateTopicsRequest, CreateTopicsResponse,
        create_topics_request::{CreatableReplicaAssignment, CreatableTopic},
        create_topics_response::{CreatableTopicConfigs, CreatableTopicResult},
    },
};
use std::collections::{BTreeMap, BTreeSet};

pub async fn create(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let names: Vec<_> = request.topics.iter().map(|topic| topic.name.clone()).collect();
    let (mut once, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for name in &names {
        if !once.insert(name) {
            twice.insert(name);
        }
    }
    let results = request.topics.iter().filter(|topic| !twice.contains(&topic.name));
    let results =
        on_disk(|| results.map(|topic| create_one(&call.api, topic, request.validate_only)).collect());
    let refused = twice.into_iter().map(|name| {
        let why = "the request names this topic more than once";
        let result = CreatableTopicResult::default().with_name(name.clone());
        refuse(result, refused(ResponseError::InvalidRequest, why))
    });
    let results: Vec<_> = results;
    CreateTopicsResponse::default().with_topics(results.into_iter().chain(refused).collect())
}

fn refused(error: ResponseError, message: impl Into<String>) -> Refused {
    Refused { error, message: message.into() }
}

fn refuse(result: CreatableTopicResult, refused: Refused) -> CreatableTopicResult {
    result
        .with_error_code(refused.error.code())
        .with_error_message(Some(text(refused.message)))
        .with_num_partitions(-1)
        .with_replication_factor(-1)
}

fn create_one(api: &Api, asked: &CreatableTopic, validate_only: bool) -> CreatableTopicResult {
    let result = CreatableTopicResult::default().with_name(asked.name.clone());
    let config = asked.configs.iter().map(|config| match &config.value {
        Some(value) => Ok((config.name.to_string(), value.to_string())),
        None => Err(refused(ResponseError::InvalidConfig, format!("no value is given for {}", config.name))),
    });
    let created = config.collect::<Result<BTreeMap<_, _>, _>>().and_then(|config| {
        let make = |count, dry| api.topics.create(&asked.name, count, config, dry, clock::now_ms());
        match partitions(asked, api.partitions_default) {
            Ok(count) => make(count, validate_only).map(|topic| (count, topic)),
            // As in Kafka, what is wrong with the name or the settings is told first.
            Err(why) => make(1, true).and(Err(why)),
        }
    });
    match created {
        Err(why) => refuse(result, why),
        Ok((count, topic)) => result
            .with_topic_id(if validate_only { uuid::Uuid::nil() } else { topic.id })
            .with_num_partitions(count)
            .with_replication_factor(1)
            .with_configs(Some(Topics::describe(&topic).into_iter().map(config_of).collect())),
    }
}

fn config_of(entry: crate::topics::ConfigEntry) -> CreatableTopicConfigs {
    CreatableTopicConfigs::default()
        .with_name(text(entry.name))
        .with_value(Some(text(entry.value)))
        .with_config_source(if entry.is_default { configs::DEFAULT } else { configs::OF_TOPIC })
}

/// How many partitions are asked for. An assignment by hand may name this node only.
fn partitions(asked: &CreatableTopic, default: i32) -> Result<i32, Refused> {
    if !asked.assignments.is_empty() {
        return assigned(asked);
    }
    let factor = asked.replication_factor;
    let refuse_factor = || {
        let why =
            format!("the replication factor is {factor}; there is one node, so it can only be 1 (or -1)");
        Err(refused(ResponseError::InvalidReplicationFactor, why))
    };
    match (asked.num_partitions, factor) {
        (_, 0 | ..=-2) => refuse_factor(),
        (0 | ..=-2, _) => {
            let why = "the number of partitions must be larger than 0";
            Err(refused(ResponseError::InvalidPartitions, why))
        }
        (_, 2..) => refuse_factor(),
        (-1, _) => Ok(default),
        (count, _) => Ok(count),
    }
}

fn assigned(asked: &CreatableTopic) -> Result<i32, Refused> {
    if asked.num_partitions != -1 || asked.replication_factor != -1 {
        let why = "with an assignment by hand, the numbers of partitions and replicas must be -1";
        return Err(refused(ResponseError::InvalidRequest, why));
    }
    let mut indexes: Vec<i32> = asked.assignments.iter().map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    let invalid = |why: &str| Err(refused(ResponseError::InvalidReplicaAssignment, why));
    if indexes.iter().zip(0..).any(|(index, expected)| *index != expected) {
        return invalid("the partitions must be numbered from 0 on without gaps");
    }
    let here = |one: &CreatableReplicaAssignment| matches!(&one.broker_ids[..], [only] if only.0 == NODE);
    if !asked.assignments.iter().all(here) {
        return invalid("every partition must have exactly one replica, on broker 0");
    }
    i32::try_from(indexes.len()).or_else(|_| invalid("too many partitions"))
}
