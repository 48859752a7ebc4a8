//! A group consumer whose callbacks become events, a transactional producer, and the transaction that ties them.
//!
//! Members are static and the rebalances cooperative: a partition that stays is read on while others move. librdkafka goes
//! through a rebalance in the background, so the group's generation may change at any time; but nothing is taken from a
//! member before it agrees by [`Client::give_up`]. A transaction therefore commits in the generation of the news last
//! told; where the group is further, it is begun again once the next news has come, and before that is answered.

mod events;
mod membership;

pub(crate) use events::{Assignment, Events, tell};

use super::{
    REQUEST_TIMEOUT, StageError,
    ended::{Ended, Forerunners, Name, Outcome},
    group::{Place, Watch},
    left_open::{LeftOpen, Open},
    lock,
    positions::Positions,
};
use events::Delivered;
use millrace_log::{
    Batches, LogSettings, NextOffset, flush, hear_out, partition_count, seek, set_default, wake,
};
use millrace_schemas::key::CLOSING;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Who is not heard of for so long loses its partitions to others.
const SESSION_TIMEOUT_MS: &str = "10000";
/// How soon members see that the group is being shared out anew.
const HEARTBEAT_INTERVAL_MS: &str = "200";
/// Nobody reads past the open transaction of one that was killed: no longer than its session, then.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);
/// A dead letter may be as large as the dead-letter topic allows.
const MESSAGE_BYTES_MAX: &str = "8388608";
/// Fetched ahead per consumer, unless its user says otherwise: no more is fetched where there is so much, or so many, which
/// then are mostly still in the caches when they are read.
const FETCH_AHEAD: [(&str, &str); 2] =
    [("queued.max.messages.kbytes", "32768"), ("queued.min.messages", "20000")];
/// Of one answer, however many partitions it is for.
const FETCH_BYTES_MAX: &str = "8388608";
/// A producer whose group's coordinator has left the cluster adds offsets for ever, whatever its time-out: librdkafka looks
/// for the new one only when the connection to any broker comes or goes (its issues 5456 and 5511). So idle ones go, before
/// the transaction would be too old.
const CONNECTIONS_IDLE_MS: &str = "5000";
const POLL_WAIT: Duration = Duration::from_millis(20);
/// After its producer a member waits for transactions to end, and reads how its last one did, before it joins.
const NAMESAKE_JOINS: Duration = Duration::from_secs(8);

/// What a stage reads in which group, and the topics that it writes; the ledger's is the last.
pub(crate) struct Stage {
    pub group: &'static str,
    pub reads: String,
    pub writes: [String; 3],
}

/// One member of a stage's group, and its producer.
pub(crate) struct Client {
    pub consumer: BaseConsumer<Events>,
    producer: BaseProducer<Delivered>,
    pub topic: String,
    pub partitions: i32,
    pub positions: Arc<Positions>,
    group: String,
    place: Place,
    /// How far partitions were committed when this member began or committed last.
    committed: Mutex<BTreeMap<i32, NextOffset>>,
    /// Taken on, but not yet read.
    held: Mutex<BTreeSet<i32>>,
    watch: Mutex<Watch>,
    writes: [String; 3],
    begun: Mutex<Begun>,
    left_open: Arc<LeftOpen>,
    /// What of [`LeftOpen::standing`] this producer can't have left, having closed it.
    closed: Mutex<Open>,
}

/// The transaction that was begun last.
struct Begun {
    name: Name,
    /// Where the first record has its name.
    named: Vec<(String, i32)>,
    /// So whatever of an own one is open must be committed.
    has_committed: bool,
}

