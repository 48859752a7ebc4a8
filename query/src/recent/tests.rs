//! Order, limits and duplicates of the recent records.

use super::*;
use crate::record::tests::{arrival, invalid, record};
use uuid::Uuid;

const PLENTY: Limits = Limits { records_per_workspace: 1000, bytes: usize::MAX };

fn workspace(number: u128) -> WorkspaceId {
    WorkspaceId(Uuid::from_u128(number))
}

fn ids(recent: &Recent, number: u128) -> Vec<u128> {
    recent.newest(workspace(number)).records.iter().map(|record| record.head.id.0.as_u128()).collect()
}

#[test]
fn the_newest_by_arrival_stay_however_partitions_are_read() {
    let recent = Recent::new(Limits { records_per_workspace: 3, ..PLENTY });
    for (id, time, partition) in [(1, 10, 0), (2, 40, 0), (3, 30, 1), (4, 5, 1), (5, 35, 2)] {
        recent.push(Arc::new(record(7, id, arrival(time, partition, 0))));
    }
    assert_eq!(ids(&recent, 7), [2, 5, 3]);
    assert_eq!(ids(&recent, 8), [0; 0]);
}

#[test]
fn a_repeat_is_held_once_where_it_first_arrived() {
    let recent = Recent::new(PLENTY);
    for (id, time, offset) in [(1, 10, 0), (2, 20, 1), (1, 30, 2), (1, 10, 0)] {
        recent.push(Arc::new(record(7, id, arrival(time, 0, offset))));
    }
    assert_eq!(ids(&recent, 7), [2, 1]);
    recent.push(Arc::new(record(8, 1, arrival(30, 0, 9))));
    assert_eq!(ids(&recent, 8), [1], "an id is unique within its workspace only");
}

#[test]
fn a_valid_record_replaces_an_invalid_one_of_the_same_id() {
    let recent = Recent::new(PLENTY);
    recent.push(Arc::new(invalid(7, 1, arrival(10, 0, 0))));
    recent.push(Arc::new(record(7, 1, arrival(20, 0, 1))));
    recent.push(Arc::new(invalid(7, 1, arrival(5, 1, 0))));
    let newest = recent.newest(workspace(7)).records;
    assert_eq!(newest.iter().map(|record| record.arrival).collect::<Vec<_>>(), [arrival(20, 0, 1)]);
}

#[test]
fn the_bytes_are_bounded_and_the_largest_workspaces_give_way() {
    let size = record(7, 1, arrival(0, 0, 0)).size_bytes();
    let recent = Recent::new(Limits { bytes: 20 * size, ..PLENTY });
    recent.push(Arc::new(record(1, 1, arrival(0, 0, 0))));
    for id in 1..1000 {
        recent.push(Arc::new(record(7, id, arrival(i64::try_from(id).expect("small"), 0, 1))));
        assert!(recent.held().bytes <= 20 * size);
    }
    assert_eq!(ids(&recent, 1), [1], "a quiet workspace keeps its record");
    assert!(ids(&recent, 7).len() > 10);
    assert_eq!(ids(&recent, 7)[0], 999);
    let held = recent.held();
    assert_eq!(held.bytes, held.rings.values().map(|ring| ring.bytes).sum::<usize>());
}

#[test]
fn only_what_came_since_all_partitions_are_read_is_unbroken() {
    let recent = Recent::new(PLENTY);
    for (id, time) in [(1, 10), (2, 20), (3, 30)] {
        recent.push(Arc::new(record(7, id, arrival(time, 0, time))));
    }
    assert_eq!(recent.newest(workspace(7)).unbroken, 3);
    recent.begins_at(EventTime::from_millis(20));
    recent.begins_at(EventTime::from_millis(15));
    assert_eq!(recent.newest(workspace(7)).unbroken, 1);
}

#[test]
fn the_level_cuts_the_largest_only() {
    assert_eq!(level(vec![1, 2, 3], 10), usize::MAX);
    assert_eq!(level(vec![10, 10], 10), 5);
    assert_eq!(level(vec![100, 1, 9], 20), 10);
    assert_eq!(level(vec![5, 5, 5], 2), 0);
}
