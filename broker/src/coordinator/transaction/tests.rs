//! Each rule of Kafka's transaction coordinator, and crashes at any point of random histories.

mod crashes;

use super::*;
use crate::coordinator::event::{Memory, Turn};

struct Site {
    transactions: Transactions,
    store: Memory,
    now_ms: i64,
}

impl Site {
    fn new() -> Self {
        Self { transactions: Transactions::default(), store: Memory::default(), now_ms: 1_000 }
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Transactions, &mut Turn<'_>) -> T) -> T {
        step(&mut self.transactions, &mut Turn { store: &mut self.store, now_ms: self.now_ms })
    }

    fn initialize(&mut self, owner: Option<Producer>) -> Result<Initialized, ResponseError> {
        self.step(|transactions, turn| transactions.initialize(turn, "t", 60_000, owner))
    }

    fn ready(&mut self) -> Producer {
        match self.initialize(None) {
            Ok(Initialized::Ready(producer)) => producer,
            other => panic!("{other:?}"),
        }
    }

    fn add(&mut self, producer: Producer) -> Result<(), ResponseError> {
        self.step(|transactions, turn| transactions.add_partitions(turn, "t", producer, &[("a".into(), 0)]))
    }

    fn end(&mut self, producer: Producer, outcome: Outcome) -> Result<Ended, ResponseError> {
        self.step(|transactions, turn| transactions.end(turn, "t", producer, outcome))
    }

    fn complete(&mut self) {
        self.step(|transactions, turn| transactions.completed(turn, "t")).unwrap();
    }

    fn state(&self) -> State {
        self.transactions.get("t").unwrap().state
    }
}

#[test]
fn producer_ids_are_never_given_out_twice() {
    let mut site = Site::new();
    let first: Vec<i64> = (0..1500).map(|_| site.step(|all, turn| all.allocate(turn)).unwrap()).collect();
    assert_eq!(site.store.events.len(), 2, "they are taken in blocks");
    let mut again = Transactions::default();
    site.store.events.iter().for_each(|event| again.apply(event));
    again.restored(0);
    site.transactions = again;
    let next = site.step(|all, turn| all.allocate(turn)).unwrap();
    assert!(first.iter().all(|id| *id < next));
}

#[test]
fn an_open_transaction_is_aborted_with_what_the_journal_lost_of_it() {
    let mut site = Site::new();
    let producer = site.ready();
    site.add(producer).unwrap();
    for _ in 0..2 {
        assert_eq!(site.step(|all, turn| all.disown(turn, producer)), Ok(producer.epoch + 1));
        assert_eq!(site.state(), State::PrepareAbort);
    }
    assert_eq!(site.end(producer, Outcome::Commit), Err(ResponseError::ProducerFenced));
    let unknown = Producer { id: 99, epoch: 7 };
    assert_eq!(site.step(|all, turn| all.disown(turn, unknown)), Ok(7));
}

