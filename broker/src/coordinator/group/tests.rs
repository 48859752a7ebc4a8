//! Each rule of Kafka's classic protocol, and random histories that must keep its invariants.

mod histories;
mod rules;
mod statics;

use super::*;
use crate::coordinator::event::{Event, Memory, Turn};

/// A group with its own time and journal.
struct Site {
    group: Group,
    store: Memory,
    now_ms: i64,
    last: Token,
    /// Answers that came, by token.
    joined: BTreeMap<Token, Joined>,
    synced: BTreeMap<Token, Synced>,
}

impl Site {
    fn new() -> Self {
        let store = Memory::default();
        let group = Group::new("g", 0);
        Self { group, store, now_ms: 0, last: 0, joined: BTreeMap::new(), synced: BTreeMap::new() }
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Group, &mut Turn<'_>) -> T) -> T {
        let done = step(&mut self.group, &mut Turn { store: &mut self.store, now_ms: self.now_ms });
        for answer in self.group.answers.drain(..) {
            let again = match answer {
                Answer::Joined(token, joined) => self.joined.insert(token, joined).is_some(),
                Answer::Synced(token, synced) => self.synced.insert(token, synced).is_some(),
            };
            assert!(!again, "a request was answered twice");
        }
        done
    }

    fn token(&mut self) -> Token {
        self.last += 1;
        self.last
    }

    fn join_with(&mut self, change: impl FnOnce(&mut Join)) -> Token {
        let token = self.token();
        let mut join = Join {
            token,
            member: String::new(),
            instance: None,
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 5_000,
            session_timeout_ms: 10_000,
            protocol_type: "consumer".into(),
            protocols: protocols(&["range", "roundrobin"]),
            new_member: format!("m{token}"),
            id_required: false,
            may_skip_assignment: true,
            reason: String::new(),
        };
        change(&mut join);
        self.step(|group, turn| group.join(turn, join));
        token
    }

    fn join(&mut self, member: &str) -> Token {
        self.join_with(|join| join.member = member.into())
    }

    fn sync(&mut self, member: &str, assignments: &[(&str, &'static str)]) -> Token {
        let token = self.token();
        let assignments =
            assignments.iter().map(|(id, given)| ((*id).to_owned(), Bytes::from(*given))).collect();
        let caller = Caller { member, instance: None, generation: self.group.generation };
        let sync = Sync { token, caller, protocol_type: Some("consumer"), protocol: None, assignments };
        self.step(|group, turn| group.sync(turn, sync));
        token
    }

    fn heartbeat(&mut self, member: &str) -> Result<(), ResponseError> {
        let (now_ms, generation) = (self.now_ms, self.group.generation);
        self.step(|group, _| group.heartbeat(Caller { member, instance: None, generation }, now_ms))
    }

    fn leave(&mut self, member: &str, instance: Option<&str>) -> Result<(), ResponseError> {
        self.step(|group, turn| group.leave(turn, Caller { member, instance, generation: -1 }, "test"))
    }

    /// Lets time go on, from deadline to deadline.
    fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(deadline_ms) =
            self.group.next_deadline_ms().filter(|deadline_ms| *deadline_ms <= end_ms)
        {
            self.now_ms = self.now_ms.max(deadline_ms);
            self.step(|group, turn| group.expire(turn));
        }
        self.now_ms = end_ms;
    }

    /// A stable group of members that have joined in one go; their ids.
    fn stable(&mut self, count: usize) -> Vec<String> {
        let tokens: Vec<_> = (0..count).map(|_| self.join("")).collect();
        self.pass(5_000);
        let members: Vec<String> = tokens.iter().map(|token| self.joined[token].member.clone()).collect();
        let leader = self.joined[&tokens[0]].leader.clone();
        let others: Vec<&String> = members.iter().filter(|member| **member != leader).collect();
        for member in others {
            self.sync(member, &[]);
        }
        let assignments: Vec<(&str, &'static str)> =
            members.iter().map(|member| (member.as_str(), "a")).collect();
        self.sync(&leader, &assignments);
        assert_eq!(self.group.state, State::Stable);
        members
    }
}

fn protocols(names: &[&str]) -> Vec<Protocol> {
    let protocol = |name: &&str| Protocol { name: (*name).to_owned(), metadata: Bytes::from_static(b"s") };
    names.iter().map(protocol).collect()
}
