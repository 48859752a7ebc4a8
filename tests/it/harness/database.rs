//! A database of one test.

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::{runtime::Handle, task::block_in_place};
use url::Url;

pub struct Database {
    pub url: String,
    /// Where it is one of several databases of a server: that server, and the name to drop in the end.
    made: Option<(Url, String)>,
}

impl Database {
    /// An empty one.
    pub async fn create(server: &str, name: &str) -> Result<Self> {
        let server = Url::parse(server).context("MILLRACE_TEST_DATABASE_URL")?;
        let mut url = server.clone();
        url.set_path(name);
        execute(server.as_str(), format!("CREATE DATABASE {name}")).await?;
        Ok(Self { url: url.to_string(), made: Some((server, name.to_owned())) })
    }

    /// The only one of a store that goes with the test.
    pub fn own(url: &str) -> Self {
        Self { url: url.to_owned(), made: None }
    }

    /// The one integer that a query answers.
    pub async fn number(&self, sql: &str) -> Result<i64> {
        let mut connection = PgConnection::connect(&self.url).await.context("connect to PostgreSQL")?;
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut connection)
            .await
            .with_context(|| sql.to_owned())
    }

    /// Runs statements of the test's own.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        execute(&self.url, sql.to_owned()).await
    }
}

impl Drop for Database {
    /// Needs the test's runtime to have more than one thread.
    fn drop(&mut self) {
        let Some((server, name)) = &self.made else { return };
        let drop = execute(server.as_str(), format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        if let Err(error) = block_in_place(|| Handle::current().block_on(drop)) {
            eprintln!("the database {name} stays: {error:#}");
        }
    }
}

/// Names are made by the harness itself.
async fn execute(url: &str, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect(url).await.context("connect to PostgreSQL")?;
    connection.execute(AssertSqlSafe(sql.clone())).await.with_context(|| sql)?;
    connection.close().await.context("close a connection")
}