#[test]
fn a_transaction_runs() {
    let mut site = Site::new();
    let producer = site.ready();
    assert_eq!(producer, Producer { id: 0, epoch: 0 });
    assert_eq!(site.end(producer, Outcome::Commit), Err(ResponseError::InvalidTxnState));
    assert_eq!(site.add(producer), Ok(()));
    assert_eq!(site.add(producer), Ok(()));
    assert_eq!(site.transactions.check_partition("t", producer, "a", 0), Ok(()));
    assert_eq!(site.transactions.check_partition("t", producer, "a", 1), Err(ResponseError::InvalidTxnState));
    assert_eq!(site.end(producer, Outcome::Commit), Ok(Ended::Decided));
    assert_eq!(site.end(producer, Outcome::Commit), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(site.end(producer, Outcome::Abort), Err(ResponseError::InvalidTxnState));
    assert_eq!(site.add(producer), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(
        site.transactions.check_partition("t", producer, "a", 0),
        Err(ResponseError::NotEnoughReplicas)
    );
    assert_eq!(site.initialize(None), Err(ResponseError::ConcurrentTransactions));
    site.complete();
    assert_eq!(site.end(producer, Outcome::Commit), Ok(Ended::Already));
    assert_eq!(site.end(producer, Outcome::Abort), Err(ResponseError::InvalidTxnState));
    assert_eq!(site.add(producer), Ok(()), "the next one");
    assert_eq!(site.state(), State::Ongoing);
}

#[test]
fn who_is_not_the_producer_is_told_so() {
    let mut site = Site::new();
    let producer = site.ready();
    let other = Producer { id: 77, ..producer };
    let old = Producer { epoch: -1, ..producer };
    assert_eq!(site.add(other), Err(ResponseError::InvalidProducerIdMapping));
    assert_eq!(site.add(old), Err(ResponseError::ProducerFenced));
    assert_eq!(site.end(old, Outcome::Abort), Err(ResponseError::ProducerFenced));
    let check = |producer| site.transactions.check_partition("t", producer, "a", 0);
    assert_eq!(check(other), Err(ResponseError::InvalidProducerIdMapping));
    assert_eq!(check(old), Err(ResponseError::InvalidProducerEpoch));
    let unknown = site.transactions.check_partition("unknown", producer, "a", 0);
    assert_eq!(unknown, Err(ResponseError::InvalidProducerIdMapping));
    let empty = site.step(|all, turn| all.initialize(turn, "", 1, None));
    assert_eq!(empty, Err(ResponseError::InvalidRequest));
}

#[test]
fn a_time_out_has_bounds() {
    let mut site = Site::new();
    for timeout_ms in [0, -1, TIMEOUT_MS_MAX + 1] {
        let refused = site.step(|all, turn| all.initialize(turn, "t", timeout_ms, None));
        assert_eq!(refused, Err(ResponseError::InvalidTransactionTimeout));
    }
}

#[test]
fn a_second_instance_fences_the_first() {
    let mut site = Site::new();
    let first = site.ready();
    site.add(first).unwrap();
    assert_eq!(site.initialize(None), Ok(Initialized::Fenced));
    assert_eq!(site.initialize(None), Err(ResponseError::ConcurrentTransactions));
    assert_eq!(site.end(first, Outcome::Commit), Err(ResponseError::ProducerFenced));
    site.complete();
    assert_eq!(site.ready(), Producer { id: first.id, epoch: first.epoch + 2 });
    assert_eq!(site.add(first), Err(ResponseError::ProducerFenced));
}

#[test]
fn an_owner_bumps_its_own_epoch() {
    let mut site = Site::new();
    let producer = site.ready();
    let bumped = Producer { epoch: 1, ..producer };
    assert_eq!(site.initialize(Some(producer)), Ok(Initialized::Ready(bumped)));
    assert_eq!(site.initialize(Some(producer)), Ok(Initialized::Ready(bumped)), "its answer was lost");
    assert_eq!(site.initialize(Some(bumped)), Ok(Initialized::Ready(Producer { epoch: 2, ..producer })));
    assert_eq!(site.initialize(Some(producer)), Err(ResponseError::ProducerFenced));
    let other = Producer { id: 5, epoch: 2 };
    assert_eq!(site.initialize(Some(other)), Err(ResponseError::ProducerFenced));
}

#[test]
fn used_up_epochs_make_a_new_producer_id() {
    let mut site = Site::new();
    let first = site.ready();
    let last = Transaction { epoch: i16::MAX - 1, ..site.transactions.get("t").unwrap().clone() };
    site.transactions.apply(&Event::Transaction(last));
    let last = Producer { epoch: i16::MAX - 1, ..first };
    let rotated = Producer { id: first.id + 1, epoch: 0 };
    assert_eq!(site.initialize(Some(last)), Ok(Initialized::Ready(rotated)));
    assert_eq!(
        site.initialize(Some(last)),
        Ok(Initialized::Ready(rotated)),
        "its answer was lost: the old id is known still"
    );
}

#[test]
fn a_time_out_aborts_and_fences() {
    let mut site = Site::new();
    let producer = site.ready();
    site.add(producer).unwrap();
    assert_eq!(site.transactions.next_deadline_ms(), Some(61_000));
    site.now_ms = 60_999;
    assert!(site.step(|all, turn| all.expire(turn)).is_empty());
    site.now_ms = 61_000;
    site.store.is_full = true;
    assert!(site.step(|all, turn| all.expire(turn)).is_empty());
    assert_eq!(site.transactions.next_deadline_ms(), Some(62_000), "tried again, but not at once");
    site.store.is_full = false;
    assert_eq!(site.step(|all, turn| all.expire(turn)), ["t"]);
    assert_eq!((site.state(), site.transactions.get("t").unwrap().epoch), (State::PrepareAbort, 1));
    assert_eq!(site.end(producer, Outcome::Commit), Err(ResponseError::ProducerFenced));
    assert_eq!(site.transactions.next_deadline_ms(), None);
}

#[test]
fn offsets_belong_to_a_group_of_the_transaction() {
    let mut site = Site::new();
    let producer = site.ready();
    assert_eq!(site.transactions.check_group("t", producer, "g"), Err(ResponseError::InvalidTxnState));
    site.step(|all, turn| all.add_group(turn, "t", producer, "g")).unwrap();
    assert_eq!(site.transactions.check_group("t", producer, "g"), Ok(()));
    assert_eq!(site.transactions.check_group("t", producer, "h"), Err(ResponseError::InvalidTxnState));
    site.end(producer, Outcome::Abort).unwrap();
    assert_eq!(
        site.transactions.check_group("t", producer, "g"),
        Err(ResponseError::CoordinatorNotAvailable)
    );
}

#[test]
fn what_the_disk_refuses_has_not_happened() {
    let mut site = Site::new();
    let producer = site.ready();
    site.add(producer).unwrap();
    site.store.is_full = true;
    assert_eq!(site.end(producer, Outcome::Commit), Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(site.initialize(None), Err(ResponseError::CoordinatorNotAvailable));
    assert_eq!(site.state(), State::Ongoing);
    site.store.is_full = false;
    assert_eq!(site.end(producer, Outcome::Commit), Ok(Ended::Decided));
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let mut site = Site::new();
    let producer = site.ready();
    site.now_ms += IDLE_MS_MAX;
    site.step(|all, turn| all.forget_idle(turn)).unwrap();
    assert!(site.transactions.get("t").is_none());
    let again = site.ready();
    assert_ne!(again.id, producer.id);
    site.add(again).unwrap();
    site.now_ms += 2 * IDLE_MS_MAX;
    site.step(|all, turn| all.forget_idle(turn)).unwrap();
    assert!(site.transactions.get("t").is_some(), "it is not idle");
}

#[test]
fn there_are_only_so_many_ids() {
    let mut site = Site::new();
    let mut initialize =
        |index: usize| site.step(|all, turn| all.initialize(turn, &format!("t{index}"), 1, None));
    assert!((0..TRANSACTIONAL_IDS_MAX).all(|index| initialize(index).is_ok()));
    assert_eq!(initialize(TRANSACTIONAL_IDS_MAX), Err(ResponseError::PolicyViolation));
    assert!(initialize(0).is_ok());
}

#[test]
fn a_deleted_topic_leaves() {
    let mut site = Site::new();
    let producer = site.ready();
    site.add(producer).unwrap();
    site.transactions.apply(&Event::TopicDeleted { topic: "a".into() });
    assert!(site.transactions.get("t").unwrap().partitions.is_empty());
    assert_eq!(site.end(producer, Outcome::Commit), Ok(Ended::Decided));
}
