//! Reads again what the log has had so far: stretches of partitions, to rebuild what was in memory, and where they end.

use super::{
    REQUEST_TIMEOUT, StageError,
    client::tell,
    combine::is_passing,
    ended::{Outcome, Trace},
    left_open::Open,
    positions::SOON,
};
use millrace_log::{LogSettings, NextOffset, partition_count};
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::BorrowedMessage,
    topic_partition_list::TopicPartitionListElem,
};
use std::{
    cell::OnceCell,
    cmp::Ordering,
    collections::BTreeMap,
    ops::ControlFlow,
    thread,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// The end of the partition is how a read ends, not an error to log.
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, error: KafkaError, reason: &str) {
        tell(&error, reason);
    }
}

impl ConsumerContext for Quiet {}

/// How soon a shutdown is seen.
const STEP: Duration = Duration::from_millis(100);
/// How often it is looked whether a transaction has ended, or who leads now.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long the choice of a leader may take.
const LEADER_LIMIT: Duration = Duration::from_secs(5);
const ASKING: &str = "asking which offsets there are";

/// A stretch of one partition: `from` inclusive, `to` exclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub from: NextOffset,
    pub to: NextOffset,
}

/// How long to wait for the transactions that are open, unless a shutdown comes.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub limit: Duration,
    pub shutdown: &'a CancellationToken,
}

/// The clients that read, to be kept for several stretches: new ones take some 200 ms to find the brokers. They are members
/// of no group.
pub(crate) struct Past {
    log: LogSettings,
    committed: BaseConsumer<Quiet>,
    /// Made when it is asked for.
    everything: OnceCell<BaseConsumer<Quiet>>,
}

impl Past {
    pub(crate) fn connect(log: &LogSettings) -> Result<Self, StageError> {
        let committed = client(log, "read_committed")?;
        Ok(Self { log: log.clone(), committed, everything: OnceCell::new() })
    }

    fn everything(&self) -> Result<&BaseConsumer<Quiet>, StageError> {
        let made =
            self.everything.get().is_none().then(|| client(&self.log, "read_uncommitted")).transpose()?;
        Ok(self.everything.get_or_init(|| made.expect("it is made where there is none")))
    }

    pub(super) fn partitions(&self, topic: &str) -> Result<i32, StageError> {
        Ok(partition_count(&self.committed, topic)?)
    }

