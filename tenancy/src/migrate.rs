//! Applies `migrations/`.

use crate::Error;
use sqlx::{PgPool, migrate::Migrator};
use std::time::Duration;

static MIGRATOR: Migrator = sqlx::migrate!("../migrations");

/// All migrations together, the wait for another process that applies them included.
const MIGRATE_LIMIT: Duration = Duration::from_secs(120);

/// Brings the database up to date. Several processes may do so at once: an advisory lock lets one after the other in.
pub async fn migrate(pool: &PgPool) -> Result<(), Error> {
    let doing = "applying the migrations";
    let run = tokio::time::timeout(MIGRATE_LIMIT, MIGRATOR.run(pool));
    run.await.map_err(|_| Error::TimedOut { doing, limit: MIGRATE_LIMIT })?.map_err(Error::Migrate)
}
