//! Before the services start: the log and the database answer, and hold what the services need.

use super::{Error, Shared};
use millrace_log::{LogSettings, TopicsError, ensure_topics, wait_until_reachable};
use millrace_tenancy::{migrate, seed_development};
use sqlx::{ConnectOptions, Connection, PgPool};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const DATABASE_PAUSE: Duration = Duration::from_millis(500);
const LOG_PAUSE: Duration = Duration::from_millis(500);
/// How long brokers that have just started may take until topics can be given to them.
const BROKERS_LIMIT: Duration = Duration::from_secs(60);
/// Between two warnings that the database does not answer.
const WARNING_INTERVAL: Duration = Duration::from_secs(3);

/// False when `shutdown` came first.
pub async fn prepare(shared: &Shared, shutdown: &CancellationToken) -> Result<bool, Error> {
    let log = &shared.plan.installation.log;
    let topics_failed = |error| Error::Topics(Box::new(error));
    let (log_answers, database_answers) =
        tokio::join!(wait_until_reachable(log, shutdown), wait_for_database(&shared.pool, shutdown));
    if !(log_answers.map_err(topics_failed)? && database_answers) {
        return Ok(false);
    }
    if !prepare_log(log, shutdown).await.map_err(topics_failed)? {
        return Ok(false);
    }
    while let Err(error) = prepare_database(shared).await {
        if !error.is_transient() {
            return Err(Error::Prepare(error));
        }
        tracing::warn!(%error, "the database went away while it was prepared; waiting");
        tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(DATABASE_PAUSE) => {}
        }
        if !wait_for_database(&shared.pool, shutdown).await {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A broker may go away in the middle of it. False when `shutdown` came first.
async fn prepare_log(log: &LogSettings, shutdown: &CancellationToken) -> Result<bool, TopicsError> {
    let began = Instant::now();
    loop {
        let made = tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            made = ensure_topics(log) => made,
        };
        let Err(error) = made else { return Ok(true) };
        let brokers_missing = error.wants_more_brokers() && began.elapsed() < BROKERS_LIMIT;
        if !error.is_transient() && !brokers_missing {
            return Err(error);
        }
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "the log went away while it was prepared; waiting"
        );
        tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(LOG_PAUSE) => {}
        }
        if !wait_until_reachable(log, shutdown).await? {
            return Ok(false);
        }
    }
}

async fn prepare_database(shared: &Shared) -> Result<(), millrace_tenancy::Error> {
    migrate(&shared.pool).await?;
    if shared.plan.installation.dev { seed_development(&shared.pool).await } else { Ok(()) }
}

/// Waits until the database answers, telling every few seconds that it waits; false when `shutdown` came first.
async fn wait_for_database(pool: &PgPool, shutdown: &CancellationToken) -> bool {
    let started = Instant::now();
    let mut warned_at: Option<Instant> = None;
    loop {
        let answer = tokio::select! {
            () = shutdown.cancelled() => return false,
            answer = connect_once(pool) => answer,
        };
        let Err(error) = answer else { return true };
        if warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            warned_at = Some(Instant::now());
            let (database, waited_s) = (database_name(pool), started.elapsed().as_secs());
            tracing::warn!(database, waited_s, %error, "the database does not answer yet; waiting");
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(DATABASE_PAUSE) => {}
        }
    }
}

/// The pool would try again by itself and, in the end, tell only that it took too long.
async fn connect_once(pool: &PgPool) -> Result<(), sqlx::Error> {
    let options = pool.connect_options();
    let connected = timeout(CONNECT_LIMIT, options.connect()).await;
    connected.map_err(|_| sqlx::Error::PoolTimedOut)??.close().await
}

/// `host:port/name`: no secret in it.
pub fn database_name(pool: &PgPool) -> String {
    let options = pool.connect_options();
    let name = options.get_database().unwrap_or_default();
    format!("{}:{}/{name}", options.get_host(), options.get_port())
}
