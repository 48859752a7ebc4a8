//! Mutated record batches to one log: what is taken can be read again, whole, also after the log was opened anew.

use super::mutate;
use crate::harness::{Batch, Codec, Random, rounds, sealed, seed};
use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use millrace_broker::{
    Fsync,
    clock::now_ms,
    log::{Isolation, LogConfig, PartitionLog, syncer::Syncer},
};
use std::{path::Path, sync::Arc};

const BATCHES: u32 = 3000;
/// Shorter ones have no checksum to be set right.
const HEADER: usize = 61;

#[test]
fn log_takes_only_what_it_can_give_back() -> Result<()> {
    let (folder, seed) = (tempfile::tempdir()?, seed());
    eprintln!("MILLRACE_TEST_SEED={seed}");
    let (mut random, path) = (Random::new(seed), folder.path().join("0"));
    let syncer = Syncer::start(Fsync::Os)?;
    let log = open(&path, &syncer)?;
    let (mut taken, mut end) = (0_u32, 0);
    for _ in 0..rounds(1) * BATCHES {
        let batch = batch(&mut random)?;
        if let Ok(appended) = log.append(batch, now_ms()) {
            ensure!(appended.duplicate || appended.base_offset == end, "{appended:?} after {end}");
            taken += 1;
        }
        end = log.bounds().log_end;
    }
    ensure!(taken > 0, "nothing was taken");
    ensure!(last_offset(&log)? + 1 == end, "not all can be read");
    log.close()?;
    drop(log);
    let log = open(&path, &syncer)?;
    ensure!(log.bounds().log_end == end, "{:?} after it was opened anew, {end} before", log.bounds());
    ensure!(last_offset(&log)? + 1 == end, "not all can be read after it was opened anew");
    log.close()?;
    syncer.stop();
    Ok(())
}

fn open(path: &Path, syncer: &Arc<Syncer>) -> Result<PartitionLog> {
    let config = LogConfig { segment_bytes: 20_000, ..LogConfig::default() };
    PartitionLog::open(path.to_owned(), config, Arc::clone(syncer), now_ms()).context("open")
}

fn batch(random: &mut Random) -> Result<Bytes> {
    let mut batch = Batch::of(random.below(20) + 1, "value ", now_ms());
    batch.codec = *random.pick(&Codec::ALL);
    if random.one_in(3) {
        let (id, sequence) = (random.between(0, 5), random.between(0, 40));
        batch = batch.by(id, 0, i32::try_from(sequence)?);
        batch.transactional = random.one_in(2);
    }
    let whole = batch.encode()?;
    if random.one_in(4) {
        return Ok(whole);
    }
    let bytes = mutate(&whole, random);
    let to_be_sealed = bytes.len() >= HEADER && !random.one_in(4);
    Ok(if to_be_sealed { sealed(BytesMut::from(&bytes[..])) } else { Bytes::from(bytes) })
}

/// Reads all, and decodes it with another decoder than the log's own.
fn last_offset(log: &PartitionLog) -> Result<i64> {
    let mut next = log.bounds().log_start;
    while next < log.bounds().high_watermark {
        let chunk = log.read(next, 4000, true, Isolation::ReadUncommitted).context("read")?;
        ensure!(!chunk.records.is_empty(), "nothing at {next}");
        let mut records = chunk.records;
        while !records.is_empty() {
            let field = |from: usize| records.get(from..from + 4).context("half a batch");
            let length = usize::try_from(i32::from_be_bytes(field(8)?.try_into()?))?;
            let (delta, base) =
                (i32::from_be_bytes(field(23)?.try_into()?), records.get(..8).context("half")?);
            next = i64::from_be_bytes(base.try_into()?) + i64::from(delta) + 1;
            drop(records.split_to(12 + length));
        }
    }
    Ok(next - 1)
}
