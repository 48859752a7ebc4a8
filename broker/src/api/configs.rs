//! DescribeConfigs, AlterConfigs and IncrementalAlterConfigs: of topics; the broker's own are shown only.

use super::{Api, NODE, call::Call, on_disk, text};
use crate::{
    log::Refused,
    topics::{ConfigChange, ConfigEntry, Topics},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
        IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse,
        alter_configs_request::AlterConfigsResource,
        alter_configs_response::AlterConfigsResourceResponse,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::{
            DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
        },
        incremental_alter_configs_request::{AlterConfigsResource as Resource, AlterableConfig},
        incremental_alter_configs_response::AlterConfigsResourceResponse as Altered,
    },
    protocol::StrBytes,
};
use std::collections::BTreeSet;

/// Where a value comes from, in the protocol's numbers.
pub const OF_TOPIC: i8 = 1;
pub const DEFAULT: i8 = 5;
const OF_BROKER: i8 = 4;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const TYPE_STRING: i8 = 2;

fn refused(error: ResponseError, message: impl Into<String>) -> Refused {
    Refused { error, message: message.into() }
}

fn message_of(refused: &Refused) -> Option<StrBytes> {
    Some(text(refused.message.as_str()))
}

pub async fn describe(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match entries(&call.api, resource, &request) {
            Ok(configs) => result.with_configs(configs).with_error_message(None),
            Err(why) => result.with_error_code(why.error.code()).with_error_message(message_of(&why)),
        }
    });
    let results = results.collect();
    DescribeConfigsResponse::default().with_results(results)
}

fn entries(
    api: &Api,
    resource: &DescribeConfigsResource,
    request: &DescribeConfigsRequest,
) -> Result<Vec<DescribeConfigsResourceResult>, Refused> {
    let asked = |name: &str| {
        let keys = resource.configuration_keys.as_ref();
        keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key.as_str() == name))
    };
    match resource.resource_type {
        TOPIC if !super::valid_name(&resource.resource_name) => {
            Err(refused(ResponseError::InvalidTopicException, "no topic can have this name"))
        }
        TOPIC => {
            let unknown = || refused(ResponseError::UnknownTopicOrPartition, "there is no such topic");
            let topic = api.topics.get(&resource.resource_name).ok_or_else(unknown)?;
            let entries = Topics::describe(&topic).into_iter().filter(|entry| asked(entry.name));
            Ok(entries.map(|entry| of_topic(entry, request)).collect())
        }
        BROKER if resource.resource_name.is_empty() || resource.resource_name == *NODE.to_string() => {
            Ok(of_broker(api).into_iter().filter(|entry| asked(&entry.name)).collect())
        }
        BROKER | BROKER_LOGGER => {
            Err(refused(ResponseError::InvalidRequest, "the only broker is 0, and it has no loggers to set"))
        }
        kind => {
            Err(refused(ResponseError::InvalidRequest, format!("resources of type {kind} have no settings")))
        }
    }
}

fn of_topic(entry: ConfigEntry, request: &DescribeConfigsRequest) -> DescribeConfigsResourceResult {
    let source = if entry.is_default { DEFAULT } else { OF_TOPIC };
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text(entry.name))
        .with_value(Some(text(entry.value.as_str())))
        .with_source(source);
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.name))
        .with_value(Some(text(entry.value)))
        .with_config_source(source)
        .with_config_type(entry.kind)
        .with_synonyms(if request.include_synonyms { vec![synonym] } else { Vec::new() })
        .with_documentation(request.include_documentation.then(|| text(entry.documentation)))
}

/// The few that tools look at.
fn of_broker(api: &Api) -> Vec<DescribeConfigsResourceResult> {
    let values = [
        ("broker.id", NODE.to_string()),
        ("auto.create.topics.enable", "true".into()),
        ("num.partitions", api.partitions_default.to_string()),
        ("default.replication.factor", "1".into()),
        ("min.insync.replicas", "1".into()),
        ("offsets.topic.replication.factor", "1".into()),
        ("log.dirs", api.data_folder.clone()),
    ];
    let entries = values.into_iter().map(|(name, value)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(OF_BROKER)
            .with_config_type(TYPE_STRING)
    });
    entries.collect()
}

/// Only topics have settings that can be changed.
fn alterable(resource_type: i8) -> Result<(), Refused> {
    match resource_type {
        TOPIC => Ok(()),
        _ => Err(refused(ResponseError::InvalidRequest, "only the settings of topics can be changed")),
    }
}

pub async fn alter(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = AlterConfigsResourceResponse::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let replaced = alterable(resource.resource_type)
            .and_then(|()| on_disk(|| replace(&call.api, resource, request.validate_only)));
        match replaced {
            Ok(()) => result.with_error_message(None),
            Err(why) => result.with_error_code(why.error.code()).with_error_message(message_of(&why)),
        }
    });
    let results = results.collect();
    AlterConfigsResponse::default().with_responses(results)
}

/// What is not given goes back to its default.
fn replace(api: &Api, resource: &AlterConfigsResource, validate_only: bool) -> Result<(), Refused> {
    let unknown = || refused(ResponseError::UnknownTopicOrPartition, "there is no such topic");
    let topic = api.topics.get(&resource.resource_name).ok_or_else(unknown)?;
    let mut changes = Vec::new();
    for config in &resource.configs {
        let value = value_of(&config.name, config.value.as_ref())?;
        changes.push(ConfigChange::Set(config.name.to_string(), value));
    }
    let given: BTreeSet<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
    let dropped = topic.config.keys().filter(|name| !given.contains(name.as_str()));
    changes.extend(dropped.map(|name| ConfigChange::Delete(name.clone())));
    api.topics.alter(&topic.name, &changes, validate_only)
}

fn value_of(name: &str, value: Option<&StrBytes>) -> Result<String, Refused> {
    let missing = || refused(ResponseError::InvalidRequest, format!("no value is given for {name}"));
    value.map(ToString::to_string).ok_or_else(missing)
}

pub async fn alter_some(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let results = request.resources.iter().map(|resource| {
        let result = Altered::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        match on_disk(|| change(&call.api, resource, request.validate_only)) {
            Ok(()) => result.with_error_message(None),
            Err(why) => result.with_error_code(why.error.code()).with_error_message(message_of(&why)),
        }
    });
    let results = results.collect();
    IncrementalAlterConfigsResponse::default().with_responses(results)
}

fn change(api: &Api, resource: &Resource, validate_only: bool) -> Result<(), Refused> {
    alterable(resource.resource_type)?;
    let mut names = BTreeSet::new();
    let mut changes = Vec::new();
    for config in &resource.configs {
        if !names.insert(config.name.as_str()) {
            let why = format!("{} is named more than once", config.name);
            return Err(refused(ResponseError::InvalidRequest, why));
        }
        changes.push(one_change(config)?);
    }
    api.topics.alter(&resource.resource_name, &changes, validate_only)
}

fn one_change(config: &AlterableConfig) -> Result<ConfigChange, Refused> {
    let name = config.name.to_string();
    let value = || value_of(&config.name, config.value.as_ref());
    match config.config_operation {
        0 => Ok(ConfigChange::Set(name, value()?)),
        1 => Ok(ConfigChange::Delete(name)),
        2 => Ok(ConfigChange::Append(name, value()?)),
        3 => Ok(ConfigChange::Subtract(name, value()?)),
        other => Err(refused(ResponseError::InvalidRequest, format!("there is no operation {other}"))),
    }
}
