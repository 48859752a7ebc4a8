//! A generation as the journal keeps it. Members go on after a restart of the broker, as in Kafka: their sessions begin anew.

use super::{Group, Member, State};
use crate::coordinator::event::{Event, GroupRecord, MemberRecord, Turn};
use kafka_protocol::ResponseError;

impl Group {
    /// What the journal is to hold of it, None where nobody ever was a member.
    pub fn snapshot(&self) -> Option<Event> {
        self.stored.clone().map(Event::Group)
    }

    /// Makes the generation as it is now durable. After an error the last one counts.
    pub(super) fn save(&mut self, turn: &mut Turn<'_>) -> Result<(), ResponseError> {
        let record = self.record();
        turn.store.store(&Event::Group(record.clone()))?;
        self.stored = Some(record);
        Ok(())
    }

    fn record(&self) -> GroupRecord {
        let member = |(id, member): (&String, &Member)| MemberRecord {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
            assignment: member.assignment.clone(),
        };
        GroupRecord {
            group: self.id.clone(),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since_ms: self.since_ms,
            members: self.members.iter().map(member).collect(),
        }
    }

    pub fn restore(record: GroupRecord, now_ms: i64) -> Self {
        let mut group = Self::new(&record.group, record.since_ms.min(now_ms));
        group.stored = Some(record.clone());
        group.generation = record.generation;
        group.protocol_type = record.protocol_type;
        group.protocol = record.protocol;
        group.leader = record.leader;
        for saved in record.members {
            let mut member = Member {
                instance: saved.instance,
                client_id: saved.client_id,
                client_host: saved.client_host,
                rebalance_timeout_ms: saved.rebalance_timeout_ms,
                session_timeout_ms: saved.session_timeout_ms,
                protocols: saved.protocols,
                assignment: saved.assignment,
                join: None,
                sync: None,
                is_new: false,
                session_end_ms: 0,
            };
            member.touch(now_ms);
            if let Some(instance) = &member.instance {
                group.statics.insert(instance.clone(), saved.id.clone());
            }
            group.members.insert(saved.id, member);
        }
        group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
        group
    }
}
