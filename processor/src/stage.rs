//! The two Kafka-to-Kafka stages, combine and windows: what they share. A stage holds nothing that the log could not
//! give back, so every trouble has the same answer: drop everything, wait a little, begin again from what is committed.

pub(crate) mod chunk;
pub(crate) mod client;
pub mod combine;
#[cfg(test)]
mod embedded;
mod ended;
mod entries;
mod frame;
pub mod group;
pub(crate) mod jumps;
pub(crate) mod left_open;
pub(crate) mod past;
pub(crate) mod positions;
mod restorer;
pub(crate) mod settled;
#[cfg(test)]
mod simulation;
pub mod windows;

use crate::{plan::PlanError, sink::outage::Chain};
use millrace_log::NextOffset;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// A broker's answer to a request takes no longer; longer is trouble.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// After an outage a request of our own forerunner, answered late, can put us out once or twice; who is put out as many
/// times, each within [`FENCED_WITHIN`] of its beginning, has a namesake. While two put each other out, an attempt lasts as
/// long as the other one waits and joins.
const FENCED_MAX: u32 = 5;
const FENCED_WITHIN: Duration = Duration::from_secs(20);
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum StageError {
    #[error("{what}")]
    Kafka {
        what: &'static str,
        #[source]
        source: KafkaError,
    },
    #[error(transparent)]
    Topic(#[from] millrace_log::TopicsError),
    #[error("asking which workspaces exist")]
    Directory(#[source] millrace_tenancy::Error),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error("the partial states at offset {offset} of partition {partition}")]
    Frame {
        partition: i32,
        offset: i64,
        #[source]
        source: frame::FrameError,
    },
    #[error("the row at offset {offset} of partition {partition} of the aggregates")]
    Row {
        partition: i32,
        offset: i64,
        #[source]
        source: millrace_schemas::aggregate::Error,
    },
    #[error("the checkpoint of partials partition {partition}")]
    Checkpoint {
        partition: i32,
        #[source]
        source: crate::window::CheckpointError,
    },
    #[error("another processor has the --instance-id `{0}`: give each its own")]
    Fenced(String),
    #[error("others may have gone on with its partitions")]
    Overtaken,
    #[error(
        "offset {offset} of partition {partition} came where {next} was to come: it is read again from what is committed; \
         if this goes on, the topic was made anew, and the group's offsets must be deleted"
    )]
    WentBack { partition: i32, offset: i64, next: NextOffset },
    #[error("a partition has had no owner for too long: the group shares out anew")]
    Ownerless,
    #[error("{what} of partition {partition} of {topic} can't be told: a transaction with it may be open")]
    Unsettled { what: &'static str, topic: String, partition: i32 },
    #[error(
        "the topic of partial states has {partials} partitions, that of rows {aggregates}: they must have as many as each other; \
         make the one with fewer anew, or add partitions to it"
    )]
    Unequal { partials: i32, aggregates: i32 },
    #[error("told to stop while it read the log again")]
    Stopped,
    #[error("a stage's thread could not start")]
    Thread(#[source] std::io::Error),
    #[error("a stage's thread panicked; its message is in the log above")]
    Panicked,
}

/// What to do about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    /// Begin again from what is committed.
    Retry,
    /// A person must act.
    Stop,
}

impl StageError {
    pub(crate) fn kafka(what: &'static str) -> impl FnOnce(KafkaError) -> Self {
        move |source| Self::Kafka { what, source }
    }

    fn reaction(&self) -> Reaction {
        match self {
            Self::Kafka { .. }
            | Self::Topic(_)
            | Self::Directory(_)
            | Self::Overtaken
            | Self::WentBack { .. }
            | Self::Ownerless
            | Self::Unsettled { .. }
            | Self::Stopped
            | Self::Fenced(_) => Reaction::Retry,
            Self::Plan(_)
            | Self::Unequal { .. }
            | Self::Frame { .. }
            | Self::Row { .. }
            | Self::Checkpoint { .. }
            | Self::Thread(_)
            | Self::Panicked => Reaction::Stop,
        }
    }

    /// A member that was put out stays out: another one with its name has joined. A producer's epoch also ends when a
    /// transaction was too long open (a machine that slept, say): then it begins again.
    fn name_fencing(self, instance: &str) -> Self {
        match &self {
            Self::Kafka { source, .. } if is_fenced(source) => Self::Fenced(instance.to_owned()),
            _ => self,
        }
    }
}

/// What panicked while it held the lock has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_fenced(error: &KafkaError) -> bool {
    let code = match error {
        KafkaError::Transaction(error) => Some(error.code()),
        _ => error.rdkafka_error_code(),
    };
    code == Some(RDKafkaErrorCode::FencedInstanceId)
}

/// Who is supervised.
pub(crate) struct Supervised {
    pub name: String,
    /// The process's `--instance-id`.
    pub instance: String,
    /// Whether it ends where the process has a namesake, so that the process ends. Exactly one of a process does: each group
    /// puts out one of the two, and two groups would not always end the same one.
    pub yields: bool,
}

/// Runs `attempt` on a thread of its own, again and again, until it ends well, `shutdown` comes or it can't go on.
pub(crate) async fn supervise<A>(
    who: Supervised,
    shutdown: CancellationToken,
    mut attempt: A,
) -> Result<(), StageError>
where
    A: FnMut(&tokio::runtime::Runtime) -> Result<(), StageError> + Send + 'static,
{
    let (done, ended) = tokio::sync::oneshot::channel();
    let body = move || {
        let result = retry(&who, &shutdown, &mut attempt);
        if done.send(result).is_err() {
            tracing::debug!("nobody waits for this stage any more");
        }
    };
    std::thread::Builder::new().name("stage".to_owned()).spawn(body).map_err(StageError::Thread)?;
    ended.await.unwrap_or(Err(StageError::Panicked))
}

fn retry(
    Supervised { name, instance, yields }: &Supervised,
    shutdown: &CancellationToken,
    attempt: &mut impl FnMut(&tokio::runtime::Runtime) -> Result<(), StageError>,
) -> Result<(), StageError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StageError::Thread)?;
    let (mut wait, mut fenced) = (RETRY_AFTER, 0);
    loop {
        let started = std::time::Instant::now();
        let error = match attempt(&runtime) {
            Ok(()) => return Ok(()),
            Err(error) => error.name_fencing(instance),
        };
        if started.elapsed() > RETRY_AFTER_MAX {
            wait = RETRY_AFTER;
        }
        if started.elapsed() > FENCED_WITHIN {
            fenced = 0;
        }
        fenced += u32::from(matches!(error, StageError::Fenced(_)));
        if error.reaction() == Reaction::Stop || (*yields && fenced >= FENCED_MAX) {
            return Err(error);
        }
        if shutdown.is_cancelled() {
            tracing::info!(stage = name, error = %Chain(&error), "ended; the next start goes on from the log");
            return Ok(());
        }
        tracing::warn!(stage = name, error = %Chain(&error), wait_ms = wait.as_millis(), "begins again from the log");
        let stopped = runtime.block_on(async {
            tokio::select! {
                () = shutdown.cancelled() => true,
                () = tokio::time::sleep(wait) => false,
            }
        });
        if stopped {
            return Ok(());
        }
        wait = (wait * 2).min(RETRY_AFTER_MAX);
    }
}
