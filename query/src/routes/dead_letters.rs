//! `GET /api/v1/workspaces/{workspace_id}/dead-letters?reason=&from=&to=&limit=&cursor=`: the dead letters of a workspace,
//! newest first, for keys that may read it. `GET /api/v1/dead-letters`, with the same parameters, has all letters of the
//! installation, also those whose workspace can't be read or does not exist: for admin keys of the installation only.
//!
//! A request looks at a bounded number of letters. Where there may be more, the answer has a `next_cursor`, also when it
//! has no letter; at the end there is none.

mod replay;

pub use replay::{replay, replay_all};

use super::parameters;
use crate::{
    letters::{
        Letter, LetterId, LetterView, Whose,
        page::{self, Filter, PAGE_BYTES_MAX, Page},
        reader::{self, Reader},
        replay::Replay,
    },
    routes::readable::Readable,
};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use millrace_log::LogSettings;
use millrace_schemas::{EventTime, dead_letter::Reason};
use millrace_tenancy::{Access, http::ApiError};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;
/// Requests that read dead letters at once: each holds some tens of MiB.
const READERS_MAX: usize = 4;
const RETRY: Duration = Duration::from_secs(1);

/// What the routes work with.
pub struct DeadLetters {
    log: LogSettings,
    replay: Replay,
    places: Arc<Semaphore>,
}

/// One of the requests that read. A thread that reads for one that has gone away still counts.
type Place = Arc<OwnedSemaphorePermit>;

#[derive(Debug, Default, Deserialize)]
pub struct Parameters {
    reason: Option<String>,
    from: Option<String>,
    to: Option<String>,
    limit: Option<String>,
    cursor: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct Answer {
    dead_letters: Vec<LetterView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

/// What is asked for, checked.
pub(super) struct Wanted {
    filter: Filter,
    limit: usize,
    cursor: Option<String>,
}

pub async fn list(
    Readable(workspace): Readable,
    query: Result<Query<Parameters>, QueryRejection>,
    State(letters): State<Arc<DeadLetters>>,
) -> Result<Json<Answer>, ApiError> {
    letters.list(parameters(query)?.wanted(Whose::Of(workspace))?).await
}

pub async fn list_all(
    access: Access,
    query: Result<Query<Parameters>, QueryRejection>,
    State(letters): State<Arc<DeadLetters>>,
) -> Result<Json<Answer>, ApiError> {
    admin(&access)?;
    letters.list(parameters(query)?.wanted(Whose::All)?).await
}

fn admin(access: &Access) -> Result<(), ApiError> {
    let allowed = access.is_admin().then_some(());
    allowed.ok_or_else(|| ApiError::forbidden("Only an admin key may see the dead letters of all workspaces"))
}

impl Parameters {
    pub(super) fn wanted(self, whose: Whose) -> Result<Wanted, ApiError> {
        let reason = self.reason.map(|text| {
            let known = Reason::ALL.into_iter().find(|reason| reason.as_str() == text);
            known.ok_or_else(|| {
                let all = Reason::ALL.map(Reason::as_str).join(", ");
                ApiError::bad_request(format!("Invalid reason '{text}'. Valid options: {all}"))
            })
        });
        let time = |name: &str, text: Option<String>| -> Result<Option<EventTime>, ApiError> {
            text.map(|text| super::workspaces::aggregations::time(name, &text)).transpose()
        };
        let (from, to) = (time("from", self.from)?, time("to", self.to)?);
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(ApiError::bad_request("'from' must be before 'to'"));
        }
        let limit = self.limit.map_or(Ok(LIMIT_DEFAULT), |text| limit(&text))?;
        Ok(Wanted {
            filter: Filter { whose, reason: reason.transpose()?, from, to },
            limit,
            cursor: self.cursor,
        })
    }
}

fn limit(text: &str) -> Result<usize, ApiError> {
    let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
    limit
        .ok_or_else(|| ApiError::bad_request(format!("Invalid limit '{text}': 1 to {LIMIT_MAX} are allowed")))
}

impl DeadLetters {
    pub fn new(log: LogSettings) -> Self {
        Self { replay: Replay::new(log.clone()), log, places: Arc::new(Semaphore::new(READERS_MAX)) }
    }

