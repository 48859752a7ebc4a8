//! Offsets, by what events do to them.

use super::*;

fn offset(partition: i32, offset: i64) -> Offset {
    Offset {
        topic: "t".into(),
        partition,
        offset,
        leader_epoch: 0,
        metadata: "m".into(),
        committed_ms: offset,
    }
}

fn committed(offsets: Vec<Offset>) -> Event {
    Event::Offsets { group: "g".into(), offsets }
}

#[test]
fn offsets_are_committed_and_deleted() {
    let mut offsets = Offsets::default();
    offsets.apply(&committed(vec![offset(0, 5), offset(1, 6)]));
    offsets.apply(&committed(vec![offset(0, 3)]));
    assert_eq!(offsets.get("g", &("t".into(), 0)).map(|known| known.offset), Some(3));
    assert_eq!(offsets.older_than("g", 4), [("t".into(), 0)]);
    offsets.apply(&Event::OffsetsDeleted { group: "g".into(), partitions: vec![("t".into(), 0)] });
    assert_eq!(offsets.partitions("g").count(), 1);
    offsets.apply(&Event::TopicDeleted { topic: "t".into() });
    assert!(!offsets.has("g"));
}

#[test]
fn an_open_transaction_makes_an_offset_unstable() {
    let mut offsets = Offsets::default();
    offsets.apply(&committed(vec![offset(0, 1)]));
    offsets.apply(&Event::PendingOffsets { producer_id: 9, group: "g".into(), offsets: vec![offset(0, 2)] });
    let partition = ("t".to_owned(), 0);
    assert!(offsets.is_unstable("g", &partition));
    assert_eq!((offsets.pending_len(), offsets.get("g", &partition).unwrap().offset), (1, 1));
    assert!(offsets.older_than("g", 100).is_empty(), "it does not expire now");
    offsets.decide(9, &["g".to_owned()].into(), Outcome::Commit);
    assert_eq!(
        (offsets.is_unstable("g", &partition), offsets.get("g", &partition).unwrap().offset),
        (false, 2)
    );
}

#[test]
fn what_lies_past_the_end_is_cut_back() {
    let mut offsets = Offsets::default();
    offsets.apply(&committed(vec![offset(0, 5), offset(1, 10)]));
    offsets.apply(&Event::PendingOffsets { producer_id: 9, group: "g".into(), offsets: vec![offset(1, 11)] });
    for event in offsets.cut_back(|_| Some(7)) {
        offsets.apply(&event);
    }
    let at =
        |offsets: &Offsets, partition| offsets.get("g", &("t".into(), partition)).map(|known| known.offset);
    assert_eq!((at(&offsets, 0), at(&offsets, 1)), (Some(5), Some(7)));
    offsets.decide(9, &["g".to_owned()].into(), Outcome::Commit);
    assert_eq!(at(&offsets, 1), Some(7));
    assert!(offsets.cut_back(|_| None).is_empty());
}
