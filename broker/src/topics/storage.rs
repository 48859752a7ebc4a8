//! Topics in the folder: made, changed and removed so that a crash leaves the old state or the new one.

use super::Topic;
use crate::log::{Error, LogConfig, PartitionLog, Syncer, files};
use std::{
    collections::BTreeMap,
    fs,
    num::NonZero,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use uuid::Uuid;

const FILE: &str = "topic.json";
const MAKING: &str = "~making-";
/// Logs that are closed at once.
const CLOSERS: usize = 8;
const DELETED: &str = "~deleted-";

/// What the folder says of a topic.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub struct Stored {
    pub id: Uuid,
    pub partitions: usize,
    pub config: BTreeMap<String, String>,
}

/// All topics with their logs, opened on all cores.
pub fn open_all(folder: &Path, syncer: &Arc<Syncer>, now_ms: i64) -> Result<Vec<Topic>, Error> {
    fs::create_dir_all(folder).map_err(Error::io("making", folder))?;
    clear(folder)?;
    let mut stored = Vec::new();
    for name in names(folder)? {
        let (topic, log_config) = load(&folder.join(&name))?;
        stored.push((name, topic, log_config));
    }
    let tasks = |(name, topic, config): &(String, Stored, LogConfig)| {
        tasks(&logs_folder(folder, name, topic.id), 0..topic.partitions, config)
    };
    let tasks: Vec<Task> = stored.iter().flat_map(tasks).collect();
    let mut logs = open_logs(&tasks, syncer, now_ms)?.into_iter();
    let topic = |(name, topic, _): (String, Stored, LogConfig)| {
        let partitions = logs.by_ref().take(topic.partitions).collect();
        Topic { name, id: topic.id, partitions, config: topic.config }
    };
    Ok(stored.into_iter().map(topic).collect())
}

/// The id is in the path, so that a log never meets the files of a later topic with the same name.
pub fn logs_folder(folder: &Path, name: &str, id: Uuid) -> PathBuf {
    folder.join(name).join(id.to_string())
}

/// A log to be opened.
pub type Task = (PathBuf, LogConfig);

pub fn tasks(folder: &Path, partitions: Range<usize>, config: &LogConfig) -> Vec<Task> {
    partitions.map(|partition| (folder.join(partition.to_string()), config.clone())).collect()
}

/// Removes what was not finished.
fn clear(folder: &Path) -> Result<(), Error> {
    for name in names(folder)?.iter().filter(|name| name.starts_with(MAKING) || name.starts_with(DELETED)) {
        let path = folder.join(name);
        fs::remove_dir_all(&path).map_err(Error::io("removing", &path))?;
    }
    Ok(())
}

/// Folders only: a stray file, such as a system's own, is none of ours.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("reading", folder))? {
        let entry = entry.map_err(Error::io("reading", folder))?;
        if entry.file_type().map_err(Error::io("reading", folder))?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The first data folders had the logs beside `topic.json`; may be called again after a crash in between.
fn move_logs(folder: &Path, stored: &Stored) -> Result<(), Error> {
    let logs = folder.join(stored.id.to_string());
    if !folder.join("0").exists() {
        return Ok(());
    }
    fs::create_dir_all(&logs).map_err(Error::io("making", &logs))?;
    // The first one last: it says that there is something left to do.
    for partition in (0..stored.partitions).rev().map(|partition| partition.to_string()) {
        let old = folder.join(&partition);
        if old.exists() {
            files::rename(&old, &logs.join(&partition))?;
        }
    }
    files::sync_folder(&logs)?;
    files::sync_folder(folder)
}

fn load(folder: &Path) -> Result<(Stored, LogConfig), Error> {
    let foreign = |what: &str| {
        let what = format!("{what}: move it out of the way, or give another data folder");
        Error::Foreign { path: folder.to_owned(), what }
    };
    let bytes =
        fs::read(folder.join(FILE)).map_err(|_| foreign("is no topic (it has no readable topic.json)"))?;
    let stored: Stored =
        serde_json::from_slice(&bytes).map_err(|_| foreign("has a topic.json that is not ours"))?;
    let in_range = (1..=super::PARTITIONS_MAX).contains(&stored.partitions);
    match super::config::log_config(&stored.config) {
        Ok(config) if in_range => move_logs(folder, &stored).map(|()| (stored, config)),
        _ => Err(foreign("has a topic.json with settings that are not allowed")),
    }
}

