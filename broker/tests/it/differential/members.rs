//! Members that join a group and get their assignments, rightly and wrongly.
//!
//! A round of joins is one operation: a member that joins waits for all others, so each has a connection of its own, and
//! they join one after the other, for the same one to lead on both sides.

use super::{
    Operation,
    side::{Member, Side},
};
use crate::harness::{Random, Wire, text};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use kafka_protocol::{
    messages::{
        GroupId, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol, sync_group_request::SyncGroupRequestAssignment,
    },
    protocol::StrBytes,
};
use std::{fmt::Write as _, time::Duration};

const MEMBER_ID_REQUIRED: i16 = 79;
/// Long enough that nobody is put out, while heartbeats are missing or a rebalance waits for those that do not come.
const SESSION_MS: i32 = 120_000;
/// The first is with its group before the next asks.
const JOINED: Duration = Duration::from_millis(40);

/// Who a request says it is from.
#[derive(Clone, Debug)]
pub struct Claim {
    pub number: usize,
    unknown: bool,
    generation_more: i32,
}

impl Claim {
    pub fn choose(random: &mut Random) -> Self {
        Self {
            number: random.below(3),
            unknown: random.one_in(8),
            generation_more: *random.pick(&[0, 0, 0, 0, 0, 1, -1]),
        }
    }

    pub fn wrong(&self) -> bool {
        self.unknown
    }

    pub fn of(&self, side: &Side, group: &str) -> (StrBytes, i32) {
        let known = side.members.get(&(group.to_owned(), self.number)).filter(|_| !self.unknown);
        known.map_or_else(
            || (text("nobody"), self.generation_more),
            |member| (member.id.clone(), member.generation + self.generation_more),
        )
    }
}

pub fn choose(random: &mut Random, group: String) -> Operation {
    match random.below(6) {
        0..=2 => rounds(random, group),
        3 => refused(random, group),
        _ => sync_wrongly(random, group),
    }
}

/// Those that are members join anew, and some more; then all get their assignments.
fn rounds(random: &mut Random, group: String) -> Operation {
    let version = i16::try_from(random.between(0, 9)).expect("small");
    let newcomer = random.below(3);
    Operation::new(format!("join {group} with {newcomer} v{version}"), move |side| {
        let numbers = in_order(side, &group, newcomer);
        let mut joined = join_all(side, &group, &numbers, version)?;
        joined.sort_by_key(|(number, _)| *number);
        let mut words = String::new();
        for (number, answer) in &joined {
            learn(side, &group, *number, answer);
        }
        for (number, answer) in &joined {
            write!(words, "{number}: {} ", side.normal(&without_leader(answer)))?;
        }
        if joined.iter().all(|(_, answer)| answer.error_code == 0) {
            words += &sync_all(side, &group, &joined)?;
        }
        Ok(words)
    })
}

/// First the one that makes all others join anew: the newcomer, or else the leader. Others would be answered at once, and
/// then waited for.
fn in_order(side: &Side, group: &str, newcomer: usize) -> Vec<usize> {
    let member = |number: &usize| side.members.get(&(group.to_owned(), *number));
    let mut numbers: Vec<_> =
        (0..3).filter(|number| *number == newcomer || member(number).is_some()).collect();
    numbers.sort_by_key(|number| member(number).is_some_and(|member| !member.leads));
    numbers.sort_by_key(|number| member(number).is_some());
    numbers
}

/// Which member leads after the leader left is anybody's guess in Kafka: only that there is one is told.
fn without_leader(answer: &JoinGroupResponse) -> JoinGroupResponse {
    let mut answer = answer.clone();
    if !answer.leader.is_empty() {
        answer.leader = text("somebody");
    }
    answer.members.clear();
    answer
}

