//! Producers: records of all kinds, and what is true of each.

use super::{log::Raw, site::Site};
use millrace_schemas::{EventTime, QueryMetric, RecordId, ServiceId, Status, WorkspaceId};
use uuid::Uuid;

const STATUSES: [Status; 8] = [
    Status::Success,
    Status::Success,
    Status::Success,
    Status::Success,
    Status::Failed,
    Status::Timeout,
    Status::Cancelled,
    Status::Running,
];
const SECOND: i64 = 1_000_000;

/// Exists from the start.
pub const FIRST_WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));
/// Is made in the middle of some schedules.
pub const LATER_WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(2));
/// Is never made.
const NO_WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(3));

#[derive(Clone, Debug)]
pub enum Truth {
    NoRecord,
    Record(Box<QueryMetric>),
}

#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Fresh,
    /// What the partition had before, again.
    Repeat,
    Garbage,
    Future,
    Stranger,
}

/// Sends a record to a partition.
pub fn produce(site: &mut Site<'_>, partition: usize, kind: Kind) {
    let (payload, truth) = match kind {
        Kind::Repeat => match pick(site, partition) {
            Some(before) => (before.payload, before.truth),
            None => return,
        },
        Kind::Garbage => (garbage(site), Truth::NoRecord),
        Kind::Fresh | Kind::Future | Kind::Stranger => {
            let metric = metric(site, kind);
            let payload = serde_json::to_vec(&metric).expect("plain data");
            (Some(payload), Truth::Record(Box::new(metric)))
        }
    };
    append(site, partition, payload, truth);
}

pub fn append(site: &mut Site<'_>, partition: usize, payload: Option<Vec<u8>>, truth: Truth) {
    let raw = Raw { append_time: site.append_time(), payload, truth, future_skew: site.future_skew };
    if site.random.one_in(12) {
        // A producer's own transaction.
        site.log.raw[partition].mark();
    }
    site.log.raw[partition].append(raw);
}

fn pick(site: &mut Site<'_>, partition: usize) -> Option<Raw> {
    let before: Vec<&Raw> = site.log.raw[partition].from(0).map(|(_, raw)| raw).collect();
    let newest = before.len().checked_sub(1)?;
    // Mostly a recent one, as a client retries.
    let back = if site.random.one_in(3) { before.len() } else { before.len().min(4) };
    Some(before[newest - site.random.below(back)].clone())
}

fn garbage(site: &mut Site<'_>) -> Option<Vec<u8>> {
    match site.random.below(4) {
        0 => None,
        1 => Some(b"[]".to_vec()),
        2 => Some(br#"{"id":"x"}"#.to_vec()),
        _ => Some(vec![0xff; 3]),
    }
}

fn metric(site: &mut Site<'_>, kind: Kind) -> QueryMetric {
    let completed_at = completed_at(site, kind);
    let workspace_id = match kind {
        Kind::Stranger => NO_WORKSPACE,
        _ if site.random.one_in(4) => LATER_WORKSPACE,
        _ => FIRST_WORKSPACE,
    };
    let status = *site.random.pick(&STATUSES);
    site.ids += 1;
    QueryMetric {
        id: RecordId(Uuid::from_u128(u128::from(site.ids))),
        workspace_id,
        service_id: ServiceId(Uuid::from_u128(10 + u128::from(site.random.next() % 2))),
        query_text: String::new(),
        status,
        duration_ms: duration(site),
        rows_affected: site.random.one_in(2).then(|| site.random.between(0, 9)),
        error_message: None,
        started_at: EventTime(0),
        completed_at,
        tags: Vec::new(),
    }
}

/// Quarters, whose sums are exact in any order.
fn duration(site: &mut Site<'_>) -> Option<f64> {
    let quarters = match site.random.below(6) {
        0 => return None,
        1 => 0,
        2 => u32::MAX,
        _ => u32::try_from(site.random.between(1, 4_000)).expect("small"),
    };
    Some(f64::from(quarters) / 4.0)
}

/// When it happened: just now, a little out of order, within the late horizon, or long ago.
fn completed_at(site: &mut Site<'_>, kind: Kind) -> EventTime {
    let now = site.append_time().as_micros();
    if matches!(kind, Kind::Future) {
        // Some of these are allowed once the rule has changed.
        return EventTime(now + site.random.between(11, 50) * SECOND);
    }
    if site.orderly {
        return EventTime(now);
    }
    let back = match site.random.below(10) {
        0..6 => site.random.between(0, 4),
        6 => -site.random.between(0, 9),
        7 | 8 => site.random.between(5, 30),
        _ => site.random.between(30, 900),
    };
    EventTime(now - back * SECOND)
}
