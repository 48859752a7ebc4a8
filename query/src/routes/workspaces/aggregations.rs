//! `GET /api/v1/workspaces/{workspace_id}/aggregations?window=&from=&to=&service_id=&after=&wait=`: the rows of a window
//! between two times. An answer that would be too long ends with a whole bucket and says `"truncated": true` and
//! `next_from`, with which as `from` the rest can be had.
//!
//! With `after`, the token of an ingest answer, the rows contain what was ingested (counted, or known to be duplicate or
//! dead letter); if that takes longer than `wait` (2s; at most 30s), the answer is 202 and says where it is.

pub mod after;

use crate::{
    bucket::{self, Bucket, Page, Selection},
    routes::{Aggregations, parameters, readable::Readable, while_waiting},
};
use after::{After, Waits};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use millrace_schemas::{EventTime, Window, WorkspaceId};
use millrace_tenancy::{Error as StoreError, http::ApiError};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

#[derive(Debug, Default, Deserialize)]
pub struct Parameters {
    window: Option<String>,
    from: Option<String>,
    to: Option<String>,
    service_id: Option<String>,
    after: Option<String>,
    wait: Option<String>,
}

#[derive(Serialize)]
pub struct Answer {
    workspace_id: WorkspaceId,
    window: Window,
    from: EventTime,
    to: EventTime,
    buckets: Vec<Bucket>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_from: Option<EventTime>,
}

pub async fn list(
    Readable(workspace): Readable,
    query: Result<Query<Parameters>, QueryRejection>,
    State(pool): State<PgPool>,
    State(limits): State<Aggregations>,
    State(waits): State<Arc<Waits>>,
) -> Result<Response, ApiError> {
    let parameters = parameters(query)?;
    let after = After::parse(parameters.after.as_deref(), parameters.wait.as_deref())?;
    let arrived = Utc::now().into();
    let mut selection = parameters.select(workspace, arrived)?;
    if let Some(after) = after {
        if let Some(not_yet) = waits.until_contained(&after).await? {
            return Ok(not_yet.into_response());
        }
        if selection.to == arrived {
            // What was waited for may be in a window that has begun meanwhile.
            selection.to = Utc::now().into();
        }
    }
    let page = while_waiting(page(&pool, &selection, limits)).await?;
    Ok(Json(Answer::new(selection, page)).into_response())
}

async fn page(pool: &PgPool, selection: &Selection, limits: Aggregations) -> Result<Page, ApiError> {
    let failed = |source| ApiError::from(StoreError::Database { doing: "reading aggregations", source });
    let mut connection = pool.acquire().await.map_err(failed)?;
    bucket::select(&mut connection, selection, limits.rows_max).await.map_err(failed)
}

impl Parameters {
    /// The last hour in windows of a minute, unless they say otherwise.
    fn select(self, workspace: WorkspaceId, now: EventTime) -> Result<Selection, ApiError> {
        let window = self.window.map_or(Ok(Window::OneMinute), |text| text.parse());
        let window = window.map_err(|error: millrace_schemas::window::InvalidWindow| {
            ApiError::bad_request(error.to_string())
        })?;
        let from = self.from.map_or(Ok(now.saturating_sub(HOUR)), |text| time("from", &text))?;
        let to = self.to.map_or(Ok(now), |text| time("to", &text))?;
        let service = self.service_id.map(|text| {
            text.parse()
                .map_err(|_| ApiError::bad_request(format!("Invalid service_id '{text}': not a UUID")))
        });
        if from >= to {
            return Err(ApiError::bad_request("'from' must be before 'to'"));
        }
        Ok(Selection { workspace, service: service.transpose()?, window, from, to })
    }
}

pub(in crate::routes) fn time(name: &str, text: &str) -> Result<EventTime, ApiError> {
    EventTime::parse(text).ok_or_else(|| {
        let hint = if text.contains(' ') { " (a + must be sent as %2B)" } else { "" };
        ApiError::bad_request(format!("Invalid {name} '{text}': not an RFC 3339 time{hint}"))
    })
}

impl Answer {
    fn new(selection: Selection, page: Page) -> Self {
        Self {
            workspace_id: selection.workspace,
            window: selection.window,
            from: selection.from,
            to: selection.to,
            buckets: page.buckets,
            truncated: page.next_from.is_some(),
            next_from: page.next_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bucket::tests::bucket;
    use uuid::Uuid;

    const WORKSPACE: WorkspaceId = WorkspaceId(Uuid::from_u128(1));

    fn parse(changes: &[(&str, &str)]) -> Result<Selection, String> {
        let value = |name| changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let sent = Parameters {
            window: value("window"),
            from: value("from"),
            to: value("to"),
            service_id: value("service_id"),
            ..Parameters::default()
        };
        let now = EventTime::parse("2026-01-10T12:00:00Z").expect("a time");
        sent.select(WORKSPACE, now).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_default_is_the_last_hour_by_minutes() {
        let selection = parse(&[]).expect("valid");
        assert_eq!(selection.window, Window::OneMinute);
        assert_eq!(selection.from.to_string(), "2026-01-10T11:00:00Z");
        assert_eq!(selection.to.to_string(), "2026-01-10T12:00:00Z");
    }

    #[test]
    fn offsets_are_understood() {
        let selection = parse(&[("from", "2026-01-10T01:00:00.5+02:00"), ("window", "5s")]).expect("valid");
        assert_eq!(selection.from.to_string(), "2026-01-09T23:00:00.500Z");
    }

    #[test]
    fn says_what_is_wrong() {
        let bad = [
            ("window", "2m"),
            ("from", "2026-01-10T12:00:00Z"),
            ("to", "2026-01-10T10:59:59Z"),
            ("from", "yesterday"),
            ("to", "2026-01-10T12:00:00 01:00"),
            ("service_id", "x"),
        ];
        let errors = bad.map(|parameter| parse(&[parameter]).expect_err("invalid"));
        insta::assert_snapshot!(errors.join("\n"), @r"
        Invalid window '2m'. Valid options: 5s, 1m, 5m
        'from' must be before 'to'
        'from' must be before 'to'
        Invalid from 'yesterday': not an RFC 3339 time
        Invalid to '2026-01-10T12:00:00 01:00': not an RFC 3339 time (a + must be sent as %2B)
        Invalid service_id 'x': not a UUID
        ");
    }

    #[test]
    fn only_a_cut_answer_says_so() {
        let selection = parse(&[]).expect("valid");
        let keys = |page| {
            let answer = serde_json::to_value(Answer::new(selection, page)).expect("serializes");
            let mut keys: Vec<_> = answer.as_object().expect("an object").keys().cloned().collect();
            keys.sort_unstable();
            keys.join(" ")
        };
        assert_eq!(keys(Page { buckets: vec![], next_from: None }), "buckets from to window workspace_id");
        let cut = Page { buckets: vec![bucket()], next_from: Some(EventTime(0)) };
        assert_eq!(keys(cut), "buckets from next_from to truncated window workspace_id");
    }
}
