//! Reads and parses all files on a thread of its own and hands on chunks of what they hold.

use crate::replay::{
    entries::{Entries, Located},
    entry::Statement,
    input::{self, BytesRead, InputError},
    parsed::Parsed,
};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Entries in one chunk.
const CHUNK_ENTRIES: usize = 512;
/// Chunks that wait to be sent; with as many the thread waits.
pub const CHUNKS_WAITING: usize = 16;

/// What some consecutive entries held.
#[derive(Debug, Default)]
pub struct Chunk {
    pub entries: usize,
    pub statements: Vec<Statement>,
    pub broken: Vec<BrokenLine>,
}

/// A line that can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenLine {
    pub file: String,
    pub line: u64,
    pub reason: String,
}

pub type ChunkSender = mpsc::Sender<Result<Chunk, InputError>>;

/// Reads until the end, the first file that can't be read, or nobody listens.
pub fn read(files: &[PathBuf], count: &BytesRead, chunks: &ChunkSender) {
    for path in files {
        match read_file(path, count, chunks) {
            Ok(Listening::Yes) => {}
            Ok(Listening::No) => return,
            Err(error) => {
                if chunks.blocking_send(Err(error)).is_err() {
                    tracing::debug!("nobody waits for the error");
                }
                return;
            }
        }
    }
}

#[derive(PartialEq, Eq)]
enum Listening {
    Yes,
    No,
}

fn read_file(path: &Path, count: &BytesRead, chunks: &ChunkSender) -> Result<Listening, InputError> {
    let name = input::name(path);
    let mut entries = Entries::new(input::open(path, count)?);
    let mut line = 0;
    loop {
        let mut chunk = Chunk::default();
        let result = fill(&mut chunk, &mut entries, &name, &mut line);
        let ended = chunk.entries < CHUNK_ENTRIES;
        if chunk.entries > 0 && chunks.blocking_send(Ok(chunk)).is_err() {
            return Ok(Listening::No);
        }
        result.map_err(|source| InputError::Read { name: name.clone(), line, source })?;
        if ended {
            return Ok(Listening::Yes);
        }
    }
}

fn fill(
    chunk: &mut Chunk,
    entries: &mut Entries<impl std::io::BufRead>,
    name: &str,
    line: &mut u64,
) -> std::io::Result<()> {
    while chunk.entries < CHUNK_ENTRIES
        && let Some(located) = entries.next()?
    {
        *line = located.line;
        chunk.add(located, name);
    }
    Ok(())
}

impl Chunk {
    fn add(&mut self, located: Located, file: &str) {
        self.entries += 1;
        match located.parsed {
            Parsed::Statement(statement) => self.statements.push(*statement),
            Parsed::Other => {}
            Parsed::Broken(reason) => {
                self.broken.push(BrokenLine { file: file.to_owned(), line: located.line, reason });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(files: &[PathBuf]) -> Vec<Result<Chunk, InputError>> {
        let (sender, mut receiver) = mpsc::channel(CHUNKS_WAITING);
        read(files, &BytesRead::default(), &sender);
        drop(sender);
        std::iter::from_fn(|| receiver.blocking_recv()).collect()
    }

    #[test]
    fn chunks_hold_all_entries_of_all_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let other = "{\"timestamp\":\"\",\"error_severity\":\"LOG\",\"message\":\"ready\"}\n";
        let files: Vec<_> = [("one", CHUNK_ENTRIES * 2), ("two", 3)]
            .into_iter()
            .map(|(name, lines)| {
                let path = folder.path().join(name);
                std::fs::write(&path, format!("{}broken\n", other.repeat(lines))).expect("writes a file");
                path
            })
            .collect();
        let chunks: Vec<_> =
            read_all(&files).into_iter().map(|chunk| chunk.expect("files are read")).collect();
        assert_eq!(chunks.iter().map(|chunk| chunk.entries).sum::<usize>(), CHUNK_ENTRIES * 2 + 5);
        let broken: Vec<_> =
            chunks.iter().flat_map(|chunk| &chunk.broken).map(|broken| broken.line).collect();
        assert_eq!(broken, [u64::try_from(CHUNK_ENTRIES).expect("small") * 2 + 1, 4]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_ends_the_reading() {
        let results = read_all(&["/nowhere/a.json".into(), "/nowhere/b.json".into()]);
        assert_eq!(results.len(), 1);
        assert!(matches!(&results[0], Err(InputError::Open { path, .. }) if path.ends_with("a.json")));
    }
}
