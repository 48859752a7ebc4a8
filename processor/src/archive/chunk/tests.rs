use super::*;
use crate::record::{self, Whole};
use millrace_schemas::{QueryMetric, RecordId, ServiceId, Status, WorkspaceId};
use proptest::prelude::*;
use uuid::Uuid;

const HOUR_SECONDS: i64 = 3600;

/// A record of workspace `workspace`, completed `second` seconds after the epoch.
pub fn metric(workspace: u128, second: i64, offset: i64) -> QueryMetric {
    let completed_at = EventTime(second * 1_000_000);
    QueryMetric {
        id: RecordId(Uuid::from_u128(offset.unsigned_abs().into())),
        workspace_id: WorkspaceId(Uuid::from_u128(workspace)),
        service_id: ServiceId(Uuid::from_u128(1)),
        query_text: format!("SELECT {offset}"),
        status: Status::Success,
        duration_ms: Some(1.5),
        rows_affected: None,
        error_message: None,
        started_at: completed_at,
        completed_at,
        tags: vec!["a".to_owned()],
    }
}

/// As the archive reads it.
pub fn row(metric: &QueryMetric, offset: i64, texts: &mut Texts) -> Row {
    let bytes = serde_json::to_vec(metric).expect("serializes");
    let Whole { identity, measured, started_at, strings } = record::read(&bytes, texts).expect("valid");
    Row { archived: Archived { offset, identity, measured }, started_at, ingest_time: EventTime(1), strings }
}

/// Adds such a record.
pub fn add(chunk: &mut Chunk, (workspace, second, offset): (u128, i64, i64), now: Instant) {
    let mut texts = Texts::default();
    let row = row(&metric(workspace, second, offset), offset, &mut texts);
    chunk.add(row, &texts, now);
}

pub fn limits() -> Limits {
    Limits { records: 10, bytes: 10_000, files: 3, age: Duration::from_secs(30), all_bytes: 100_000 }
}

fn due(fill: impl FnOnce(&mut Chunk, Instant)) -> bool {
    let now = Instant::now();
    let mut chunk = Chunk::new(NextOffset::START);
    fill(&mut chunk, now);
    chunk.is_due(&limits(), now)
}

#[test]
fn each_limit_makes_a_chunk_due() {
    assert!(!due(|_, _| {}));
    assert!(!due(|chunk, now| (0..9).for_each(|offset| add(chunk, (1, 1, offset), now))));
    assert!(due(|chunk, now| (0..10).for_each(|offset| chunk.pass(offset, EventTime(0), now))));
    assert!(due(|chunk, now| {
        let (mut texts, mut long) = (Texts::default(), metric(1, 1, 0));
        long.query_text = "x".repeat(limits().bytes);
        let row = row(&long, 0, &mut texts);
        chunk.add(row, &texts, now);
    }));
    assert!(due(|chunk, now| (0..3).for_each(|n| add(chunk, (1, n * HOUR_SECONDS, n), now))));
    assert!(due(|chunk, now| chunk.pass(0, EventTime(0), now - limits().age)));
}

#[test]
fn age_counts_from_the_first_record() {
    let now = Instant::now();
    let mut chunk = Chunk::new(NextOffset::START);
    chunk.pass(0, EventTime(0), now);
    chunk.pass(1, EventTime(0), now + limits().age);
    assert!(chunk.is_due(&limits(), now + limits().age));
}

#[test]
fn a_chunk_in_the_room_of_another_has_its_own_records_only() {
    let now = Instant::now();
    let mut first = Chunk::new(NextOffset::START);
    (0..8).for_each(|offset| add(&mut first, (1, offset, offset), now));
    let fill = |mut chunk: Chunk| {
        (8..12).for_each(|offset| add(&mut chunk, (1, offset, offset), now));
        let texts: Vec<String> = chunk
            .groups()
            .iter()
            .flat_map(|(_, Rows { rows, texts })| {
                rows.iter().map(|row| texts.query_text(row.strings).to_owned())
            })
            .collect();
        (chunk.bytes(), chunk.from(), chunk.spans(), texts)
    };
    let fresh = fill(Chunk::new(first.to()));
    assert_eq!(fresh.3, ["SELECT 8", "SELECT 9", "SELECT 10", "SELECT 11"]);
    let next = first.next(Room::default());
    let room = first.into_room();
    assert!(room.rows.capacity() >= 8 && room.texts.capacity() > 0 && room.rows.is_empty());
    assert_eq!(fill(next.next(room)), fresh);
}

#[test]
fn room_that_was_hardly_needed_is_given_back() {
    let mut chunk = Chunk::new(NextOffset::START);
    let room = Room { rows: Vec::with_capacity(1_000), texts: Texts::default() };
    chunk = chunk.next(room);
    add(&mut chunk, (1, 1, 0), Instant::now());
    assert_eq!(chunk.into_room().rows.capacity(), 0);
}

proptest! {
    /// Every record is in exactly one group, that of its workspace and hour, and each group is sorted by time.
    #[test]
    fn groups_partition_the_records(seconds in prop::collection::vec((0_u128..3, -20_000_i64..20_000), 1..60)) {
        let now = Instant::now();
        let mut chunk = Chunk::new(NextOffset::START);
        for (offset, (workspace, second)) in (0_i64..).zip(&seconds) {
            add(&mut chunk, (*workspace, *second, offset), now);
        }
        let files = chunk.groups.len();
        let groups = chunk.groups();
        prop_assert_eq!(groups.len(), files);
        for (group, Rows { rows, texts }) in &groups {
            prop_assert!(rows.iter().all(|row| row.group() == *group));
            prop_assert!(rows.is_sorted_by_key(Row::completed_at));
            for row in *rows {
                prop_assert_eq!(texts.query_text(row.strings), format!("SELECT {}", row.archived.offset));
            }
        }
        let rows = groups.iter().flat_map(|(_, rows)| rows.rows);
        let mut offsets: Vec<i64> = rows.map(|row| row.archived.offset).collect();
        offsets.sort_unstable();
        prop_assert!(offsets.into_iter().eq((0_i64..).take(seconds.len())));
    }
}
