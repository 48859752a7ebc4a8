//! JoinGroup, SyncGroup, Heartbeat, LeaveGroup.

use super::{code, owned, text, text_of};
use crate::coordinator::{
    Client, Coordinator,
    event::Protocol,
    group::{Caller, Join, Joined, Sync, Synced, Token},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
        LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
        join_group_response::JoinGroupResponseMember, leave_group_request::MemberIdentity,
        leave_group_response::MemberResponse,
    },
};
use std::collections::BTreeMap;
use uuid::Uuid;

impl Coordinator {
    pub async fn join_group(
        &self,
        client: &Client,
        version: i16,
        request: JoinGroupRequest,
    ) -> JoinGroupResponse {
        let group = request.group_id.as_str().to_owned();
        let member = request.member_id.as_str().to_owned();
        if group.is_empty() {
            return joined(version, Joined::refused(&member, ResponseError::InvalidGroupId));
        }
        let join = to_join(client, version, request);
        if let Err(error) = join.check() {
            return joined(version, Joined::refused(&member, error));
        }
        let answer = {
            let now_ms = self.shared.now_ms();
            let state = &mut *self.shared.state();
            if join.member.is_empty() && state.make_group(&group, now_ms).is_err() {
                return joined(version, Joined::refused("", ResponseError::GroupMaxSizeReached));
            }
            let (token, answer) = state.waiters.join();
            let step = state.with_group(&group, now_ms, |group, turn| {
                group.join(turn, Join { token, ..join });
                group.next_deadline_ms()
            });
            // A token that no group has taken is dropped with its sender.
            match step {
                Some(deadline_ms) => self.shared.arm(state, deadline_ms),
                None => state.waiters.forget(token),
            }
            answer
        };
        // Without a sender: there is no such group.
        let unknown = |_| Joined::refused(&member, ResponseError::UnknownMemberId);
        joined(version, answer.await.unwrap_or_else(unknown))
    }

    pub async fn sync_group(
        &self,
        _client: &Client,
        version: i16,
        request: SyncGroupRequest,
    ) -> SyncGroupResponse {
        if request.group_id.is_empty() {
            return synced(version, Synced::refused(ResponseError::InvalidGroupId));
        }
        if version >= 5 && (request.protocol_type.is_none() || request.protocol_name.is_none()) {
            return synced(version, Synced::refused(ResponseError::InconsistentGroupProtocol));
        }
        let answer = {
            let now_ms = self.shared.now_ms();
            let state = &mut *self.shared.state();
            let (token, answer) = state.waiters.sync();
            let sync = to_sync(token, &request);
            let step = state.with_group(&request.group_id, now_ms, |group, turn| {
                group.sync(turn, sync);
                group.next_deadline_ms()
            });
            match step {
                Some(deadline_ms) => self.shared.arm(state, deadline_ms),
                None => state.waiters.forget(token),
            }
            answer
        };
        let unknown = |_| Synced::refused(ResponseError::UnknownMemberId);
        synced(version, answer.await.unwrap_or_else(unknown))
    }

    pub async fn heartbeat(&self, _version: i16, request: HeartbeatRequest) -> HeartbeatResponse {
        let caller = Caller {
            member: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        };
        let now_ms = self.shared.now_ms();
        let beat = match request.group_id.is_empty() {
            true => Err(ResponseError::InvalidGroupId),
            false => {
                let mut state = self.shared.state();
                let beat =
                    state.with_group(&request.group_id, now_ms, |group, _| group.heartbeat(caller, now_ms));
                beat.unwrap_or(Err(ResponseError::UnknownMemberId))
            }
        };
        HeartbeatResponse::default().with_error_code(code(&beat))
    }