    /// The first offset that retention has left, of each partition of the topic.
    pub(crate) fn lows(&self, topic: &str) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        all(offsets(&self.committed, topic, None, Offset::Beginning)?)
    }

    /// The same of one partition.
    pub(crate) fn low(&self, topic: &str, partition: i32) -> Result<NextOffset, StageError> {
        one(all(offsets(&self.committed, topic, Some(partition), Offset::Beginning)?)?)
    }

    /// One past the last offset that can be read.
    pub(crate) fn ends(&self, topic: &str) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        all(offsets(&self.committed, topic, None, Offset::End)?)
    }

    /// Where transactions begin that are open now, by partition.
    pub(crate) fn open(&self, topic: &str) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        // The offsets are asked for once: a partition without a leader must hold nobody up.
        let ends = |consumer| all(ask(consumer, times(consumer, topic, None, Offset::End)?, SOON)?);
        let (ends, mut committed) = (ends(self.everything()?)?, ends(&self.committed)?);
        committed.retain(|partition, end| ends.get(partition) > Some(end));
        Ok(committed)
    }

    /// The first offset of that time or later, of each partition that has any.
    pub(crate) fn since(&self, topic: &str, time_ms: i64) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        first_since(&self.committed, topic, time_ms)
    }

    /// [`Self::since`], where what transactions hold that are open or were given up counts too.
    pub(super) fn any_since(
        &self,
        topic: &str,
        time_ms: i64,
    ) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        first_since(self.everything()?, topic, time_ms)
    }

    /// Where transactions begin in these topics that were open when it was asked, and still are after the limit.
    pub(super) fn still_open(&self, topics: &[String], patience: Patience<'_>) -> Result<Open, StageError> {
        let topics = topics.iter().map(String::as_str);
        self.wait(topics, None, patience).map(|(_, open)| open)
    }

    /// What this place tells of the transaction that the record there is of.
    pub(super) fn trace(
        &mut self,
        topic: &str,
        partition: i32,
        at: NextOffset,
        shutdown: &CancellationToken,
    ) -> Result<Trace, StageError> {
        // Where the first one begins that is open, if any is.
        let end = one(all(offsets(&self.committed, topic, Some(partition), Offset::End)?)?)?;
        match at.cmp(&end) {
            Ordering::Greater => return Ok(Trace::Hidden),
            Ordering::Equal => return Ok(Trace::Open),
            Ordering::Less => {}
        }
        let range = Range { topic, partition, from: at, to: NextOffset::after(at.get()) };
        let read = self.scan(range, shutdown, |_| Ok::<_, StageError>(()))?;
        Ok(Trace::Ended(if read > 0 { Outcome::Committed } else { Outcome::Aborted }))
    }

    /// Where the partitions end, once all that they have now is committed or aborted. A transaction counts as committed
    /// before its end is written to each of its partitions, so what can be read at first may be too little.
    pub(crate) fn settled(
        &self,
        topic: &str,
        patience: Patience<'_>,
    ) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        self.settled_of(topic, None, patience)
    }

    /// The same of one partition, whatever the others have.
    pub(crate) fn settled_end(
        &self,
        topic: &str,
        partition: i32,
        patience: Patience<'_>,
    ) -> Result<NextOffset, StageError> {
        self.settled_of(topic, Some(partition), patience).and_then(one)
    }

    fn settled_of(
        &self,
        topic: &str,
        only: Option<i32>,
        patience: Patience<'_>,
    ) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        let (ends, open) = self.wait([topic], only, patience)?;
        if let Some((topic, partition)) = open.into_keys().next() {
            return Err(StageError::Unsettled { what: "the end", topic, partition });
        }
        Ok(ends.into_iter().map(|((_, partition), end)| (partition, end)).collect())
    }

    /// Waits until all that is there now is committed or aborted, or for the limit: where the partitions end, and where
    /// transactions begin that are open.
    fn wait<'a>(
        &self,
        topics: impl IntoIterator<Item = &'a str>,
        only: Option<i32>,
        Patience { limit, shutdown }: Patience<'_>,
    ) -> Result<(Open, Open), StageError> {
        let topics: Vec<&str> = topics.into_iter().collect();
        let ends = |consumer| {
            let mut ends = Open::new();
            for topic in &topics {
                let of_topic = all(offsets(consumer, topic, only, Offset::End)?)?.into_iter();
                ends.extend(of_topic.map(|(partition, end)| (((*topic).to_owned(), partition), end)));
            }
            Ok::<_, StageError>(ends)
        };
        let wanted = ends(self.everything()?)?;
        let deadline = Instant::now() + limit;
        loop {
            let mut open = ends(&self.committed)?;
            open.retain(|place, end| wanted.get(place) > Some(end));
            if open.is_empty() {
                return Ok((wanted, open));
            }
            if shutdown.is_cancelled() {
                return Err(StageError::Stopped);
            }
            if Instant::now() >= deadline {
                return Ok((wanted, open));
            }
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// [`Self::scan`], and a word in the log about it.
    pub(super) fn read(
        &mut self,
        range: Range<'_>,
        shutdown: &CancellationToken,
        take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        if range.from >= range.to {
            return Ok(());
        }
        let started = Instant::now();
        let read = self.scan(range, shutdown, take)?;
        let Range { topic, partition, from, to } = range;
        tracing::info!(topic, partition, %from, %to, records = read, took_ms = started.elapsed().as_millis(), "rebuilt from the log");
        Ok(())
    }

    /// Calls `take` for every committed record of the range, in order; how many. What retention has removed is skipped.
    pub(crate) fn scan<E: From<StageError>>(
        &mut self,
        range: Range<'_>,
        shutdown: &CancellationToken,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        let mut read = 0;
        walk(&self.committed, range, shutdown, |message| {
            read += 1;
            take(message).map(ControlFlow::Continue)
        })?;
        Ok(read)
    }

    /// Calls `take` for the records of a partition from there to where it ends now, those of transactions that are open or
    /// were given up too, until it breaks off.
    pub(super) fn walk_all(
        &mut self,
        (topic, partition, from): (&str, i32, NextOffset),
        shutdown: &CancellationToken,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), StageError> {
        let everything = self.everything()?;
        let to = one(all(offsets(everything, topic, Some(partition), Offset::End)?)?)?;
        walk(everything, Range { topic, partition, from, to }, shutdown, |message| Ok(take(message)))
    }

    /// Reads these partitions, each from its offset on, until it is dropped.
    pub(super) fn assign(
        &mut self,
        topic: &str,
        from: impl IntoIterator<Item = (i32, NextOffset)>,
    ) -> Result<Reading<'_>, StageError> {
        assign(&self.committed, topic, from)
    }
}