fn join_all(
    side: &mut Side,
    group: &str,
    numbers: &[usize],
    version: i16,
) -> Result<Vec<(usize, JoinGroupResponse)>> {
    let mut waiting = Vec::new();
    for number in numbers {
        let mut wire = side.connect()?;
        let known = side.members.get(&(group.to_owned(), *number)).map(|member| member.id.clone());
        let mut request = request(group, *number, version);
        request.member_id = match known {
            Some(id) => id,
            None if version >= 4 => {
                let first = wire.ask(version, &request)?;
                ensure!(first.error_code == MEMBER_ID_REQUIRED, "{first:?}");
                first.member_id
            }
            None => StrBytes::default(),
        };
        let sent = wire.send(version, &request)?;
        // It waits for the others if there are any; else the answer comes now, and is read below.
        wire.arrived(JOINED)?;
        waiting.push((*number, wire, sent));
    }
    let read = |(number, mut wire, sent): (usize, Wire, i32)| {
        Ok((number, wire.answer::<JoinGroupRequest>(version, sent)?))
    };
    waiting.into_iter().map(read).collect()
}

fn request(group: &str, number: usize, version: i16) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from(format!("metadata of {number}")));
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(SESSION_MS)
        .with_protocol_type(text("test"))
        .with_protocols(vec![protocol]);
    if version >= 1 { request.with_rebalance_timeout_ms(SESSION_MS) } else { request }
}

fn learn(side: &mut Side, group: &str, number: usize, answer: &JoinGroupResponse) {
    if answer.error_code != 0 {
        side.members.remove(&(group.to_owned(), number));
        return;
    }
    side.words.insert(answer.member_id.to_string(), format!("member {number} of {group}"));
    let member = Member {
        id: answer.member_id.clone(),
        generation: answer.generation_id,
        leads: answer.leader == answer.member_id,
    };
    side.members.insert((group.to_owned(), number), member);
}

/// The leader first: the others wait for what it brings.
fn sync_all(side: &mut Side, group: &str, joined: &[(usize, JoinGroupResponse)]) -> Result<String> {
    let leader = joined.iter().find(|(_, answer)| answer.leader == answer.member_id).context("no leader")?;
    let assignment = |(number, answer): &(usize, JoinGroupResponse)| {
        SyncGroupRequestAssignment::default()
            .with_member_id(answer.member_id.clone())
            .with_assignment(Bytes::from(format!("assignment of {number}")))
    };
    let mut members = leader.1.members.clone();
    members.sort_by(|one, other| one.metadata.cmp(&other.metadata));
    let mut words = vec![side.normal(&members)];
    let others = joined.iter().filter(|(number, _)| *number != leader.0);
    for (number, answer) in std::iter::once(leader).chain(others) {
        let mut request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(group)))
            .with_member_id(answer.member_id.clone())
            .with_generation_id(answer.generation_id);
        if *number == leader.0 {
            request.assignments = joined.iter().map(assignment).collect();
        }
        words.push(format!("{number}: {}", side.tell(3, &request)?));
    }
    words.sort();
    Ok(words.join(" "))
}

/// Joins that are answered at once, and change nothing.
fn refused(random: &mut Random, group: String) -> Operation {
    let (which, version) = (random.below(5), i16::try_from(random.between(0, 9)).expect("small"));
    Operation::new(format!("join {group} wrongly {which} v{version}"), move |side| {
        let mut request = request(&group, 7, version);
        match which {
            0 => request.session_timeout_ms = 5, // ours begin at 10 ms
            1 => request.session_timeout_ms = i32::MAX,
            2 => request.member_id = text("nobody"),
            3 => request.group_id = GroupId(text("")),
            _ => {
                request.protocol_type = text("");
                request.protocols.clear();
            }
        }
        side.tell(version, &request)
    })
}

/// As nobody, or in another generation: as the right one it might wait.
fn sync_wrongly(random: &mut Random, group: String) -> Operation {
    let (mut claim, version) = (Claim::choose(random), i16::try_from(random.between(0, 5)).expect("small"));
    claim.generation_more = *random.pick(&[1, -1]);
    Operation::new(format!("sync {group} wrongly {claim:?} v{version}"), move |side| {
        let (member, generation) = claim.of(side, &group);
        let mut request = SyncGroupRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(member)
            .with_generation_id(generation);
        if version >= 5 {
            request = request.with_protocol_type(Some(text("test"))).with_protocol_name(Some(text("range")));
        }
        side.tell(version, &request)
    })
}
