//! Members of a group on an embedded log, at the moments at which rebalances go wrong.

use super::*;
use crate::stage::{
    embedded::{Embedded, PARTITIONS, PATIENCE, send, until},
    past::Past,
};
use millrace_log::is_closing;
use rdkafka::{
    ClientContext as _, error::RDKafkaErrorCode::AllBrokersDown, topic_partition_list::TopicPartitionListElem,
};
use std::{
    collections::BTreeSet,
    iter,
    ops::{ControlFlow, Deref},
    sync::mpsc,
    thread,
};

const LETTERS: usize = 20_000;

struct Site {
    embedded: Embedded,
    left_open: Arc<LeftOpen>,
    shutdown: CancellationToken,
}

impl Deref for Site {
    type Target = Embedded;

    fn deref(&self) -> &Embedded {
        &self.embedded
    }
}

impl Site {
    fn start() -> Self {
        let embedded = Embedded::start();
        Self { left_open: LeftOpen::new(&embedded.log), shutdown: CancellationToken::new(), embedded }
    }

    fn member(&self, process: &str) -> Member {
        let place = Place { process: self.log.name(process), worker: None };
        let topics = self.log.topics();
        let writes = [topics.partials, topics.dead_letters, topics.ledger];
        let stage = Stage { group: "combine", reads: topics.metrics, writes };
        let client = Client::connect(&self.log, stage, place, &self.left_open, &self.shutdown);
        Member { client: client.expect("a member"), owned: BTreeSet::new(), told: 0 }
    }

    /// The first member, once it has everything.
    fn owner(&self) -> Member {
        let mut first = self.member("first");
        until("the first has everything", || {
            first.step();
            first.count() == PARTITIONS
        });
        first
    }

    /// How many committed records a topic has.
    fn committed(&self, topic: &str) -> usize {
        let consumer: BaseConsumer =
            self.log.consumer("count").set("enable.partition.eof", "true").create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        }
        consumer.assign(&list).expect("assigned");
        let (mut records, mut ends) = (0, 0);
        until("all is read", || {
            while let Some(polled) = consumer.poll(POLL_WAIT) {
                match polled {
                    Ok(_) => records += 1,
                    Err(KafkaError::PartitionEOF(_)) => ends += 1,
                    Err(error) => panic!("{error}"),
                }
            }
            ends == PARTITIONS
        });
        records
    }

    /// Two members; the first one, which has everything, is told to give something up but has not agreed.
    fn between_two_rounds(&self) -> (Member, Member) {
        let first = self.owner();
        let mut second = self.member("second");
        until("the first has to give something up", || {
            second.step();
            first.client.consumer.poll(POLL_WAIT);
            matches!(first.client.news(), Some(Assignment::Revoked(_)))
        });
        (first, second)
    }
}

struct Member {
    client: Client,
    owned: BTreeSet<i32>,
    /// How often the group has said something.
    told: usize,
}

impl Member {
    fn count(&self) -> i32 {
        i32::try_from(self.owned.len()).expect("few")
    }

    fn step(&mut self) {
        self.client.consumer.poll(POLL_WAIT);
        match self.client.news() {
            Some(Assignment::Assigned(partitions)) => {
                self.client.take_on(&partitions).expect("taken on");
                for partition in &partitions {
                    self.client.begin(*partition, NextOffset::START, None).expect("begun");
                }
                self.owned.extend(partitions);
            }
            Some(Assignment::Revoked(partitions)) => {
                self.client.give_up(&partitions).expect("given up");
                self.owned.retain(|partition| !partitions.contains(partition));
            }
            None => return,
        }
        self.told += 1;
    }

    /// A transaction of dead letters and the offset 5 of a partition.
    fn transact(&self, topic: &str, letters: usize, partition: i32) -> Result<(), StageError> {
        let mut offsets = self.client.list(&[]);
        offsets.add_partition_offset(&self.client.topic, partition, Offset::Offset(5)).expect("an offset");
        let letters = iter::repeat_n([b'x'; 1_000], letters).collect::<Vec<_>>();
        let letters = letters.iter().map(|letter| BaseRecord::to(topic).payload(&letter[..]));
        self.client.transact(letters.map(|letter| letter.key(b"one partition".as_slice())), &offsets)
    }
}

