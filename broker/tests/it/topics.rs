//! Topics made, seen, changed and deleted.

use crate::harness::{Backend, Kind, PATIENCE, on_each_backend, until};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    admin::{AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication},
    consumer::Consumer as _,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::time::Duration;

on_each_backend!(
    metadata,
    created_once,
    refused,
    settings,
    grown,
    deleted_and_made_anew,
    named_only,
    not_made_by_looking,
    many_partitions,
);

const REQUEST: Duration = Duration::from_secs(20);

impl Backend {
    /// How many partitions a topic has, or the error that its metadata bears.
    fn partitions(&self, topic: &str) -> Result<Result<usize, RDKafkaErrorCode>> {
        let consumer = self.consumer("metadata", &[("allow.auto.create.topics", "false")])?;
        let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
        let found = metadata.topics().first().context("the topic is not in the answer")?;
        Ok(found.error().map_or(Ok(found.partitions().len()), |error| Err(error.into())))
    }

    fn config(&self, topic: &str, name: &str) -> Result<Option<String>> {
        let resource = [ResourceSpecifier::Topic(topic)];
        let described = self.block_on(self.admin()?.describe_configs(&resource, &self.options()))?;
        let described = described.into_iter().next().context("no answer")??;
        Ok(described.get(name).context("no such setting")?.value.clone())
    }
}

fn metadata(backend: &Backend) -> Result<()> {
    let consumer = backend.consumer("metadata", &[])?;
    let metadata = consumer.fetch_metadata(None, REQUEST)?;
    ensure!(metadata.brokers().len() == 1, "{} brokers", metadata.brokers().len());
    let broker = &metadata.brokers()[0];
    ensure!(format!("{}:{}", broker.host(), broker.port()) == backend.bootstrap, "{}", broker.host());
    Ok(())
}

fn created_once(backend: &Backend) -> Result<()> {
    let topic = backend.topic(3)?;
    ensure!(backend.partitions(&topic)? == Ok(3));
    ensure!(code_of(&backend.create(&topic, 3, &[])) == Some(RDKafkaErrorCode::TopicAlreadyExists));
    Ok(())
}

fn refused(backend: &Backend) -> Result<()> {
    use RDKafkaErrorCode::{InvalidConfig, InvalidPartitions, InvalidTopic};
    let name = backend.unique("bad");
    let long = "x".repeat(250);
    for (name, partitions, settings, expected) in [
        ("a/b", 1, &[][..], InvalidTopic),
        ("..", 1, &[], InvalidTopic),
        (long.as_str(), 1, &[], InvalidTopic),
        (name.as_str(), 0, &[], InvalidPartitions),
        (name.as_str(), 1, &[("no.such.setting", "1")], InvalidConfig),
        (name.as_str(), 1, &[("retention.ms", "soon")], InvalidConfig),
    ] {
        let code = code_of(&backend.create(name, partitions, settings));
        ensure!(code == Some(expected), "{name} {partitions} {settings:?}: {code:?}");
    }
    let two = NewTopic::new(&name, 1, TopicReplication::Fixed(2));
    let results = backend.block_on(backend.admin()?.create_topics([&two], &backend.options()))?;
    let code = results[0].as_ref().err().map(|(_, code)| *code);
    ensure!(code == Some(RDKafkaErrorCode::InvalidReplicationFactor), "{code:?}");
    ensure!(backend.partitions(&name)? == Err(RDKafkaErrorCode::UnknownTopicOrPartition));
    Ok(())
}

fn settings(backend: &Backend) -> Result<()> {
    let topic = backend.topic_with(1, &[("retention.ms", "123456"), ("cleanup.policy", "delete")])?;
    ensure!(backend.config(&topic, "retention.ms")?.as_deref() == Some("123456"));
    ensure!(backend.config(&topic, "cleanup.policy")?.as_deref() == Some("delete"));
    let changes = [AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("retention.ms", "777000")];
    let altered = backend.block_on(backend.admin()?.alter_configs(&changes, &backend.options()))?;
    altered.into_iter().next().context("no answer")?.map_err(|(_, code)| KafkaError::AdminOp(code))?;
    until("the new value is shown", PATIENCE, || {
        let value = backend.config(&topic, "retention.ms")?;
        ensure!(value.as_deref() == Some("777000"), "{value:?}");
        Ok(())
    })
}

