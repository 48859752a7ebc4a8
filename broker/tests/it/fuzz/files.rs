//! Damaged files in the data folder: the broker starts or says what is wrong, and does not fall over either way.

use super::mutate;
use crate::harness::{Backend, Kind, PATIENCE, Process, Random, free_port, list, rounds, seed};
use anyhow::{Context as _, Result, ensure};
use rdkafka::{
    Offset,
    consumer::{CommitMode, Consumer as _},
    producer::Producer as _,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

const STARTS: u32 = 15;
const STOPPED: Duration = Duration::from_secs(20);

#[test]
fn damaged_files() -> Result<()> {
    let (folder, seed) = (tempfile::tempdir()?, seed());
    eprintln!("MILLRACE_TEST_SEED={seed}");
    let (data, log, mut random) =
        (folder.path().join("data"), folder.path().join("stderr"), Random::new(seed));
    fill(&data, &log)?;
    let mut whole = Vec::new();
    read(&data, &mut whole)?;
    for _ in 0..rounds(1) * STARTS {
        let (damaged, bytes) = random.pick(&whole);
        fs::write(damaged, mutate(bytes, &mut random))?;
        let started = Process::try_start(&data, free_port()?, "os", &log)?;
        if let Some(process) = started {
            let ended = process.terminate(STOPPED);
            ended.with_context(|| format!("{} damaged: {}", damaged.display(), said(&log)))?;
        }
        let said = said(&log);
        ensure!(!said.contains("panicked"), "{} damaged: {said}", damaged.display());
        fs::remove_dir_all(&data)?;
        for (path, bytes) in &whole {
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            fs::write(path, bytes)?;
        }
    }
    Ok(())
}

/// Records of several segments, offsets of a group, transactions.
fn fill(data: &Path, log: &Path) -> Result<()> {
    let port = free_port()?;
    let process = Process::start(data, port, "os", log)?;
    let backend = Backend::new(Kind::Embedded, &format!("127.0.0.1:{port}"), "files")?;
    let topic = backend.topic_with(1, &[("segment.bytes", "1048576")])?;
    backend.produce(&topic, 500)?;
    let consumer = backend.consumer("group", &[])?;
    consumer.commit(&list(&topic, &[(0, Offset::Offset(7))])?, CommitMode::Sync)?;
    let producer = backend.transactional("transaction", 60_000)?;
    for commits in [true, false] {
        producer.0.begin_transaction()?;
        producer.queue_numbered(&topic, 10)?;
        producer.delivered()?;
        if commits {
            producer.0.commit_transaction(PATIENCE)?;
        } else {
            producer.0.abort_transaction(PATIENCE)?;
        }
    }
    drop((producer, consumer));
    process.terminate(STOPPED)
}

fn said(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_else(|error| error.to_string())
}

fn read(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) -> Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, files)?;
        } else {
            files.push((path.clone(), fs::read(path)?));
        }
    }
    Ok(())
}