#[test]
fn who_comes_back_between_the_two_rounds_leaves_no_partition_without_owner() {
    let site = Site::start();
    let (first, mut second) = site.between_two_rounds();
    // As kill -9 does: nothing is said any more.
    std::mem::forget(first);
    let mut first = site.member("first");
    until("the first is back", || {
        first.step();
        first.told > 0
    });
    assert!(first.count() + second.count() < PARTITIONS, "otherwise there is nothing to mend");
    until("all have an owner", || {
        for (name, member) in [("first", &mut first), ("second", &mut second)] {
            member.step();
            if let Err(error) = member.client.watch() {
                assert!(matches!(error, StageError::Ownerless), "{error}");
                *member = site.member(name);
            }
        }
        first.count() + second.count() == PARTITIONS && first.owned.is_disjoint(&second.owned)
    });
}

#[test]
fn a_transaction_that_a_rebalance_overtakes_is_begun_again_before_anything_is_given_up() {
    let site = Site::start();
    let topic = site.log.topics().dead_letters;
    let (mut first, mut second) = site.between_two_rounds();
    // The revocation, what comes with it, and the second round.
    until("the second has something, and the first has heard of it", || {
        first.step();
        second.step();
        !second.owned.is_empty() && first.told >= 4
    });
    let partition = *first.owned.first().expect("it has kept something");
    first.transact(&topic, 1, partition).expect("it is the owner");
    let mut third = site.member("third");
    until("the third was told", || {
        third.step();
        second.step();
        third.told > 0
    });
    // Many: sent before the group says that it is further, some would be queued then, and given up with a gap.
    first.transact(&topic, LETTERS, partition).expect("it is the owner until it agrees");
    assert_eq!(site.committed(&topic), LETTERS + 1, "each is there once");
    let (committed, _) = first.client.positions.committed(partition).expect("an offset");
    assert_eq!(committed, NextOffset::exclusive(5));
    assert!(first.client.news().is_some(), "it still has to be answered");
}

#[test]
fn a_transaction_of_what_somebody_else_has_gone_on_with_is_not_repeated() {
    let site = Site::start();
    let topic = site.log.topics().dead_letters;
    let mut first = site.member("first");
    until("the first has everything", || {
        first.step();
        first.count() == PARTITIONS
    });
    first.transact(&topic, 1, 0).expect("it is the owner");
    let mut second = site.member("second");
    until("the second was told", || {
        second.step();
        second.told > 0
    });
    lock(&first.client.committed).insert(0, NextOffset::exclusive(3));
    let refused = first.transact(&topic, 1, 0).expect_err("it does not know what is committed");
    assert!(matches!(refused, StageError::Overtaken), "{refused}");
}

#[test]
fn who_leaves_to_others_is_gone_at_once_and_who_is_alone_stays() {
    let site = Site::start();
    let mut first = site.member("first");
    until("the first has everything", || {
        first.step();
        first.count() == PARTITIONS
    });
    first.client.leave_to_others();
    let in_group =
        |member: &Member| member.client.look().is_some_and(|group| group.has(&member.client.place));
    assert!(in_group(&first), "nobody else is there");
    let mut second = site.member("second");
    until("the second has something", || {
        first.step();
        second.step();
        !second.owned.is_empty()
    });
    first.client.leave_to_others();
    assert!(!in_group(&first), "it has left");
    let left = Instant::now();
    until("the second has everything", || {
        second.step();
        second.count() == PARTITIONS
    });
    assert!(left.elapsed() < Duration::from_secs(5), "before the session of the first would have ended");
}

