//! Where the database is.

use crate::Error;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::{fmt, time::Duration};

/// How long a query waits for a free or new connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);

/// The store: PostgreSQL, with or without TimescaleDB.
#[derive(Clone, clap::Args)]
pub struct StoreSettings {
    /// The database, `postgresql://user:password@host:port/name`
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL", required = true)]
    pub database_url: String,
    /// The most connections to it that one process opens
    #[arg(long, env = "DATABASE_CONNECTIONS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub database_connections: u32,
}

impl StoreSettings {
    /// A pool that opens connections when they are needed: the database may still be away.
    #[expect(
        clippy::unused_async,
        reason = "the pool starts its upkeep on the runtime, so it must be made on one"
    )]
    pub async fn connect(&self) -> Result<PgPool, Error> {
        let options = self.options()?.application_name("millrace");
        Ok(PgPoolOptions::new()
            .max_connections(self.database_connections)
            .acquire_timeout(ACQUIRE_LIMIT)
            .connect_lazy_with(options))
    }

    fn options(&self) -> Result<PgConnectOptions, Error> {
        self.database_url.parse().map_err(Error::Url)
    }
}

impl fmt::Debug for StoreSettings {
    /// Never shows the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreSettings")
            .field("database_url", &masked(&self.database_url))
            .field("database_connections", &self.database_connections)
            .finish()
    }
}

/// The URL without what could be secret: the password, and the parameters (one of which may be the password).
fn masked(url: &str) -> String {
    let base = url.split_once('?').map_or(url, |(base, _)| base);
    let Some((scheme, rest)) = base.split_once("://") else { return "***".to_owned() };
    match rest.rsplit_once('@') {
        Some((user, place)) => {
            let name = user.split_once(':').map_or(user, |(name, _)| name);
            format!("{scheme}://{name}:***@{place}")
        }
        None => format!("{scheme}://{rest}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_never_shown() {
        assert_eq!(masked("postgresql://app:se:c@ret@h:5432/d"), "postgresql://app:***@h:5432/d");
        assert_eq!(masked("postgres://h/d?user=a&password=secret"), "postgres://h/d");
        assert_eq!(masked("secret"), "***");
        let settings =
            StoreSettings { database_url: "postgres://a:secret@h/d".to_owned(), database_connections: 1 };
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn a_bad_url_is_refused() {
        let settings = StoreSettings { database_url: "not a url".to_owned(), database_connections: 1 };
        assert!(matches!(settings.options(), Err(Error::Url(_))));
    }
}