impl Client {
    /// A restarted member takes its own partitions back at once, and its producer puts an end to what its forerunner left
    /// open.
    pub(crate) fn connect(
        log: &LogSettings,
        Stage { group, reads: topic, writes }: Stage,
        place: Place,
        left_open: &Arc<LeftOpen>,
        shutdown: &CancellationToken,
    ) -> Result<Self, StageError> {
        let mut config = log.consumer(group);
        FETCH_AHEAD.iter().for_each(|(name, value)| set_default(&mut config, name, value));
        // librdkafka refuses one that is less than the largest message; of itself it takes more.
        if config.get("message.max.bytes").is_none() {
            set_default(&mut config, "fetch.max.bytes", FETCH_BYTES_MAX);
        }
        let consumer: BaseConsumer<Events> = config
            .set("group.instance.id", place.instance())
            .set("session.timeout.ms", SESSION_TIMEOUT_MS)
            .set("heartbeat.interval.ms", HEARTBEAT_INTERVAL_MS)
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("enable.partition.eof", "true")
            .create_with_context(Events::default())
            .map_err(StageError::kafka("making a consumer"))?;
        let mut config = log.producer(TRANSACTION_TIMEOUT);
        set_default(&mut config, "connections.max.idle.ms", CONNECTIONS_IDLE_MS);
        let producer: BaseProducer<Delivered> = config
            .set("transactional.id", place.instance())
            .set("message.max.bytes", MESSAGE_BYTES_MAX)
            .set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string())
            // The first request after a commit is refused while the marks of that are written: soon it is not any more.
            .set("retry.backoff.ms", "10")
            .set("retry.backoff.max.ms", "200")
            .create_with_context(Delivered::default())
            .map_err(StageError::kafka("making a producer"))?;
        producer.init_transactions(REQUEST_TIMEOUT).map_err(StageError::kafka("starting transactions"))?;
        let name = Name::new(0, place.instance());
        let client = Self {
            producer,
            begun: Mutex::new(Begun { name, named: Vec::new(), has_committed: false }),
            partitions: partition_count(&consumer, &topic)?,
            positions: Arc::new(Positions::connect(log, group, &topic)?),
            consumer,
            topic,
            group: log.name(group),
            place,
            committed: Mutex::default(),
            held: Mutex::default(),
            watch: Mutex::default(),
            writes,
            left_open: Arc::clone(left_open),
            closed: Mutex::default(),
        };
        let forerunners = Forerunners {
            id: client.place.instance(),
            log,
            writes: &client.writes,
            positions: &client.positions,
            shutdown,
        };
        let ended = forerunners.ended()?;
        if ended.records.is_some() || ended.offsets.is_some() {
            let producer = client.place.instance();
            tracing::warn!(producer, ?ended, "a transaction was left open: it ends as the rest of it has");
        }
        client.close(ended)?;
        client.consumer.subscribe(&[&client.topic]).map_err(StageError::kafka("subscribing"))?;
        Ok(client)
    }

    /// Ends what Kafka may have left open of this producer's transactions since it began.
    pub(crate) fn close_left_open(&self) -> Result<(), StageError> {
        let open = self.left_open.standing(&self.writes);
        let is_closed = |(partition, at)| lock(&self.closed).get(partition) == Some(at);
        if !open.iter().all(is_closed) && self.close_own()? {
            lock(&self.closed).extend(open);
        }
        Ok(())
    }

    /// What to do about the error that the worker ended with: where the producer was put out, it may have been by a namesake,
    /// which joins the group next. Then that is the error.
    pub(crate) fn end(&self, ended: Result<(), StageError>) -> Result<(), StageError> {
        if let Err(StageError::Kafka { source: KafkaError::Transaction(error), .. }) = &ended
            && error.code() == RDKafkaErrorCode::Fenced
            && let Some(code) = self.await_fatal_error()
        {
            let source = KafkaError::MessageConsumptionFatal(code);
            return Err(StageError::Kafka { what: "staying in the group", source });
        }
        ended
    }

    /// What put the member out of its group, if that comes within the time in which a namesake has joined.
    fn await_fatal_error(&self) -> Option<RDKafkaErrorCode> {
        let deadline = Instant::now() + NAMESAKE_JOINS;
        loop {
            match self.consumer.client().fatal_error() {
                Some((code, _)) => return Some(code),
                None if Instant::now() >= deadline => return None,
                None => std::thread::sleep(POLL_WAIT),
            }
        }
    }

    /// The same of the last transaction of this member; false where it has committed none.
    fn close_own(&self) -> Result<bool, StageError> {
        if !lock(&self.begun).has_committed {
            return Ok(false);
        }
        tracing::info!(producer = self.place.instance(), "ends what may be open of its last transaction");
        self.touch(true, true, Outcome::Committed).map(|()| true)
    }

    /// Ends what is open of the last transaction as the rest of it has ended.
    fn close(&self, ended: Ended) -> Result<(), StageError> {
        match ended {
            Ended { records: Some(records), offsets: Some(offsets) } if records == offsets => {
                self.touch(true, true, records)
            }
            Ended { records, offsets } => {
                records.map_or(Ok(()), |outcome| self.touch(true, false, outcome))?;
                offsets.map_or(Ok(()), |outcome| self.touch(false, true, outcome))
            }
        }
    }

    /// A transaction with a record that says nothing in each partition that this producer writes, and with an offset.
    fn touch(&self, records: bool, offset: bool, outcome: Outcome) -> Result<(), StageError> {
        let kafka = || StageError::kafka("closing a transaction that was left open");
        self.producer.begin_transaction().map_err(kafka())?;
        if offset {
            // Any touches the partition where the group's are.
            let mut any = TopicPartitionList::new();
            any.add_partition_offset(&self.writes[0], 0, NextOffset::START.to_kafka()).map_err(kafka())?;
            let group = self.positions.group();
            let sent = self.producer.send_offsets_to_transaction(&any, &group, REQUEST_TIMEOUT);
            sent.map_err(kafka())?;
        }
        let name = Name::new(0, self.place.instance());
        for topic in self.writes.iter().filter(|_| records) {
            for partition in 0..partition_count(&self.consumer, topic)? {
                let closing = BaseRecord::to(topic).partition(partition).key(CLOSING.as_bytes());
                self.enqueue(closing.headers(name.add_to(None)))?;
            }
        }
        flush(&self.producer, REQUEST_TIMEOUT).map_err(kafka())?;
        match outcome {
            Outcome::Committed => self.producer.commit_transaction(REQUEST_TIMEOUT),
            Outcome::Aborted => self.producer.abort_transaction(REQUEST_TIMEOUT),
        }
        .map_err(kafka())
    }

    /// What the group wants of this member: to be asked after each poll, and answered with [`Self::take_on`] or
    /// [`Self::give_up`]. Until then everything is as it was.
    pub(crate) fn news(&self) -> Option<Assignment> {
        self.consumer.context().news()
    }

    /// Takes on assigned partitions. None is read before [`Self::begin`].
    pub(crate) fn take_on(&self, partitions: &[i32]) -> Result<(), StageError> {
        let mut list = TopicPartitionList::new();
        // Without an offset it would ask for the committed one, and start nothing before it is told.
        let added = partitions.iter().try_for_each(|partition| {
            list.add_partition_offset(&self.topic, *partition, NextOffset::START.to_kafka())
        });
        added
            .and_then(|()| self.consumer.incremental_assign(&list))
            .and_then(|()| self.consumer.pause(&list))
            .map_err(StageError::kafka("taking on partitions"))?;
        lock(&self.held).extend(partitions);
        self.answered();
        if !partitions.is_empty() {
            tracing::info!(group = self.group, ?partitions, "takes on partitions");
        }
        Ok(())
    }

    /// Begins to read a partition that was taken on where it is committed: into `batches`, or else where the consumer is
    /// polled.
    pub(crate) fn begin(
        &self,
        partition: i32,
        next: NextOffset,
        batches: Option<&Batches<'_, Events>>,
    ) -> Result<(), StageError> {
        let what = "beginning to read a partition";
        self.seek(partition, next).map_err(StageError::kafka(what))?;
        // Once it is sought, nothing undoes this while the partition is here.
        let added = batches.map(|batches| batches.add(&self.topic, partition)).transpose();
        added.map_err(StageError::kafka(what))?;
        lock(&self.committed).insert(partition, next);
        lock(&self.held).remove(&partition);
        let resumed = self.list(&[partition]);
        self.consumer.resume(&resumed).map_err(StageError::kafka(what))?;
        let read = self.without_held(&self.consumer.assignment().map_err(StageError::kafka(what))?);
        // Fetches of others from the same broker come back, and its own follows; from another it may take a second.
        if read.count() == 1 {
            wake(&self.consumer, &resumed);
        }
        Ok(())
    }

    /// Goes on at these places after a pause, whatever librdkafka thinks: it pauses in each rebalance too. What was fetched
    /// before it drops, but the marks of transactions among that move its place, behind messages that it has not given.
    pub(crate) fn go_on(
        &self,
        places: impl IntoIterator<Item = (i32, NextOffset)>,
    ) -> Result<(), StageError> {
        let mut sought = Vec::new();
        for (partition, next) in places {
            self.seek(partition, next).map_err(StageError::kafka("going on with a partition"))?;
            sought.push(partition);
        }
        wake(&self.consumer, &self.list(&sought));
        Ok(())
    }

    fn seek(&self, partition: i32, next: NextOffset) -> Result<(), KafkaError> {
        seek(&self.consumer, &self.topic, partition, next)
    }

    /// From now on others may have these partitions.
    pub(crate) fn give_up(&self, partitions: &[i32]) -> Result<(), StageError> {
        let list = self.list(partitions);
        self.consumer.incremental_unassign(&list).map_err(StageError::kafka("giving up partitions"))?;
        lock(&self.held).retain(|partition| !partitions.contains(partition));
        self.answered();
        tracing::info!(group = self.group, ?partitions, "gives up partitions");
        Ok(())
    }

    fn answered(&self) {
        self.consumer.context().answered();
        lock(&self.watch).changed(Instant::now());
    }

    fn list(&self, partitions: &[i32]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.topic, *partition);
        }
        list
    }

    /// Writes `records` and commits `offsets` in one transaction.
    pub(crate) fn transact<'a>(
        &self,
        records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>,
        offsets: &TopicPartitionList,
    ) -> Result<(), StageError> {
        self.transact_with(offsets, || records.into_iter().try_for_each(|record| self.send(record)))
    }

    /// Commits `offsets` in one transaction with what `write` sends.
    pub(crate) fn transact_with(
        &self,
        offsets: &TopicPartitionList,
        write: impl FnOnce() -> Result<(), StageError>,
    ) -> Result<(), StageError> {
        self.begin_with(offsets)?;
        write()?;
        flush(&self.producer, REQUEST_TIMEOUT)
            .and_then(|()| self.producer.commit_transaction(REQUEST_TIMEOUT))
            .map_err(StageError::kafka("committing a transaction"))?;
        lock(&self.begun).has_committed = true;
        lock(&self.committed).extend(positions(offsets));
        Ok(())
    }

    /// Begins a transaction that commits `offsets`. They come first: where the group refuses them nothing has been sent,
    /// and nothing is left in a queue. librdkafka (2.12) can't give up a transaction with requests that are queued without
    /// a gap in the producer's sequence, and the brokers refuse all that comes after a gap.
    fn begin_with(&self, offsets: &TopicPartitionList) -> Result<(), StageError> {
        self.producer.poll(Duration::ZERO);
        if self.producer.context().has_lost_a_broker() {
            // Before a part of what may be left open ends with this one, in whichever way.
            self.close_own()?;
        }
        loop {
            let signed = self.name_next(offsets).map_err(StageError::kafka("naming a transaction"))?;
            self.producer.begin_transaction().map_err(StageError::kafka("beginning a transaction"))?;
            match self.add_offsets(&signed) {
                Err(error) if is_outdated(&error) => {
                    let ended = self.producer.abort_transaction(REQUEST_TIMEOUT);
                    ended.map_err(StageError::kafka("giving up a transaction"))?;
                    self.wait_for_news()?;
                    self.check_committed(offsets)?;
                    tracing::debug!(group = self.group, "a transaction is begun again in the new generation");
                }
                added => return added,
            }
        }
    }

    /// Gives the transaction that begins a name; returns the offsets with it.
    fn name_next(&self, offsets: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
        let mut begun = lock(&self.begun);
        let first = offsets.elements().first().map_or(0, |element| element.partition());
        begun.name = Name::new(first, self.place.instance());
        begun.named.clear();
        let mut signed = TopicPartitionList::new();
        for element in offsets.elements() {
            let mut copy = signed.add_partition(element.topic(), element.partition());
            copy.set_offset(element.offset())?;
            copy.set_metadata(begun.name.sign(element.metadata()));
        }
        Ok(signed)
    }

    fn add_offsets(&self, offsets: &TopicPartitionList) -> Result<(), StageError> {
        if self.consumer.assignment_lost() {
            return Err(StageError::Overtaken);
        }
        if offsets.count() == 0 {
            return Ok(());
        }
        let generation = self.consumer.context().generation().ok_or(StageError::Overtaken)?;
        let sent = self.producer.send_offsets_to_transaction(offsets, &generation, REQUEST_TIMEOUT);
        sent.map_err(StageError::kafka("adding offsets to a transaction"))
    }

    /// The group is further, so it will tell; records wait meanwhile.
    fn wait_for_news(&self) -> Result<(), StageError> {
        let read = self.pause()?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        while self.news().is_none() {
            if Instant::now() >= deadline || matches!(self.consumer.poll(POLL_WAIT), Some(Ok(_))) {
                return Err(StageError::Overtaken);
            }
        }
        if self.consumer.assignment_lost() {
            return Err(StageError::Overtaken);
        }
        self.resume(&read)
    }

    /// Stops the records of all that is read, so that it can be polled for the group's news alone; returns their partitions.
    pub(crate) fn pause(&self) -> Result<TopicPartitionList, StageError> {
        let what = "pausing the partitions";
        let read = self.without_held(&self.consumer.assignment().map_err(StageError::kafka(what))?);
        self.consumer.pause(&read).map_err(StageError::kafka(what))?;
        Ok(read)
    }

    /// Ends [`Self::pause`]. Of its partitions some may be given up by now, and some of those taken on again.
    pub(crate) fn resume(&self, paused: &TopicPartitionList) -> Result<(), StageError> {
        let read = self.without_held(paused);
        self.consumer.resume(&read).map_err(StageError::kafka("resuming the partitions"))?;
        wake(&self.consumer, &read);
        Ok(())
    }

    fn without_held(&self, list: &TopicPartitionList) -> TopicPartitionList {
        let held = lock(&self.held);
        let elements = list.elements();
        let partitions = elements.iter().map(|element| element.partition());
        self.list(&partitions.filter(|partition| !held.contains(partition)).collect::<Vec<_>>())
    }

    /// Nobody else has gone on with these partitions: a member that was put out, and came back without knowing it, stops
    /// here.
    fn check_committed(&self, offsets: &TopicPartitionList) -> Result<(), StageError> {
        let partitions: Vec<i32> = positions(offsets).map(|(partition, _)| partition).collect();
        let committed: BTreeMap<i32, NextOffset> =
            positions(&ask_committed(&self.consumer, self.list(&partitions), REQUEST_TIMEOUT)?).collect();
        let known = lock(&self.committed);
        let expected = |partition| known.get(partition).copied().unwrap_or(NextOffset::START);
        let found = |partition| committed.get(partition).copied().unwrap_or(NextOffset::START);
        let unchanged = partitions.iter().all(|partition| expected(partition) == found(partition));
        unchanged.then_some(()).ok_or(StageError::Overtaken)
    }

    /// Waits until the log has all `records`, and returns for each partition the offset after the last of them.
    pub(crate) fn append<'a>(
        &self,
        records: impl IntoIterator<Item = BaseRecord<'a, [u8], [u8]>>,
    ) -> Result<BTreeMap<i32, NextOffset>, StageError> {
        let what = "waiting until the log has the rows";
        let delivered = self.producer.context();
        delivered.forget();
        records.into_iter().try_for_each(|record| self.send(record))?;
        flush(&self.producer, REQUEST_TIMEOUT).map_err(StageError::kafka(what))?;
        let ends = delivered.newest().into_iter().map(|(partition, newest)| {
            let newest = newest.ok_or(StageError::Kafka { what, source: KafkaError::NoMessageReceived })?;
            Ok((partition, NextOffset::after(newest)))
        });
        ends.collect()
    }

    /// Sends a record of the transaction that is begun.
    pub(crate) fn send(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), StageError> {
        let is_told = record.topic == self.writes[2];
        if let Some(name) = lock(&self.begun).name_for(record.topic, record.partition.filter(|_| !is_told)) {
            record.headers = Some(name.add_to(record.headers.take()));
        }
        self.enqueue(record)
    }

    /// Waits while the producer's queue is full: it empties by itself.
    fn enqueue(&self, mut record: BaseRecord<'_, [u8], [u8]>) -> Result<(), StageError> {
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    self.producer.poll(Duration::from_millis(10));
                    record = back;
                }
                Err((source, _)) => return Err(StageError::Kafka { what: "sending a record", source }),
            }
        }
    }
}