/// What librdkafka has fetched before a pause it drops, but marks of transactions in it move its place.
#[test]
fn a_pause_among_marks_of_transactions_passes_nothing_over() {
    const RECORDS: u8 = 40;
    let site = Site::start();
    let topic = site.log.topics().metrics;
    let producer = site.transaction();
    for number in 0..RECORDS {
        send(&producer, BaseRecord::to(&topic).partition(0).payload(&[number]));
        producer.commit_transaction(PATIENCE).expect("committed");
        producer.begin_transaction().expect("a transaction");
    }
    let Member { client, .. } = site.member("first");
    let read = client.list(&[0]);
    let mut batches = Batches::new(&client.consumer);
    let (mut seen, mut next) = (Vec::new(), NextOffset::START);
    until("all have come", || {
        assert!(client.consumer.poll(POLL_WAIT).is_none());
        if let Some(Assignment::Assigned(partitions)) = client.news() {
            client.take_on(&partitions).expect("taken on");
            client.begin(0, NextOffset::START, Some(&batches)).expect("begun");
        }
        let mut came = 0;
        let taken: Result<(), KafkaError> = batches.take(POLL_WAIT, |taken| {
            let message = match taken {
                Err(KafkaError::PartitionEOF(_)) => return Ok(ControlFlow::Continue(())),
                taken => taken?,
            };
            seen.extend_from_slice(message.payload().expect("it has one"));
            next = NextOffset::after(message.offset());
            came += 1;
            if came == 2 {
                client.consumer.pause(&read)?;
            }
            Ok(ControlFlow::Continue(()))
        });
        taken.expect("no trouble");
        if came >= 2 {
            client.resume(&read).expect("resumed");
            // Before anything is fetched anew.
            client.consumer.pause(&read).expect("paused");
            client.resume(&read).expect("resumed");
            client.go_on([(0, next)]).expect("sought");
        }
        seen.last() == Some(&(RECORDS - 1))
    });
    assert_eq!(seen, (0..RECORDS).collect::<Vec<_>>());
}

#[test]
fn who_allows_larger_messages_than_are_fetched_at_once_has_a_client() {
    let mut site = Site::start();
    site.embedded.log.properties.push("message.max.bytes=16777216".to_owned());
    site.owner();
}

/// Here somebody else's stays open: only a Kafka that comes back from a crash leaves one's own.
#[test]
fn who_starts_ends_what_is_left_open_as_the_rest_has_ended() {
    let every = usize::try_from(PARTITIONS).expect("few");
    for (commits, expected) in [(true, (every, Offset::Offset(0))), (false, (0, Offset::Invalid))] {
        let site = Site::start();
        let topics = site.log.topics();
        let place = Place { process: site.log.name("first"), worker: None };
        let name = Name::new(1, place.instance());
        let (other, ended) = (site.transaction(), site.transaction_of("t.ended"));
        let record =
            |topic| BaseRecord::<[u8], [u8]>::to(topic).payload(b"a record").headers(name.add_to(None));
        send(&other, record(&topics.dead_letters).partition(2));
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topics.metrics, 1, Offset::Offset(5)).expect("an offset");
        let positions = Positions::connect(&site.log, "combine", &topics.metrics).expect("connected");
        other.send_offsets_to_transaction(&offsets, &positions.group(), PATIENCE).expect("sent");
        // What no stage writes.
        send(&other, record(&topics.metrics).partition(1));
        send(&ended, record(&topics.partials).partition(0));
        let end = if commits { BaseProducer::commit_transaction } else { BaseProducer::abort_transaction };
        end(&ended, PATIENCE).expect("ended");
        let member = site.member("first");
        other.abort_transaction(PATIENCE).expect("aborted");
        let records = site.committed(&topics.dead_letters);
        let mut named = TopicPartitionList::new();
        named.add_partition(&topics.partials, 0);
        let told = ask_committed(&member.client.consumer, named, PATIENCE).expect("an offset");
        let offset = told.elements().first().map(TopicPartitionListElem::offset).expect("one");
        assert_eq!((records, offset), expected);
        let closing = |partition| {
            let mut closing = 0;
            let mut past = Past::connect(&site.log).expect("connected");
            let all = (topics.dead_letters.as_str(), partition, NextOffset::START);
            let read = past.walk_all(all, &site.shutdown, |record| {
                closing += usize::from(is_closing(record));
                ControlFlow::Continue(())
            });
            read.map(|()| closing).expect("read")
        };
        assert_eq!((0..PARTITIONS).map(closing).collect::<Vec<_>>(), [1; 4], "committed or not, it is there");
        assert_eq!(site.committed(&topics.metrics), 0);
    }
}