    pub async fn leave_group(&self, version: i16, request: LeaveGroupRequest) -> LeaveGroupResponse {
        if request.group_id.is_empty() {
            return LeaveGroupResponse::default().with_error_code(ResponseError::InvalidGroupId.code());
        }
        let alone = MemberIdentity::default().with_member_id(request.member_id.clone());
        let leaving = if version < 3 { vec![alone] } else { request.members };
        let members: Vec<_> =
            leaving.into_iter().map(|member| self.leave(&request.group_id, member)).collect();
        match members.first() {
            Some(alone) if version < 3 => LeaveGroupResponse::default().with_error_code(alone.error_code),
            _ => LeaveGroupResponse::default().with_members(members),
        }
    }

    fn leave(&self, group: &str, member: MemberIdentity) -> MemberResponse {
        let instance = member.group_instance_id.as_deref();
        let caller = Caller { member: &member.member_id, instance, generation: -1 };
        let reason = member.reason.as_deref().unwrap_or("a member leaves");
        let left = {
            let now_ms = self.shared.now_ms();
            let state = &mut *self.shared.state();
            let step = state.with_group(group, now_ms, |group, turn| {
                (group.leave(turn, caller, reason), group.next_deadline_ms())
            });
            let (left, deadline_ms) = step.unwrap_or((Err(ResponseError::UnknownMemberId), None));
            self.shared.arm(state, deadline_ms);
            left
        };
        let error_code = code(&left);
        let response = MemberResponse::default().with_error_code(error_code);
        response.with_member_id(member.member_id).with_group_instance_id(member.group_instance_id)
    }
}

fn to_join(client: &Client, version: i16, request: JoinGroupRequest) -> Join {
    let instance = text_of(&request.group_instance_id);
    let named = instance.as_deref().unwrap_or(&client.id);
    let protocols = request.protocols.iter();
    Join {
        token: Token::default(),
        member: request.member_id.as_str().to_owned(),
        new_member: format!("{named}-{}", Uuid::new_v4()),
        instance,
        client_id: client.id.clone(),
        client_host: client.host.clone(),
        rebalance_timeout_ms: match version {
            0 => request.session_timeout_ms,
            _ => request.rebalance_timeout_ms.max(1),
        },
        session_timeout_ms: request.session_timeout_ms,
        protocol_type: request.protocol_type.as_str().to_owned(),
        protocols: protocols
            .map(|known| Protocol { name: known.name.as_str().to_owned(), metadata: owned(&known.metadata) })
            .collect(),
        id_required: version >= 4,
        may_skip_assignment: version >= 9,
        reason: request
            .reason
            .as_ref()
            .map_or_else(|| "a member joins".to_owned(), |reason| reason.to_string()),
    }
}

fn to_sync(token: Token, request: &SyncGroupRequest) -> Sync<'_> {
    let assignments = request.assignments.iter();
    Sync {
        token,
        caller: Caller {
            member: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_deref(),
        protocol: request.protocol_name.as_deref(),
        assignments: assignments
            .map(|given| (given.member_id.as_str().to_owned(), owned(&given.assignment)))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn joined(version: i16, joined: Joined) -> JoinGroupResponse {
    let member = |(id, instance, metadata): (String, Option<String>, bytes::Bytes)| {
        let member = JoinGroupResponseMember::default().with_member_id(text(id)).with_metadata(metadata);
        member.with_group_instance_id(instance.map(text))
    };
    let protocol = match version {
        7.. => joined.protocol,
        _ => Some(joined.protocol.unwrap_or_default()),
    };
    JoinGroupResponse::default()
        .with_error_code(joined.error.map_or(0, |error| error.code()))
        .with_generation_id(joined.generation)
        .with_protocol_type(joined.protocol_type.map(text))
        .with_protocol_name(protocol.map(text))
        .with_leader(text(joined.leader))
        .with_skip_assignment(joined.skip_assignment)
        .with_member_id(text(joined.member))
        .with_members(joined.members.into_iter().map(member).collect())
}

fn synced(_version: i16, synced: Synced) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(synced.error.map_or(0, |error| error.code()))
        .with_protocol_type(synced.protocol_type.map(text))
        .with_protocol_name(synced.protocol.map(text))
        .with_assignment(synced.assignment)
}
