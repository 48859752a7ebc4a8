//! Requests about topics: made, grown, changed, described, deleted, rightly and wrongly.

use super::{Names, Operation};
use crate::harness::{Random, text, topic_name};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    DescribeTopicPartitionsRequest, IncrementalAlterConfigsRequest, MetadataRequest,
    create_partitions_request::CreatePartitionsTopic,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    delete_topics_request::DeleteTopicState,
    describe_configs_request::DescribeConfigsResource,
    describe_topic_partitions_request::TopicRequest,
    incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    metadata_request::MetadataRequestTopic,
};

const CONFIGS: &[(&str, &str)] = &[
    ("retention.ms", "86400000"),
    ("retention.ms", "-1"),
    ("retention.ms", "-2"),
    ("retention.ms", "soon"),
    ("retention.bytes", "1000000000"),
    ("cleanup.policy", "compact"),
    ("cleanup.policy", "delete"),
    ("cleanup.policy", "compact,delete"),
    ("cleanup.policy", "burn"),
    ("max.message.bytes", "2000"),
    ("max.message.bytes", "-1"),
    ("message.timestamp.type", "LogAppendTime"),
    ("message.timestamp.type", "Now"),
    ("min.insync.replicas", "1"),
    ("compression.type", "producer"),
    ("segment.ms", "3600000"),
    ("no.such.config", "1"),
];

pub fn choose(random: &mut Random, names: &Names) -> Operation {
    match random.below(9) {
        0..=2 => create(random, names),
        3 => delete(random, names),
        4 => grow(random, names),
        5 => describe_configs(random, names),
        6 => alter(random, names),
        7 => metadata(random, names),
        _ => describe(random, names),
    }
}

fn create(random: &mut Random, names: &Names) -> Operation {
    let name = match random.below(12) {
        0 => "bad/name".to_owned(),
        1 => String::new(),
        _ => random.pick(&names.topics).clone(),
    };
    let partitions = *random.pick(&[1, 2, 3, 3, 2, 1, 0, -2]);
    // -1, the broker's default, is another number on each.
    let replicas = *random.pick(&[1, 1, 1, 1, -1, 0, 2]);
    let (version, validate) = (i16::try_from(random.between(2, 7)).expect("small"), random.one_in(6));
    let config = random.one_in(3).then(|| *random.pick(CONFIGS));
    // Old versions can't leave the numbers out.
    let (partitions, replicas) =
        if version < 4 { (partitions.max(0), replicas.max(0)) } else { (partitions, replicas) };
    let words = format!("create {name} v{version} {partitions} {replicas} {config:?} validate {validate}");
    Operation::new(words, move |side| {
        let mut topic = CreatableTopic::default()
            .with_name(topic_name(&name))
            .with_num_partitions(partitions)
            .with_replication_factor(replicas);
        topic.configs.extend(config.map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        }));
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000)
            .with_validate_only(validate);
        let mut answer = side.ask(version, &request)?;
        for topic in &mut answer.topics {
            // Each has settings of its own, and the id is a new one.
            topic.configs = None;
            if validate {
                topic.topic_id = uuid::Uuid::nil(); // Kafka thinks of one that nobody will see again
            }
            if topic.error_code == 0 && !validate {
                side.settle(&name, usize::try_from(partitions).ok())?;
            }
        }
        Ok(side.normal(&answer))
    })
}

fn delete(random: &mut Random, names: &Names) -> Operation {
    let name = random.pick(&names.topics).clone();
    let version = i16::try_from(random.between(1, 6)).expect("small");
    let by_id = version >= 6 && random.one_in(2);
    let groups = names.groups.clone();
    Operation::new(format!("delete {name} v{version} by id {by_id}"), move |side| {
        let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
        let state = match side.topic_id(&name)?.filter(|_| by_id) {
            Some(id) => DeleteTopicState::default().with_name(None).with_topic_id(id),
            None => DeleteTopicState::default().with_name(Some(topic_name(&name))),
        };
        let request = match version {
            6 => request.with_topics(vec![state]),
            _ => request.with_topic_names(vec![topic_name(&name)]),
        };
        let answer = side.ask(version, &request)?;
        if answer.responses.iter().all(|topic| topic.error_code == 0) {
            side.settle(&name, None)?;
            side.forgotten(&name, &groups)?;
            side.deleted.insert(name.clone());
        }
        Ok(side.normal(&answer))
    })
}

