//! Rebalances: how they begin, how long they wait, and the generation that comes of them.

use super::{Answer, Group, INITIAL_REBALANCE_DELAY_MS, REBALANCE_RETRY_MS_MIN, Rebalance, State, Synced};
use crate::coordinator::event::{Protocol, Turn};
use bytes::Bytes;
use kafka_protocol::ResponseError;

impl Group {
    pub(super) fn maybe_prepare_rebalance(&mut self, turn: &mut Turn<'_>, reason: &str) {
        if self.state != State::PreparingRebalance {
            self.prepare_rebalance(turn, reason);
        }
    }

    pub(super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>, reason: &str) {
        if self.state == State::CompletingRebalance {
            self.assign_none(ResponseError::RebalanceInProgress, turn.now_ms);
        }
        self.pending_sync.clear();
        self.sync_deadline_ms = None;
        let timeout_ms = self.rebalance_timeout_ms();
        self.rebalance = Some(if self.state == State::Empty {
            self.new_member_added = false;
            Rebalance {
                deadline_ms: turn.now_ms + INITIAL_REBALANCE_DELAY_MS,
                initial_left_ms: Some((timeout_ms - INITIAL_REBALANCE_DELAY_MS).max(0)),
            }
        } else {
            Rebalance { deadline_ms: turn.now_ms + timeout_ms, initial_left_ms: None }
        });
        tracing::info!(group = self.id, generation = self.generation, reason, "the group rebalances");
        self.enter(State::PreparingRebalance, turn.now_ms);
        self.complete_if_all_joined(turn);
    }

    /// A rebalance needs not wait longer than for all that are known; the first one waits for more.
    pub(super) fn complete_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let is_initial = self.rebalance.as_ref().is_some_and(|rebalance| rebalance.initial_left_ms.is_some());
        let all_joined = self.members.values().all(|member| member.join.is_some()) && self.pending.is_empty();
        if self.state == State::PreparingRebalance && !is_initial && all_joined {
            self.complete_join(turn);
        }
    }

    /// The time to join is over.
    pub(super) fn end_waiting_for_joins(&mut self, turn: &mut Turn<'_>) {
        let left_ms = self.rebalance.as_ref().and_then(|rebalance| rebalance.initial_left_ms).unwrap_or(0);
        if self.new_member_added && left_ms > 0 {
            self.new_member_added = false;
            let delay_ms = INITIAL_REBALANCE_DELAY_MS.min(left_ms);
            let deadline_ms = turn.now_ms + delay_ms;
            self.rebalance = Some(Rebalance { deadline_ms, initial_left_ms: Some(left_ms - delay_ms) });
        } else {
            self.complete_join(turn);
        }
    }

    /// Goes on with those that have joined; a static member stays until its session ends.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let is_late =
            |(_, member): &(&String, &super::Member)| member.join.is_none() && member.instance.is_none();
        let late: Vec<String> = self.members.iter().filter(is_late).map(|(id, _)| id.clone()).collect();
        if !late.is_empty() {
            tracing::info!(group = self.id, members = ?late, "members have not joined the rebalance: they are out");
        }
        late.iter().for_each(|member| self.remove(member));
        if !self.elect_leader() && !self.members.is_empty() {
            let wait_ms = self.rebalance_timeout_ms().max(REBALANCE_RETRY_MS_MIN);
            self.rebalance = Some(Rebalance { deadline_ms: turn.now_ms + wait_ms, initial_left_ms: None });
            return;
        }
        self.rebalance = None;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(turn);
        } else {
            self.begin_generation(turn.now_ms);
        }
    }

    /// A leader that has not joined leads no more.
    fn elect_leader(&mut self) -> bool {
        let Some(leader) = self.leader.as_ref().and_then(|leader| self.members.get(leader)) else {
            return false;
        };
        if leader.join.is_some() {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.join.is_some()).map(|(id, _)| id.clone());
        let found = joined.is_some();
        self.leader = joined.or(self.leader.take());
        found
    }

    fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.protocol = None;
        self.leader = None;
        self.enter(State::Empty, turn.now_ms);
        if let Err(error) = self.save(turn) {
            tracing::warn!(group = self.id, %error, "could not store that the group is empty");
        }
    }

    fn begin_generation(&mut self, now_ms: i64) {
        self.protocol = self.select_protocol();
        self.enter(State::CompletingRebalance, now_ms);
        let members: Vec<String> = self.members.keys().cloned().collect();
        for id in &members {
            let joined = self.joined(id, self.is_leader(id));
            let Some(member) = self.members.get_mut(id) else { continue };
            member.is_new = false;
            member.touch(now_ms);
            if let Some(token) = member.join.take() {
                self.answers.push(Answer::Joined(token, joined));
            }
        }
        self.pending_sync.extend(members);
        self.sync_deadline_ms = Some(now_ms + self.rebalance_timeout_ms().max(1));
        tracing::info!(
            group = self.id,
            generation = self.generation,
            members = self.members.len(),
            "a new generation"
        );
    }

    /// Each member votes for the first of its protocols that all know; the most votes win.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let by_all = |name: &str| {
            self.members.values().all(|member| member.protocols.iter().any(|known| known.name == name))
        };
        let vote = |protocols: &[Protocol]| {
            protocols.iter().map(|known| &known.name).find(|name| by_all(name.as_str())).cloned()
        };
        let mut votes = std::collections::BTreeMap::<String, usize>::new();
        for name in self.members.values().filter_map(|member| vote(&member.protocols)) {
            *votes.entry(name).or_default() += 1;
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
    }

    /// Nobody gets an assignment in this generation.
    pub(super) fn assign_none(&mut self, error: ResponseError, now_ms: i64) {
        for member in self.members.values_mut() {
            member.assignment = Bytes::new();
            if let Some(token) = member.sync.take() {
                member.touch(now_ms);
                self.answers.push(Answer::Synced(token, Synced::refused(error)));
            }
        }
    }
}
