//! The limit of the archive: its own rows, in memory as Arrow, written once more as files of the same kind.

use crate::bench::site::usage::{Spent, Usage};
use anyhow::{Context, ensure};
use datafusion::{arrow::array::RecordBatch, parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder};
use millrace_processor::archive::{BATCH_ROWS, encode};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

/// Enough to be measured, and to be held in memory.
const ROWS_MAX: usize = 1_000_000;

pub struct Written {
    pub rows: u64,
    pub spent: Spent,
}

/// Reads the archive's files (not measured), and writes them to memory.
pub fn write(archive: &Path) -> anyhow::Result<Written> {
    let (mut held, mut rows) = (Vec::new(), 0);
    for path in files(archive)? {
        if rows >= ROWS_MAX {
            break;
        }
        let batches = read(&path).with_context(|| format!("reading {}", path.display()))?;
        let count = batches.iter().map(RecordBatch::num_rows).sum::<usize>();
        rows += count;
        held.push((count, batches));
    }
    ensure!(rows > 0, "the archive has no rows");
    let usage = Usage::start()?;
    for (count, batches) in held {
        ensure!(!encode(count, batches.into_iter().map(Ok))?.is_empty(), "an empty file");
    }
    Ok(Written { rows: rows as u64, spent: usage.spent()? })
}

pub fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            found.push(path);
        }
    }
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<Vec<RecordBatch>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    let reader = reader.with_batch_size(BATCH_ROWS).build()?;
    Ok(reader.collect::<Result<_, _>>()?)
}
