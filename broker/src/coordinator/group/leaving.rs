//! Heartbeat, LeaveGroup, and sessions that end.

use super::{Answer, Caller, Group, Joined, State, Synced};
use crate::coordinator::event::Turn;
use kafka_protocol::ResponseError;

impl Group {
    pub fn heartbeat(&mut self, caller: Caller<'_>, now_ms: i64) -> Result<(), ResponseError> {
        self.check_generation(caller)?;
        if self.state == State::Empty {
            return Err(ResponseError::UnknownMemberId);
        }
        if let Some(member) = self.members.get_mut(caller.member) {
            member.touch(now_ms);
        }
        let is_rebalancing = self.state == State::PreparingRebalance;
        if is_rebalancing { Err(ResponseError::RebalanceInProgress) } else { Ok(()) }
    }

    /// A member leaves, by its id or, with an empty one, by its instance.
    pub fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        caller: Caller<'_>,
        reason: &str,
    ) -> Result<(), ResponseError> {
        if caller.member.is_empty() {
            let current = caller.instance.and_then(|instance| self.statics.get(instance)).cloned();
            let current = current.ok_or(ResponseError::UnknownMemberId)?;
            self.remove_and_rebalance(turn, &current, reason);
        } else if self.pending.contains_key(caller.member) {
            self.remove(caller.member);
            self.complete_if_all_joined(turn);
        } else {
            self.check_member(caller)?;
            self.remove_and_rebalance(turn, caller.member, reason);
        }
        Ok(())
    }

    fn remove_and_rebalance(&mut self, turn: &mut Turn<'_>, member: &str, reason: &str) {
        self.remove(member);
        match self.state {
            State::Empty => {}
            State::Stable | State::CompletingRebalance => self.maybe_prepare_rebalance(turn, reason),
            State::PreparingRebalance => self.complete_if_all_joined(turn),
        }
    }

    /// Takes out a member, or an id that was given out; whoever waits under it hears of it.
    pub(super) fn remove(&mut self, id: &str) {
        self.pending.remove(id);
        self.pending_sync.remove(id);
        let Some(member) = self.members.remove(id) else { return };
        if let Some(token) = member.join {
            self.answers.push(Answer::Joined(token, Joined::refused("", ResponseError::UnknownMemberId)));
        }
        if let Some(token) = member.sync {
            self.answers.push(Answer::Synced(token, Synced::refused(ResponseError::UnknownMemberId)));
        }
        if let Some(instance) = &member.instance {
            self.statics.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// Does all whose time has come.
    pub fn expire(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now_ms;
        let is_over = |deadline_ms: i64| deadline_ms <= now_ms;
        let promised = self.pending.len();
        self.pending.retain(|_, deadline_ms| !is_over(*deadline_ms));
        let has_ended = |id: &String, group: &Self| {
            group.members.get(id).and_then(super::Member::deadline_ms).is_some_and(is_over)
        };
        let ended: Vec<String> = self.members.keys().filter(|id| has_ended(id, self)).cloned().collect();
        let rebalance_is_over =
            self.rebalance.as_ref().is_some_and(|rebalance| is_over(rebalance.deadline_ms));
        let sync_is_over = self.sync_deadline_ms.is_some_and(is_over);
        if self.pending.len() < promised {
            self.complete_if_all_joined(turn);
        }
        if rebalance_is_over && self.state == State::PreparingRebalance {
            self.end_waiting_for_joins(turn);
        }
        if sync_is_over {
            self.end_waiting_for_syncs(turn);
        }
        for id in ended {
            // What came before may have answered it, and its session began again.
            if has_ended(&id, self) {
                tracing::info!(group = self.id, member = id, "the session of a member has ended");
                self.remove_and_rebalance(turn, &id, "the session of a member has ended");
            }
        }
    }

    /// Answers all that wait: the broker goes down.
    pub fn release(&mut self) {
        for (id, member) in &mut self.members {
            let error = ResponseError::NotCoordinator;
            if let Some(token) = member.join.take() {
                self.answers.push(Answer::Joined(token, Joined::refused(id, error)));
            }
            if let Some(token) = member.sync.take() {
                self.answers.push(Answer::Synced(token, Synced::refused(error)));
            }
        }
    }
}
