use super::*;

fn id(place: &str) -> String {
    format!("{place}-30180bd3-8f4e-4a51-9d5c-0d5b0c7a8f11")
}

fn group(members: &[(&str, &[i32])]) -> Group {
    let member =
        |(place, partitions): &(&str, &[i32])| Member { id: id(place), partitions: partitions.to_vec() };
    Group { settled: true, members: members.iter().map(member).collect() }
}

fn alone(process: &str) -> Place {
    Place { process: process.to_owned(), worker: None }
}

fn worker(process: &str, number: u16) -> Place {
    Place { process: process.to_owned(), worker: Some(number) }
}

/// Version 1: two topics, of which the second has partitions 1 and 258; no user data.
const ASSIGNMENT: &[u8] =
    b"\0\x01\0\0\0\x02\0\x01x\0\0\0\x01\0\0\0\x07\0\x02yz\0\0\0\x02\0\0\0\x01\0\0\x01\x02\xff\xff\xff\xff";

#[test]
fn an_assignment_is_read_and_garbage_is_none() {
    assert_eq!(assigned(ASSIGNMENT, "yz"), Some(vec![1, 258]));
    assert_eq!(assigned(ASSIGNMENT, "other"), Some(vec![]));
    for length in 0..ASSIGNMENT.len() - 4 {
        assert_eq!(assigned(&ASSIGNMENT[..length], "yz"), None, "{length} bytes");
    }
    assert_eq!(assigned(b"\0\0\0\0\0\x01\xff\xff", "yz"), None, "a name of negative length");
}

#[test]
fn the_members_of_one_process_are_told_from_others() {
    let own = group(&[("m.combine-a-0", &[]), ("m.combine-a-1", &[])]);
    assert!(!own.has_others(&worker("m.combine-a", 0)));
    assert!(own.has(&worker("m.combine-a", 1)) && !own.has(&worker("m.combine-a", 2)));
    let other = group(&[("m.combine-a-0", &[]), ("m.combine-a-1-0", &[])]);
    assert!(other.has_others(&worker("m.combine-a", 0)) && other.has_others(&worker("m.combine-a-1", 0)));
    assert!(!group(&[("m.windows-a", &[])]).has_others(&alone("m.windows-a")));
    for other in ["m.windows-ab", "m.windows-a-1", "m.windows-a1", "m.windows-b"] {
        assert!(group(&[(other, &[])]).has_others(&alone("m.windows-a")), "{other}");
    }
}

#[test]
fn it_is_shared_out_when_all_workers_of_the_process_have_what_they_keep() {
    let place = worker("m.combine-a", 0);
    let is_shared_out = |members: &[(&str, &[i32])]| group(members).is_shared_out(&place, 2, 2);
    assert!(!is_shared_out(&[("m.combine-a-0", &[0, 1])]), "the other has not come");
    assert!(!is_shared_out(&[("m.combine-a-0", &[1]), ("m.combine-a-1", &[])]), "between the two rounds");
    assert!(!is_shared_out(&[("m.combine-a-0", &[1]), ("m.combine-b-0", &[0])]), "that is another's");
    assert!(is_shared_out(&[("m.combine-a-0", &[1]), ("m.combine-a-1", &[0])]));
    let three = [("m.combine-a-0", &[1][..]), ("m.combine-a-1", &[0]), ("m.combine-b-0", &[])];
    assert!(is_shared_out(&three), "there is none for the third");
    let unsettled = Group { settled: false, ..group(&[("m.combine-a-0", &[1]), ("m.combine-a-1", &[0])]) };
    assert!(!unsettled.is_shared_out(&place, 2, 2));
}

#[test]
fn looks_after_a_change_until_the_group_is_whole() {
    let (start, whole) = (Instant::now(), group(&[("a", &[0]), ("b", &[1])]));
    let mut watch = Watch::default();
    assert!(!watch.is_due(start + LOOK_EVERY), "nothing has changed");
    watch.changed(start);
    assert!(!watch.is_due(start) && watch.is_due(start + LOOK_EVERY));
    assert!(!watch.saw(None, (&alone("a"), 2), start), "no answer");
    assert!(watch.is_due(start + LOOK_EVERY), "so it looks again");
    assert!(!watch.saw(Some(&whole), (&alone("a"), 2), start));
    assert!(!watch.is_due(start + LOOK_EVERY * 10), "it has seen enough");
}

#[test]
fn only_who_sees_a_partition_without_owner_for_long_leaves_and_one_after_the_other() {
    let (start, broken) = (Instant::now(), group(&[("a", &[0]), ("b", &[])]));
    let (mut first, mut second) = (Watch::default(), Watch::default());
    for at in [start, start + OWNERLESS_MAX / 2] {
        assert!(
            !first.saw(Some(&broken), (&alone("a"), 2), at)
                && !second.saw(Some(&broken), (&alone("b"), 2), at)
        );
    }
    assert!(first.saw(Some(&broken), (&alone("a"), 2), start + OWNERLESS_MAX));
    assert!(!second.saw(Some(&broken), (&alone("b"), 2), start + OWNERLESS_MAX));
    assert!(second.saw(Some(&broken), (&alone("b"), 2), start + OWNERLESS_MAX * 2));
    let sharing_out = Group { settled: false, ..broken.clone() };
    assert!(!first.saw(Some(&sharing_out), (&alone("a"), 2), start + OWNERLESS_MAX * 3));
    assert!(
        !first.saw(Some(&broken), (&alone("a"), 2), start + OWNERLESS_MAX * 3),
        "it is counted from anew"
    );
}
