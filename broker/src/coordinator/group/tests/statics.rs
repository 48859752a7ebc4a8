//! Static members.

use super::*;

fn stable_static(site: &mut Site) -> String {
    let token = site.join_with(|join| join.instance = Some("i".into()));
    site.pass(5_000);
    let member = site.joined[&token].member.clone();
    site.sync(&member, &[(&member, "a")]);
    member
}

#[test]
fn a_static_member_comes_back_without_a_rebalance() {
    let mut site = Site::new();
    let old = stable_static(&mut site);
    let back = site.join_with(|join| join.instance = Some("i".into()));
    let joined = &site.joined[&back];
    let new = joined.member.clone();
    assert_ne!(new, old);
    assert_eq!((joined.generation, &joined.leader, joined.skip_assignment), (1, &new, true));
    assert_eq!(joined.members.len(), 1);
    let sync = site.sync(&new, &[]);
    assert_eq!((site.synced[&sync].error, &site.synced[&sync].assignment[..]), (None, &b"a"[..]));
    let zombie = Caller { member: &old, instance: Some("i"), generation: 1 };
    assert_eq!(site.group.heartbeat(zombie, 0), Err(ResponseError::FencedInstanceId));
    assert_eq!(site.group.check_commit(zombie, 0), Err(ResponseError::FencedInstanceId));
    let unknown = Caller { member: &new, instance: Some("other"), generation: 1 };
    assert_eq!(site.group.heartbeat(unknown, 0), Err(ResponseError::UnknownMemberId));
}

#[test]
fn an_old_client_that_comes_back_as_leader_does_not_assign() {
    let mut site = Site::new();
    let old = stable_static(&mut site);
    let back = site.join_with(|join| {
        join.instance = Some("i".into());
        join.may_skip_assignment = false;
    });
    let joined = &site.joined[&back];
    assert_eq!((&joined.leader, joined.skip_assignment, joined.members.len()), (&old, false, 0));
}

#[test]
fn other_protocols_make_a_rebalance() {
    let mut site = Site::new();
    stable_static(&mut site);
    let back = site.join_with(|join| {
        join.instance = Some("i".into());
        join.protocols = protocols(&["roundrobin"]);
    });
    // It is supported by all, but not what was chosen.
    assert_eq!(
        (site.joined[&back].generation, site.joined[&back].protocol.as_deref()),
        (2, Some("roundrobin"))
    );
}

#[test]
fn who_waits_under_the_old_id_is_fenced() {
    let mut site = Site::new();
    let waits = site.join_with(|join| join.instance = Some("i".into()));
    let back = site.join_with(|join| join.instance = Some("i".into()));
    assert_eq!(site.joined[&waits].error, Some(ResponseError::FencedInstanceId));
    site.pass(5_000);
    assert_eq!((site.joined[&back].error, site.joined[&back].members.len()), (None, 1));
}

#[test]
fn a_static_member_stays_until_its_session_ends() {
    let mut site = Site::new();
    let member = stable_static(&mut site);
    let new = site.join("");
    site.pass(5_000);
    assert_eq!(site.joined[&new].generation, 2, "it goes on without the static one");
    assert!(site.group.members.contains_key(&member));
    let new_member = site.joined[&new].member.clone();
    assert_eq!(site.joined[&new].leader, new_member);
    assert_eq!(site.joined[&new].members.len(), 2);
}

#[test]
fn a_static_member_leaves_by_its_instance() {
    let mut site = Site::new();
    let member = stable_static(&mut site);
    assert_eq!(site.leave("", Some("other")), Err(ResponseError::UnknownMemberId));
    assert_eq!(site.leave("wrong", Some("i")), Err(ResponseError::FencedInstanceId));
    assert_eq!(site.leave("", Some("i")), Ok(()));
    assert_eq!(
        (site.heartbeat(&member), site.group.state),
        (Err(ResponseError::UnknownMemberId), State::Empty)
    );
}

#[test]
fn a_replacement_that_can_t_be_stored_has_not_happened() {
    let mut site = Site::new();
    let old = stable_static(&mut site);
    site.store.is_full = true;
    let back = site.join_with(|join| join.instance = Some("i".into()));
    assert_eq!(site.joined[&back].error, Some(ResponseError::CoordinatorNotAvailable));
    assert_eq!(site.heartbeat(&old), Ok(()));
    assert_eq!(site.group.leader, Some(old));
}