fn grown(backend: &Backend) -> Result<()> {
    let topic = backend.topic(1)?;
    backend.produce(&topic, 10)?;
    let results = backend
        .block_on(backend.admin()?.create_partitions(&[NewPartitions::new(&topic, 4)], &backend.options()))?;
    results.into_iter().next().context("no answer")?.map_err(|(_, code)| KafkaError::AdminOp(code))?;
    until("it has four", PATIENCE, || {
        let partitions = backend.partitions(&topic)?;
        ensure!(partitions == Ok(4), "{partitions:?}");
        Ok(())
    })?;
    ensure!(backend.watermarks(&topic, 0)? == (0, 10));
    ensure!(backend.watermarks(&topic, 3)? == (0, 0));
    let fewer = [NewPartitions::new(&topic, 2)];
    let results = backend.block_on(backend.admin()?.create_partitions(&fewer, &backend.options()))?;
    let code = results[0].as_ref().err().map(|(_, code)| *code);
    ensure!(code == Some(RDKafkaErrorCode::InvalidPartitions), "{code:?}");
    Ok(())
}

fn deleted_and_made_anew(backend: &Backend) -> Result<()> {
    let topic = backend.topic(2)?;
    backend.produce(&topic, 10)?;
    delete(backend, &topic)?.context("delete")?;
    until("it is gone", PATIENCE, || {
        let partitions = backend.partitions(&topic)?;
        ensure!(partitions == Err(RDKafkaErrorCode::UnknownTopicOrPartition), "{partitions:?}");
        Ok(())
    })?;
    let again = code_of(&delete(backend, &topic)?.map_err(anyhow::Error::from));
    ensure!(again == Some(RDKafkaErrorCode::UnknownTopicOrPartition), "{again:?}");
    backend.create(&topic, 1, &[])?;
    backend.produce(&topic, 3)?;
    ensure!(backend.read(&topic, 3)?.len() == 3);
    ensure!(backend.watermarks(&topic, 0)? == (0, 3));
    Ok(())
}

fn delete(backend: &Backend, topic: &str) -> Result<Result<(), KafkaError>> {
    let results = backend.block_on(backend.admin()?.delete_topics(&[topic], &backend.options()))?;
    let result = results.into_iter().next().context("no answer")?;
    Ok(result.map(drop).map_err(|(_, code)| KafkaError::AdminOp(code)))
}

/// A topic that a producer only names is made. A Kafka may have this switched off, as the one of the continuous
/// integration has.
fn named_only(backend: &Backend) -> Result<()> {
    let topic = backend.unique("auto");
    if backend.kind == Kind::Kafka && !makes_topics(backend)? {
        crate::harness::say_skipped(
            "topics named only, on Kafka",
            "auto.create.topics.enable is false there",
        );
        return Ok(());
    }
    backend.produce(&topic, 5)?;
    ensure!(backend.partitions(&topic)?.is_ok_and(|partitions| partitions > 0));
    Ok(())
}

fn makes_topics(backend: &Backend) -> Result<bool> {
    let consumer = backend.consumer("metadata", &[])?;
    let broker = consumer.fetch_metadata(None, REQUEST)?.brokers()[0].id();
    let resource = [ResourceSpecifier::Broker(broker)];
    let described = backend.block_on(backend.admin()?.describe_configs(&resource, &backend.options()))?;
    let described = described.into_iter().next().context("no answer")??;
    let setting = described.get("auto.create.topics.enable").and_then(|entry| entry.value.clone());
    Ok(setting.as_deref() == Some("true"))
}

fn not_made_by_looking(backend: &Backend) -> Result<()> {
    let topic = backend.unique("nope");
    for _ in 0..2 {
        let partitions = backend.partitions(&topic)?;
        ensure!(partitions == Err(RDKafkaErrorCode::UnknownTopicOrPartition), "{partitions:?}");
    }
    Ok(())
}

fn many_partitions(backend: &Backend) -> Result<()> {
    let topic = backend.topic(64)?;
    let deliveries = backend.produce(&topic, 6400)?;
    let used: std::collections::BTreeSet<_> = deliveries.iter().map(|delivery| delivery.partition).collect();
    ensure!(used.len() == 64, "{} partitions used", used.len());
    let from: Vec<_> = (0..64).map(|partition| (partition, rdkafka::Offset::Beginning)).collect();
    let seen = crate::harness::drain(&backend.reader(&topic, &from, &[])?, 6400)?;
    let mut values: Vec<_> = seen.iter().map(crate::harness::number).collect::<Result<_>>()?;
    values.sort_unstable();
    ensure!(values.into_iter().eq(0..6400));
    Ok(())
}

/// The protocol's error that an administrative request met.
fn code_of<T>(result: &Result<T>) -> Option<RDKafkaErrorCode> {
    let error = result.as_ref().err()?;
    match error.downcast_ref::<KafkaError>() {
        Some(KafkaError::AdminOp(code)) => Some(*code),
        _ => None,
    }
}
