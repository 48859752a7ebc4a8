//! `GET /api/v1/workspaces/{workspace_id}/metrics?limit=`: the newest records by arrival in the log, each once. From
//! memory, and where that does not reach far enough, from the archive. `"complete": false` says that newer records than
//! some of these may be missing, as the archive could not be read far enough.

use crate::{
    archive::Wanted,
    meters::Meters,
    recent::Newest,
    record::Record,
    routes::{Records, parameters, readable::Readable},
};
use axum::{
    extract::{Query, State, rejection::QueryRejection, ws::Utf8Bytes},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use millrace_schemas::WorkspaceId;
use millrace_tenancy::http::ApiError;
use serde::Deserialize;
use std::{collections::HashSet, sync::Arc};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1000;
/// One answer is not longer than this, about; the newest records stay.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

#[derive(Debug, Default, Deserialize)]
pub struct Parameters {
    limit: Option<String>,
}

pub async fn list(
    Readable(workspace): Readable,
    query: Result<Query<Parameters>, QueryRejection>,
    State(records): State<Arc<Records>>,
    State(meters): State<Meters>,
) -> Result<Response, ApiError> {
    let limit = parameters(query)?.limit()?;
    let answer = newest(&records, &meters, workspace, limit).await;
    Ok(([(CONTENT_TYPE, "application/json")], answer.body(workspace)).into_response())
}

impl Parameters {
    fn limit(&self) -> Result<usize, ApiError> {
        let Some(text) = &self.limit else { return Ok(LIMIT_DEFAULT) };
        let invalid = |why| ApiError::bad_request(format!("Invalid limit '{text}': {why}"));
        let limit: i64 = text.parse().map_err(|_| invalid("not an integer"))?;
        let limit = usize::try_from(limit).map_err(|_| invalid("must not be negative"))?;
        Ok(limit.min(LIMIT_MAX))
    }
}

/// Records as they are shown.
#[derive(Debug, PartialEq)]
struct Answer {
    records: Vec<Utf8Bytes>,
    complete: bool,
}

async fn newest(records: &Records, meters: &Meters, workspace: WorkspaceId, limit: usize) -> Answer {
    let mut held = records.recent.newest(workspace);
    if !records.positions.caught_up() {
        held.unbroken = 0;
    }
    if let Some(answer) = from_memory(&held, limit) {
        return answer;
    }
    let until = held.records[..held.unbroken].last().map(|oldest| oldest.arrival.log_time);
    match records.archive.newest(Wanted { workspace, count: limit, until }).await {
        Ok(found) => merge(held.records, found.records, limit, found.complete),
        Err(error) => {
            meters.archive_failures.inc();
            tracing::warn!(%workspace, error = &error as &dyn std::error::Error, "recent records come from memory only");
            merge(held.records, Vec::new(), limit, false)
        }
    }
}

/// The answer, if what is held has enough records that are surely the newest.
fn from_memory(held: &Newest, limit: usize) -> Option<Answer> {
    let certain = held.records[..held.unbroken].iter().map(Arc::as_ref);
    let answer = show(certain, limit, true);
    (answer.records.len() == limit || !answer.complete).then_some(answer)
}

fn merge(held: Vec<Arc<Record>>, archived: Vec<Record>, limit: usize, complete: bool) -> Answer {
    let mut all = held;
    all.extend(archived.into_iter().map(Arc::new));
    // The first arrival of a record counts.
    all.sort_unstable_by_key(|record| record.arrival);
    let mut ids = HashSet::new();
    all.retain(|record| record.json().is_some() && ids.insert(record.head.identity()));
    show(all.iter().rev().map(Arc::as_ref), limit, complete)
}

/// Takes up to `limit` records and so many bytes; those that are not valid are passed over.
fn show<'a>(newest_first: impl Iterator<Item = &'a Record>, limit: usize, complete: bool) -> Answer {
    let mut answer = Answer { records: Vec::new(), complete };
    let mut left = ANSWER_BYTES_MAX;
    for json in newest_first.filter_map(Record::json).take(limit) {
        if json.len() > left {
            answer.complete = false;
            break;
        }
        left -= json.len();
        answer.records.push(json);
    }
    answer
}

