//! On an embedded log, with what is left as other producers' transactions: only a Kafka that comes back from a crash leaves
//! one's own.

use super::*;
use crate::stage::embedded::{Embedded, PATIENCE, send};
use rdkafka::{
    Offset, TopicPartitionList,
    producer::{BaseProducer, BaseRecord, Producer as _},
};

const ID: &str = "t.combine-first";

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
    fn write(&self, somebody: &str, name: &Name, topic: usize, partition: i32) -> BaseProducer {
        let producer = self.embedded.transaction_of(somebody);
        let record =
            BaseRecord::<[u8], [u8]>::to(&self.writes[topic]).partition(partition).payload(b"a record");
        send(&producer, record.headers(name.add_to(None)));
        producer
    }

    fn commit_offset(&self, metadata: &str) {
        let producer = self.embedded.transaction_of("t.offsets");
        let mut offsets = TopicPartitionList::new();
        let mut offset = offsets.add_partition(&self.embedded.log.topics().metrics, 2);
        offset.set_offset(Offset::Offset(7)).expect("an offset");
        offset.set_metadata(metadata);
        producer.send_offsets_to_transaction(&offsets, &self.positions.group(), PATIENCE).expect("sent");
        producer.commit_transaction(PATIENCE).expect("committed");
    }

    /// The places that are open are of the dead letters.
    fn last_ended(&self, open: &[(i32, i64)]) -> Ended {
        let place =
            |(partition, at): &(i32, i64)| ((self.writes[1].clone(), *partition), NextOffset::exclusive(*at));
        let open: Open = open.iter().map(place).collect();
        let producer = Producer { id: ID.to_owned(), writes: &self.writes, positions: &self.positions };
        let mut past = Past::connect(&self.embedded.log).expect("connected");
        producer.last_ended(&mut past, &open).expect("told")
    }
}

fn name(producer: &str) -> Name {
    Name::new(producer.to_owned())
}

const COMMITTED: Ended = Ended { records: Outcome::Committed, offsets: Outcome::Committed };
const ABORTED: Ended = Ended { records: Outcome::Aborted, offsets: Outcome::Aborted };

#[test]
fn what_is_open_ends_as_what_has_ended() {
    for (commits, expected) in [(true, COMMITTED), (false, ABORTED)] {
        let site = Site::start();
        let (name, of_another) = (name(ID), name("t.combine-second"));
        let _others = site.write("t.first", &of_another, 1, 3);
        let _open = site.write("t.second", &name, 1, 3);
        let ended = site.write("t.third", &name, 0, 1);
        assert_eq!(site.last_ended(&[(3, 0)]), ABORTED, "nobody has seen any of it");
        let end = if commits { BaseProducer::commit_transaction } else { BaseProducer::abort_transaction };
        end(&ended, PATIENCE).expect("ended");
        assert_eq!(site.last_ended(&[(3, 0)]), expected);
    }
}

/// The last one counts, not one before it that lies behind what is open.
#[test]
fn who_was_killed_in_the_next_one_has_not_committed_it() {
    let site = Site::start();
    let (before, last) = (name(ID), name(ID));
    let hides = site.write("t.first", &name("t.combine-second"), 1, 0);
    site.write("t.second", &before, 1, 0).commit_transaction(PATIENCE).expect("committed");
    std::thread::scope(|scope| {
        scope.spawn(|| hides.abort_transaction(PATIENCE).expect("aborted"));
        assert_eq!(site.last_ended(&[(0, 0)]), COMMITTED, "it is seen once the other has ended");
    });
    let _open = site.write("t.third", &last, 1, 0);
    assert_eq!(site.last_ended(&[(0, 0)]), ABORTED);
}

#[test]
fn where_only_offsets_are_open_the_ledger_tells() {
    let site = Site::start();
    assert_eq!(site.last_ended(&[]), ABORTED, "there was none");
    let (aborted, committed) = (name(ID), name(ID));
    site.write("t.first", &aborted, 2, 0).abort_transaction(PATIENCE).expect("aborted");
    assert_eq!(site.last_ended(&[]), ABORTED);
    site.write("t.first", &committed, 2, 1).commit_transaction(PATIENCE).expect("committed");
    site.commit_offset(&aborted.sign("of another"));
    assert_eq!(site.last_ended(&[]), COMMITTED);
    // So those that are open are not its own.
    site.commit_offset(&committed.sign("its own"));
    assert_eq!(site.last_ended(&[]), Ended { offsets: Outcome::Aborted, ..COMMITTED });
}

#[test]
fn metadata_come_back_without_the_signature() {
    let name = name(ID);
    assert_eq!(signed(&name.sign("AQ")), ("AQ", Some(name.number)));
    assert_eq!(signed(&name.sign("")), ("", Some(name.number)));
    assert_eq!(signed("AQ"), ("AQ", None), "of an older build");
}

#[test]
fn later_names_are_larger() {
    let names: Vec<Name> = (0..1_000).map(|_| name(ID)).collect();
    assert!(names.is_sorted_by(|first, second| first < second));
}
