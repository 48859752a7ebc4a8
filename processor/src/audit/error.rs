//! What can end an audit before it has an answer.

use crate::{archive, sink::StoreError, stage::StageError};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Log(#[from] StageError),
    #[error(transparent)]
    Archive(#[from] archive::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the audit panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

impl Error {
    pub(super) fn database(doing: &'static str) -> impl Fn(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }
}
