//! Records of all kinds, as one producer makes them.

use super::{
    super::random::Random,
    BATCH_RECORDS_MAX,
    journal::{Acknowledged, Identity},
};
use crate::harness::Tenant;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};
use uuid::Uuid;

pub const LATE_WORKSPACE_NAME: &str = "late";
/// Records that may be repeated: the newest of all producers.
const REPEATABLE_MAX: usize = 4_000;
/// Backfilled hours, counted back from now: few, as each is a file in the archive.
const BACKFILLED_HOURS: [i64; 5] = [1, 3, 30, 31, 24 * 40];

/// Whose records there are.
pub struct Cast {
    pub tenants: Vec<Tenant>,
    /// One whose records are all by a single producer, which reads what it wrote.
    pub witness: Tenant,
    /// A workspace that is created while its records come.
    pub late: Uuid,
    /// One that never is.
    pub unknown: Uuid,
}

/// A record as it is sent.
#[derive(Clone)]
pub struct Made {
    /// As the edge makes it.
    pub key: String,
    pub payload: Option<Vec<u8>>,
    pub identity: Option<Identity>,
}

impl Made {
    pub fn acknowledged(&self, place: Option<(i32, i64)>, keyed: bool) -> Acknowledged {
        // The edge may write records anew: only who produces directly knows their bytes.
        let bytes =
            self.payload.as_ref().map_or(-1, |payload| i64::try_from(payload.len()).expect("it is short"));
        Acknowledged { identity: self.identity, place, bytes: place.map(|_| bytes), keyed }
    }

    fn json(record: &Value) -> Self {
        let text = |field: &str| record[field].as_str().unwrap_or_default();
        let id = |field| text(field).parse().ok();
        let identity = id("workspace_id").zip(id("id"));
        Self {
            key: format!("{}/{}", text("workspace_id"), text("service_id")),
            payload: Some(record.to_string().into_bytes()),
            identity: identity.map(|(workspace_id, id)| Identity { workspace_id, id }),
        }
    }
}

/// What was sent lately, by whomever: sent again, it is a duplicate.
#[derive(Default)]
pub struct Repeats(Mutex<VecDeque<Made>>);

impl Repeats {
    fn push(&self, made: &Made) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() == REPEATABLE_MAX {
            list.pop_front();
        }
        list.push_back(made.clone());
    }

    fn any(&self, random: &mut Random) -> Option<Made> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if list.is_empty() { None } else { Some(list[random.index(list.len())].clone()) }
    }
}

pub struct Records {
    random: Random,
    cast: Arc<Cast>,
    repeats: Arc<Repeats>,
    /// A query that still ran, to be told again when it has ended.
    running: Option<Value>,
}

impl Records {
    pub fn new(random: Random, cast: &Arc<Cast>, repeats: &Arc<Repeats>) -> Self {
        Self { random, cast: Arc::clone(cast), repeats: Arc::clone(repeats), running: None }
    }

    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Valid records of existing workspaces.
    pub fn valid(&mut self) -> Vec<Made> {
        self.batch(|records| records.good())
    }

    /// Those, and what the edge would refuse.
    pub fn any(&mut self) -> Vec<Made> {
        self.batch(|records| match records.random.below(100) {
            0..4 => records.garbage(),
            4..6 => records.ahead(400, 4_000),
            6..8 => {
                let unknown = records.cast.unknown;
                records.of(unknown)
            }
            8..12 => {
                let late = records.cast.late;
                records.of(late)
            }
            _ => records.good(),
        })
    }

    /// A few new ones of this workspace that end now.
    pub fn witnessed(&mut self, workspace: Uuid) -> Vec<Made> {
        (0..self.random.between(1, 5)).map(|_| self.of(workspace)).collect()
    }

    /// Of the future beyond what is allowed.
    pub fn refused(&mut self) -> Made {
        self.at(TimeDelta::hours(1))
    }

    fn batch(&mut self, mut one: impl FnMut(&mut Self) -> Made) -> Vec<Made> {
        let count = self.random.between(1, BATCH_RECORDS_MAX);
        let mut batch: Vec<Made> = (0..count).map(|_| one(self)).collect();
        self.random.shuffle(&mut batch);
        batch
    }

