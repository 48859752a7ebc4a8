//! Where a group is, asked beside its members: the brokers do not answer while a transaction with it is open, which that of
//! a dead member may be for some seconds.

use super::{REQUEST_TIMEOUT, StageError, client::ask_committed, ended::signed, past::Quiet};
use millrace_log::{LogSettings, NextOffset, partition_count};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata},
    error::RDKafkaErrorCode,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Transactions of members that live end sooner.
pub(crate) const SOON: Duration = Duration::from_secs(2);
/// By then the brokers have ended that of a dead one, too.
pub(crate) const IN_THE_END: Duration = Duration::from_secs(30);

pub(crate) const COMMITTED: &str = "the committed offset";

/// A broker that lives answers in that time, and more than once where it must be asked again.
const ONE_ANSWER: Duration = Duration::from_millis(250);

/// A committed offset, and the number of the transaction that committed it; none of an older build's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Committed {
    pub next: NextOffset,
    pub number: Option<Uuid>,
}

impl Default for Committed {
    fn default() -> Self {
        Self { next: NextOffset::START, number: None }
    }
}

/// The offsets of one group and topic.
pub(crate) struct Positions {
    consumer: BaseConsumer<Quiet>,
    log: LogSettings,
    group: String,
    topic: String,
}

impl Positions {
    /// It asks for the group and is no member of it.
    pub(crate) fn connect(log: &LogSettings, group: &str, topic: &str) -> Result<Self, StageError> {
        let consumer = log.consumer(group).create_with_context(Quiet);
        let consumer = consumer.map_err(StageError::kafka("making a consumer"))?;
        Ok(Self { consumer, log: log.clone(), group: group.to_owned(), topic: topic.to_owned() })
    }

    /// The committed offset of a partition with the metadata that its stage gave it; from the start where there is none.
    /// Only its owner may rely on it.
    pub(crate) fn committed(&self, partition: i32) -> Result<(NextOffset, String), StageError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let committed = ask_committed(&self.consumer, list, SOON)
            .map_err(|error| if is_unsettled(&error) { self.unsettled(partition) } else { error })?;
        let element = committed.find_partition(&self.topic, partition);
        Ok(match element.as_ref().map(|element| (element.offset(), element.metadata())) {
            Some((Offset::Offset(next), metadata)) => {
                (NextOffset::exclusive(next), signed(metadata).0.to_owned())
            }
            _ => (NextOffset::START, String::new()),
        })
    }

    /// Which partitions are not told of until `deadline`, as a transaction with them is open. Those of members that live are
    /// told one after the other: nobody waits until none is under way.
    pub(super) fn not_told(
        &self,
        deadline: Instant,
        shutdown: &CancellationToken,
    ) -> Result<Vec<i32>, StageError> {
        let mut left: Vec<i32> = (0..partition_count(&self.consumer, &self.topic)?).collect();
        if self.is_told(&left, ONE_ANSWER)? {
            return Ok(Vec::new());
        }
        loop {
            let mut open = Vec::new();
            for partition in left {
                if shutdown.is_cancelled() {
                    return Err(StageError::Stopped);
                }
                let is_late = Instant::now() >= deadline;
                if is_late || !self.is_told(&[partition], ONE_ANSWER)? {
                    open.push(partition);
                }
            }
            if open.is_empty() || Instant::now() >= deadline {
                return Ok(open);
            }
            left = open;
        }
    }

    fn is_told(&self, partitions: &[i32], limit: Duration) -> Result<bool, StageError> {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        match ask_committed(&self.consumer, list, limit) {
            Err(error) if is_unsettled(&error) => Ok(false),
            told => told.map(|_| true),
        }
    }

    /// What was committed last, by partition, whatever may be open.
    pub(super) fn whatever_is_committed(&self) -> Result<BTreeMap<i32, Committed>, StageError> {
        let mut config = self.log.consumer(&self.group);
        // Who reads only what is committed is told nothing while a transaction is open.
        let consumer = config.set("isolation.level", "read_uncommitted").create_with_context(Quiet);
        let consumer: BaseConsumer<Quiet> = consumer.map_err(StageError::kafka("making a consumer"))?;
        let mut list = TopicPartitionList::new();
        list.add_partition_range(&self.topic, 0, partition_count(&consumer, &self.topic)? - 1);
        let committed = ask_committed(&consumer, list, REQUEST_TIMEOUT)?;
        let told = committed.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(next) => {
                let (next, (_, number)) = (NextOffset::exclusive(next), signed(element.metadata()));
                Some((element.partition(), Committed { next, number }))
            }
            _ => None,
        });
        Ok(told.collect())
    }

    /// The group, as one sees it who is no member of it.
    pub(crate) fn group(&self) -> ConsumerGroupMetadata {
        self.consumer.group_metadata().expect("a client of a group")
    }

    /// The first offset of a partition that retention has left.
    pub(crate) fn low(&self, partition: i32) -> Result<NextOffset, StageError> {
        let bounds = self.consumer.fetch_watermarks(&self.topic, partition, REQUEST_TIMEOUT);
        let (low, _) = bounds.map_err(StageError::kafka("asking where a partition begins"))?;
        Ok(NextOffset::exclusive(low))
    }

    fn unsettled(&self, partition: i32) -> StageError {
        StageError::Unsettled { what: COMMITTED, topic: self.topic.clone(), partition }
    }
}

/// As the brokers answer, or by not doing so in time.
fn is_unsettled(error: &StageError) -> bool {
    use RDKafkaErrorCode::{OperationTimedOut, RequestTimedOut, UnstableOffsetCommit};
    let StageError::Kafka { source, .. } = error else { return false };
    let code = source.rdkafka_error_code();
    matches!(code, Some(OperationTimedOut | RequestTimedOut | UnstableOffsetCommit))
}

#[cfg(test)]
mod tests;
