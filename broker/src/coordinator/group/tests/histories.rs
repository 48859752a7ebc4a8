//! Random histories of up to six clients.

use super::*;
use proptest::{prelude::*, sample::select};

#[derive(Clone, Debug)]
enum Step {
    Join { client: usize, protocols: Vec<&'static str>, id_required: bool },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Forget { client: usize },
    Pass { ms: i64 },
    Disk { is_full: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..6usize;
    let offers = select(vec![vec!["range"], vec!["range", "sticky"], vec!["sticky", "range"]]);
    prop_oneof![
        4 => (client.clone(), offers, any::<bool>())
            .prop_map(|(client, protocols, id_required)| Step::Join { client, protocols, id_required }),
        4 => client.clone().prop_map(|client| Step::Sync { client }),
        2 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        1 => client.prop_map(|client| Step::Forget { client }),
        3 => select(vec![1, 60, 150, 3_000, 6_000, 12_000]).prop_map(|ms| Step::Pass { ms }),
        1 => any::<bool>().prop_map(|is_full| Step::Disk { is_full }),
        1 => Just(Step::Restart),
    ]
}

/// What a client knows; the first two are static.
#[derive(Clone, Default)]
struct Known {
    member: String,
    instance: Option<String>,
    join: Option<Token>,
    sync: Option<Token>,
}

struct History {
    site: Site,
    clients: Vec<Known>,
    /// The leader and the protocol of each generation, as clients heard of them.
    generations: BTreeMap<i32, (String, Option<String>)>,
}

impl History {
    fn new() -> Self {
        let client =
            |index: usize| Known { instance: (index < 2).then(|| format!("i{index}")), ..Known::default() };
        Self { site: Site::new(), clients: (0..6).map(client).collect(), generations: BTreeMap::new() }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Join { client, protocols: names, id_required } => {
                let known = self.clients[client].clone();
                let token = self.site.join_with(|join| {
                    join.member = known.member;
                    join.instance = known.instance;
                    join.protocols = protocols(&names);
                    join.id_required = id_required;
                });
                self.clients[client].join = Some(token);
            }
            Step::Sync { client } => {
                let member = self.clients[client].member.clone();
                self.clients[client].sync = Some(self.site.sync(&member, &[(&member, "mine")]));
            }
            Step::Heartbeat { client } => {
                let member = self.clients[client].member.clone();
                if self.site.heartbeat(&member) == Err(ResponseError::UnknownMemberId) {
                    self.clients[client].member.clear();
                }
            }
            Step::Leave { client } => {
                let known = self.clients[client].clone();
                self.site.leave(&known.member, known.instance.as_deref()).ok();
                self.clients[client].member.clear();
            }
            Step::Forget { client } => self.clients[client].member.clear(),
            Step::Pass { ms } => self.site.pass(ms),
            Step::Disk { is_full } => self.site.store.is_full = is_full,
            Step::Restart => self.restart(),
        }
        self.listen();
        self.check();
    }

    fn restart(&mut self) {
        self.site.step(|group, _| group.release());
        let now_ms = self.site.now_ms;
        self.site.group = match self.site.group.snapshot() {
            Some(Event::Group(record)) => Group::restore(record, now_ms),
            _ => Group::new("g", now_ms),
        };
        self.generations.retain(|generation, _| *generation <= self.site.group.generation);
    }

    /// Clients take over what they are told.
    fn listen(&mut self) {
        for client in &mut self.clients {
            let joined = client.join.and_then(|token| self.site.joined.get(&token));
            let Some(joined) = joined else { continue };
            client.join = None;
            match joined.error {
                None => {
                    client.member.clone_from(&joined.member);
                    if joined.skip_assignment || client.instance.is_some() {
                        continue; // a static leader that comes back has another id in the same generation
                    }
                    let heard = (joined.leader.clone(), joined.protocol.clone());
                    let known = self.generations.entry(joined.generation).or_insert_with(|| heard.clone());
                    assert_eq!(known.1, heard.1, "one protocol for each generation");
                }
                Some(ResponseError::MemberIdRequired) => client.member.clone_from(&joined.member),
                Some(ResponseError::UnknownMemberId | ResponseError::FencedInstanceId) => {
                    client.member.clear()
                }
                Some(_) => {}
            }
        }
    }

    fn check(&self) {
        let group = &self.site.group;
        assert_eq!(group.members.is_empty(), group.state == State::Empty || group.members.is_empty());
        if group.state == State::Empty {
            assert!(
                group.members.is_empty() && group.rebalance.is_none() && group.sync_deadline_ms.is_none()
            );
        } else if !group.members.is_empty() {
            let leader = group.leader.as_ref().expect("a group with members has a leader");
            assert!(group.members.contains_key(leader), "the leader is a member");
        }
        assert_eq!(group.rebalance.is_some(), group.state == State::PreparingRebalance);
        for (id, member) in &group.members {
            assert!(!group.pending.contains_key(id), "a member is in one state");
            assert!(member.join.is_none() || member.sync.is_none());
            assert!(member.join.is_none() || group.state == State::PreparingRebalance);
            assert!(member.sync.is_none() || group.state == State::CompletingRebalance);
            let named = member.instance.as_ref().map(|instance| group.statics.get(instance));
            assert!(named.is_none_or(|current| current == Some(id)));
        }
        assert!(group.statics.values().all(|id| group.members.contains_key(id)));
        assert!(group.pending_sync.iter().all(|id| group.members.contains_key(id)));
        // Whoever has not been answered is waited for, and time will answer it.
        let waiting: BTreeSet<Token> =
            group.members.values().flat_map(|member| [member.join, member.sync]).flatten().collect();
        let answered =
            |token: &Token| self.site.joined.contains_key(token) || self.site.synced.contains_key(token);
        assert!((1..=self.site.last).all(|token| answered(&token) != waiting.contains(&token)));
        assert!(waiting.is_empty() || group.next_deadline_ms().is_some());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold(steps in prop::collection::vec(step(), 1..80)) {
        let mut history = History::new();
        steps.into_iter().for_each(|step| history.apply(step));
        // In the end time answers all, and nobody is left.
        history.site.store.is_full = false;
        history.site.pass(30 * 60 * 1000);
        let site = &history.site;
        prop_assert!((1..=site.last).all(|token| site.joined.contains_key(&token) || site.synced.contains_key(&token)));
        prop_assert_eq!(site.group.state, State::Empty);
        prop_assert_eq!(site.group.next_deadline_ms(), None);
    }
}