fn assign<'a>(
    consumer: &'a BaseConsumer<Quiet>,
    topic: &str,
    from: impl IntoIterator<Item = (i32, NextOffset)>,
) -> Result<Reading<'a>, StageError> {
    let mut list = TopicPartitionList::new();
    let added = from
        .into_iter()
        .try_for_each(|(partition, from)| list.add_partition_offset(topic, partition, from.to_kafka()));
    added.and_then(|()| consumer.assign(&list)).map_err(StageError::kafka("assigning partitions"))?;
    Ok(Reading(consumer))
}

/// Calls `take` for the records of the range that the consumer is given, in order, until it breaks off.
fn walk<E: From<StageError>>(
    consumer: &BaseConsumer<Quiet>,
    range: Range<'_>,
    shutdown: &CancellationToken,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<ControlFlow<()>, E>,
) -> Result<(), E> {
    let Range { topic, partition, from, to } = range;
    if from >= to {
        return Ok(());
    }
    let reading = assign(consumer, topic, [(partition, from)])?;
    loop {
        match reading.poll(shutdown)? {
            Some(Ok(message)) if message.offset() < to.get() => {
                if take(&message)?.is_break() || NextOffset::after(message.offset()) >= to {
                    return Ok(());
                }
            }
            Some(Ok(_)) => return Ok(()),
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(reading.require_end(range)?),
            Some(Err(source)) => return Err(trouble(source).into()),
            None => return Err(trouble(KafkaError::NoMessageReceived).into()),
        }
    }
}

pub(super) struct Reading<'a>(&'a BaseConsumer<Quiet>);

impl Reading<'_> {
    /// What comes next, if the brokers say anything in time.
    pub(super) fn poll(
        &self,
        shutdown: &CancellationToken,
    ) -> Result<Option<KafkaResult<BorrowedMessage<'_>>>, StageError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            // A part must not be taken for the whole.
            if shutdown.is_cancelled() {
                return Err(StageError::Stopped);
            }
            match self.0.poll(STEP) {
                Some(Err(error)) if is_passing(&error) => {
                    tracing::debug!(%error, "the client recovers by itself");
                }
                None => {}
                polled => return Ok(polled),
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
        }
    }

    /// A broker that has just become the leader can know of less than there is: a part must not be taken for the whole.
    fn require_end(&self, range: Range<'_>) -> Result<(), StageError> {
        let bounds = self.0.fetch_watermarks(range.topic, range.partition, REQUEST_TIMEOUT);
        let (_, end) = bounds.map_err(trouble)?;
        if end < range.to.get() { Err(trouble(KafkaError::PartitionEOF(range.partition))) } else { Ok(()) }
    }
}

impl Drop for Reading<'_> {
    /// Or the client would go on fetching ahead.
    fn drop(&mut self) {
        if let Err(error) = self.0.unassign() {
            tracing::warn!(%error, "a client that reads again may go on fetching for nothing");
        }
    }
}

