//! A member of a consumer group whose truth about offsets lies elsewhere, as values: what librdkafka's callbacks say
//! becomes an [`Event`], and an assignment begins only when its owner says at which offsets.
//!
//! The group's eager protocol is used: an assignment is always whole, and may be answered late (a store may be away)
//! without any risk to the group's state. What stays is interrupted for no longer than a heartbeat and a batch, as nothing
//! is read again: where to go on is known to the store, and the archive keeps what it gave up.

use crate::stage::group::{Group, LOOK_LIMIT, Place};
use millrace_log::{LogSettings, NextOffset, hear_out, seek, wake};
use rdkafka::{
    ClientConfig, ClientContext, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    message::BorrowedMessage,
    statistics::Statistics,
    types::RDKafkaRespErr,
};
use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

/// How long one question to the broker may take.
const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of a member may be held up by its leaving.
const LEAVE_LIMIT: Duration = Duration::from_secs(2);
const LEAVE_POLL: Duration = Duration::from_millis(20);

#[derive(Debug, thiserror::Error)]
#[error("{doing} {topic}")]
pub struct Error {
    doing: &'static str,
    topic: String,
    #[source]
    source: Box<KafkaError>,
}

impl Error {
    /// Another member has the name. After a broker's outage that can be what it remembers of this one.
    pub fn is_fenced(&self) -> bool {
        self.source.rdkafka_error_code() == Some(RDKafkaErrorCode::FencedInstanceId)
    }
}

pub enum Event<'a> {
    Record(BorrowedMessage<'a>),
    /// All partitions that this member has now, none of which is read before [`Member::assign`].
    Assigned(Vec<i32>),
    /// They belong to this member until [`Member::give_up`] is called.
    Revoked,
    /// All records of the partition have been read.
    CaughtUp(i32),
    /// The end of partitions (after the last committed record), told every few seconds.
    Ends(BTreeMap<i32, i64>),
    /// Nothing within the time.
    Nothing,
}

/// The offsets that a partition has: `low` is the first that retention has left, `end` one past the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub low: NextOffset,
    pub end: NextOffset,
}

pub struct Member {
    config: ClientConfig,
    consumer: BaseConsumer<Callbacks>,
    topic: String,
    group: String,
    place: Place,
    /// The last error told, so that each is told once.
    told: Cell<Option<RDKafkaErrorCode>>,
}

impl Member {
    /// Joins the installation's group for `role` as the member `instance`, which takes its own partitions back at once
    /// when it was restarted.
    pub fn join(log: &LogSettings, role: &str, instance: &str, topic: &str) -> Result<Self, Error> {
        let place = Place { process: log.name(&format!("{role}-{instance}")), worker: None };
        let mut config = log.consumer(role);
        config
            .set("group.instance.id", place.instance())
            .set("partition.assignment.strategy", "range")
            // A killed member's partitions go to others after this.
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "500")
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", "5000")
            .set("queued.max.messages.kbytes", "32768");
        let consumer = subscribe(&config, topic)?;
        let (topic, group) = (topic.to_owned(), log.name(role));
        Ok(Self { config, consumer, topic, group, place, told: Cell::new(None) })
    }

    /// Joins again, with nothing of what it had: a client that was put out stays out.
    pub fn rejoin(&mut self) -> Result<(), Error> {
        self.let_go();
        self.consumer = subscribe(&self.config, &self.topic)?;
        Ok(())
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The next event, for which it waits no longer than `timeout`. Errors that pass by themselves are logged.
    pub fn next(&self, timeout: Duration) -> Result<Event<'_>, Error> {
        if let Some(happening) = self.consumer.context().take() {
            return Ok(happening.into_event());
        }
        match self.consumer.poll(timeout) {
            None => Ok(Event::Nothing),
            Some(Ok(message)) => {
                self.told.set(None);
                Ok(Event::Record(message))
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Event::CaughtUp(partition)),
            Some(Err(error)) => self.judge(error).map(|()| Event::Nothing),
        }
    }

    fn judge(&self, source: KafkaError) -> Result<(), Error> {
        let code = source.rdkafka_error_code();
        let hopeless = match code {
            Some(RDKafkaErrorCode::FencedInstanceId) => {
                Some("another processor with the same --instance-id reads")
            }
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::SaslAuthenticationFailed,
            ) => Some("without the rights to read"),
            _ if matches!(source, KafkaError::MessageConsumptionFatal(_)) => Some("reading"),
            _ => None,
        };
        if let Some(doing) = hopeless {
            return Err(self.failed(doing)(source));
        }
        if self.told.replace(code) != code {
            tracing::warn!(topic = self.topic, error = %source, "reading is disturbed; it goes on by itself");
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(KafkaError) -> Error {
        let topic = self.topic.clone();
        move |source| Error { doing, topic, source: source.into() }
    }

    /// Begins to read exactly these partitions at these offsets, and ends a pause.
    pub fn assign(&self, positions: &[(i32, NextOffset)]) -> Result<(), Error> {
        let mut list = TopicPartitionList::new();
        let added = positions.iter().try_for_each(|(partition, next)| {
            list.add_partition_offset(&self.topic, *partition, next.to_kafka())
        });
        added
            .and_then(|()| self.consumer.resume(&list))
            .and_then(|()| self.consumer.assign(&list))
            .and_then(|()| {
                let mut positions = positions.iter();
                positions
                    .try_for_each(|(partition, next)| seek(&self.consumer, &self.topic, *partition, *next))
            })
            .map_err(self.failed("taking partitions of"))
    }

    /// Answers [`Event::Revoked`].
    pub fn give_up(&self) -> Result<(), Error> {
        self.consumer.unassign().map_err(self.failed("giving up partitions of"))
    }

    /// Ends the membership, so that members of other processes get the partitions at once. Where there are none it stays
    /// a member until its session ends: whoever comes back under its name finds its place.
    pub fn leave_to_others(&self) {
        if !self.look().is_some_and(|group| group.has_others(&self.place)) {
            return;
        }
        self.consumer.unsubscribe();
        let deadline = Instant::now() + LEAVE_LIMIT;
        // The coordinator is told once everything is given up.
        while Instant::now() < deadline && self.look().is_some_and(|group| group.has(&self.place)) {
            let answered = match self.next(LEAVE_POLL) {
                Ok(Event::Revoked) => self.give_up(),
                Ok(Event::Assigned(_)) => self.assign(&[]),
                other => other.map(drop),
            };
            if let Err(error) = answered {
                tracing::debug!(%error, "could not leave the group");
                return;
            }
        }
    }

    fn look(&self) -> Option<Group> {
        let group = Group::look(&self.consumer, &self.group, &self.topic, LOOK_LIMIT);
        group.inspect_err(|error| tracing::debug!(%error, "the group can't be seen")).ok()
    }

    /// Stops the records of all partitions, while [`Member::next`] keeps this member in the group.
    pub fn pause(&self) {
        self.change("pause", |list| self.consumer.pause(list));
    }

    pub fn resume(&self) {
        self.change("resume", |list| self.consumer.resume(list).map(|()| wake(&self.consumer, list)));
    }

    fn change(&self, what: &str, change: impl FnOnce(&TopicPartitionList) -> Result<(), KafkaError>) {
        if let Err(error) = self.consumer.assignment().and_then(|list| change(&list)) {
            tracing::warn!(topic = self.topic, %error, "could not {what} the partitions");
        }
    }

    /// Asks the broker.
    pub fn bounds(&self, partition: i32) -> Result<Bounds, Error> {
        let (low, end) = self
            .consumer
            .fetch_watermarks(&self.topic, partition, ASK_LIMIT)
            .map_err(self.failed("asking which offsets there are in"))?;
        Ok(Bounds { low: NextOffset::exclusive(low), end: NextOffset::exclusive(end) })
    }

    /// Tells the group how far the partitions are, for tools that show lag: nothing here reads it.
    pub fn tell_progress(&self, positions: impl IntoIterator<Item = (i32, NextOffset)>) {
        let mut list = TopicPartitionList::new();
        let added = positions.into_iter().try_for_each(|(partition, next)| {
            list.add_partition_offset(&self.topic, partition, next.to_kafka())
        });
        if let Err(error) = added.and_then(|()| self.consumer.commit(&list, CommitMode::Async)) {
            tracing::debug!(topic = self.topic, %error, "the group was not told the progress");
        }
    }
}

