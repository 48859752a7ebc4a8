//! `POST /api/v1/workspaces/{workspace_id}/dead-letters/replay` with `{"ids": […]}`, or with `{"filter": {"reason", "from",
//! "to"}, "limit", "cursor"}`: sends dead letters through once more, for keys that may read and write the workspace.
//! `POST /api/v1/dead-letters/replay` does so with those of all workspaces, for admin keys of the installation.
//!
//! The log has what is counted in `replayed` before the answer is given; the others are named in `refused` with the reason.
//! A record that has an id is counted once, however often it is replayed within the memory of duplicates.

use super::{DeadLetters, Parameters, RETRY, Wanted, admin, find, unreadable};
use crate::{
    letters::{
        Letter, LetterId, Whose,
        page::{Filter, PAGE_BYTES_MAX},
        reader::Reader,
        replay::{Outcome, Refused},
    },
    routes::readable::Readable,
};
use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use millrace_tenancy::{Access, http::ApiError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The most ids in one request.
const IDS_MAX: usize = 500;
const NO_SUCH: &str = "there is no such dead letter here, or no more";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    ids: Option<Vec<String>>,
    filter: Option<FilterOrder>,
    limit: Option<usize>,
    cursor: Option<String>,
}

/// An empty one takes all.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterOrder {
    reason: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    replayed: usize,
    refused: Vec<Refused>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What is to be replayed.
enum Selection {
    Ids(Vec<LetterId>),
    Filter(Box<Wanted>),
}

type OrderBody = Result<Json<Order>, JsonRejection>;

pub async fn replay(
    Readable(workspace): Readable,
    access: Access,
    State(letters): State<Arc<DeadLetters>>,
    order: OrderBody,
) -> Result<Json<Answer>, ApiError> {
    if !access.may_ingest(workspace) {
        return Err(ApiError::forbidden("The key may not write this workspace"));
    }
    letters.replay(Whose::Of(workspace), order).await
}

pub async fn replay_all(
    access: Access,
    State(letters): State<Arc<DeadLetters>>,
    order: OrderBody,
) -> Result<Json<Answer>, ApiError> {
    admin(&access)?;
    letters.replay(Whose::All, order).await
}

impl Order {
    fn selection(self, whose: Whose) -> Result<Selection, ApiError> {
        match (self.ids, self.filter) {
            (Some(ids), None) if self.limit.is_none() && self.cursor.is_none() => {
                parse(&ids).map(Selection::Ids)
            }
            (None, Some(FilterOrder { reason, from, to })) => {
                let limit = self.limit.map(|limit| limit.to_string());
                let parameters = Parameters { reason, from, to, limit, cursor: self.cursor };
                Ok(Selection::Filter(Box::new(parameters.wanted(whose)?)))
            }
            _ => Err(ApiError::bad_request(
                "Name either 'ids', or a 'filter' (an empty one takes all) with 'limit' and 'cursor' if you like",
            )),
        }
    }
}

/// Ascending, each once.
fn parse(ids: &[String]) -> Result<Vec<LetterId>, ApiError> {
    if ids.is_empty() || ids.len() > IDS_MAX {
        let message = format!("'ids' has {} ids: 1 to {IDS_MAX} are allowed", ids.len());
        return Err(ApiError::bad_request(message));
    }
    let parsed: Result<Vec<LetterId>, _> = ids.iter().map(|id| id.parse()).collect();
    let mut parsed =
        parsed.map_err(|error: crate::letters::InvalidId| ApiError::bad_request(error.to_string()))?;
    parsed.sort_unstable();
    parsed.dedup();
    Ok(parsed)
}

impl DeadLetters {
    async fn replay(&self, whose: Whose, order: OrderBody) -> Result<Json<Answer>, ApiError> {
        let Json(order) = order.map_err(|error| ApiError::new(error.status(), error.body_text()))?;
        let selection = order.selection(whose)?;
        let place = self.enter()?;
        let (mut outcome, mut ids, next_cursor) =
            self.read(&place, move |reader| select(reader, selection)).await?;
        while !ids.is_empty() {
            let batch = self.read(&place, move |reader| next_batch(reader, &ids, whose)).await?;
            for id in batch.missing {
                outcome.refuse(id, NO_SUCH);
            }
            self.replay.send(&batch.letters, &mut outcome).await.map_err(ApiError::internal)?;
            ids = batch.rest;
        }
        let (replayed, refused) = (outcome.replayed, outcome.refused.len());
        tracing::info!(?whose, replayed, refused, "dead letters were sent through once more");
        answer(outcome, next_cursor)
    }
}

