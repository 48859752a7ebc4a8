//! What can fail when the directory is asked.

use millrace_schemas::WorkspaceId;
use sqlx::migrate::MigrateError;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the database URL can't be used")]
    Url(#[source] sqlx::Error),
    #[error("{doing}: the database did not answer within {} ms", limit.as_millis())]
    TimedOut { doing: &'static str, limit: Duration },
    #[error("{doing}: the database failed")]
    Database {
        doing: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("applying the migrations")]
    Migrate(#[source] MigrateError),
    #[error("{what} name: {reason}")]
    Name { what: &'static str, reason: String },
    #[error("no workspace has the id {0}")]
    UnknownWorkspace(WorkspaceId),
}

impl Error {
    /// The same request may succeed later without a change.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Database { source, .. } | Self::Migrate(MigrateError::Execute(source)) => {
                is_transient(source)
            }
            Self::Url(_) | Self::Migrate(_) | Self::Name { .. } | Self::UnknownWorkspace(_) => false,
        }
    }
}

fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::Protocol(_)
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_transient_state(&code)),
        _ => false,
    }
}

/// Connection lost, serialisation failure or deadlock, out of resources, shutting down or starting up.
fn is_transient_state(sqlstate: &str) -> bool {
    ["08", "40", "53", "57P"].iter().any(|class| sqlstate.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absent_database_is_transient_and_a_bad_name_is_not() {
        assert!(Error::TimedOut { doing: "asking", limit: Duration::from_secs(3) }.is_transient());
        assert!(Error::Database { doing: "asking", source: sqlx::Error::PoolTimedOut }.is_transient());
        assert!(!Error::Database { doing: "asking", source: sqlx::Error::RowNotFound }.is_transient());
        assert!(!Error::Name { what: "workspace", reason: "is empty".to_owned() }.is_transient());
        assert!(is_transient_state("57P01") && !is_transient_state("23505"));
    }
}
