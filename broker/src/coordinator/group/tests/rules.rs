//! One test for each rule.

use super::*;

#[test]
fn a_new_member_gets_its_id_first_and_joins_with_it() {
    let mut site = Site::new();
    let first = site.join_with(|join| join.id_required = true);
    assert_eq!(site.joined[&first].error, Some(ResponseError::MemberIdRequired));
    let member = site.joined[&first].member.clone();
    let second = site.join(&member);
    assert!(!site.joined.contains_key(&second), "it waits for others");
    site.pass(INITIAL_REBALANCE_DELAY_MS * 2);
    let joined = &site.joined[&second];
    assert_eq!((joined.error, joined.generation, &joined.leader), (None, 1, &member));
    assert_eq!(joined.members.len(), 1);
    let sync = site.sync(&member, &[(&member, "all")]);
    assert_eq!(site.synced[&sync].assignment, "all");
    assert_eq!(site.group.state, State::Stable);
}

#[test]
fn an_id_that_is_not_used_is_given_up() {
    let mut site = Site::new();
    site.join_with(|join| join.id_required = true);
    site.pass(20_000);
    let token = site.join("m1");
    assert_eq!(site.joined[&token].error, Some(ResponseError::UnknownMemberId));
    assert!(site.group.is_abandoned());
}

#[test]
fn the_first_rebalance_waits_as_long_as_members_keep_coming() {
    let mut site = Site::new();
    let first = site.join("");
    for _ in 0..5 {
        site.pass(INITIAL_REBALANCE_DELAY_MS - 1);
        site.join("");
    }
    assert!(!site.joined.contains_key(&first));
    site.pass(2 * INITIAL_REBALANCE_DELAY_MS);
    assert_eq!(site.joined.len(), 6);
    assert!(site.joined.values().all(|joined| joined.generation == 1));
}

#[test]
fn a_new_member_makes_the_others_join_again() {
    let mut site = Site::new();
    let members = site.stable(1);
    let new = site.join("");
    assert_eq!(site.heartbeat(&members[0]), Err(ResponseError::RebalanceInProgress));
    let again = site.join(&members[0]);
    assert_eq!((site.joined[&new].generation, site.joined[&again].generation), (2, 2));
    assert_eq!((site.joined[&new].members.len(), site.joined[&again].members.len()), (0, 2));
    let (new_member, leader) = (site.joined[&new].member.clone(), site.joined[&new].leader.clone());
    let waiting = site.sync(&new_member, &[]);
    assert!(!site.synced.contains_key(&waiting));
    site.sync(&leader, &[(&new_member, "x"), (&leader, "y")]);
    assert_eq!(site.synced[&waiting].assignment, "x");
}

#[test]
fn a_member_that_does_not_join_again_in_time_is_out() {
    let mut site = Site::new();
    let members = site.stable(2);
    let again = site.join_with(|join| {
        join.member.clone_from(&members[1]);
        join.protocols = protocols(&["roundrobin", "range"]);
    });
    for _ in 0..5 {
        assert_eq!(site.heartbeat(&members[0]), Err(ResponseError::RebalanceInProgress));
        site.pass(1_000);
    }
    assert_eq!(site.joined[&again].leader, members[1]);
    assert_eq!(site.heartbeat(&members[0]), Err(ResponseError::UnknownMemberId));
}

#[test]
fn a_session_that_ends_makes_a_rebalance() {
    let mut site = Site::new();
    let members = site.stable(2);
    for _ in 0..3 {
        site.pass(4_000);
        site.heartbeat(&members[1]).ok();
    }
    assert_eq!(site.heartbeat(&members[1]), Err(ResponseError::RebalanceInProgress));
    let again = site.join(&members[1]);
    assert_eq!((site.joined[&again].generation, site.joined[&again].members.len()), (2, 1));
    site.pass(60_000);
    assert_eq!((site.group.state, site.group.generation), (State::Empty, 3));
}

