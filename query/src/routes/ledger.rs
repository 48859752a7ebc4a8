//! `GET /api/v1/workspaces/{workspace_id}/ledger?from=&to=&limit=`: what became of the records of a workspace, by minute of
//! arrival, oldest first. `GET /api/v1/ledger`, with the same parameters, has the rows of all workspaces, and of the records
//! whose workspace can't be read or does not exist: for admin keys of the installation only.
//!
//! A range may have 7 days of a workspace, or one of all. Minutes without records have no row. An answer that would be too long ends with a whole minute and says
//! `"truncated": true` and `next_from`, with which as `from` the rest can be had.

use super::{parameters, readable::Readable, while_waiting, workspaces::aggregations::time};
use crate::ledger::{
    RowView, Standing, Totals, WorkspaceRowView,
    monitor::LedgerMonitor,
    select::{self, Page, Selection},
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use chrono::Utc;
use millrace_schemas::{EventTime, WorkspaceId, ledger::Minute};
use millrace_tenancy::{Access, Error as StoreError, http::ApiError};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);
/// The minutes of a day.
const LIMIT_DEFAULT: usize = 1_440;
const LIMIT_MAX: usize = 10_000;
/// The longest range: each row of it is added up before the first is answered.
const DAYS_MAX: u32 = 7;
/// The same of all workspaces.
const DAYS_MAX_OF_ALL: u32 = 1;
const DAY: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default, Deserialize)]
pub struct Parameters {
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
}

/// `R` is a row.
#[derive(Debug, Serialize)]
pub struct Answer<R> {
    #[serde(skip_serializing_if = "Option::is_none")]
    workspace_id: Option<WorkspaceId>,
    from: EventTime,
    to: EventTime,
    /// All that came before has been dealt with; null while it is not known.
    processed_to: Option<EventTime>,
    rows: Vec<R>,
    /// Of these rows.
    totals: Totals,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_from: Option<Minute>,
}

pub async fn list(
    Readable(workspace): Readable,
    query: Result<Query<Parameters>, QueryRejection>,
    State(pool): State<PgPool>,
    State(monitor): State<Arc<LedgerMonitor>>,
) -> Result<Json<Answer<RowView>>, ApiError> {
    let selection = parameters(query)?.select(Some(workspace), Utc::now().into())?;
    let (page, standing) = while_waiting(look(&pool, &monitor, &selection)).await?;
    let rows = page.rows.iter().map(|row| row.view(&standing)).collect();
    Ok(Json(Answer::new(&selection, &page, &standing, rows)))
}

pub async fn list_all(
    access: Access,
    query: Result<Query<Parameters>, QueryRejection>,
    State(pool): State<PgPool>,
    State(monitor): State<Arc<LedgerMonitor>>,
) -> Result<Json<Answer<WorkspaceRowView>>, ApiError> {
    if !access.is_admin() {
        return Err(ApiError::forbidden("Only an admin key may see the ledger of all workspaces"));
    }
    let selection = parameters(query)?.select(None, Utc::now().into())?;
    let (page, standing) = while_waiting(look(&pool, &monitor, &selection)).await?;
    let view =
        |row: &crate::ledger::Row| WorkspaceRowView { workspace_id: row.workspace, row: row.view(&standing) };
    let rows = page.rows.iter().map(view).collect();
    Ok(Json(Answer::new(&selection, &page, &standing, rows)))
}

/// The standing first: what it says of the rows must hold for those that are read after it.
async fn look(
    pool: &PgPool,
    monitor: &LedgerMonitor,
    selection: &Selection,
) -> Result<(Page, Standing), ApiError> {
    let failed = |source| ApiError::from(StoreError::Database { doing: "reading the ledger", source });
    let standing = monitor.standing().await.map_err(failed)?;
    let mut connection = pool.acquire().await.map_err(failed)?;
    let page = select::page(&mut connection, selection).await.map_err(failed)?;
    Ok((page, standing))
}

impl Parameters {
    /// The last hour, unless they say otherwise.
    fn select(self, workspace: Option<WorkspaceId>, now: EventTime) -> Result<Selection, ApiError> {
        let from = self.from.map_or(Ok(now.saturating_sub(HOUR)), |text| time("from", &text))?;
        let to = self.to.map_or(Ok(now), |text| time("to", &text))?;
        if from >= to {
            return Err(ApiError::bad_request("'from' must be before 'to'"));
        }
        let days_max = if workspace.is_some() { DAYS_MAX } else { DAYS_MAX_OF_ALL };
        if from.saturating_add(DAY * days_max) < to {
            return Err(too_long(days_max));
        }
        let rows_max = self.limit.map_or(Ok(LIMIT_DEFAULT), |text| limit(&text))?;
        Ok(Selection { workspace, from: Minute::of(from).start(), to, rows_max })
    }
}

