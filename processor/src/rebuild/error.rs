//! What can end a rebuild.

use crate::{archive, history::told::NotLeft, plan::PlanError, sink::StoreError, stage::StageError};
use millrace_log::NextOffset;
use millrace_schemas::Window;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the range has windows that are still open or held")]
    NotLeft(#[from] NotLeft),
    #[error(
        "partition {partition} is archived up to offset {archived}, but its log begins at {low}: retention has removed what would have to be read; nothing was changed"
    )]
    Gap { partition: i32, archived: NextOffset, low: NextOffset },
    #[error(
        "the processor has not stored all that the log had within {} s; is it running? Give it more --wait",
        .0.as_secs()
    )]
    Behind(Duration),
    #[error("records for the range kept coming while it was rebuilt: try again when fewer come")]
    Restless,
    #[error(
        "{rows} rows of {window} have changed since they were compared (late records came, or another rebuild was applied): nothing was replaced, run it again"
    )]
    Changed { rows: i64, window: Window },
    #[error(
        "{rows} rows of {window} would have fewer records than are stored: archive or log may lack some (`millrace audit` tells); nothing was replaced, --allow-fewer does it all the same"
    )]
    Fewer { rows: i64, window: Window },
    #[error(
        "{rows} rows differ, and no more than {rows_max} are replaced in one transaction: take a shorter range, or a higher --rows-max; nothing was replaced"
    )]
    TooMany { rows: u64, rows_max: u32 },
    #[error(transparent)]
    Log(#[from] StageError),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the tables of the rebuild")]
    Store(#[from] StoreError),
    #[error("{doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the rebuild panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

impl Error {
    pub(super) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