#[test]
fn a_member_that_never_syncs_is_out() {
    let mut site = Site::new();
    let (first, second) = (site.join(""), site.join(""));
    site.pass(INITIAL_REBALANCE_DELAY_MS * 3);
    let leader = site.joined[&first].leader.clone();
    let lazy = [first, second].map(|token| site.joined[&token].member.clone());
    let lazy = lazy.iter().find(|member| **member != leader).unwrap();
    site.sync(&leader, &[]);
    for _ in 0..5 {
        site.heartbeat(lazy).ok();
        site.heartbeat(&leader).ok();
        site.pass(1_000);
    }
    assert_eq!(site.heartbeat(lazy), Err(ResponseError::UnknownMemberId));
    assert_eq!(site.heartbeat(&leader), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn who_waits_for_others_does_not_run_out_of_its_session() {
    let mut site = Site::new();
    let members = site.stable(2);
    let again = site.join_with(|join| {
        join.member.clone_from(&members[0]);
        join.session_timeout_ms = 10;
        join.protocols = protocols(&["range"]);
    });
    site.pass(4_000);
    assert!(!site.joined.contains_key(&again));
    site.join(&members[1]);
    assert_eq!(site.joined[&again].error, None);
}

#[test]
fn a_request_that_is_sent_again_answers_the_earlier_one() {
    let mut site = Site::new();
    let members = site.stable(2);
    let early = site.join_with(|join| {
        join.member.clone_from(&members[0]);
        join.protocols = protocols(&["range"]);
    });
    let late = site.join(&members[0]);
    assert_eq!(site.joined[&early].error, Some(ResponseError::RebalanceInProgress));
    assert!(!site.joined.contains_key(&late));
}

#[test]
fn only_the_leader_or_a_change_starts_a_rebalance() {
    let mut site = Site::new();
    let members = site.stable(2);
    let leader = site.group.leader.clone().unwrap();
    let follower = members.iter().find(|member| **member != leader).unwrap();
    let same = site.join(follower);
    assert_eq!((site.joined[&same].generation, site.group.state), (1, State::Stable));
    site.join(&leader);
    assert_eq!(site.group.state, State::PreparingRebalance);
}

#[test]
fn members_leave() {
    let mut site = Site::new();
    let members = site.stable(2);
    assert_eq!(site.leave("nobody", None), Err(ResponseError::UnknownMemberId));
    assert_eq!(site.leave(&members[0], None), Ok(()));
    assert_eq!(site.leave(&members[0], None), Err(ResponseError::UnknownMemberId));
    assert_eq!(site.heartbeat(&members[1]), Err(ResponseError::RebalanceInProgress));
    assert_eq!(site.leave(&members[1], None), Ok(()));
    assert_eq!((site.group.state, site.group.generation), (State::Empty, 2));
    assert!(matches!(site.store.events.last(), Some(Event::Group(record)) if record.members.is_empty()));
}

#[test]
fn the_protocol_that_all_know_and_most_want_is_chosen() {
    let mut site = Site::new();
    let offers = [&["a", "b"][..], &["b", "a", "c"], &["b", "a"]];
    let tokens = offers.map(|offer| site.join_with(|join| join.protocols = protocols(offer)));
    site.pass(5_000);
    assert_eq!(site.joined[&tokens[0]].protocol.as_deref(), Some("b"));
    let other = site.join_with(|join| join.protocols = protocols(&["c"]));
    assert_eq!(site.joined[&other].error, Some(ResponseError::InconsistentGroupProtocol));
    let other = site.join_with(|join| join.protocol_type = "connect".into());
    assert_eq!(site.joined[&other].error, Some(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn who_joins_says_how() {
    let mut site = Site::new();
    let none = site.join_with(|join| join.protocols.clear());
    assert_eq!(site.joined[&none].error, Some(ResponseError::InconsistentGroupProtocol));
    let unknown = site.join("nobody");
    assert_eq!(site.joined[&unknown].error, Some(ResponseError::UnknownMemberId));
}

#[test]
fn a_sync_names_the_generation_and_the_protocol() {
    let mut site = Site::new();
    let members = site.stable(1);
    let mut sync = |generation, protocol| {
        let token = site.token();
        let caller = Caller { member: &members[0], instance: None, generation };
        let sync = Sync { token, caller, protocol_type: None, protocol, assignments: BTreeMap::new() };
        site.step(|group, turn| group.sync(turn, sync));
        site.synced[&token].error
    };
    assert_eq!(sync(1, Some("range")), None);
    assert_eq!(sync(0, None), Some(ResponseError::IllegalGeneration));
    assert_eq!(sync(1, Some("other")), Some(ResponseError::InconsistentGroupProtocol));
}

#[test]
fn a_group_has_a_largest_size() {
    let mut site = Site::new();
    let tokens: Vec<_> = (0..=MEMBERS_MAX).map(|_| site.join("")).collect();
    assert_eq!(site.joined[&tokens[MEMBERS_MAX]].error, Some(ResponseError::GroupMaxSizeReached));
    site.pass(5_000);
    assert_eq!(site.group.members.len(), MEMBERS_MAX);
    let one_more = site.join("");
    assert_eq!(site.joined[&one_more].error, Some(ResponseError::GroupMaxSizeReached));
}

#[test]
fn an_assignment_that_can_t_be_stored_reaches_nobody() {
    let mut site = Site::new();
    let (first, _) = (site.join(""), site.join(""));
    site.pass(5_000);
    let leader = site.joined[&first].leader.clone();
    site.store.is_full = true;
    let sync = site.sync(&leader, &[(&leader, "x")]);
    assert_eq!(site.synced[&sync].error, Some(ResponseError::CoordinatorNotAvailable));
    assert_eq!(site.group.state, State::PreparingRebalance);
}

#[test]
fn members_go_on_after_a_restart() {
    let mut site = Site::new();
    let members = site.stable(2);
    let Some(Event::Group(record)) = site.group.snapshot() else { panic!("it was stored") };
    let record = serde_json::from_str(&serde_json::to_string(&record).unwrap()).unwrap();
    site.group = Group::restore(record, site.now_ms);
    assert_eq!((site.heartbeat(&members[0]), site.heartbeat(&members[1])), (Ok(()), Ok(())));
    let sync = site.sync(&members[0], &[]);
    assert_eq!(site.synced[&sync].assignment, "a");
    site.pass(60_000);
    assert_eq!(site.group.state, State::Empty);
}

#[test]
fn a_rebalance_under_way_is_not_in_a_snapshot() {
    let mut site = Site::new();
    let members = site.stable(1);
    site.join("");
    let Some(Event::Group(record)) = site.group.snapshot() else { panic!("it was stored") };
    assert_eq!((record.generation, record.members.len(), &record.members[0].id), (1, 1, &members[0]));
}

#[test]
fn who_may_commit() {
    let caller = |member, generation| Caller { member, instance: None, generation };
    let mut site = Site::new();
    assert_eq!(site.group.check_commit(caller("", -1), 0), Ok(()));
    assert_eq!(site.group.check_commit(caller("m", 1), 0), Err(ResponseError::UnknownMemberId));
    let members = site.stable(1);
    let member = members[0].as_str();
    assert_eq!(site.group.check_commit(caller("", -1), 0), Err(ResponseError::UnknownMemberId));
    assert_eq!(site.group.check_transactional_commit(caller("", -1)), Ok(()));
    assert_eq!(site.group.check_commit(caller(member, 0), 0), Err(ResponseError::IllegalGeneration));
    assert_eq!(
        site.group.check_transactional_commit(caller(member, 0)),
        Err(ResponseError::IllegalGeneration)
    );
    assert_eq!(site.group.check_commit(caller(member, 1), 0), Ok(()));
    site.join("");
    assert_eq!(site.group.check_commit(caller(member, 1), 0), Ok(()), "before it joins again");
    site.join(member);
    assert_eq!(site.group.check_commit(caller(member, 2), 0), Err(ResponseError::RebalanceInProgress));
}

#[test]
fn a_commit_keeps_the_session() {
    let mut site = Site::new();
    let members = site.stable(1);
    for _ in 0..5 {
        site.pass(8_000);
        let now_ms = site.now_ms;
        let caller = Caller { member: &members[0], instance: None, generation: 1 };
        assert_eq!(site.group.check_commit(caller, now_ms), Ok(()));
    }
}

#[test]
fn closing_answers_all_that_wait() {
    let mut site = Site::new();
    let token = site.join("");
    site.step(|group, _| group.release());
    assert_eq!(site.joined[&token].error, Some(ResponseError::NotCoordinator));
}