fn too_long(days_max: u32) -> ApiError {
    let hours_max = 24 * days_max;
    ApiError::bad_request(format!(
        "Range too long: from 'from' to 'to' {hours_max} hours are allowed, so ask for parts"
    ))
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit
        .ok_or_else(|| ApiError::bad_request(format!("Invalid limit '{text}': 1 to {LIMIT_MAX} are allowed")))
}

impl<R> Answer<R> {
    fn new(selection: &Selection, page: &Page, standing: &Standing, rows: Vec<R>) -> Self {
        Self {
            workspace_id: selection.workspace,
            from: selection.from,
            to: selection.to,
            processed_to: standing.through,
            rows,
            totals: Totals::of(&page.rows, standing),
            truncated: page.next_from.is_some(),
            next_from: page.next_from,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::tests::row;

    fn select(changes: &[(&str, &str)]) -> Result<Selection, String> {
        let value = |name| changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let sent = Parameters { from: value("from"), to: value("to"), limit: value("limit") };
        let now = EventTime::parse("2026-01-10T12:00:30Z").expect("a time");
        let workspace = changes.iter().any(|(key, _)| *key == "workspace");
        let workspace = workspace.then(|| WorkspaceId(uuid::Uuid::from_u128(1)));
        sent.select(workspace, now).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn the_default_is_the_last_hour_from_a_whole_minute_on() {
        let selection = select(&[]).expect("valid");
        assert_eq!(selection.from.to_string(), "2026-01-10T11:00:00Z");
        assert_eq!(selection.to.to_string(), "2026-01-10T12:00:30Z");
    }

    #[test]
    fn a_range_has_a_longest() {
        let of_all = |from| select(&[("from", from)]).map(|selection| selection.from.to_string());
        assert_eq!(of_all("2026-01-09T12:00:30Z"), Ok("2026-01-09T12:00:00Z".to_owned()));
        let of_one = |from| select(&[("workspace", ""), ("from", from)]).map(drop);
        assert_eq!(of_one("2026-01-03T12:00:30Z"), Ok(()));
        let errors = [
            of_all("2026-01-09T12:00:29Z").expect_err("of all"),
            of_one("2026-01-03T12:00:29Z").expect_err("of one"),
        ];
        insta::assert_snapshot!(errors.join("\n"), @r"
        Range too long: from 'from' to 'to' 24 hours are allowed, so ask for parts
        Range too long: from 'from' to 'to' 168 hours are allowed, so ask for parts
        ");
    }

    #[test]
    fn says_what_is_wrong() {
        let bad = [("from", "2026-01-10T12:00:30Z"), ("to", "yesterday"), ("limit", "0"), ("limit", "10001")];
        let errors = bad.map(|parameter| select(&[parameter]).expect_err("invalid"));
        insta::assert_snapshot!(errors.join("\n"), @r"
        'from' must be before 'to'
        Invalid to 'yesterday': not an RFC 3339 time
        Invalid limit '0': 1 to 10000 are allowed
        Invalid limit '10001': 1 to 10000 are allowed
        ");
    }

    #[test]
    fn an_answer_has_rows_and_totals() {
        let selection = select(&[("limit", "1")]).expect("valid");
        let page = Page { rows: vec![row(9)], next_from: Some(row(10).minute) };
        let standing = Standing { through: None, since: None, is_archived: true };
        let rows = page.rows.iter().map(|row| row.view(&standing)).collect();
        let answer = serde_json::to_string(&Answer::new(&selection, &page, &standing, rows));
        insta::assert_snapshot!(answer.expect("serializes"), @r#"{"from":"2026-01-10T11:00:00Z","to":"2026-01-10T12:00:30Z","processed_to":null,"rows":[{"minute":"1970-01-01T00:09:00Z","accepted":0,"from_edge":0,"read":5,"counted":3,"running":1,"duplicate":0,"late":0,"backfilled":0,"dead_lettered":{"invalid":1,"unknown_workspace":0,"future":0},"archived":4,"processed":false,"balanced":false}],"totals":{"accepted":0,"from_edge":0,"read":5,"counted":3,"running":1,"duplicate":0,"late":0,"backfilled":0,"dead_lettered":{"invalid":1,"unknown_workspace":0,"future":0},"archived":4,"processed":false,"balanced":false},"truncated":true,"next_from":"1970-01-01T00:10:00Z"}"#);
    }
}