    fn good(&mut self) -> Made {
        let made = match self.random.below(100) {
            0..12 => self.repeats.any(&mut self.random).unwrap_or_else(|| self.on_time()),
            12..20 => self.ago(5, 50),
            20..23 => self.backfilled(),
            23..26 => self.ahead(1, 45),
            26..30 => self.running_or_ended(),
            _ => self.on_time(),
        };
        self.repeats.push(&made);
        made
    }

    fn on_time(&mut self) -> Made {
        let ago_ms = self.number(0, 1_500);
        self.at(-TimeDelta::milliseconds(ago_ms))
    }

    fn backfilled(&mut self) -> Made {
        let hours = *self.random.pick(&BACKFILLED_HOURS);
        let seconds = self.number(0, 30);
        self.at(-TimeDelta::hours(hours) - TimeDelta::seconds(seconds))
    }

    /// So many seconds ago.
    fn ago(&mut self, first: u64, last: u64) -> Made {
        let seconds = self.number(first, last);
        self.at(-TimeDelta::seconds(seconds))
    }

    /// In so many seconds.
    fn ahead(&mut self, first: u64, last: u64) -> Made {
        let seconds = self.number(first, last);
        self.at(TimeDelta::seconds(seconds))
    }

    fn at(&mut self, from_now: TimeDelta) -> Made {
        let cast = Arc::clone(&self.cast);
        let workspace = self.random.pick(&cast.tenants).workspace;
        Made::json(&self.record(workspace, Utc::now() + from_now))
    }

    fn of(&mut self, workspace: Uuid) -> Made {
        Made::json(&self.record(workspace, Utc::now()))
    }

    fn running_or_ended(&mut self) -> Made {
        if let Some(mut ended) = self.running.take() {
            ended["status"] = "success".into();
            return Made::json(&ended);
        }
        let cast = Arc::clone(&self.cast);
        let workspace = self.random.pick(&cast.tenants).workspace;
        let mut record = self.record(workspace, Utc::now());
        record["status"] = "running".into();
        self.running = Some(record.clone());
        Made::json(&record)
    }

    fn record(&mut self, workspace: Uuid, completed_at: DateTime<Utc>) -> Value {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        let duration_us = self.duration_us();
        let started_at = completed_at - TimeDelta::microseconds(duration_us.unwrap_or(0));
        // Services of a workspace are known by their number.
        let service = Uuid::from_u128(workspace.as_u128() ^ u128::from(self.random.between(1, 3)));
        let ends = ["success", "success", "success", "success", "failed", "timeout", "cancelled"];
        json!({
            "id": self.random.uuid(),
            "workspace_id": workspace,
            "service_id": service,
            "query_text": format!("select {} from chaos", self.random.below(1_000)),
            "status": self.random.pick(&ends),
            "duration_ms": duration_us.map(|us| us as f64 / 1e3),
            "rows_affected": if self.random.chance(50) { Some(self.random.below(1_000)) } else { None },
            "started_at": text(started_at),
            "completed_at": text(completed_at),
            "tags": ["chaos"],
        })
    }

    /// From microseconds to minutes, most of them short; not known for a few.
    fn duration_us(&mut self) -> Option<i64> {
        let digits = u32::try_from(self.random.below(9)).expect("one digit");
        let duration = self.random.below(10_u64.pow(digits)) + 1;
        if self.random.chance(3) { None } else { i64::try_from(duration).ok() }
    }

    /// What can't be a record, of some sorts.
    fn garbage(&mut self) -> Made {
        let length = self.random.index(200);
        let good = self.on_time();
        let text = String::from_utf8(good.payload.clone().unwrap_or_default()).expect("JSON is text");
        let payload = match self.random.below(8) {
            0 => None,
            1 => Some(Vec::new()),
            2 => Some([&[0xff], self.random.bytes(length).as_slice()].concat()),
            3 => Some(text[..text.len() / 2].into()),
            4 => Some(format!("[{text}]").into()),
            5 => Some(text.replacen("\"duration_ms\"", "\"duration\"", 1).into()),
            6 => Some(text.replacen("\"status\":\"", "\"status\":\"un", 1).into()),
            _ => Some(text.replacen("\"completed_at\":\"", "\"completed_at\":\"x", 1).into()),
        };
        Made { payload, identity: None, ..good }
    }

    fn number(&mut self, first: u64, last: u64) -> i64 {
        i64::try_from(self.random.between(first, last)).expect("they are small")
    }
}
