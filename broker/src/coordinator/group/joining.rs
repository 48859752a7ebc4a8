//! JoinGroup: new members, static members that come back, and members that join a rebalance.

use super::{
    Answer, Caller, Group, Joined, MEMBERS_MAX, Member, NEW_MEMBER_JOIN_TIMEOUT_MS, PENDING_MEMBERS_MAX,
    PROTOCOLS_BYTES_MAX, PROTOCOLS_MAX, SESSION_TIMEOUT_MS, State, Synced, Token,
};
use crate::coordinator::event::{Protocol, Turn};
use bytes::Bytes;
use kafka_protocol::ResponseError;

#[derive(Clone, Debug)]
pub struct Join {
    pub token: Token,
    /// Empty: a new member.
    pub member: String,
    pub instance: Option<String>,
    pub client_id: String,
    pub client_host: String,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub protocol_type: String,
    pub protocols: Vec<Protocol>,
    /// The id for a new member: made by the caller, so that this stays pure.
    pub new_member: String,
    /// A new member without an instance first gets its id, and joins with it (KIP-394).
    pub id_required: bool,
    /// It understands that it leads without assigning (KIP-814).
    pub may_skip_assignment: bool,
    pub reason: String,
}

impl Join {
    /// What can be said without the group.
    pub fn check(&self) -> Result<(), ResponseError> {
        if !SESSION_TIMEOUT_MS.contains(&self.session_timeout_ms) {
            return Err(ResponseError::InvalidSessionTimeout);
        }
        let bytes: usize = self.protocols.iter().map(|known| known.name.len() + known.metadata.len()).sum();
        let fits = self.protocols.len() <= PROTOCOLS_MAX && bytes <= PROTOCOLS_BYTES_MAX;
        fits.then_some(()).ok_or(ResponseError::InvalidRequest)
    }
}

impl Group {
    pub fn join(&mut self, turn: &mut Turn<'_>, join: Join) {
        if let Err((member, error)) = self.admit(turn, &join) {
            self.answers.push(Answer::Joined(join.token, Joined::refused(&member, error)));
        }
        self.complete_if_all_joined(turn);
    }

    /// Ok: answered, or waiting.
    fn admit(&mut self, turn: &mut Turn<'_>, join: &Join) -> Result<(), (String, ResponseError)> {
        if !self.has_room(&join.member) {
            self.remove(&join.member);
            return Err((String::new(), ResponseError::GroupMaxSizeReached));
        }
        if !self.supports(join) {
            return Err((join.member.clone(), ResponseError::InconsistentGroupProtocol));
        }
        if !join.member.is_empty() {
            return self.admit_known(turn, join).map_err(|error| (join.member.clone(), error));
        }
        let current = join.instance.as_ref().and_then(|instance| self.statics.get(instance)).cloned();
        match current {
            Some(current) => self.replace_static(turn, &current, join),
            None if join.instance.is_none() && join.id_required => {
                return Err(self.promise_id(turn.now_ms, join));
            }
            None => self.add(turn, &join.new_member, join),
        }
        Ok(())
    }

    fn has_room(&self, member: &str) -> bool {
        let known = self.members.get(member);
        match self.state {
            State::Empty => true,
            State::PreparingRebalance => {
                let waiting = self.members.values().filter(|member| member.join.is_some()).count();
                known.is_some_and(|member| member.join.is_some()) || waiting < MEMBERS_MAX
            }
            State::CompletingRebalance | State::Stable => known.is_some() || self.members.len() < MEMBERS_MAX,
        }
    }

    /// Whether there is a way of assigning that all members know.
    fn supports(&self, join: &Join) -> bool {
        if self.members.is_empty() {
            return !join.protocol_type.is_empty() && !join.protocols.is_empty();
        }
        let by_all = |offered: &Protocol| {
            self.members
                .values()
                .all(|member| member.protocols.iter().any(|known| known.name == offered.name))
        };
        self.protocol_type.as_ref() == Some(&join.protocol_type) && join.protocols.iter().any(by_all)
    }

    fn promise_id(&mut self, now_ms: i64, join: &Join) -> (String, ResponseError) {
        if self.pending.len() >= PENDING_MEMBERS_MAX {
            return (String::new(), ResponseError::GroupMaxSizeReached);
        }
        self.pending.insert(join.new_member.clone(), now_ms + i64::from(join.session_timeout_ms));
        (join.new_member.clone(), ResponseError::MemberIdRequired)
    }

