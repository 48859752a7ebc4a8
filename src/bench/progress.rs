//! How far the stages are: from the offsets that their groups have committed, and from their counters.

use super::stall::STALL_MAX;
use anyhow::Context;
use millrace_log::{LogSettings, partition_count};
use prometheus::Registry;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::{collections::HashMap, sync::Arc};

/// Of combine: its offsets are in the transactions that hold what it made.
pub struct Progress {
    consumer: Arc<BaseConsumer>,
    list: TopicPartitionList,
}

impl Progress {
    pub async fn open(log: &LogSettings) -> anyhow::Result<Self> {
        let (log, topic) = (log.clone(), log.topics().metrics);
        tokio::task::spawn_blocking(move || {
            let consumer: BaseConsumer = log.consumer("combine").create()?;
            let list = everywhere(&consumer, &topic, Offset::Invalid)?;
            Ok(Self { consumer: Arc::new(consumer), list })
        })
        .await?
    }

    /// Raw records in committed transactions; the topic has no control records and began at 0.
    pub async fn counted(&self) -> anyhow::Result<u64> {
        let (consumer, list) = (Arc::clone(&self.consumer), self.list.clone());
        let committed =
            tokio::task::spawn_blocking(move || consumer.committed_offsets(list, STALL_MAX)).await?;
        let committed = committed.context("asking what combine has committed")?;
        let offsets = committed.elements().into_iter().filter_map(|element| element.offset().to_raw());
        Ok(offsets.filter_map(|offset| u64::try_from(offset).ok()).sum())
    }
}

/// Every partition of a topic, at this place.
pub fn everywhere(consumer: &BaseConsumer, topic: &str, place: Offset) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in 0..partition_count(consumer, topic)? {
        list.add_partition_offset(topic, partition, place)?;
    }
    Ok(list)
}

/// Where the partitions of a topic end by now.
pub fn ends(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<TopicPartitionList> {
    let ends = consumer.offsets_for_times(everywhere(consumer, topic, Offset::End)?, STALL_MAX)?;
    ends.elements().iter().try_for_each(|element| element.error())?;
    Ok(ends)
}

/// What combine had written for the windows at one time.
pub struct Partials {
    consumer: Arc<BaseConsumer>,
    topic: String,
    ends: TopicPartitionList,
    /// What may come after the last frame of a partition: a control record of each worker of combine, where the last
    /// transactions ended side by side.
    workers: i64,
}

impl Partials {
    /// All that there is now.
    pub async fn now(log: &LogSettings, workers: u16) -> anyhow::Result<Self> {
        let (log, topic) = (log.clone(), log.topics().partials);
        tokio::task::spawn_blocking(move || {
            // Also what is in a transaction whose marks are still written.
            let mut config = log.consumer("windows");
            let consumer: BaseConsumer = config.set("isolation.level", "read_uncommitted").create()?;
            let ends = ends(&consumer, &topic)?;
            Ok(Self { consumer: Arc::new(consumer), topic, ends, workers: workers.into() })
        })
        .await?
    }

    /// Whether the windows have committed it.
    pub async fn are_committed(&self) -> anyhow::Result<bool> {
        let (consumer, list) = (Arc::clone(&self.consumer), self.ends.clone());
        let committed =
            tokio::task::spawn_blocking(move || consumer.committed_offsets(list, STALL_MAX)).await??;
        Ok(self.are_before(|partition| {
            let element = committed.find_partition(&self.topic, partition);
            element.and_then(|element| element.offset().to_raw())
        }))
    }

    /// Whether it is in the windows of this process.
    pub fn are_in_windows(&self, registry: &Registry) -> bool {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == "millrace_windows_position");
        let series = family.into_iter().flat_map(|family| family.get_metric());
        #[expect(clippy::cast_possible_truncation, reason = "a gauge of whole numbers")]
        let positions: HashMap<&str, i64> = series
            .filter_map(|series| {
                Some((series.get_label().first()?.value(), series.get_gauge().get_value() as i64))
            })
            .collect();
        self.are_before(|partition| positions.get(partition.to_string().as_str()).copied())
    }

    fn are_before(&self, reached: impl Fn(i32) -> Option<i64>) -> bool {
        self.ends.elements().iter().all(|element| {
            let (reached, end) = (reached(element.partition()), element.offset().to_raw());
            reached.zip(end).is_some_and(|(reached, end)| reached + self.workers >= end)
        })
    }
}

/// The sum of a counter over its series, or over those with this label.
pub fn counter(registry: &Registry, name: &str, label: Option<&str>) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name);
    let series = family.into_iter().flat_map(|family| family.get_metric());
    let counted = series
        .filter(|series| label.is_none_or(|label| series.get_label().iter().any(|own| own.value() == label)));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of whole numbers")]
    counted.map(|metric| metric.get_counter().get_value() as u64).sum()
}