/// Opens logs on all cores, since each may have to be scanned; in the order of the tasks.
pub fn open_logs(tasks: &[Task], syncer: &Arc<Syncer>, now_ms: i64) -> Result<Vec<Arc<PartitionLog>>, Error> {
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(tasks.len());
    let next = AtomicUsize::new(0);
    let open = |(at, (folder, config)): (usize, &Task)| {
        let log = PartitionLog::open(folder.clone(), config.clone(), Arc::clone(syncer), now_ms)?;
        Ok((at, Arc::new(log)))
    };
    let work = || -> Result<Vec<(usize, Arc<PartitionLog>)>, Error> {
        let claim = || {
            let at = next.fetch_add(1, Ordering::Relaxed);
            tasks.get(at).map(|task| (at, task))
        };
        std::iter::from_fn(claim).map(open).collect()
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        started.into_iter().map(|thread| thread.join().expect("opening a log does not panic")).collect()
    });
    let mut logs = Vec::with_capacity(tasks.len());
    for result in results {
        logs.extend(result?);
    }
    logs.sort_unstable_by_key(|(at, _)| *at);
    Ok(logs.into_iter().map(|(_, log)| log).collect())
}

/// Closes logs, several at once, since each waits for the disk. The first error, after all were tried.
pub fn close_logs(logs: &[Arc<PartitionLog>]) -> Result<(), Error> {
    let share = logs.len().div_ceil(CLOSERS).max(1);
    let close = |share: &[Arc<PartitionLog>]| first_error(share.iter().map(|log| log.close()).collect());
    let results = std::thread::scope(|scope| {
        let started: Vec<_> = logs.chunks(share).map(|share| scope.spawn(move || close(share))).collect();
        started.into_iter().map(|thread| thread.join().expect("closing a log does not panic")).collect()
    });
    first_error(results)
}

fn first_error(results: Vec<Result<(), Error>>) -> Result<(), Error> {
    results.into_iter().collect()
}

/// A new topic: whole under its name, or not at all.
pub fn make(folder: &Path, name: &str, stored: &Stored) -> Result<(), Error> {
    let making = folder.join(format!("{MAKING}{}", stored.id));
    let made = fill(&making, stored).and_then(|()| files::rename(&making, &folder.join(name)));
    if made.is_err() && making.exists() {
        fs::remove_dir_all(&making).map_err(Error::io("removing", &making))?;
    }
    made?;
    files::sync_folder(folder)
}

fn fill(folder: &Path, stored: &Stored) -> Result<(), Error> {
    fs::create_dir(folder).map_err(Error::io("making", folder))?;
    make_partitions(&folder.join(stored.id.to_string()), 0..stored.partitions)?;
    store(folder, stored)
}

/// Durable but for the entry of the logs' folder itself.
pub fn make_partitions(logs: &Path, partitions: Range<usize>) -> Result<(), Error> {
    for partition in partitions {
        let path = logs.join(partition.to_string());
        fs::create_dir_all(&path).map_err(Error::io("making", &path))?;
    }
    files::sync_folder(logs)
}

/// Replaces what the folder says of its topic.
pub fn store(folder: &Path, stored: &Stored) -> Result<(), Error> {
    let json = serde_json::to_vec_pretty(stored).expect("strings and numbers are always JSON");
    files::replace(&folder.join(FILE), &json)?;
    files::sync_folder(folder)
}

/// The topic is deleted with the rename; its files may go later.
pub fn rename_away(folder: &Path, name: &str, id: Uuid) -> Result<PathBuf, Error> {
    let deleted = folder.join(format!("{DELETED}{id}"));
    // Opened first: where that fails nothing has changed.
    let entries = fs::File::open(folder).map_err(Error::io("opening", folder))?;
    files::rename(&folder.join(name), &deleted)?;
    entries.sync_all().map_err(Error::io("syncing", folder))?;
    Ok(deleted)
}
