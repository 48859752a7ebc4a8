//! Python's clients: confluent-kafka with kcat, and kafka-python.

use crate::harness::{Backend, Kind, on_each_backend, program, python, run, say_skipped};
use anyhow::{Result, ensure};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

on_each_backend!(confluent, pure);

const LIMIT: Duration = Duration::from_secs(300);

/// What each backend need not pass, and why.
fn excused(kind: Kind) -> BTreeSet<&'static str> {
    match kind {
        Kind::Embedded => BTreeSet::from(["new_consumer_protocol"]), // KIP-848 is not offered
        Kind::Kafka => BTreeSet::from(["retention"]), // it looks every five minutes: passed only where that falls in
    }
}

fn confluent(backend: &Backend) -> Result<()> {
    let Some(python) = python("python::confluent") else { return Ok(()) };
    if program("the part of python::confluent that needs it", "kcat").is_none() {
        eprintln!("without kcat");
    }
    let said = run(&python, &[&script("clients.py"), &backend.bootstrap], LIMIT)?;
    eprintln!("{said}");
    let failed =
        said.lines().filter(|line| line.contains(" FAIL ")).filter_map(|line| line.split(' ').next());
    let failed: BTreeSet<_> = failed.collect();
    let excused = excused(backend.kind);
    ensure!(failed.is_subset(&excused), "failed: {failed:?}, excused: {excused:?}");
    Ok(())
}

fn pure(backend: &Backend) -> Result<()> {
    let Some(python) = python("python::pure") else { return Ok(()) };
    if run(&python, &["-c", "import kafka"], LIMIT).is_err() {
        say_skipped("python::pure", "that Python has no kafka-python");
        return Ok(());
    }
    let said = run(&python, &[&script("pure.py"), &backend.bootstrap], LIMIT)?;
    ensure!(said.contains("all is well"), "{said}");
    Ok(())
}

fn script(name: &str) -> String {
    let scripts: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python");
    scripts.join(name).display().to_string()
}
