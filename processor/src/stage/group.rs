//! Who has which partitions of a consumer group, as its coordinator tells it, and when a member must look.
//!
//! A static member that comes back between the two rounds of a cooperative rebalance is given what it had at once, without
//! another round: what it had been told to give up has no owner then. So whoever sees its partitions change looks at the
//! group until it has seen every partition with an owner; where that does not come, it leaves, and the group shares out
//! anew.

use rdkafka::{
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::KafkaResult,
    groups::GroupInfo,
};
use std::time::{Duration, Instant};

/// How long one look may take.
pub(crate) const LOOK_LIMIT: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// A partition may be without owner for as long as its last one still hands it over.
const OWNERLESS_MAX: Duration = Duration::from_secs(6);
/// Characters that the coordinator adds to an instance's name: a dash and a UUID.
const SUFFIX_CHARS: usize = 37;

/// A group at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// It is not being shared out at the moment.
    settled: bool,
    /// By id.
    members: Vec<Member>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    id: String,
    partitions: Vec<i32>,
}

impl Group {
    /// Asks the brokers for the consumer's group `name`, which reads `topic`.
    pub(crate) fn look<C: ConsumerContext>(
        consumer: &BaseConsumer<C>,
        name: &str,
        topic: &str,
        limit: Duration,
    ) -> KafkaResult<Self> {
        let groups = consumer.fetch_group_list(Some(name), limit)?;
        let found = groups.groups().iter().find(|group| group.name() == name);
        Ok(found.map(|group| Self::of(group, topic)).unwrap_or_default())
    }

    fn of(group: &GroupInfo, topic: &str) -> Self {
        let members = group.members().iter().map(|member| Member {
            id: member.id().to_owned(),
            partitions: assigned(member.assignment().unwrap_or_default(), topic).unwrap_or_default(),
        });
        let mut members: Vec<_> = members.collect();
        members.sort_unstable();
        Self { settled: group.state() == "Stable", members }
    }

    pub(crate) fn has(&self, place: &Place) -> bool {
        self.members.iter().any(|member| place.is_of(&member.id))
    }

    /// Whether there are members of other processes.
    pub(crate) fn has_others(&self, place: &Place) -> bool {
        !self.members.iter().all(|member| place.is_of_process(&member.id))
    }

    /// Whether all `workers` of this process are in it, and everybody has what it will keep for now.
    pub(crate) fn is_shared_out(&self, place: &Place, workers: u16, partitions: i32) -> bool {
        let own = self.members.iter().filter(|member| place.is_of_process(&member.id)).count();
        let are_enough = usize::try_from(partitions).is_ok_and(|partitions| partitions >= self.members.len());
        self.settled
            && own >= usize::from(workers)
            && self.is_whole(partitions)
            && (!are_enough || self.members.iter().all(|member| !member.partitions.is_empty()))
    }

    fn is_whole(&self, partitions: i32) -> bool {
        (0..partitions).all(|partition| self.members.iter().any(|m| m.partitions.contains(&partition)))
    }

    /// Its number in the list; those that look act one after the other.
    fn rank(&self, place: &Place) -> u32 {
        let rank = self.members.iter().position(|member| place.is_of(&member.id));
        rank.and_then(|rank| u32::try_from(rank).ok()).unwrap_or_default()
    }
}

/// Where a static member belongs: what it is called in each of its lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What all members of its process are called in the group.
    pub process: String,
    /// Its number, where the process has several.
    pub worker: Option<u16>,
}

impl Place {
    /// Its `group.instance.id`.
    pub(crate) fn instance(&self) -> String {
        self.worker.map_or_else(|| self.process.clone(), |number| format!("{}-{number}", self.process))
    }

    fn is_of(&self, id: &str) -> bool {
        instance_of(id).is_some_and(|instance| instance == self.instance())
    }

    fn is_of_process(&self, id: &str) -> bool {
        let rest = instance_of(id).and_then(|instance| instance.strip_prefix(&self.process));
        let number = rest.and_then(|rest| rest.strip_prefix('-'));
        match self.worker {
            None => rest == Some(""),
            Some(_) => number.is_some_and(|number| number.parse::<u16>().is_ok()),
        }
    }
}

/// The coordinator makes the id of a static member of its instance's.
fn instance_of(id: &str) -> Option<&str> {
    id.len().checked_sub(SUFFIX_CHARS).and_then(|length| id.get(..length))
}

/// The partitions of `topic` in an assignment of the consumer protocol, of whatever version: all begin alike.
fn assigned(bytes: &[u8], topic: &str) -> Option<Vec<i32>> {
    let mut rest = bytes;
    let rest = &mut rest;
    let _version = i16::from_be_bytes(take(rest)?);
    let mut found = Vec::new();
    for _ in 0..i32::from_be_bytes(take(rest)?) {
        let length = usize::try_from(i16::from_be_bytes(take(rest)?)).ok()?;
        let name = rest.split_off(..length)?;
        for _ in 0..i32::from_be_bytes(take(rest)?) {
            let partition = i32::from_be_bytes(take(rest)?);
            if name == topic.as_bytes() {
                found.push(partition);
            }
        }
    }
    Some(found)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(*head)
}

/// When a member looks at its group, and whether it must leave. Pure: time is an argument.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    next: Option<Instant>,
    ownerless_since: Option<Instant>,
}

impl Watch {
    /// This member's partitions have changed.
    pub(crate) fn changed(&mut self, now: Instant) {
        *self = Self { next: Some(now + LOOK_EVERY), ownerless_since: None };
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| now >= next)
    }

    /// What a look has shown, if the brokers answered; true when this member must leave, so that all are shared out anew.
    pub(crate) fn saw(
        &mut self,
        group: Option<&Group>,
        (place, partitions): (&Place, i32),
        now: Instant,
    ) -> bool {
        self.next = Some(now + LOOK_EVERY);
        let Some(group) = group.filter(|group| group.settled) else {
            self.ownerless_since = None;
            return false;
        };
        if group.is_whole(partitions) {
            *self = Self::default();
            return false;
        }
        let since = *self.ownerless_since.get_or_insert(now);
        now.saturating_duration_since(since) >= OWNERLESS_MAX * (group.rank(place) + 1)
    }
}

#[cfg(test)]
mod tests;
