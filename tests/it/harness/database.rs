//! A database of one test.

use anyhow::{Context as _, Result};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tokio::{runtime::Handle, task::block_in_place};
use url::Url;

pub struct Database {
    pub url: String,
    name: String,
    server: Url,
}

impl Database {
    /// An empty one.
    pub async fn create(server: &str, name: &str) -> Result<Self> {
        let server = Url::parse(server).context("MILLRACE_TEST_DATABASE_URL")?;
        let mut url = server.clone();
        url.set_path(name);
        execute(&server, format!("CREATE DATABASE {name}")).await?;
        Ok(Self { url: url.to_string(), name: name.to_owned(), server })
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
        execute(&Url::parse(&self.url)?, sql.to_owned()).await
    }
}

impl Drop for Database {
    /// Needs the test's runtime to have more than one thread.
    fn drop(&mut self) {
        let drop = execute(&self.server, format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        if let Err(error) = block_in_place(|| Handle::current().block_on(drop)) {
            eprintln!("the database {} stays: {error:#}", self.name);
        }
    }
}

/// Names are made by the harness itself.
async fn execute(url: &Url, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect(url.as_str()).await.context("connect to PostgreSQL")?;
    connection.execute(AssertSqlSafe(sql.clone())).await.with_context(|| sql)?;
    connection.close().await.context("close a connection")
}