/// The ids to replay, ascending, and what of them is refused already.
fn select(
    reader: &mut Reader,
    selection: Selection,
) -> Result<(Outcome, Vec<LetterId>, Option<String>), ApiError> {
    let mut outcome = Outcome::default();
    match selection {
        Selection::Filter(wanted) => {
            let (page, next_cursor) = find(reader, &wanted)?;
            let mut ids: Vec<LetterId> = page.entries.iter().map(|entry| entry.id).collect();
            ids.sort_unstable();
            Ok((outcome, ids, next_cursor))
        }
        Selection::Ids(ids) => {
            // An id that the log does not have would be looked for in vain.
            let bounds = reader.bounds(&Filter::all(Whose::All)).map_err(unreadable)?;
            let exists = |id: &LetterId| {
                bounds.iter().any(|bounds| {
                    bounds.partition == id.partition && (bounds.from..bounds.to).contains(&id.offset)
                })
            };
            let (ids, missing): (Vec<_>, Vec<_>) = ids.into_iter().partition(exists);
            for id in missing {
                outcome.refuse(id, NO_SUCH);
            }
            Ok((outcome, ids, None))
        }
    }
}

/// As many of the letters as are sent at once.
struct Batch {
    letters: Vec<Letter>,
    missing: Vec<LetterId>,
    rest: Vec<LetterId>,
}

/// A letter of another workspace is none.
fn next_batch(reader: &mut Reader, ids: &[LetterId], whose: Whose) -> Result<Batch, ApiError> {
    let (mut letters, rest) = reader.letters(ids, PAGE_BYTES_MAX).map_err(unreadable)?;
    letters.retain(|letter| whose.has(&letter.entry));
    let done = &ids[..ids.len() - rest.len()];
    let found = |id: &LetterId| letters.iter().any(|letter| letter.entry.id == *id);
    let missing = done.iter().filter(|id| !found(id)).copied().collect();
    Ok(Batch { letters, missing, rest })
}

/// 503 if the log took none of those that it was given.
fn answer(outcome: Outcome, next_cursor: Option<String>) -> Result<Json<Answer>, ApiError> {
    let Outcome { replayed, refused, unacknowledged } = outcome;
    if replayed == 0 && unacknowledged > 0 {
        let message = format!(
            "The log acknowledged none of {unacknowledged} records. Send the request again: a record with the same id is \
             counted once"
        );
        return Err(ApiError::unavailable(message, RETRY));
    }
    Ok(Json(Answer { replayed, refused, next_cursor }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(body: &str) -> Result<Selection, String> {
        let order: Order = serde_json::from_str(body).map_err(|error| error.to_string())?;
        order.selection(Whose::All).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn ids_are_taken_once_and_in_order() {
        let Ok(Selection::Ids(ids)) = selection(r#"{"ids": ["1-5", "0-7", "1-5"]}"#) else {
            panic!("not ids");
        };
        assert_eq!(ids.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0-7", "1-5"]);
    }

    #[test]
    fn an_empty_order_is_no_order_for_all() {
        assert!(matches!(selection(r#"{"filter": {}}"#), Ok(Selection::Filter(_))));
        let many = format!(r#"{{"ids": [{}]}}"#, vec![r#""0-1""#; IDS_MAX + 1].join(","));
        let bodies = [
            "{}",
            r#"{"ids": ["0-1"], "filter": {}}"#,
            r#"{"ids": ["0-1"], "limit": 3}"#,
            r#"{"ids": []}"#,
            &many,
        ];
        let errors = bodies.map(|body| selection(body).map(|_| ()).expect_err(body));
        insta::assert_snapshot!(errors.join("\n"), @r"
        Name either 'ids', or a 'filter' (an empty one takes all) with 'limit' and 'cursor' if you like
        Name either 'ids', or a 'filter' (an empty one takes all) with 'limit' and 'cursor' if you like
        Name either 'ids', or a 'filter' (an empty one takes all) with 'limit' and 'cursor' if you like
        'ids' has 0 ids: 1 to 500 are allowed
        'ids' has 501 ids: 1 to 500 are allowed
        ");
        assert!(
            selection(r#"{"ids": ["first"]}"#)
                .map(|_| ())
                .expect_err("no id")
                .starts_with("Invalid id 'first'")
        );
        assert!(selection(r#"{"filters": {}}"#).is_err(), "a slip of the pen must not replay anything");
    }

    #[test]
    fn a_log_that_takes_nothing_is_503() {
        let outcome = Outcome { replayed: 0, refused: vec![], unacknowledged: 2 };
        assert_eq!(answer(outcome, None).map(|_| ()).expect_err("nothing").status().as_u16(), 503);
        assert!(answer(Outcome { replayed: 1, refused: vec![], unacknowledged: 2 }, None).is_ok());
        assert!(answer(Outcome::default(), None).is_ok());
    }
}
