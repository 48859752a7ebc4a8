//! Partitions of a group move as members come and go.

use crate::harness::{Backend, Member, PATIENCE, Wire, on_each_backend, text, topic_name, until};
use anyhow::{Context as _, Result, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use kafka_protocol::{
    messages::{
        ConsumerProtocolSubscription, GroupId, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol,
    },
    protocol::Encodable as _,
};
use std::{collections::BTreeSet, thread};

on_each_backend!(range, round_robin, cooperative_sticky, member_dies, static_member);

fn range(backend: &Backend) -> Result<()> {
    comes_and_goes(backend, "range")
}

fn round_robin(backend: &Backend) -> Result<()> {
    comes_and_goes(backend, "roundrobin")
}

fn cooperative_sticky(backend: &Backend) -> Result<()> {
    comes_and_goes(backend, "cooperative-sticky")
}

/// A second member gets its share, and gives it back when it leaves; nothing is missed.
fn comes_and_goes(backend: &Backend, strategy: &str) -> Result<()> {
    let (topic, group) = (backend.topic(4)?, backend.unique("g"));
    let settings = [("partition.assignment.strategy", strategy)];
    backend.produce(&topic, 400)?;
    let first = Member::join(backend, &group, &topic, &settings)?;
    has(&first, &[0, 1, 2, 3])?;
    let second = Member::join(backend, &group, &topic, &settings)?;
    shared(&first, &second)?;
    backend.produce(&topic, 400)?;
    until("all is seen by one or the other", PATIENCE, || {
        let seen = distinct(&[&first, &second]);
        ensure!(seen == 800, "{seen}");
        Ok(())
    })?;
    let left = second.leave()?;
    has(&first, &[0, 1, 2, 3])?;
    backend.produce(&topic, 40)?;
    until("what comes later is seen", PATIENCE, || {
        let mut seen: BTreeSet<_> = first.seen().records.into_iter().collect();
        seen.extend(&left.records);
        ensure!(seen.len() == 840, "{}", seen.len());
        Ok(())
    })?;
    first.leave().map(drop)
}

fn has(member: &Member, partitions: &[i32]) -> Result<()> {
    let expected: BTreeSet<_> = partitions.iter().copied().collect();
    until(&format!("it has {partitions:?}"), PATIENCE, || {
        let assigned = member.seen().assigned;
        ensure!(assigned == expected, "it has {assigned:?}");
        Ok(())
    })
}

/// Each has two of the four.
fn shared(first: &Member, second: &Member) -> Result<()> {
    until("the partitions are shared", PATIENCE, || {
        let (one, other) = (first.seen().assigned, second.seen().assigned);
        let all: BTreeSet<_> = one.union(&other).copied().collect();
        ensure!(one.len() == 2 && other.len() == 2 && all.len() == 4, "{one:?} and {other:?}");
        Ok(())
    })
}

fn distinct(members: &[&Member]) -> usize {
    members.iter().flat_map(|member| member.seen().records).collect::<BTreeSet<_>>().len()
}

/// A member that vanishes without a word: its partitions go to the other when its session is over.
fn member_dies(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(4)?, backend.unique("g"));
    let survivor = Member::join(backend, &group, &topic, &[("partition.assignment.strategy", "range")])?;
    has(&survivor, &[0, 1, 2, 3])?;
    let mut wire = backend.coordinated()?;
    let joined = join(&mut wire, &group, &topic)?;
    let sync = SyncGroupRequest::default()
        .with_group_id(GroupId(text(&group)))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    let synced = wire.ask(3, &sync)?;
    ensure!(synced.error_code == 0 && !synced.assignment.is_empty(), "{synced:?}");
    until("the survivor has only its share", PATIENCE, || {
        let assigned = survivor.seen().assigned;
        ensure!(assigned.len() == 2, "{assigned:?}");
        Ok(())
    })?;
    drop(wire);
    has(&survivor, &[0, 1, 2, 3])?;
    survivor.leave().map(drop)
}

/// Joins as a client does that is told its id first.
fn join(wire: &mut Wire, group: &str, topic: &str) -> Result<JoinGroupResponse> {
    const MEMBER_ID_REQUIRED: i16 = 79;
    let protocol =
        JoinGroupRequestProtocol::default().with_name(text("range")).with_metadata(subscription(topic)?);
    let request = JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(6000)
        .with_rebalance_timeout_ms(20_000)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol]);
    let first = wire.ask(5, &request)?;
    ensure!(first.error_code == MEMBER_ID_REQUIRED, "{first:?}");
    let joined = wire.ask(5, &request.with_member_id(first.member_id))?;
    ensure!(joined.error_code == 0, "{joined:?}");
    Ok(joined)
}

pub fn subscription(topic: &str) -> Result<Bytes> {
    const VERSION: i16 = 0;
    let subscription = ConsumerProtocolSubscription::default().with_topics(vec![topic_name(topic).0]);
    let mut bytes = BytesMut::new();
    bytes.put_i16(VERSION);
    subscription.encode(&mut bytes, VERSION)?;
    Ok(bytes.freeze())
}

/// A static member that restarts gets its partitions back, and the other is not disturbed.
fn static_member(backend: &Backend) -> Result<()> {
    let (topic, group) = (backend.topic(4)?, backend.unique("g"));
    let named = |name: &'static str| [("group.instance.id", name), ("session.timeout.ms", "30000")];
    let first = Member::join(backend, &group, &topic, &named("one"))?;
    has(&first, &[0, 1, 2, 3])?;
    let second = Member::join(backend, &group, &topic, &named("two"))?;
    shared(&first, &second)?;
    let (kept, revocations) = (first.seen().assigned, first.seen().revocations);
    let had = second.leave()?.assigned;
    let again = Member::join(backend, &group, &topic, &named("two"))?;
    has(&again, &had.into_iter().collect::<Vec<_>>())?;
    let seen = first.seen();
    ensure!(seen.assigned == kept && seen.revocations == revocations, "the other was disturbed");
    // Together: one alone would have to wait for the other's session.
    let leaving = thread::spawn(move || again.leave());
    first.leave()?;
    leaving.join().ok().context("a member panicked")?.map(drop)
}
