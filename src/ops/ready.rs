//! Readiness: the database and the log answer, and the roles are running. Asking often costs no more than once a second.

use millrace_log::LogSettings;
use prometheus::Registry;
use rdkafka::{
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};
use serde::Serialize;
use sqlx::PgPool;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The longest that one check takes.
const CHECK_LIMIT: Duration = Duration::from_millis(1_800);
/// How long an answer is used again.
const FRESH_FOR: Duration = Duration::from_secs(1);
const BUFFER_DEPTH: &str = "queryvault_buffer_depth";

/// Where the process is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    Starting,
    /// The services run, but don't know yet all that the log held.
    CatchingUp,
    Running,
    Stopping,
}

/// The answer of `/ready`.
#[derive(Debug, Serialize)]
pub struct Report {
    status: &'static str,
    checks: BTreeMap<&'static str, Check>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    healthy: bool,
    message: String,
}

/// What is asked, and what it said last.
pub struct Checks {
    phase: AtomicU8,
    pool: PgPool,
    log: Arc<BaseConsumer>,
    topic: String,
    database_answer: Arc<Mutex<Option<Answer>>>,
    log_answer: Arc<Mutex<Option<Answer>>>,
}

struct Answer {
    at: Instant,
    check: Check,
}

impl Checks {
    pub fn new(pool: PgPool, log: &LogSettings) -> Result<Self, KafkaError> {
        Ok(Self {
            phase: AtomicU8::new(Phase::Starting as u8),
            pool,
            log: Arc::new(log.consumer("ready").create()?),
            topic: log.topics().metrics,
            database_answer: Arc::default(),
            log_answer: Arc::default(),
        })
    }

    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    pub async fn report(&self, registry: &Registry) -> Report {
        let (database, log) = tokio::join!(self.database(), self.log());
        Report::new([
            ("database", database),
            ("log", log),
            ("roles", self.roles()),
            ("buffer", Check::healthy(format!("Buffer length: {}", buffer_depth(registry)))),
            ("embedding_service", Check::healthy("Not configured")),
        ])
    }

    fn roles(&self) -> Check {
        match self.phase.load(Ordering::Relaxed) {
            phase if phase == Phase::Starting as u8 => Check::unhealthy("Starting"),
            phase if phase == Phase::CatchingUp as u8 => Check::unhealthy("Catching up with the log"),
            phase if phase == Phase::Running as u8 => Check::healthy("Running"),
            _ => Check::unhealthy("Stopping"),
        }
    }

    async fn database(&self) -> Check {
        let mut last = Arc::clone(&self.database_answer).lock_owned().await;
        if let Some(check) = fresh(&last) {
            return check;
        }
        let query = sqlx::query("SELECT 1").execute(&self.pool);
        let check = match tokio::time::timeout(CHECK_LIMIT, query).await {
            Ok(Ok(_)) => Check::healthy("Connected"),
            Ok(Err(error)) => Check::unhealthy(format!("Connection failed: {error}")),
            Err(_) => {
                Check::unhealthy(format!("Connection failed: no answer in {} ms", CHECK_LIMIT.as_millis()))
            }
        };
        *last = Some(Answer { at: Instant::now(), check: check.clone() });
        check
    }

    /// The blocked thread holds the lock, so that there is one of them even when those who asked go away.
    async fn log(&self) -> Check {
        let mut last = Arc::clone(&self.log_answer).lock_owned().await;
        if let Some(check) = fresh(&last) {
            return check;
        }
        let (consumer, topic) = (Arc::clone(&self.log), self.topic.clone());
        let asked = tokio::task::spawn_blocking(move || {
            let check = ask_log(&consumer, &topic);
            *last = Some(Answer { at: Instant::now(), check: check.clone() });
            check
        });
        asked.await.unwrap_or_else(|error| Check::unhealthy(format!("The check failed: {error}")))
    }
}

fn fresh(last: &OwnedMutexGuard<Option<Answer>>) -> Option<Check> {
    last.as_ref().filter(|answer| answer.at.elapsed() < FRESH_FOR).map(|answer| answer.check.clone())
}

fn ask_log(consumer: &BaseConsumer, topic: &str) -> Check {
    match consumer.fetch_metadata(Some(topic), CHECK_LIMIT) {
        Ok(_) => Check::healthy("Connected"),
        Err(error) => Check::unhealthy(format!("Connection failed: {error}")),
    }
}

/// Records between the edge and the log; none where there is no edge.
fn buffer_depth(registry: &Registry) -> u64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == BUFFER_DEPTH);
    let value =
        family.and_then(|family| family.get_metric().first()).map(|metric| metric.get_gauge().get_value());
    #[expect(
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "a count, and none is that large"
    )]
    value.map_or(0, |value| value as u64)
}

impl Check {
    fn healthy(message: impl Into<String>) -> Self {
        Self { healthy: true, message: message.into() }
    }

    fn unhealthy(message: impl Into<String>) -> Self {
        Self { healthy: false, message: message.into() }
    }
}

impl Report {
    fn new(checks: impl IntoIterator<Item = (&'static str, Check)>) -> Self {
        let checks: BTreeMap<_, _> = checks.into_iter().collect();
        let status = if checks.values().all(|check| check.healthy) { "ready" } else { "not_ready" };
        Self { status, checks }
    }

    pub fn is_ready(&self) -> bool {
        self.status == "ready"
    }
}

#[cfg(test)]
mod tests;