    fn add(&mut self, turn: &mut Turn<'_>, id: &str, join: &Join) {
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if self.state == State::PreparingRebalance && self.generation == 0 {
            self.new_member_added = true;
        }
        let member = Member {
            instance: join.instance.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            session_timeout_ms: join.session_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            join: Some(join.token),
            sync: None,
            is_new: true,
            session_end_ms: turn.now_ms + NEW_MEMBER_JOIN_TIMEOUT_MS,
        };
        self.leader.get_or_insert_with(|| id.to_owned());
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), id.to_owned());
        }
        self.members.insert(id.to_owned(), member);
        self.pending.remove(id);
        self.maybe_prepare_rebalance(turn, &join.reason);
    }

    fn admit_known(&mut self, turn: &mut Turn<'_>, join: &Join) -> Result<(), ResponseError> {
        if self.pending.contains_key(&join.member) {
            if join.instance.is_some() {
                return Err(ResponseError::UnknownMemberId); // Kafka fails: an instance never gets such an id
            }
            self.add(turn, &join.member, join);
            return Ok(());
        }
        let caller = Caller { member: &join.member, instance: join.instance.as_deref(), generation: -1 };
        self.check_member(caller)?;
        let is_leader = self.is_leader(&join.member);
        let is_unchanged =
            self.members.get(&join.member).is_some_and(|known| known.protocols == join.protocols);
        match self.state {
            State::Empty => return Err(ResponseError::UnknownMemberId),
            State::CompletingRebalance if is_unchanged => self.repeat_join(join, is_leader),
            State::Stable if is_unchanged && !is_leader => self.repeat_join(join, false),
            _ => {
                self.update(&join.member, join);
                self.maybe_prepare_rebalance(turn, &join.reason);
            }
        }
        Ok(())
    }

    /// The answer was lost: the same again.
    fn repeat_join(&mut self, join: &Join, with_members: bool) {
        let joined = self.joined(&join.member, with_members);
        self.answers.push(Answer::Joined(join.token, joined));
    }

    /// Takes over what the member says now; it waits for the rebalance.
    fn update(&mut self, id: &str, join: &Join) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.protocols.clone_from(&join.protocols);
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        member.session_timeout_ms = join.session_timeout_ms;
        if let Some(earlier) = member.join.replace(join.token) {
            let refused = Joined::refused(id, ResponseError::RebalanceInProgress);
            self.answers.push(Answer::Joined(earlier, refused));
        }
    }

    /// A static member came back under a new id. Its assignment stays where the choice of the protocol does.
    fn replace_static(&mut self, turn: &mut Turn<'_>, old: &str, join: &Join) {
        let old_leader = self.leader.clone();
        let Some(before) = self.rename(old, &join.new_member) else { return };
        if let Some(member) = self.members.get_mut(&join.new_member) {
            member.touch(turn.now_ms);
        }
        self.update(&join.new_member, join);
        match self.state {
            State::Stable if self.protocol == self.select_protocol() => {
                if let Err(error) = self.save(turn) {
                    self.undo_replacement(old, before, join, error);
                } else {
                    self.answer_replaced(join, old_leader.unwrap_or_default(), turn.now_ms);
                }
            }
            State::Stable => {
                self.maybe_prepare_rebalance(turn, "a static member came back with other protocols")
            }
            State::CompletingRebalance => self.prepare_rebalance(turn, "a static member came back"),
            State::PreparingRebalance | State::Empty => {}
        }
    }

    /// Gives the member another id; whoever waits under the old one is fenced. What it said before.
    fn rename(&mut self, old: &str, new: &str) -> Option<(Vec<Protocol>, i32, i32)> {
        let mut member = self.members.remove(old)?;
        if let Some(token) = member.join.take() {
            let refused = Joined::refused(old, ResponseError::FencedInstanceId);
            self.answers.push(Answer::Joined(token, refused));
        }
        if let Some(token) = member.sync.take() {
            self.answers.push(Answer::Synced(token, Synced::refused(ResponseError::FencedInstanceId)));
        }
        if self.is_leader(old) {
            self.leader = Some(new.to_owned());
        }
        if let Some(instance) = &member.instance {
            self.statics.insert(instance.clone(), new.to_owned());
        }
        if self.pending_sync.remove(old) {
            self.pending_sync.insert(new.to_owned());
        }
        let before = (member.protocols.clone(), member.rebalance_timeout_ms, member.session_timeout_ms);
        self.members.insert(new.to_owned(), member);
        Some(before)
    }

    fn undo_replacement(
        &mut self,
        old: &str,
        before: (Vec<Protocol>, i32, i32),
        join: &Join,
        error: ResponseError,
    ) {
        if let Some(member) = self.members.get_mut(&join.new_member) {
            (member.protocols, member.rebalance_timeout_ms, member.session_timeout_ms) = before;
            member.join = None;
        }
        self.rename(&join.new_member, old);
        self.answers.push(Answer::Joined(join.token, Joined::refused("", error)));
    }

    /// A leader that does not know how to skip the assignment hears of the old leader, so that it does not assign.
    fn answer_replaced(&mut self, join: &Join, old_leader: String, now_ms: i64) {
        let is_leader = self.is_leader(&join.new_member);
        let mut joined = self.joined(&join.new_member, is_leader && join.may_skip_assignment);
        if join.may_skip_assignment {
            joined.skip_assignment = is_leader;
        } else {
            joined.leader = old_leader;
        }
        if let Some(member) = self.members.get_mut(&join.new_member) {
            member.join = None;
            member.touch(now_ms);
        }
        self.answers.push(Answer::Joined(join.token, joined));
    }

    pub(super) fn joined(&self, member: &str, with_members: bool) -> Joined {
        let protocol = self.protocol.clone().unwrap_or_default();
        let listed = self.members.iter().filter(|_| with_members);
        let listed =
            listed.map(|(id, member)| (id.clone(), member.instance.clone(), member.metadata(&protocol)));
        Joined {
            error: None,
            member: member.to_owned(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            members: listed.collect(),
            skip_assignment: false,
        }
    }
}