impl Member {
    /// The consumer's own drop waits until the partitions are given up, so a late answer must be given now.
    fn let_go(&self) {
        self.consumer.context().closing.store(true, Ordering::Relaxed);
        if let Err(error) = self.give_up() {
            tracing::warn!(topic = self.topic, %error, "could not give up the partitions");
        }
        hear_out(&self.consumer);
    }
}

fn subscribe(config: &ClientConfig, topic: &str) -> Result<BaseConsumer<Callbacks>, Error> {
    let failed = |source: KafkaError| Error {
        doing: "joining the group that reads",
        topic: topic.to_owned(),
        source: source.into(),
    };
    let consumer = config.create_with_context(Callbacks::default()).map_err(failed)?;
    Consumer::subscribe(&consumer, &[topic]).map_err(failed)?;
    Ok(consumer)
}

impl Drop for Member {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What callbacks said while the consumer was polled.
enum Happening {
    Assigned(Vec<i32>),
    Revoked,
    Ends(BTreeMap<i32, i64>),
}

impl Happening {
    fn into_event(self) -> Event<'static> {
        match self {
            Self::Assigned(partitions) => Event::Assigned(partitions),
            Self::Revoked => Event::Revoked,
            Self::Ends(ends) => Event::Ends(ends),
        }
    }
}

#[derive(Default)]
struct Callbacks {
    /// Holds what one poll brought: `next` empties it before it polls again.
    happened: Mutex<VecDeque<Happening>>,
    closing: AtomicBool,
}

impl Callbacks {
    fn happened(&self) -> MutexGuard<'_, VecDeque<Happening>> {
        self.happened.lock().expect("no code panics while it holds the queue")
    }

    fn take(&self) -> Option<Happening> {
        self.happened().pop_front()
    }
}

impl ClientContext for Callbacks {
    fn stats(&self, statistics: Statistics) {
        let partitions = statistics.topics.values().flat_map(|topic| topic.partitions.values());
        let ends =
            partitions.filter(|p| p.partition >= 0 && p.ls_offset >= 0).map(|p| (p.partition, p.ls_offset));
        self.happened().push_back(Happening::Ends(ends.collect()));
    }

    /// librdkafka tells of every broken connection: not worth more than a debug line, as reads go on by themselves.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "a client error");
    }
}

impl ConsumerContext for Callbacks {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if !self.closing.load(Ordering::Relaxed) {
            let partitions = list.elements().iter().map(|element| element.partition()).collect();
            let happening = if assigned { Happening::Assigned(partitions) } else { Happening::Revoked };
            self.happened().push_back(happening);
        } else if !consumer.closed()
            // Whoever answers after that waits for ever.
            && let Err(error) = consumer.unassign()
        {
            tracing::warn!(%error, "could not give up the partitions");
        }
    }
}
