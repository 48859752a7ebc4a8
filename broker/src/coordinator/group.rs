//! One consumer group of the classic protocol: Kafka's GroupCoordinator as a pure state machine.
//!
//! Time is an argument, waiting requests are tokens, and answers gather in `answers`; offsets are not its business but for
//! who may commit them.

mod joining;
mod leaving;
mod rebalancing;
mod recording;
mod subscription;
mod syncing;
#[cfg(test)]
mod tests;

pub use joining::Join;
pub use syncing::Sync;

use super::event::{GroupRecord, Protocol};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use std::collections::{BTreeMap, BTreeSet};

/// What a client may ask for; Kafka's default begins at 6 s, tests and laptops like it shorter.
pub const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<i32> = 10..=30 * 60 * 1000;
/// How long the first members of a group wait for more. Kafka's default is 3 s; here all is near and restarts often.
pub const INITIAL_REBALANCE_DELAY_MS: i64 = 100;
/// One member more is answered with GroupMaxSizeReached.
pub const MEMBERS_MAX: usize = 1000;
/// Member ids that are given out and not used yet; more are answered with GroupMaxSizeReached.
pub const PENDING_MEMBERS_MAX: usize = 1000;
/// All that a member may say of its subscriptions; more is answered with InvalidRequest.
pub const PROTOCOLS_BYTES_MAX: usize = 4 << 20;
/// How many ways of assigning a member may offer; more are answered with InvalidRequest.
pub const PROTOCOLS_MAX: usize = 100;
/// A new member that waits so long in a rebalance is given up, as in Kafka.
const NEW_MEMBER_JOIN_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// The least time between two looks at a rebalance that nobody joins.
const REBALANCE_RETRY_MS_MIN: i64 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A request that waits for its answer.
pub type Token = u64;

#[derive(Debug)]
pub struct Member {
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocols: Vec<Protocol>,
    pub assignment: Bytes,
    join: Option<Token>,
    sync: Option<Token>,
    /// Has joined, and the rebalance that takes it in has not ended.
    is_new: bool,
    session_end_ms: i64,
}

impl Member {
    fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    /// A known member that waits for others does not run out of its session.
    fn deadline_ms(&self) -> Option<i64> {
        (self.is_new || !self.is_waiting()).then_some(self.session_end_ms)
    }

    fn touch(&mut self, now_ms: i64) {
        self.session_end_ms = now_ms + i64::from(self.session_timeout_ms);
    }

    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|known| known.name == protocol);
        found.map(|known| known.metadata.clone()).unwrap_or_default()
    }
}

/// Who a request says it comes from.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    pub member: &'a str,
    pub instance: Option<&'a str>,
    pub generation: i32,
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    Joined(Token, Joined),
    Synced(Token, Synced),
}

#[derive(Debug, Default, PartialEq)]
pub struct Joined {
    pub error: Option<ResponseError>,
    pub member: String,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub leader: String,
    /// For the leader only: (member id, instance, subscription).
    pub members: Vec<(String, Option<String>, Bytes)>,
    pub skip_assignment: bool,
}

impl Joined {
    pub fn refused(member: &str, error: ResponseError) -> Self {
        Self { error: Some(error), member: member.to_owned(), generation: -1, ..Self::default() }
    }
}

#[derive(Debug, Default, PartialEq)]
pub struct Synced {
    pub error: Option<ResponseError>,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignment: Bytes,
}

impl Synced {
    pub fn refused(error: ResponseError) -> Self {
        Self { error: Some(error), ..Self::default() }
    }
}

/// When a rebalance that waits for members goes on without them.
#[derive(Debug)]
struct Rebalance {
    deadline_ms: i64,
    /// The first one of an empty group waits in steps as long as members keep coming: what is left of its time.
    initial_left_ms: Option<i64>,
}

#[derive(Debug)]
pub struct Group {
    pub id: String,
    pub state: State,
    pub generation: i32,
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    leader: Option<String>,
    members: BTreeMap<String, Member>,
    /// Instances and their members.
    statics: BTreeMap<String, String>,
    /// Member ids given out, and until when they may join.
    pending: BTreeMap<String, i64>,
    /// Who has not asked for its assignment in this generation.
    pending_sync: BTreeSet<String>,
    rebalance: Option<Rebalance>,
    sync_deadline_ms: Option<i64>,
    new_member_added: bool,
    /// Since when it is in this state.
    pub since_ms: i64,
    /// As the journal has it; a rebalance that is under way is not in it.
    stored: Option<GroupRecord>,
    /// For the shell to send.
    pub answers: Vec<Answer>,
}

impl Group {
    pub fn new(id: &str, now_ms: i64) -> Self {
        Self {
            id: id.to_owned(),
            state: State::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            pending_sync: BTreeSet::new(),
            rebalance: None,
            sync_deadline_ms: None,
            new_member_added: false,
            since_ms: now_ms,
            stored: None,
            answers: Vec::new(),
        }
    }

    pub fn members(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.members.iter()
    }

    /// Nobody is in it or about to join.
    pub fn is_abandoned(&self) -> bool {
        self.state == State::Empty && self.pending.is_empty()
    }

    /// When `expire` has something to do.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let sessions = self.members.values().filter_map(Member::deadline_ms);
        let rebalance = self.rebalance.as_ref().map(|rebalance| rebalance.deadline_ms);
        let others = self.pending.values().copied().chain(rebalance).chain(self.sync_deadline_ms);
        sessions.chain(others).min()
    }

    fn enter(&mut self, state: State, now_ms: i64) {
        tracing::debug!(
            group = self.id,
            generation = self.generation,
            from = self.state.name(),
            to = state.name()
        );
        self.state = state;
        self.since_ms = now_ms;
    }

    fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        self.members.values().map(|member| i64::from(member.rebalance_timeout_ms)).max().unwrap_or(0)
    }

    /// Whether the caller is a member, and the one that its instance belongs to.
    fn check_member(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        if let Some(instance) = caller.instance {
            match self.statics.get(instance) {
                Some(current) if current != caller.member => return Err(ResponseError::FencedInstanceId),
                Some(_) => {}
                None => return Err(ResponseError::UnknownMemberId),
            }
        }
        let is_known = self.members.contains_key(caller.member);
        is_known.then_some(()).ok_or(ResponseError::UnknownMemberId)
    }

    fn check_generation(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.check_member(caller)?;
        let is_current = caller.generation == self.generation;
        is_current.then_some(()).ok_or(ResponseError::IllegalGeneration)
    }

    /// Whether the caller may commit offsets; a member's session goes on.
    pub fn check_commit(&mut self, caller: Caller<'_>, now_ms: i64) -> Result<(), ResponseError> {
        self.check_commit_of(caller, false)?;
        if self.state == State::CompletingRebalance {
            return Err(ResponseError::RebalanceInProgress);
        }
        if let Some(member) = self.members.get_mut(caller.member) {
            member.touch(now_ms);
        }
        Ok(())
    }

    /// The same for offsets that are part of a transaction.
    pub fn check_transactional_commit(&self, caller: Caller<'_>) -> Result<(), ResponseError> {
        self.check_commit_of(caller, true)
    }

    fn check_commit_of(&self, caller: Caller<'_>, is_transactional: bool) -> Result<(), ResponseError> {
        if caller.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if caller.generation >= 0 || !caller.member.is_empty() || caller.instance.is_some() {
            return self.check_generation(caller);
        }
        let is_free = is_transactional || self.state == State::Empty;
        is_free.then_some(()).ok_or(ResponseError::UnknownMemberId)
    }
}