    async fn list(&self, wanted: Wanted) -> Result<Json<Answer>, ApiError> {
        let read = move |reader: &mut Reader| {
            let (page, next_cursor) = find(reader, &wanted)?;
            let mut ids: Vec<LetterId> = page.entries.iter().map(|entry| entry.id).collect();
            ids.sort_unstable();
            // The page was made so that its bytes fit.
            let (mut letters, _) = reader.letters(&ids, PAGE_BYTES_MAX).map_err(unreadable)?;
            letters.sort_unstable_by_key(|letter: &Letter| {
                std::cmp::Reverse((letter.entry.at, letter.entry.id))
            });
            let dead_letters = letters.into_iter().map(LetterView::from).collect();
            Ok(Answer { dead_letters, next_cursor })
        };
        self.read(&self.enter()?, read).await.map(Json)
    }

    fn enter(&self) -> Result<Place, ApiError> {
        let full = || ApiError::unavailable("Too many requests read dead letters", RETRY);
        Arc::clone(&self.places).try_acquire_owned().map(Arc::new).map_err(|_| full())
    }

    /// Runs `read` on a thread of its own with a reader of its own.
    async fn read<T: Send + 'static>(
        &self,
        place: &Place,
        read: impl FnOnce(&mut Reader) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let (log, place) = (self.log.clone(), Arc::clone(place));
        let task = spawn_blocking(move || {
            let _place = place;
            let mut reader = Reader::new(&log).map_err(unreadable)?;
            read(&mut reader)
        });
        task.await.map_err(ApiError::internal)?
    }
}

/// The entries that are wanted, and the cursor to go on with.
fn find(reader: &mut Reader, wanted: &Wanted) -> Result<(Page, Option<String>), ApiError> {
    let mut bounds = reader.bounds(&wanted.filter).map_err(unreadable)?;
    if let Some(text) = &wanted.cursor {
        let cursor = page::decode_cursor(reader.topic(), text);
        let invalid =
            || ApiError::bad_request("Invalid cursor: give back `next_cursor` as the answer has it");
        page::narrow(&mut bounds, &cursor.ok_or_else(invalid)?);
    }
    let page = page::page(reader, &bounds, &wanted.filter, wanted.limit).map_err(unreadable)?;
    let cursor = page.cursor.as_ref().and_then(|cursor| page::encode_cursor(reader.topic(), cursor));
    Ok((page, cursor))
}

fn unreadable(error: reader::Error) -> ApiError {
    ApiError::unavailable("The log is not available", RETRY).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(changes: &[(&str, &str)]) -> Result<Wanted, String> {
        let value = |name| changes.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        let parameters = Parameters {
            reason: value("reason"),
            from: value("from"),
            to: value("to"),
            limit: value("limit"),
            cursor: value("cursor"),
        };
        parameters.wanted(Whose::All).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn parameters_are_read() {
        let wanted =
            wanted(&[("reason", "unknown_workspace"), ("limit", "7"), ("from", "2026-01-10T00:00:00Z")]);
        let Wanted { filter, limit, .. } = wanted.expect("valid");
        assert_eq!((filter.reason, limit), (Some(Reason::UnknownWorkspace), 7));
        assert_eq!(filter.from, EventTime::parse("2026-01-10T00:00:00Z"));
    }

    #[test]
    fn says_what_is_wrong() {
        let bad = [
            &[("reason", "bad")][..],
            &[("limit", "0")],
            &[("limit", "1001")],
            &[("from", "yesterday")],
            &[("from", "2026-01-10T00:00:00Z"), ("to", "2026-01-10T00:00:00Z")],
        ];
        let errors = bad.map(|changes| wanted(changes).map(|_| ()).expect_err("invalid"));
        insta::assert_snapshot!(errors.join("\n"), @r"
        Invalid reason 'bad'. Valid options: invalid, unknown_workspace, future
        Invalid limit '0': 1 to 1000 are allowed
        Invalid limit '1001': 1 to 1000 are allowed
        Invalid from 'yesterday': not an RFC 3339 time
        'from' must be before 'to'
        ");
    }
}