impl Begun {
    /// The name that a record must have: the first in each partition, and each that is sent to none in particular.
    fn name_for(&mut self, topic: &str, partition: Option<i32>) -> Option<&Name> {
        if let Some(partition) = partition {
            let is_here = |named: &(String, i32)| named.1 == partition && named.0 == topic;
            if self.named.iter().rev().any(is_here) {
                return None;
            }
            self.named.push((topic.to_owned(), partition));
        }
        Some(&self.name)
    }
}

impl Drop for Client {
    /// The consumer's own drop waits until all is answered.
    fn drop(&mut self) {
        self.consumer.context().close();
        self.agree();
        hear_out(&self.consumer);
    }
}

pub(super) fn ask_committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: TopicPartitionList,
    timeout: Duration,
) -> Result<TopicPartitionList, StageError> {
    let what = "asking for the committed offsets";
    let committed = consumer.committed_offsets(list, timeout).map_err(StageError::kafka(what))?;
    // An offset that can't be told must not be taken for none: that would read the log from its start.
    let told: Result<(), KafkaError> = committed.elements().iter().try_for_each(|element| element.error());
    told.map_err(StageError::kafka(what))?;
    Ok(committed)
}

fn positions(offsets: &TopicPartitionList) -> impl Iterator<Item = (i32, NextOffset)> + use<> {
    let elements = offsets.elements();
    let positions = elements.iter().filter_map(|element| match element.offset() {
        Offset::Offset(next) => Some((element.partition(), NextOffset::exclusive(next))),
        _ => None,
    });
    positions.collect::<Vec<_>>().into_iter()
}

/// The member is still one, or it would be unknown; but the group has gone through a rebalance since its last news.
fn is_outdated(error: &StageError) -> bool {
    let StageError::Kafka { source: KafkaError::Transaction(error), .. } = error else { return false };
    matches!(error.code(), RDKafkaErrorCode::IllegalGeneration | RDKafkaErrorCode::RebalanceInProgress)
}

#[cfg(test)]
mod tests;
