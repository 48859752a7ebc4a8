//! ListGroups, DescribeGroups, DeleteGroups.

use super::{code, text};
use crate::coordinator::{
    Coordinator,
    event::Event,
    group::{Group, Member, State},
};
use kafka_protocol::{
    ResponseError,
    messages::{
        DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
        ListGroupsRequest, ListGroupsResponse,
        delete_groups_response::DeletableGroupResult,
        describe_groups_response::{DescribedGroup, DescribedGroupMember},
        list_groups_response::ListedGroup,
    },
};

const TYPE: &str = "classic";
/// Without access control a client may do all that there is to do with a group: READ, DELETE, DESCRIBE, DESCRIBE_CONFIGS,
/// ALTER_CONFIGS.
const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

impl Coordinator {
    pub async fn list_groups(&self, _version: i16, request: ListGroupsRequest) -> ListGroupsResponse {
        let states = &request.states_filter;
        let in_state = |group: &&Group| {
            states.is_empty() || states.iter().any(|state| state.eq_ignore_ascii_case(group.state.name()))
        };
        let types = &request.types_filter;
        let of_type = types.is_empty() || types.iter().any(|kind| kind.eq_ignore_ascii_case(TYPE));
        let state = self.shared.state();
        let groups = state.groups.values().filter(|_| of_type).filter(in_state).map(listed);
        ListGroupsResponse::default().with_groups(groups.collect())
    }

    pub async fn describe_groups(
        &self,
        version: i16,
        request: DescribeGroupsRequest,
    ) -> DescribeGroupsResponse {
        let with_operations = version >= 3 && request.include_authorized_operations;
        let state = self.shared.state();
        let describe = |id: GroupId| {
            let group = state.groups.get(id.as_str());
            let described = group.map_or_else(|| unknown(version), described).with_group_id(id);
            match with_operations {
                true => described.with_authorized_operations(ALL_OPERATIONS),
                false => described,
            }
        };
        DescribeGroupsResponse::default().with_groups(request.groups.into_iter().map(describe).collect())
    }

    pub async fn delete_groups(&self, _version: i16, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
        let mut results = Vec::new();
        for id in request.groups_names {
            let deleted = self.delete_group(&id).await;
            results.push(DeletableGroupResult::default().with_error_code(code(&deleted)).with_group_id(id));
        }
        DeleteGroupsResponse::default().with_results(results)
    }

    async fn delete_group(&self, id: &str) -> Result<(), ResponseError> {
        let written = {
            let mut state = self.shared.state();
            let group = state.groups.get(id).ok_or(ResponseError::GroupIdNotFound)?;
            if group.state != State::Empty {
                return Err(ResponseError::NonEmptyGroup);
            }
            state.record(Event::GroupDeleted { group: id.to_owned() })?;
            state.groups.remove(id);
            state.ledger.written()
        };
        written.wait().await
    }
}

fn listed(group: &Group) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(text(group.id.as_str()).into())
        .with_protocol_type(text(group.protocol_type.clone().unwrap_or_default()))
        .with_group_state(group.state.name().into())
        .with_group_type(TYPE.into())
}

fn unknown(version: i16) -> DescribedGroup {
    let dead = DescribedGroup::default().with_group_state("Dead".into());
    match version {
        6.. => dead.with_error_code(ResponseError::GroupIdNotFound.code()),
        _ => dead,
    }
}

fn described(group: &Group) -> DescribedGroup {
    let is_stable = group.state == State::Stable;
    let protocol = group.protocol.clone().filter(|_| is_stable).unwrap_or_default();
    let member = |(id, member): (&String, &Member)| {
        let described = DescribedGroupMember::default()
            .with_member_id(text(id.as_str()))
            .with_group_instance_id(member.instance.clone().map(text))
            .with_client_id(text(member.client_id.as_str()))
            .with_client_host(text(member.client_host.as_str()))
            .with_member_assignment(member.assignment.clone());
        match is_stable {
            true => described.with_member_metadata(member.metadata(&protocol)),
            false => described,
        }
    };
    DescribedGroup::default()
        .with_group_state(group.state.name().into())
        .with_protocol_type(text(group.protocol_type.clone().unwrap_or_default()))
        .with_members(group.members().map(member).collect())
        .with_protocol_data(text(protocol))
}