fn grow(random: &mut Random, names: &Names) -> Operation {
    let (name, count) = (random.pick(&names.topics).clone(), *random.pick(&[0, 1, 2, 3, 4, 5, -1]));
    let (version, validate) = (i16::try_from(random.between(0, 3)).expect("small"), random.one_in(3));
    Operation::new(format!("grow {name} v{version} to {count} validate {validate}"), move |side| {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(&name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(10_000)
            .with_validate_only(validate);
        let answer = side.ask(version, &request)?;
        if !validate && answer.results.iter().all(|topic| topic.error_code == 0) {
            side.settle(&name, usize::try_from(count).ok())?;
        }
        Ok(side.normal(&answer))
    })
}

fn describe_configs(random: &mut Random, names: &Names) -> Operation {
    const KEYS: &[&str] = &[
        "retention.ms",
        "cleanup.policy",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
        "compression.type",
        "retention.bytes",
        "delete.retention.ms",
        "min.cleanable.dirty.ratio",
        "no.such.config",
    ];
    let (name, key) = (random.pick(&names.topics).clone(), *random.pick(KEYS));
    let version = i16::try_from(random.between(1, 4)).expect("small");
    Operation::new(format!("describe config {key} of {name} v{version}"), move |side| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&name))
            .with_configuration_keys(Some(vec![text(key)]));
        side.tell(version, &DescribeConfigsRequest::default().with_resources(vec![resource]))
    })
}

fn alter(random: &mut Random, names: &Names) -> Operation {
    let name = random.pick(&names.topics).clone();
    let ((key, value), kind) = (*random.pick(CONFIGS), *random.pick(&[0, 0, 0, 1, 1, 2, 3, 9]));
    let (version, validate) = (i16::try_from(random.between(0, 1)).expect("small"), random.one_in(4));
    let words =
        format!("alter config {key}={value} of {name} operation {kind} v{version} validate {validate}");
    Operation::new(words, move |side| {
        let config = AlterableConfig::default()
            .with_name(text(key))
            .with_config_operation(kind)
            .with_value((kind != 1).then(|| text(value)));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(&name))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default()
            .with_resources(vec![resource])
            .with_validate_only(validate);
        side.tell(version, &request)
    })
}

fn metadata(random: &mut Random, names: &Names) -> Operation {
    let (name, version) =
        (random.pick(&names.topics).clone(), i16::try_from(random.between(1, 12)).expect("small"));
    let by_id = version == 12 && random.one_in(2);
    Operation::new(format!("metadata of {name} v{version} by id {by_id}"), move |side| {
        let asked = match side.topic_id(&name)?.filter(|_| by_id) {
            Some(id) => MetadataRequestTopic::default().with_name(None).with_topic_id(id),
            None => MetadataRequestTopic::default().with_name(Some(topic_name(&name))),
        };
        let mut request = MetadataRequest::default().with_topics(Some(vec![asked]));
        // Older ones make the topic where the broker does so.
        if version < 4 && side.topic_id(&name)?.is_none() {
            return Ok("not asked".to_owned());
        }
        request.allow_auto_topic_creation = version < 4;
        let topics = side.ask(version, &request)?.topics;
        Ok(side.normal(&topics))
    })
}

fn describe(random: &mut Random, names: &Names) -> Operation {
    let name = random.pick(&names.topics).clone();
    Operation::new(format!("describe partitions of {name}"), move |side| {
        let topic = TopicRequest::default().with_name(topic_name(&name));
        let request = DescribeTopicPartitionsRequest::default()
            .with_topics(vec![topic])
            .with_response_partition_limit(100);
        side.tell(0, &request)
    })
}
