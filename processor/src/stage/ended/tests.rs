//! On an embedded log, with what is left as other producers' transactions: only a Kafka that comes back from a crash leaves
//! one's own.

use super::*;
use crate::stage::embedded::{Embedded, PATIENCE, send};
use millrace_schemas::{key::CLOSING, ledger::Stretch};
use rdkafka::{
    Offset, TopicPartitionList,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

const ID: &str = "t.combine-first";
const COMMITTED: Option<Outcome> = Some(Outcome::Committed);
const ABORTED: Option<Outcome> = Some(Outcome::Aborted);

struct Site {
    embedded: Embedded,
    writes: [String; 3],
    positions: Positions,
}

impl Site {
    fn start() -> Self {
        let embedded = Embedded::start();
        let topics = embedded.log.topics();
        let positions = Positions::connect(&embedded.log, "combine", &topics.metrics).expect("connected");
        Self { embedded, writes: [topics.partials, topics.dead_letters, topics.ledger], positions }
    }

    /// A record with that name within a transaction of somebody.
    fn write(&self, somebody: &str, name: &Name, (topic, partition): (usize, i32)) -> BaseProducer {
        let producer = self.embedded.transaction_of(somebody);
        let record = BaseRecord::<[u8], [u8]>::to(&self.writes[topic]).partition(partition);
        send(&producer, record.payload(b"a record").headers(name.add_to(None)));
        producer
    }

    /// The entry of a stretch of the raw partition 2.
    fn tell(&self, name: &Name, from: i64, to: i64) -> BaseProducer {
        let producer = self.embedded.transaction_of(&format!("t.teller-{}", name.producer));
        let topic = self.embedded.log.topics().metrics;
        let stretch = Stretch { version: 1, topic, partition: 2, from, to, arrived: None, rows: Vec::new() };
        let entry = Entry::Combine(stretch).write();
        let record = BaseRecord::<[u8], [u8]>::to(&self.writes[2]).partition(2).payload(&entry);
        send(&producer, record.headers(name.add_to(None)));
        producer
    }

    /// The offset of the raw partition 2 within a transaction.
    fn offset(&self, somebody: &str, next: i64, metadata: &str) -> BaseProducer {
        let producer = self.embedded.transaction_of(somebody);
        let mut offsets = TopicPartitionList::new();
        let mut offset = offsets.add_partition(&self.embedded.log.topics().metrics, 2);
        offset.set_offset(Offset::Offset(next)).expect("an offset");
        offset.set_metadata(metadata);
        producer.send_offsets_to_transaction(&offsets, &self.positions.group(), PATIENCE).expect("sent");
        producer
    }

    fn ended(&self) -> Result<(Option<Outcome>, Option<Outcome>), StageError> {
        let forerunners = Forerunners {
            id: ID.to_owned(),
            log: &self.embedded.log,
            writes: &self.writes,
            positions: &self.positions,
            shutdown: &CancellationToken::new(),
        };
        forerunners.ended().map(|Ended { records, offsets }| (records, offsets))
    }
}

fn name() -> Name {
    Name::new(2, ID.to_owned())
}

fn of_another() -> Name {
    Name::new(2, "t.combine-second".to_owned())
}

fn end(producer: &BaseProducer, commits: bool) {
    let end = if commits { BaseProducer::commit_transaction } else { BaseProducer::abort_transaction };
    end(producer, PATIENCE).expect("ended");
}

#[test]
fn records_end_as_those_that_have_ended() {
    for (commits, expected) in [(true, COMMITTED), (false, ABORTED)] {
        let (site, name) = (Site::start(), name());
        assert_eq!(site.ended().expect("told"), (None, None), "there is nothing");
        let _others = site.write("t.first", &of_another(), (1, 0));
        assert_eq!(site.ended().expect("told"), (None, None), "it is for the other to end it");
        let _open = site.write("t.second", &name, (1, 3));
        assert_eq!(site.ended().expect("told"), (ABORTED, None), "nobody has read any of it");
        let _hidden = site.write("t.third", &name, (1, 0));
        let error = site.ended().expect_err("what is hidden may have ended");
        assert!(matches!(error, StageError::Unsettled { partition: 0, .. }), "{error}");
        end(&site.write("t.fourth", &name, (0, 1)), commits);
        assert_eq!(site.ended().expect("told"), (expected, None));
    }
}

/// The last one counts, not one before it that lies behind what is open.
#[test]
fn who_was_killed_in_the_next_one_has_not_committed_it() {
    let site = Site::start();
    let _hides = site.write("t.first", &of_another(), (1, 0));
    end(&site.write("t.second", &name(), (1, 0)), true);
    let last = name();
    end(&site.write("t.second", &last, (0, 0)), false);
    let _open = site.write("t.third", &last, (1, 0));
    assert_eq!(site.ended().expect("told"), (ABORTED, None));
}

#[test]
fn records_whose_offsets_are_committed_are_so_too() {
    let (site, name) = (Site::start(), name());
    let _open = site.write("t.first", &name, (1, 0));
    end(&site.offset("t.offsets", 7, &name.sign("a checkpoint")), true);
    assert_eq!(site.ended().expect("told"), (COMMITTED, None));
}

#[test]
fn that_others_have_gone_on_with_the_partition_says_nothing() {
    let (site, name) = (Site::start(), name());
    let _open = site.write("t.first", &name, (1, 0));
    end(&site.offset("t.offsets", 7, &of_another().sign("a checkpoint")), true);
    assert_eq!(site.ended().expect("told"), (ABORTED, None));
    end(&site.write("t.ended", &name, (0, 1)), true);
    assert_eq!(site.ended().expect("told"), (COMMITTED, None));
}

#[test]
fn offsets_end_as_the_entry_that_would_move_them() {
    let site = Site::start();
    end(&site.offset("t.offsets", 3, &name().sign("")), true);
    let pending = site.offset("t.pending", 7, &name().sign(""));
    assert_eq!(site.ended().expect("told"), (None, ABORTED), "it was given up before it had an entry");
    end(&site.tell(&of_another(), 3, 9), true);
    end(&site.tell(&name(), 0, 3), true);
    end(&site.tell(&name(), 3, 3), true);
    assert_eq!(site.ended().expect("told"), (None, ABORTED), "these are not the ones");
    end(&site.tell(&name(), 3, 7), false);
    assert_eq!(site.ended().expect("told"), (None, ABORTED));
    // It was done again, behind what retention had removed.
    end(&site.tell(&name(), 4, 8), true);
    assert_eq!(site.ended().expect("told"), (None, COMMITTED));
    let hides = site.tell(&of_another(), 3, 7);
    end(&site.tell(&name(), 8, 9), true);
    let error = site.ended().expect_err("what is hidden may have ended");
    assert!(matches!(error, StageError::Unsettled { partition: 2, .. }), "{error}");
    end(&hides, false);
    assert_eq!(site.ended().expect("told"), (None, COMMITTED));
    end(&pending, true);
    assert_eq!(site.ended().expect("told"), (None, None), "nothing is open");
}

#[test]
fn an_entry_that_is_open_ends_as_its_other_records_do() {
    let (site, name) = (Site::start(), name());
    let _pending = site.offset("t.pending", 7, &name.sign(""));
    let _open = site.tell(&name, 0, 7);
    assert_eq!(site.ended().expect("told"), (ABORTED, ABORTED));
    end(&site.write("t.ended", &name, (0, 1)), true);
    assert_eq!(site.ended().expect("told"), (COMMITTED, COMMITTED));
}

#[test]
fn an_entry_that_is_hidden_ends_as_its_other_records_do() {
    let (site, name) = (Site::start(), name());
    let _hides = site.write("t.hides", &of_another(), (2, 2));
    let _pending = site.offset("t.pending", 7, &name.sign(""));
    let _hidden = site.tell(&name, 0, 7);
    assert!(site.ended().is_err(), "it may have ended");
    end(&site.write("t.ended", &name, (0, 1)), true);
    assert_eq!(site.ended().expect("told"), (COMMITTED, COMMITTED));
}

#[test]
fn what_was_to_close_is_closed_and_tells_nothing() {
    let (site, name) = (Site::start(), name());
    let closing = |somebody: &str, name: &Name, partition| {
        let producer = site.embedded.transaction_of(somebody);
        let record = BaseRecord::<[u8], [u8]>::to(&site.writes[0]).partition(partition);
        send(&producer, record.key(CLOSING.as_bytes()).headers(name.add_to(None)));
        producer
    };
    let _others = closing("t.first", &of_another(), 0);
    assert_eq!(site.ended().expect("told"), (None, None));
    let _open = closing("t.second", &Name::new(0, ID.to_owned()), 1);
    assert_eq!(site.ended().expect("told"), (ABORTED, None));
    let _open = site.write("t.third", &name, (1, 0));
    end(&site.write("t.fourth", &name, (0, 2)), true);
    let _open = closing("t.fifth", &Name::new(0, ID.to_owned()), 3);
    assert_eq!(site.ended().expect("told"), (COMMITTED, None));
}

#[test]
fn what_an_older_build_left_is_committed() {
    let site = Site::start();
    let producer = site.embedded.transaction_of("t.older");
    send(&producer, BaseRecord::<[u8], [u8]>::to(&site.writes[0]).partition(0).payload(b"a record"));
    assert_eq!(site.ended().expect("told"), (COMMITTED, None));
}

#[test]
fn metadata_come_back_without_the_signature() {
    let name = name();
    assert_eq!(signed(&name.sign("AQ")), ("AQ", Some(name.number)));
    assert_eq!(signed(&name.sign("")), ("", Some(name.number)));
    assert_eq!(signed("AQ"), ("AQ", None), "of an older build");
}
