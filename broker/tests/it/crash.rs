//! The broker killed with -9 again and again under load, on the same folder and port: what it acknowledged is there once,
//! in order; what it committed stays committed; no half of a transaction is seen.
//!
//! `MILLRACE_TEST_ROUNDS` says how often. What a power cut could do is not tried here: the page cache survives the kill.

mod audit;
mod damage;
mod load;
mod reader;
mod transacting;

use crate::harness::{Backend, Kind, PATIENCE, Process, Random, free_port, rounds, seed, until};
use anyhow::{Context as _, Result, ensure};
use load::Load;
use reader::Reader;
use std::{path::PathBuf, time::Duration};
use tempfile::TempDir;
use transacting::Transacting;

const ROUNDS: u32 = 20;
pub const PARTITIONS: i32 = 4;
/// A clean stop takes no longer, whatever clients do.
const CLEAN_STOP: Duration = Duration::from_secs(20);

/// One broker's folder, port and place for its words.
struct Site {
    folder: TempDir,
    port: u16,
    log: PathBuf,
    fsync: &'static str,
}

impl Site {
    fn new(fsync: &'static str) -> Result<Self> {
        let folder = TempDir::new()?;
        let log = folder.path().join("stderr");
        Ok(Self { log, folder, port: free_port()?, fsync })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn start(&self) -> Result<Process> {
        Process::start(&self.data(), self.port, self.fsync, &self.log)
    }

    fn backend(&self) -> Result<Backend> {
        Backend::new(Kind::Embedded, &format!("127.0.0.1:{}", self.port), "crash")
    }
}

#[test]
fn killed_under_load() -> Result<()> {
    again_and_again("5ms", rounds(ROUNDS), |_, _| Ok(()))
}

#[test]
fn killed_while_syncing_always() -> Result<()> {
    again_and_again("always", rounds(ROUNDS).div_ceil(4), |_, _| Ok(()))
}

/// As above, and what was being written when it died lies half written at the ends of the files; indexes are missing.
#[test]
fn killed_with_torn_tails() -> Result<()> {
    again_and_again("os", rounds(ROUNDS).div_ceil(2), damage::tear)
}

fn again_and_again(
    fsync: &'static str,
    rounds: u32,
    damage: fn(&std::path::Path, &mut Random) -> Result<()>,
) -> Result<()> {
    let (site, seed) = (Site::new(fsync)?, seed());
    eprintln!("MILLRACE_TEST_SEED={seed}");
    let mut random = Random::new(seed);
    let mut process = site.start()?;
    let backend = site.backend()?;
    for topic in [load::TOPIC, transacting::TOPIC] {
        backend.create(topic, PARTITIONS, &[])?;
    }
    let clients = Clients::start(&backend, seed)?;
    for round in 0..rounds {
        clients.advanced(&mut random).with_context(|| format!("round {round}"))?;
        process.kill()?;
        damage(&site.data(), &mut random)?;
        process = site.start()?;
        clients.reader.not_gone_back(&backend).with_context(|| format!("after round {round}"))?;
    }
    audit::done(clients, &backend)?;
    process.terminate(CLEAN_STOP)
}

/// What goes on while the broker is killed.
struct Clients {
    loads: Vec<Load>,
    reader: Reader,
    transacting: Transacting,
}

impl Clients {
    fn start(backend: &Backend, seed: u64) -> Result<Self> {
        let loads = ["none", "lz4", "zstd"].map(|codec| Load::start(backend, codec));
        let loads = loads.into_iter().collect::<Result<_>>()?;
        Ok(Self { loads, reader: Reader::start(backend)?, transacting: Transacting::start(backend, seed) })
    }

    /// Waits for one of: some records more, a commit of offsets, a transaction's end. The last two take longer.
    fn advanced(&self, random: &mut Random) -> Result<()> {
        let acknowledged = || self.loads.iter().map(Load::acknowledged).sum::<usize>();
        let (further, which) = (random.below(2000), random.below(4));
        let (first, commits, ends) = (acknowledged(), self.reader.commits(), self.transacting.ended());
        until("the clients get on", PATIENCE, || {
            let records = acknowledged() - first;
            ensure!(records >= further, "{records} of {further} records");
            ensure!(which != 0 || self.reader.commits() > commits, "no commit");
            ensure!(which != 1 || self.transacting.ended() > ends, "no transaction");
            Ok(())
        })
    }
}