impl Answer {
    fn body(&self, workspace: WorkspaceId) -> String {
        let records = self.records.iter().map(Utf8Bytes::as_str).collect::<Vec<_>>().join(",");
        let complete = if self.complete { "" } else { r#","complete":false"# };
        let count = self.records.len();
        format!(r#"{{"workspace_id":"{workspace}","count":{count},"metrics":[{records}]{complete}}}"#)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::{arrival, invalid, record};
    use serde_json::Value;
    use uuid::Uuid;

    fn held(ids: &[u128], unbroken: usize) -> Newest {
        let records = ids.iter().zip((0..100).rev());
        Newest {
            records: records.map(|(id, time)| Arc::new(record(7, *id, arrival(time, 0, time)))).collect(),
            unbroken,
        }
    }

    fn ids(answer: &Answer) -> Vec<u128> {
        let id = |json: &Utf8Bytes| {
            let record: Value = serde_json::from_str(json).expect("JSON");
            record["id"].as_str().and_then(|id| Uuid::parse_str(id).ok()).expect("an id").as_u128()
        };
        answer.records.iter().map(id).collect()
    }

    #[test]
    fn limits_are_read_and_capped() {
        let limit = |text: &str| {
            Parameters { limit: Some(text.to_owned()) }.limit().map_err(|error| error.message().to_owned())
        };
        assert_eq!(Parameters::default().limit().ok(), Some(100));
        assert_eq!((limit("0"), limit("7"), limit("5000")), (Ok(0), Ok(7), Ok(1000)));
        assert_eq!(limit("-1").unwrap_err(), "Invalid limit '-1': must not be negative");
        assert_eq!(limit("many").unwrap_err(), "Invalid limit 'many': not an integer");
    }

    #[test]
    fn memory_answers_when_it_surely_has_the_newest() {
        assert_eq!(from_memory(&held(&[3, 2, 1], 3), 2).map(|answer| ids(&answer)), Some(vec![3, 2]));
        assert_eq!(from_memory(&held(&[3, 2, 1], 3), 4), None);
        assert_eq!(from_memory(&held(&[3, 2, 1], 1), 2), None);
        assert_eq!(from_memory(&held(&[], 0), 0).map(|answer| ids(&answer)), Some(vec![]));
    }

    #[test]
    fn the_archive_adds_what_memory_has_not_and_nothing_twice() {
        let archived = vec![
            record(7, 2, arrival(98, 0, 98)),
            record(7, 8, arrival(50, 0, 50)),
            record(7, 9, arrival(60, 1, 0)),
        ];
        let mut newest = held(&[3, 2], 2).records;
        newest.push(Arc::new(invalid(7, 10, arrival(70, 0, 70))));
        let answer = merge(newest, archived, 10, true);
        assert_eq!((ids(&answer), answer.complete), (vec![3, 2, 9, 8], true));
    }

    #[test]
    fn the_body_is_the_contracts() {
        let answer = merge(held(&[2, 1], 2).records, vec![], 10, true);
        let body: Value = serde_json::from_str(&answer.body(WorkspaceId(Uuid::from_u128(7)))).expect("JSON");
        assert_eq!(
            (&body["count"], &body["metrics"][1]["query_text"]),
            (&Value::from(2), &Value::from("SELECT 1"))
        );
        assert!(body.get("complete").is_none());
        let cut = Answer { records: vec![], complete: false }.body(WorkspaceId(Uuid::nil()));
        assert_eq!(
            cut,
            r#"{"workspace_id":"00000000-0000-0000-0000-000000000000","count":0,"metrics":[],"complete":false}"#
        );
    }
}
