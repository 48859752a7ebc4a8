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

/// One of so many tokens is kept.
const TOKENS_KEPT: usize = 10;

#[derive(Default)]
pub struct Journal(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    acknowledged: Vec<Acknowledged>,
    unknown: usize,
    abandoned: usize,
    /// With the workspace of one of their records.
    tokens: Vec<(Uuid, String)>,
    passed_over: usize,
    contained: usize,
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

    /// A commit token that must hold at the end.
    pub fn keep(&self, workspace: Uuid, token: String) {
        self.notes().tokens.push((workspace, token));
    }

    /// The same for one of many.
    pub fn keep_some(&self, workspace: Uuid, token: &str) {
        let mut notes = self.notes();
        notes.passed_over += 1;
        if notes.passed_over.is_multiple_of(TOKENS_KEPT) {
            notes.tokens.push((workspace, token.to_owned()));
        }
    }

    pub fn tokens(&self) -> Vec<(Uuid, String)> {
        self.notes().tokens.clone()
    }

    /// An answer held the records of a token.
    pub fn saw_contained(&self) {
        self.notes().contained += 1;
    }

    pub fn witnessed(&self) -> String {
        format!("{} answers after a token were right meanwhile", self.notes().contained)
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
        let Notes { acknowledged, unknown, abandoned, .. } = &*notes;
        format!(
            "{} acknowledged, {unknown} with an unknown outcome, of which {abandoned} were not sent again",
            acknowledged.len()
        )
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
