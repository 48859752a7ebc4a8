//! Which topics there are: names, ids, settings and the logs of their partitions; durable in the folder.
//!
//! `topics/<name>/topic.json` says what a topic is, `topics/<name>/<id>/<partition>/` is the log of a partition: a deleted
//! topic's logs can't reach those of a new one with its name. Folders with a `~` are being made or removed: no topic can
//! have such a name.

use crate::log::{Error, LogConfig, PartitionLog, Refused, Syncer};
use kafka_protocol::ResponseError;
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, RwLock},
};
use uuid::Uuid;

mod config;
mod storage;

/// Each partition holds a descriptor and some memory; more are refused. Half of the descriptors are for all else: connections,
/// sealed segments, what is read.
const PARTITIONS_MAX: usize = 10_000;
const NAME_MAX: usize = 249;
const BROKEN: &str = "a thread panicked while it changed the topics";

/// One topic as it is now; a change makes a new one.
pub struct Topic {
    pub name: String,
    pub id: Uuid,
    pub partitions: Vec<Arc<PartitionLog>>,
    /// What was set for this topic; all else is the default.
    pub config: BTreeMap<String, String>,
}

/// A setting as DescribeConfigs shows it.
pub struct ConfigEntry {
    pub name: &'static str,
    pub value: String,
    pub is_default: bool,
    /// ConfigType of the protocol.
    pub kind: i8,
    pub documentation: &'static str,
}

#[derive(Clone, Debug)]
pub enum ConfigChange {
    Set(String, String),
    Delete(String),
    Append(String, String),
    Subtract(String, String),
}

pub struct Topics {
    /// `topics` in the broker's folder.
    folder: PathBuf,
    syncer: Arc<Syncer>,
    partitions_max: usize,
    known: RwLock<Known>,
    /// Held while topics are made, changed or removed, which waits for the disk.
    changing: Mutex<Changing>,
}

#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
}

#[derive(Default)]
struct Changing {
    closed: bool,
    /// Folders of deleted topics, to be removed.
    deleted: Vec<PathBuf>,
}

impl Topics {
    /// Opens all; a folder that is no topic of ours is refused with what to do.
    pub fn open(folder: &Path, syncer: Arc<Syncer>, now_ms: i64) -> Result<Self, Error> {
        let folder = folder.join("topics");
        let found = storage::open_all(&folder, &syncer, now_ms)?;
        let mut known = Known::default();
        found.into_iter().for_each(|topic| known.put(Arc::new(topic)));
        let partitions_max =
            partitions_max(rustix::process::getrlimit(rustix::process::Resource::Nofile).current);
        Ok(Self { folder, syncer, partitions_max, known: RwLock::new(known), changing: Mutex::default() })
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.known.read().expect(BROKEN).by_name.get(name).cloned()
    }

