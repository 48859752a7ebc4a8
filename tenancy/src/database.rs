//! The one way in which a query is awaited: with our own time limit, as a store may ignore `statement_timeout`.

use crate::Error;
use std::time::Duration;

/// The longest that one question to the database may take.
pub const QUERY_LIMIT: Duration = Duration::from_secs(3);

/// Awaits `query` for at most `limit`; `doing` says in errors what it was for.
pub async fn within<T>(
    limit: Duration,
    doing: &'static str,
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, query).await {
        Ok(result) => result.map_err(|source| Error::Database { doing, source }),
        Err(_) => Err(Error::TimedOut { doing, limit }),
    }
}
