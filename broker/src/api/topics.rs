//! DeleteTopics, CreatePartitions and DeleteRecords.

use super::{Api, NODE, call::Call, on_disk, text};
use crate::{clock, log::Refused};
use kafka_protocol::{
    ResponseError,
    messages::{
        CreatePartitionsRequest, CreatePartitionsResponse, DeleteRecordsRequest, DeleteRecordsResponse,
        DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
        create_partitions_request::CreatePartitionsTopic,
        create_partitions_response::CreatePartitionsTopicResult,
        delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult},
        delete_topics_request::DeleteTopicState,
        delete_topics_response::DeletableTopicResult,
    },
};
use std::collections::BTreeSet;

fn refused(error: ResponseError, message: impl Into<String>) -> Refused {
    Refused { error, message: message.into() }
}

pub async fn delete(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let named = |name: TopicName| DeleteTopicState::default().with_name(Some(name));
    let asked = request.topic_names.into_iter().map(named).chain(request.topics);
    let results = on_disk(|| asked.map(|topic| delete_one(&call.api, topic)).collect());
    DeleteTopicsResponse::default().with_responses(results)
}

fn delete_one(api: &Api, asked: DeleteTopicState) -> DeletableTopicResult {
    let result = DeletableTopicResult::default();
    match find_and_delete(api, &asked) {
        Ok((name, id)) => result.with_name(Some(TopicName(text(name)))).with_topic_id(id),
        Err(why) => result
            .with_name(asked.name)
            .with_topic_id(asked.topic_id)
            .with_error_code(why.error.code())
            .with_error_message(Some(text(why.message))),
    }
}

fn find_and_delete(api: &Api, asked: &DeleteTopicState) -> Result<(String, uuid::Uuid), Refused> {
    let topic = match (&asked.name, asked.topic_id) {
        (Some(name), id) if id.is_nil() => api.topics.get(name).ok_or_else(|| {
            refused(ResponseError::UnknownTopicOrPartition, format!("there is no topic {}", name.as_str()))
        }),
        (None, id) if !id.is_nil() => api.topics.by_id(id).ok_or_else(|| {
            refused(ResponseError::UnknownTopicId, format!("there is no topic with the id {id}"))
        }),
        _ => Err(refused(ResponseError::InvalidRequest, "a topic is named by its name or its id, not both")),
    }?;
    api.topics.delete(&topic.name)?;
    api.coordinator.topic_deleted(&topic.name);
    Ok((topic.name.clone(), topic.id))
}

pub async fn grow(call: Call, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let (mut once, validate_only) = (BTreeSet::new(), request.validate_only);
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let result = CreatePartitionsTopicResult::default().with_name(topic.name.clone());
        let grown = match once.insert(topic.name.clone()) {
            true => on_disk(|| grow_one(&call.api, &topic, validate_only)),
            false => {
                Err(refused(ResponseError::InvalidRequest, "the request names this topic more than once"))
            }
        };
        results.push(match grown {
            Ok(()) => result.with_error_message(None),
            Err(why) => result.with_error_code(why.error.code()).with_error_message(Some(text(why.message))),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

fn grow_one(api: &Api, asked: &CreatePartitionsTopic, validate_only: bool) -> Result<(), Refused> {
    let unknown = || refused(ResponseError::UnknownTopicOrPartition, "there is no such topic");
    let topic = api.topics.get(&asked.name).ok_or_else(unknown)?;
    if let Some(assignments) = &asked.assignments {
        let added = i64::from(asked.count) - topic.partitions.len() as i64;
        let here = assignments.iter().all(|one| matches!(&one.broker_ids[..], [only] if only.0 == NODE));
        if added > 0 && (assignments.len() as i64 != added || !here) {
            let why = "an assignment must name broker 0, once for each new partition";
            return Err(refused(ResponseError::InvalidReplicaAssignment, why));
        }
    }
    api.topics.grow(&asked.name, asked.count, validate_only, clock::now_ms())
}

pub async fn delete_records(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    for topic in &request.topics {
        for partition in &topic.partitions {
            call.api.settled(&topic.name, partition.partition_index).await;
        }
    }
    let topics = request.topics.into_iter().map(|topic| {
        let results = topic.partitions.iter().map(|partition| {
            let result =
                DeleteRecordsPartitionResult::default().with_partition_index(partition.partition_index);
            let log = call.api.partition(&topic.name, partition.partition_index);
            let before = |offset| match log {
                Ok(log) => on_disk(|| log.delete_before(offset)).map_err(|refused| refused.error),
                Err(error) => Err(error),
            };
            match before(partition.offset) {
                Ok(start) => result.with_low_watermark(start),
                Err(error) => result.with_low_watermark(-1).with_error_code(error.code()),
            }
        });
        let results = results.collect();
        DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(results)
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