#[test]
fn a_member_ends_that_has_not_heard_what_it_was_given() {
    let site = Site::start();
    let member = site.member("first");
    until("the group is shared out", || member.client.is_shared_out(1, PATIENCE));
    let (ended, end) = mpsc::sync_channel(1);
    thread::spawn(move || {
        drop(member);
        ended.send(()).expect("it is waited for");
    });
    end.recv_timeout(PATIENCE).expect("it has ended");
}

#[test]
fn a_member_ends_that_has_not_heard_what_it_is_to_give_up() {
    let site = Site::start();
    let (first, mut second) = site.between_two_rounds();
    // What it was told is answered at its end, and then there is more.
    let (ended, end) = mpsc::sync_channel(1);
    thread::spawn(move || {
        drop(first);
        ended.send(()).expect("it is waited for");
    });
    until("it has ended", || {
        second.step();
        end.try_recv().is_ok()
    });
}

#[test]
fn a_transaction_names_its_first_record_in_each_partition_and_its_offsets() {
    let site = Site::start();
    let topics = site.log.topics();
    let first = site.owner();
    let mut offsets = TopicPartitionList::new();
    let mut offset = offsets.add_partition(&topics.metrics, 1);
    offset.set_offset(Offset::Offset(5)).expect("an offset");
    offset.set_metadata("a checkpoint");
    for _ in 0..2 {
        let places =
            [(&topics.partials, 1), (&topics.ledger, 1), (&topics.partials, 1), (&topics.partials, 2)];
        let records = places.map(|(topic, partition)| {
            BaseRecord::<[u8], [u8]>::to(topic).partition(partition).payload(b"a record")
        });
        first.client.transact(records, &offsets).expect("committed");
    }
    let named = |topic: &str, partition| {
        let mut named = Vec::new();
        let mut past = Past::connect(&site.log).expect("connected");
        let all = past.walk_all((topic, partition, NextOffset::START), &site.shutdown, |record| {
            named.push(Name::of(record).is_some());
            ControlFlow::Continue(())
        });
        all.expect("read");
        named
    };
    assert_eq!(named(&topics.partials, 1), [true, false, true, false]);
    assert_eq!(named(&topics.partials, 2), [true, true]);
    assert_eq!(named(&topics.ledger, 1), [true, true]);
    let told = first.client.positions.committed(1).expect("told");
    assert_eq!(told, (NextOffset::exclusive(5), "a checkpoint".to_owned()));
    let committed = first.client.positions.whatever_is_committed().expect("told");
    assert!(committed[&1].number.is_some());
    assert_eq!(committed.len(), 1, "of the others nothing is committed");
}

#[test]
fn who_has_lost_a_broker_touches_each_partition_before_it_goes_on() {
    let site = Site::start();
    let topics = site.log.topics();
    let first = site.owner();
    let lose_a_broker = || first.client.producer.context().error(KafkaError::Global(AllBrokersDown), "lost");
    lose_a_broker();
    first.transact(&topics.dead_letters, 1, 1).expect("committed");
    assert_eq!(site.committed(&topics.partials), 0, "it had left nothing");
    lose_a_broker();
    first.transact(&topics.dead_letters, 1, 1).expect("committed");
    assert_eq!(site.committed(&topics.partials), usize::try_from(PARTITIONS).expect("few"));
}