    pub fn by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.known.read().expect(BROKEN).by_id.get(&id).cloned()
    }

    /// By name.
    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.known.read().expect(BROKEN).by_name.values().cloned().collect()
    }

    /// Names as in Kafka (1 to 249 of [a-zA-Z0-9._-]); InvalidTopicException, TopicAlreadyExists, InvalidPartitions,
    /// InvalidConfig. Durable when it returns.
    #[expect(clippy::too_many_arguments, reason = "all that a request asks, and the time")]
    pub fn create(
        &self,
        name: &str,
        partitions: i32,
        config: BTreeMap<String, String>,
        validate_only: bool,
        now_ms: i64,
    ) -> Result<Arc<Topic>, Refused> {
        check_name(name)?;
        let mut changing = self.changing()?;
        self.check_new(name)?;
        let log_config = config::log_config(&config)?;
        let count = self.check_partitions(partitions, 0)?;
        let id = Uuid::new_v4();
        if validate_only {
            return Ok(Arc::new(Topic { name: name.to_owned(), id, partitions: Vec::new(), config }));
        }
        let stored = storage::Stored { id, partitions: count, config };
        let made = storage::make(&self.folder, name, &stored)
            .and_then(|()| self.open_logs(name, &stored, 0, (&log_config, now_ms)));
        let partitions = made.map_err(|error| self.unmade(&mut changing, name, id, error))?;
        let topic = Arc::new(Topic { name: name.to_owned(), id, partitions, config: stored.config });
        self.known.write().expect(BROKEN).put(Arc::clone(&topic));
        drop(changing);
        Ok(topic)
    }

    pub fn delete(&self, name: &str) -> Result<(), Refused> {
        let mut changing = self.changing()?;
        let topic = self.existing(name)?;
        let renamed = storage::rename_away(&self.folder, name, topic.id).map_err(refused)?;
        self.known.write().expect(BROKEN).remove(&topic);
        topic.partitions.iter().for_each(|log| log.deleted());
        changing.deleted.push(renamed);
        Ok(())
    }

    pub fn grow(&self, name: &str, partitions: i32, validate_only: bool, now_ms: i64) -> Result<(), Refused> {
        let changing = self.changing()?;
        let topic = self.existing(name)?;
        let had = topic.partitions.len();
        if usize::try_from(partitions).is_ok_and(|wanted| wanted <= had) {
            let message = format!("topic {name} has {had} partitions already; the number can only grow");
            return Err(Refused::new(ResponseError::InvalidPartitions, message));
        }
        let count = self.check_partitions(partitions, had)?;
        if validate_only {
            return Ok(());
        }
        let log_config = config::log_config(&topic.config)?;
        let stored = storage::Stored { id: topic.id, partitions: count, config: topic.config.clone() };
        let made = storage::make_partitions(&storage::logs_folder(&self.folder, name, topic.id), had..count);
        let new = made
            .and_then(|()| self.open_logs(name, &stored, had, (&log_config, now_ms)))
            // Last: with this they count.
            .and_then(|logs| storage::store(&self.folder.join(name), &stored).map(|()| logs))
            .map_err(refused)?;
        let partitions = topic.partitions.iter().cloned().chain(new).collect();
        self.replace(&topic, partitions, stored.config);
        drop(changing);
        Ok(())
    }

    pub fn alter(&self, name: &str, changes: &[ConfigChange], validate_only: bool) -> Result<(), Refused> {
        let changing = self.changing()?;
        let topic = self.existing(name)?;
        let config = config::changed(&topic.config, changes)?;
        let log_config = config::log_config(&config)?;
        if validate_only || config == topic.config {
            return Ok(());
        }
        let stored = storage::Stored { id: topic.id, partitions: topic.partitions.len(), config };
        storage::store(&self.folder.join(name), &stored).map_err(refused)?;
        topic.partitions.iter().for_each(|log| log.reconfigure(log_config.clone()));
        self.replace(&topic, topic.partitions.clone(), stored.config);
        drop(changing);
        Ok(())
    }

    /// All settings of a topic with their values.
    pub fn describe(topic: &Topic) -> Vec<ConfigEntry> {
        config::describe(&topic.config)
    }

    /// Retention and compaction of all; called by a timer on a thread of its own.
    pub fn maintain(&self, now_ms: i64) {
        self.remove_deleted();
        for topic in self.all() {
            for (partition, log) in topic.partitions.iter().enumerate() {
                if let Err(error) = log.maintain(now_ms) {
                    let cause = error.with_cause();
                    tracing::error!(topic = %topic.name, partition, error = %cause, "maintenance failed; it is tried again");
                }
            }
        }
    }

    /// All logs, so that the next start scans nothing. The first error, after all were tried.
    pub fn close(&self) -> Result<(), Error> {
        self.changing.lock().expect(BROKEN).closed = true;
        self.remove_deleted();
        let logs: Vec<_> = self.all().iter().flat_map(|topic| topic.partitions.clone()).collect();
        storage::close_logs(&logs)
    }

    fn remove_deleted(&self) {
        let deleted = std::mem::take(&mut self.changing.lock().expect(BROKEN).deleted);
        for folder in deleted {
            if let Err(error) = std::fs::remove_dir_all(&folder) {
                tracing::warn!(folder = %folder.display(), %error, "a deleted topic stays until the next start");
            }
        }
    }

    fn changing(&self) -> Result<MutexGuard<'_, Changing>, Refused> {
        let changing = self.changing.lock().expect(BROKEN);
        if changing.closed {
            return Err(Refused::new(ResponseError::KafkaStorageError, "the broker is closing".to_owned()));
        }
        Ok(changing)
    }

    fn existing(&self, name: &str) -> Result<Arc<Topic>, Refused> {
        let unknown =
            || Refused::new(ResponseError::UnknownTopicOrPartition, format!("there is no topic {name}"));
        self.get(name).ok_or_else(unknown)
    }

    /// Kafka's metrics can't tell `.` from `_`; two such topics are refused there, and here.
    fn check_new(&self, name: &str) -> Result<(), Refused> {
        let alike = |other: &&String| other.replace('.', "_") == name.replace('.', "_");
        let known = self.known.read().expect(BROKEN);
        match known.by_name.keys().find(alike) {
            Some(other) if other == name => {
                Err(Refused::new(ResponseError::TopicAlreadyExists, format!("topic '{name}' already exists")))
            }
            Some(other) => invalid_name(format!("topic '{name}' collides with existing topic '{other}'")),
            None => Ok(()),
        }
    }

    fn check_partitions(&self, partitions: i32, had: usize) -> Result<usize, Refused> {
        let refused = |message: String| Err(Refused::new(ResponseError::InvalidPartitions, message));
        let Some(count) = usize::try_from(partitions).ok().filter(|count| *count > 0) else {
            return refused(format!("{partitions} partitions; there must be 1 or more"));
        };
        let all: usize = self.all().iter().map(|topic| topic.partitions.len()).sum();
        let max = self.partitions_max;
        if all - had + count.min(max + 1) > max {
            return refused(format!(
                "{count} partitions; this log has {all} and takes at most {max} in all: {PARTITIONS_MAX}, or half the \
                 limit of open files"
            ));
        }
        Ok(count)
    }

    /// Those from partition `had` on.
    fn open_logs(
        &self,
        name: &str,
        stored: &storage::Stored,
        had: usize,
        (config, now_ms): (&LogConfig, i64),
    ) -> Result<Vec<Arc<PartitionLog>>, Error> {
        let folder = storage::logs_folder(&self.folder, name, stored.id);
        storage::open_logs(&storage::tasks(&folder, had..stored.partitions, config), &self.syncer, now_ms)
    }

    /// Moves away what was made of a topic whose logs could not be opened.
    fn unmade(&self, changing: &mut Changing, name: &str, id: Uuid, error: Error) -> Refused {
        if storage::logs_folder(&self.folder, name, id).exists() {
            match storage::rename_away(&self.folder, name, id) {
                Ok(renamed) => changing.deleted.push(renamed),
                Err(error) => {
                    tracing::error!(topic = name, error = %error.with_cause(), "it stays half made")
                }
            }
        }
        refused(error)
    }

    fn replace(&self, topic: &Topic, partitions: Vec<Arc<PartitionLog>>, config: BTreeMap<String, String>) {
        let topic = Topic { name: topic.name.clone(), id: topic.id, partitions, config };
        self.known.write().expect(BROKEN).put(Arc::new(topic));
    }
}

