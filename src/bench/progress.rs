//! How far the stages are: from the offsets that their groups have committed, and from their counters.

use super::stall::STALL_MAX;
use anyhow::Context;
use millrace_log::{LogSettings, partition_count};
use prometheus::Registry;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
};
use std::sync::Arc;

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
            let mut list = TopicPartitionList::new();
            for partition in 0..partition_count(&consumer, &topic)? {
                list.add_partition(&topic, partition);
            }
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
