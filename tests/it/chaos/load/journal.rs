//! What the producers were told.

use anyhow::Result;
use serde::Serialize;
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};
use uuid::Uuid;

/// A record that the log is said to have.
#[derive(Serialize)]
pub struct Acknowledged {
    /// None for garbage.
    pub identity: Option<Identity>,
    /// Partition and offset, where the producer was told.
    pub place: Option<(i32, i64)>,
    /// -1 for a record without a value.
    pub bytes: Option<i64>,
    /// All records of its workspace and service go to one partition.
    pub keyed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    pub workspace_id: Uuid,
    pub id: Uuid,
}

#[derive(Default)]
pub struct Journal(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    acknowledged: Vec<Acknowledged>,
    unknown: usize,
    abandoned: usize,
}

impl Journal {
    pub fn acknowledge(&self, records: impl IntoIterator<Item = Acknowledged>) {
        self.notes().acknowledged.extend(records);
    }

    /// So many records may or may not be in the log.
    pub fn unknown(&self, records: usize) {
        self.notes().unknown += records;
    }

    /// So many records of an unknown outcome were not sent again.
    pub fn abandoned(&self, records: usize) {
        self.notes().abandoned += records;
    }

    /// One line each.
    pub fn write(&self, to: &Path) -> Result<()> {
        let mut file = BufWriter::new(File::create(to)?);
        for record in &self.notes().acknowledged {
            serde_json::to_writer(&mut file, record)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }

    pub fn summary(&self) -> String {
        let notes = self.notes();
        let Notes { acknowledged, unknown, abandoned } = &*notes;
        format!(
            "{} acknowledged, {unknown} with an unknown outcome, of which {abandoned} were not sent again",
            acknowledged.len()
        )
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