impl Known {
    fn put(&mut self, topic: Arc<Topic>) {
        self.by_id.insert(topic.id, Arc::clone(&topic));
        self.by_name.insert(topic.name.clone(), topic);
    }

    fn remove(&mut self, topic: &Topic) {
        self.by_id.remove(&topic.id);
        self.by_name.remove(&topic.name);
    }
}

/// None is the system's word for no limit.
fn partitions_max(files_max: Option<u64>) -> usize {
    let files_max = files_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
    PARTITIONS_MAX.min(files_max / 2)
}

fn check_name(name: &str) -> Result<(), Refused> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name {
        "" => invalid_name("a topic's name is not empty".to_owned()),
        "." | ".." => invalid_name(format!("'{name}' is no topic's name")),
        _ if name.len() > NAME_MAX => {
            invalid_name(format!("a topic's name has at most {NAME_MAX} characters"))
        }
        _ if !name.bytes().all(allowed) => invalid_name(format!(
            "topic name '{name}' has characters other than ASCII letters and digits, '.', '_' and '-'"
        )),
        _ => Ok(()),
    }
}

fn invalid_name<T>(message: String) -> Result<T, Refused> {
    Err(Refused::new(ResponseError::InvalidTopicException, message))
}

/// The cause is logged here, once; the client learns what failed.
fn refused(error: Error) -> Refused {
    let message = error.with_cause();
    tracing::error!(error = %message, "a topic could not be changed");
    Refused::new(ResponseError::KafkaStorageError, message)
}

#[cfg(test)]
mod tests;