fn client(log: &LogSettings, isolation: &str) -> Result<BaseConsumer<Quiet>, StageError> {
    let mut config = log.consumer("rebuild");
    // What is read is there already: where it ends nothing is waited for.
    config.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "5");
    config.set("isolation.level", isolation);
    config.create_with_context(Quiet).map_err(StageError::kafka("making a consumer"))
}

/// Of all partitions, or of one alone: that of another may have no leader.
type Offsets = BTreeMap<i32, Option<NextOffset>>;

/// Asks for all at once: for the first offset of a time in milliseconds, or for a beginning or end. A leader that has just
/// changed is asked again: librdkafka tells nobody when there is a new one.
fn offsets(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    only: Option<i32>,
    time: Offset,
) -> Result<Offsets, StageError> {
    let times = times(consumer, topic, only, time)?;
    let deadline = Instant::now() + LEADER_LIMIT;
    loop {
        match ask(consumer, times.clone(), REQUEST_TIMEOUT) {
            Err(error) if has_no_leader(&error) && Instant::now() < deadline => thread::sleep(LOOK_AGAIN),
            answered => return answered,
        }
    }
}

/// The first offset of that time or later, of each partition that has any.
fn first_since(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    time_ms: i64,
) -> Result<BTreeMap<i32, NextOffset>, StageError> {
    let found = offsets(consumer, topic, None, Offset::Offset(time_ms.max(0)))?;
    Ok(found.into_iter().filter_map(|(partition, offset)| Some((partition, offset?))).collect())
}

/// What to ask for.
fn times(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    only: Option<i32>,
    time: Offset,
) -> Result<TopicPartitionList, StageError> {
    let partitions = match only {
        Some(partition) => partition..partition + 1,
        None => 0..partition_count(consumer, topic)?,
    };
    let mut times = TopicPartitionList::new();
    for partition in partitions {
        times.add_partition_offset(topic, partition, time).map_err(StageError::kafka(ASKING))?;
    }
    Ok(times)
}

fn has_no_leader(error: &StageError) -> bool {
    use RDKafkaErrorCode::{
        FencedLeaderEpoch, LeaderNotAvailable, NotLeaderForPartition, OffsetNotAvailable, UnknownLeaderEpoch,
    };
    let StageError::Kafka { source, .. } = error else { return false };
    matches!(
        source.rdkafka_error_code(),
        Some(
            FencedLeaderEpoch
                | LeaderNotAvailable
                | NotLeaderForPartition
                | OffsetNotAvailable
                | UnknownLeaderEpoch
        )
    )
}

fn ask(
    consumer: &BaseConsumer<Quiet>,
    times: TopicPartitionList,
    limit: Duration,
) -> Result<Offsets, StageError> {
    let found = consumer.offsets_for_times(times, limit).map_err(StageError::kafka(ASKING))?;
    let offset = |element: TopicPartitionListElem<'_>| {
        element.error().map_err(StageError::kafka(ASKING))?;
        let offset = match element.offset() {
            Offset::Offset(offset) => Some(NextOffset::exclusive(offset)),
            _ => None,
        };
        Ok((element.partition(), offset))
    };
    found.elements().into_iter().map(offset).collect()
}

/// Each partition has a beginning and an end.
fn all(offsets: Offsets) -> Result<BTreeMap<i32, NextOffset>, StageError> {
    let told = |(partition, offset): (i32, Option<NextOffset>)| {
        Ok((partition, offset.ok_or(KafkaError::NoMessageReceived).map_err(StageError::kafka(ASKING))?))
    };
    offsets.into_iter().map(told).collect()
}

fn one(offsets: BTreeMap<i32, NextOffset>) -> Result<NextOffset, StageError> {
    let first = offsets.into_values().next();
    first.ok_or(KafkaError::NoMessageReceived).map_err(StageError::kafka(ASKING))
}

fn trouble(source: KafkaError) -> StageError {
    StageError::Kafka { what: "reading the log again", source }
}

#[cfg(test)]
mod tests;
