//! SyncGroup: the leader's assignment reaches the members, and the generation is stable.

use super::{Answer, Caller, Group, State, Synced, Token};
use crate::coordinator::event::Turn;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Sync<'a> {
    pub token: Token,
    pub caller: Caller<'a>,
    pub protocol_type: Option<&'a str>,
    pub protocol: Option<&'a str>,
    /// Of the leader: what each member gets.
    pub assignments: BTreeMap<String, Bytes>,
}

impl Group {
    pub fn sync(&mut self, turn: &mut Turn<'_>, sync: Sync<'_>) {
        let token = sync.token;
        if let Err(error) = self.admit_sync(turn, sync) {
            self.answers.push(Answer::Synced(token, Synced::refused(error)));
        }
    }

    fn admit_sync(&mut self, turn: &mut Turn<'_>, sync: Sync<'_>) -> Result<(), ResponseError> {
        self.check_generation(sync.caller)?;
        let differs = |said: Option<&str>, known: &Option<String>| said.is_some() && said != known.as_deref();
        if differs(sync.protocol_type, &self.protocol_type) || differs(sync.protocol, &self.protocol) {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty => Err(ResponseError::UnknownMemberId),
            State::PreparingRebalance => Err(ResponseError::RebalanceInProgress),
            State::CompletingRebalance => {
                self.wait_for_assignment(sync.caller.member, sync.token);
                if self.is_leader(sync.caller.member) {
                    self.assign(turn, sync.assignments);
                }
                Ok(())
            }
            State::Stable => {
                self.has_synced(sync.caller.member);
                let synced = self.synced(sync.caller.member);
                if let Some(member) = self.members.get_mut(sync.caller.member) {
                    member.touch(turn.now_ms);
                }
                self.answers.push(Answer::Synced(sync.token, synced));
                Ok(())
            }
        }
    }

    fn wait_for_assignment(&mut self, id: &str, token: Token) {
        self.has_synced(id);
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(earlier) = member.sync.replace(token) {
            self.answers.push(Answer::Synced(earlier, Synced::refused(ResponseError::RebalanceInProgress)));
        }
    }

    fn has_synced(&mut self, member: &str) {
        self.pending_sync.remove(member);
        if self.pending_sync.is_empty() {
            self.sync_deadline_ms = None;
        }
    }

    /// Stored before anybody hears of it; where it can't be stored the group tries again.
    fn assign(&mut self, turn: &mut Turn<'_>, mut assignments: BTreeMap<String, Bytes>) {
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        if let Err(error) = self.save(turn) {
            self.assign_none(error, turn.now_ms);
            self.prepare_rebalance(turn, "could not store the assignment");
            return;
        }
        self.enter(State::Stable, turn.now_ms);
        let members: Vec<String> = self.members.keys().cloned().collect();
        for id in members {
            let synced = self.synced(&id);
            let Some(member) = self.members.get_mut(&id) else { continue };
            if let Some(token) = member.sync.take() {
                member.touch(turn.now_ms);
                self.answers.push(Answer::Synced(token, synced));
            }
        }
    }

    fn synced(&self, member: &str) -> Synced {
        let assignment = self.members.get(member).map(|member| member.assignment.clone());
        Synced {
            error: None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: assignment.unwrap_or_default(),
        }
    }

    /// The time in which all must have asked for their assignment is over.
    pub(super) fn end_waiting_for_syncs(&mut self, turn: &mut Turn<'_>) {
        self.sync_deadline_ms = None;
        let missing = std::mem::take(&mut self.pending_sync);
        if missing.is_empty() || !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        missing.iter().for_each(|member| self.remove(member));
        self.prepare_rebalance(turn, "members have not asked for their assignment");
    }
}
