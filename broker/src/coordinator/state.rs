//! All that the coordinator holds, behind one lock: groups, offsets, transactions, and who waits for an answer.
//!
//! Nothing here waits. What is decided is in the journal before it holds; callers wait for the disk without the lock.

use super::{
    event::{Event, Store, Turn},
    group::{Answer, Group, Joined, Synced, Token},
    journal::{Journal, Written},
    offsets::Offsets,
    transaction::Transactions,
};
use crate::{log, topics::Topics};
use kafka_protocol::ResponseError;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
    sync::Arc,
};
use tokio::sync::oneshot;

/// One group more is refused with PolicyViolation, a member of it with GroupMaxSizeReached.
pub const GROUPS_MAX: usize = 10_000;
/// How often offsets, groups and transactional ids that nobody uses are looked for.
const SWEEP_MS: i64 = 3600 * 1000;
/// Kafka's offsets.retention.minutes.
const OFFSETS_RETENTION_MS: i64 = 7 * 24 * 3600 * 1000;
/// An empty group without offsets is forgotten after this time.
const EMPTY_GROUP_MS: i64 = 10 * 60 * 1000;

pub struct State {
    pub groups: BTreeMap<String, Group>,
    pub transactions: Transactions,
    pub ledger: Ledger,
    pub waiters: Waiters,
    /// Transactional ids whose markers are being written.
    pub finishing: HashSet<String>,
    /// When markers that could not be written are tried again.
    pub retry_ms: Option<i64>,
    /// When the timer wakes.
    pub armed_ms: i64,
    sweep_ms: i64,
}

/// The journal, and the offsets that follow from it.
pub struct Ledger {
    pub journal: Journal,
    pub offsets: Offsets,
    written: Written,
}

impl Store for Ledger {
    fn store(&mut self, event: &Event) -> Result<(), ResponseError> {
        self.written = self.journal.append(event)?;
        self.offsets.apply(event);
        Ok(())
    }
}

impl Ledger {
    /// Resolves when all that was stored up to now is durable: the file is synced from its beginning.
    pub fn written(&mut self) -> Written {
        std::mem::take(&mut self.written)
    }
}

#[derive(Default)]
pub struct Waiters {
    last: Token,
    joins: HashMap<Token, oneshot::Sender<Joined>>,
    syncs: HashMap<Token, oneshot::Sender<Synced>>,
}

impl Waiters {
    pub fn join(&mut self) -> (Token, oneshot::Receiver<Joined>) {
        let (sender, receiver) = oneshot::channel();
        self.last += 1;
        self.joins.insert(self.last, sender);
        (self.last, receiver)
    }

    pub fn sync(&mut self) -> (Token, oneshot::Receiver<Synced>) {
        let (sender, receiver) = oneshot::channel();
        self.last += 1;
        self.syncs.insert(self.last, sender);
        (self.last, receiver)
    }

    /// A request that nobody will answer.
    pub fn forget(&mut self, token: Token) {
        self.joins.remove(&token);
        self.syncs.remove(&token);
    }

    /// A client that has gone hears nothing: its session ends later.
    fn tell(&mut self, answer: Answer) {
        let heard = match answer {
            Answer::Joined(token, joined) => {
                self.joins.remove(&token).map(|waiter| waiter.send(joined).is_ok())
            }
            Answer::Synced(token, synced) => {
                self.syncs.remove(&token).map(|waiter| waiter.send(synced).is_ok())
            }
        };
        if heard != Some(true) {
            tracing::debug!("a client has gone before it was answered");
        }
    }
}

impl State {
    /// Reads the journal.
    pub fn open(folder: &Path, syncer: &Arc<log::Syncer>, now_ms: i64) -> Result<Self, log::Error> {
        let mut groups = BTreeMap::<String, Group>::new();
        let mut offsets = Offsets::default();
        let mut transactions = Transactions::default();
        let journal = Journal::open(folder, syncer, |event| {
            offsets.apply(&event);
            transactions.apply(&event);
            replay(&mut groups, event, now_ms);
        })?;
        transactions.restored(now_ms);
        let state = Self {
            groups,
            transactions,
            ledger: Ledger { journal, offsets, written: Written::default() },
            waiters: Waiters::default(),
            finishing: HashSet::new(),
            retry_ms: None,
            armed_ms: i64::MAX,
            sweep_ms: now_ms + SWEEP_MS,
        };
        Ok(state)
    }

    /// Brings what was read into line with the logs as they are: topics that have gone, ends that a power loss cut.
    pub fn align(&mut self, topics: &Topics) -> Result<(), ResponseError> {
        for topic in self.topics_named() {
            if topics.get(&topic).is_none() {
                self.record(Event::TopicDeleted { topic })?;
            }
        }
        let end = |(topic, partition): &(String, i32)| {
            let topic = topics.get(topic)?;
            topic.partitions.get(usize::try_from(*partition).ok()?).map(|log| log.bounds().log_end)
        };
        for event in self.ledger.offsets.cut_back(end) {
            tracing::warn!(?event, "committed offsets lie past the end of their log: cut back");
            self.record(event)?;
        }
        Ok(())
    }

    fn topics_named(&self) -> BTreeSet<String> {
        let of_transactions = self.transactions.all().flat_map(|transaction| &transaction.partitions);
        of_transactions.map(|(topic, _)| topic.clone()).chain(self.ledger.offsets.topics()).collect()
    }

    /// Resolves when it is on the disk that the transaction before has ended: else, after a power loss, the markers of
    /// that one would be written again, over records of the next.
    pub fn settled(&self, id: &str) -> Written {
        let is_ongoing = self.transactions.get(id).is_some_and(|known| known.is_ongoing());
        if is_ongoing { Written::default() } else { self.ledger.journal.forced() }
    }

    pub fn record(&mut self, event: Event) -> Result<(), ResponseError> {
        self.ledger.store(&event)?;
        self.transactions.apply(&event);
        Ok(())
    }

    /// Runs a step of a group and sends the answers that come of it. None: there is no such group.
    pub fn with_group<T>(
        &mut self,
        id: &str,
        now_ms: i64,
        step: impl FnOnce(&mut Group, &mut Turn<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let done = step(group, &mut Turn { store: &mut self.ledger, now_ms });
        group.answers.drain(..).for_each(|answer| self.waiters.tell(answer));
        Some(done)
    }

    /// Makes the group where it is not yet.
    pub fn make_group(&mut self, id: &str, now_ms: i64) -> Result<(), ResponseError> {
        if self.groups.contains_key(id) {
            return Ok(());
        }
        if self.groups.len() >= GROUPS_MAX {
            self.forget_groups(now_ms, 0);
        }
        if self.groups.len() >= GROUPS_MAX {
            tracing::warn!(group = id, GROUPS_MAX, "refused a group: there are too many");
            return Err(ResponseError::PolicyViolation);
        }
        self.groups.insert(id.to_owned(), Group::new(id, now_ms));
        Ok(())
    }

    /// When `expire` has something to do.
    pub fn next_deadline_ms(&self) -> i64 {
        let groups = self.groups.values().filter_map(Group::next_deadline_ms);
        let others =
            self.transactions.next_deadline_ms().into_iter().chain(self.retry_ms).chain([self.sweep_ms]);
        groups.chain(others).min().unwrap_or(self.sweep_ms)
    }

    /// Does all whose time has come; the transactional ids that need markers now.
    pub fn expire(&mut self, now_ms: i64) -> Vec<String> {
        let is_due =
            |group: &&Group| group.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms);
        let due: Vec<String> = self.groups.values().filter(is_due).map(|group| group.id.clone()).collect();
        for id in due {
            self.with_group(&id, now_ms, |group, turn| group.expire(turn));
        }
        let mut unmarked = self.transactions.expire(&mut Turn { store: &mut self.ledger, now_ms });
        if self.retry_ms.is_some_and(|retry_ms| retry_ms <= now_ms) {
            self.retry_ms = None;
            unmarked = self.transactions.decided();
        }
        if self.sweep_ms <= now_ms {
            self.sweep_ms = now_ms + SWEEP_MS;
            self.sweep(now_ms);
        }
        unmarked.retain(|id| self.finishing.insert(id.clone()));
        unmarked
    }

    fn sweep(&mut self, now_ms: i64) {
        let turn = &mut Turn { store: &mut self.ledger, now_ms };
        if let Err(error) = self.transactions.forget_idle(turn) {
            tracing::warn!(%error, "could not forget transactional ids that nobody uses");
        }
        self.forget_offsets(now_ms);
        self.forget_groups(now_ms, EMPTY_GROUP_MS);
    }

    /// Offsets of a group without members, after it had none for so long; of a simple consumer, after so long a time.
    fn forget_offsets(&mut self, now_ms: i64) {
        let before_ms = now_ms - OFFSETS_RETENTION_MS;
        for group in self.groups.values() {
            let is_empty =
                group.is_abandoned() && (group.protocol_type.is_none() || group.since_ms <= before_ms);
            let partitions =
                if is_empty { self.ledger.offsets.older_than(&group.id, before_ms) } else { Vec::new() };
            if partitions.is_empty() {
                continue;
            }
            tracing::info!(group = group.id, partitions = partitions.len(), "offsets have expired");
            let event = Event::OffsetsDeleted { group: group.id.clone(), partitions };
            if let Err(error) = self.ledger.store(&event) {
                tracing::warn!(%error, "could not forget offsets that have expired");
            }
        }
    }

    fn forget_groups(&mut self, now_ms: i64, empty_ms: i64) {
        let is_unused = |group: &&Group| {
            group.is_abandoned() && group.since_ms + empty_ms <= now_ms && !self.ledger.offsets.has(&group.id)
        };
        let unused: Vec<String> =
            self.groups.values().filter(is_unused).map(|group| group.id.clone()).collect();
        for group in unused {
            match self.ledger.store(&Event::GroupDeleted { group: group.clone() }) {
                Ok(()) => drop(self.groups.remove(&group)),
                Err(error) => tracing::warn!(%error, group, "could not forget a group that nobody uses"),
            }
        }
    }

    /// Answers all that wait.
    pub fn release(&mut self) {
        for group in self.groups.values_mut() {
            group.release();
            group.answers.drain(..).for_each(|answer| self.waiters.tell(answer));
        }
    }

    /// Events that make the same state.
    pub fn begin_rewrite(&mut self) -> Result<super::journal::Replacement, log::Error> {
        let groups = self.groups.values().filter_map(Group::snapshot);
        let events = self.transactions.snapshot().chain(groups).chain(self.ledger.offsets.snapshot());
        self.ledger.journal.begin_rewrite(events)
    }
}

fn replay(groups: &mut BTreeMap<String, Group>, event: Event, now_ms: i64) {
    match event {
        Event::Group(record) => {
            groups.insert(record.group.clone(), Group::restore(record, now_ms));
        }
        Event::GroupDeleted { group } => {
            groups.remove(&group);
        }
        Event::Offsets { group, .. } | Event::PendingOffsets { group, .. } => {
            groups.entry(group).or_insert_with_key(|id| Group::new(id, now_ms));
        }
        _ => {}
    }
}
