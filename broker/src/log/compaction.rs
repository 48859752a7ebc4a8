//! Compaction by key: sealed segments are rewritten without records that a later one of the same key replaces.
//!
//! As Kafka's log cleaner: offsets and batch headers stay, aborted records go, undecided transactions are not touched.
//! One round has a bounded map of keys; a longer log takes more rounds.

use super::{
    Error, Refused,
    core::{Core, Maintenance},
    files,
    index::Index,
    scan::{ScanError, Scanner},
    segment::Segment,
};
use filter::{Filter, Verdict};
use keys::Keys;
use std::{
    collections::HashMap,
    fs::File,
    io::{BufWriter, Write},
    sync::Arc,
};
use transactions::Transactions;

mod filter;
mod keys;
mod swap;
mod transactions;

/// After a failure, such as a full disk, so long nothing is tried.
const PAUSE_MS: i64 = 60_000;
/// A group of small segments becomes one; its offsets must fit the index.
const OFFSETS_MAX: i64 = i32::MAX as i64;

/// The part of a log that may be compacted.
struct Cleanable {
    segments: Vec<Arc<Segment>>,
    /// Where what was not compacted yet begins.
    dirty_from: i64,
    last_words: HashMap<i64, (Option<i64>, i16)>,
}

impl Core {
    pub fn compact_if_due(&self, maintenance: &mut Maintenance, now_ms: i64) -> Result<(), Error> {
        if !self.config().compact || now_ms < maintenance.compact_after_ms {
            return Ok(());
        }
        let cleanable = self.cleanable(maintenance, now_ms);
        if !self.is_due(&cleanable, now_ms) {
            return Ok(());
        }
        let result = self.compact(&cleanable, now_ms).and_then(|until| self.save_cleaned(until));
        if result.is_err() {
            maintenance.compact_after_ms = now_ms.saturating_add(PAUSE_MS);
        }
        result
    }

    /// Segments that a checkpoint covers, wherein all is decided and old enough.
    fn cleanable(&self, maintenance: &Maintenance, now_ms: i64) -> Cleanable {
        let newest_ms = now_ms.saturating_sub(self.config().min_compaction_lag_ms);
        let cleaned_until = *self.cleaned();
        let inner = self.lock();
        let last_stable = inner.bounds().last_stable;
        let fits = |segment: &&Arc<Segment>| {
            segment.end <= maintenance.saved.0
                && segment.end <= last_stable
                && segment.newest_ms() <= newest_ms
        };
        let segments: Vec<Arc<Segment>> = inner.sealed.iter().take_while(fits).cloned().collect();
        let dirty_from = cleaned_until.max(inner.log_start);
        Cleanable { segments, dirty_from, last_words: inner.producers.last_words() }
    }

    fn is_due(&self, cleanable: &Cleanable, now_ms: i64) -> bool {
        let config = self.config();
        let total: u64 = cleanable.segments.iter().map(|segment| segment.size).sum();
        let dirty: Vec<_> = cleanable.segments.iter().filter(|one| one.end > cleanable.dirty_from).collect();
        let dirty_bytes: u64 = dirty.iter().map(|segment| segment.size).sum();
        let late = |segment: &&Arc<Segment>| {
            now_ms.saturating_sub(segment.newest_ms()) > config.max_compaction_lag_ms
        };
        dirty_bytes > 0
            && (dirty_bytes as f64 >= config.min_cleanable_dirty_ratio * total as f64
                || dirty.first().is_some_and(late))
    }

    /// Until where the log is compacted then.
    fn compact(&self, cleanable: &Cleanable, now_ms: i64) -> Result<i64, Error> {
        let end = cleanable.segments.last().map_or(0, |segment| segment.end);
        let (keys, full) = self.collect_keys(cleanable, end)?;
        let cleaned_until = if full { keys.latest + 1 } else { end };
        let mut filter = Filter {
            keys,
            last_words: &cleanable.last_words,
            transactions: self.transactions(cleanable.segments[0].base, end)?,
            now_ms,
            delete_retention_ms: self.config().delete_retention_ms,
        };
        let covered = cleanable.segments.iter().take_while(|segment| segment.base < cleaned_until);
        let covered: Vec<Arc<Segment>> = covered.cloned().collect();
        let before: u64 = covered.iter().map(|segment| segment.size).sum();
        let mut after = 0;
        for group in groups(&covered, u64::from(self.config().segment_bytes)) {
            after += self.rewrite(group, &mut filter)?;
        }
        tracing::info!(folder = %self.folder.display(), before, after, cleaned_until, "a log was compacted");
        Ok(cleaned_until)
    }

    fn transactions(&self, from: i64, end: i64) -> Result<Transactions, Error> {
        let other = |refused: Refused| std::io::Error::other(refused.message);
        let aborted = self
            .aborted_in(from, end)
            .map_err(|refused| Error::io("reading", &self.folder)(other(refused)))?;
        Ok(Transactions::new(aborted))
    }

    /// The last offset of each key in what is dirty, and whether the map was full before the end.
    fn collect_keys(&self, cleanable: &Cleanable, end: i64) -> Result<(Keys, bool), Error> {
        let from = cleanable.dirty_from;
        let (mut keys, mut transactions) = (Keys::new(from - 1), self.transactions(from, end)?);
        for segment in cleanable.segments.iter().filter(|segment| segment.end > from) {
            self.still_open()?;
            let file = segment.file(&self.folder).map_err(Error::io("opening", &self.folder))?;
            let position = segment.position(&self.folder, from).unwrap_or(0);
            let mut scanner = Scanner::new(&file, position, segment.size);
            while let Some(found) = scanner.next().map_err(|error| self.unreadable(error))? {
                if found.header.last_offset() >= from && !keys.take(&found, &mut transactions) {
                    return Ok((keys, true));
                }
            }
        }
        Ok((keys, false))
    }

    /// Puts one segment in the place of a group; its size.
    fn rewrite(&self, group: &[Arc<Segment>], filter: &mut Filter<'_>) -> Result<u64, Error> {
        let rewritten = self.write_cleaned(group, filter);
        if rewritten.is_err() {
            let extensions = ["log", "index", "timeindex", "txnindex"].map(|kind| format!("{kind}.cleaned"));
            extensions
                .iter()
                .for_each(|kind| files::discard(&files::named(&self.folder, group[0].base, kind)));
        }
        rewritten
    }

    fn write_cleaned(&self, group: &[Arc<Segment>], filter: &mut Filter<'_>) -> Result<u64, Error> {
        let base = group[0].base;
        let path = files::named(&self.folder, base, "log.cleaned");
        let io = |source| Error::io("writing", &path)(source);
        let file = File::create(&path).map_err(io)?;
        let (mut to, mut index, mut size) = (BufWriter::with_capacity(256 << 10, file), Index::new(base), 0);
        for segment in group {
            self.still_open()?;
            let from = segment.file(&self.folder).map_err(Error::io("opening", &self.folder))?;
            let mut scanner = Scanner::new(&from, 0, segment.size);
            while let Some(found) = scanner.next().map_err(|error| self.unreadable(error))? {
                let rewritten;
                let (header, batch) = match filter.judge(&found) {
                    Verdict::Drop => continue,
                    Verdict::Keep => (found.header, found.bytes),
                    Verdict::Rewrite(header, bytes) => {
                        rewritten = bytes;
                        (header, &rewritten[..])
                    }
                };
                to.write_all(batch).map_err(io)?;
                index.push(&header, size);
                size += batch.len() as u64;
            }
        }
        let file = to.into_inner().map_err(|error| io(error.into_error()))?;
        file.sync_all().map_err(io)?;
        index.save(&self.folder, ".cleaned")?;
        self.swap(group, &index, size)?;
        Ok(size)
    }

    /// A log that is closed does not wait for a compaction.
    fn still_open(&self) -> Result<(), Error> {
        let cancelled = |refused: Refused| std::io::Error::other(refused.message);
        self.lock().check_open().map_err(|refused| Error::io("compacting", &self.folder)(cancelled(refused)))
    }

    fn unreadable(&self, error: ScanError) -> Error {
        let source = match error {
            ScanError::Io(error) => error,
            damaged @ ScanError::Batch { .. } => std::io::Error::other(damaged),
        };
        Error::io("compacting", &self.folder)(source)
    }
}

/// Neighbours that fit into one segment.
fn groups(segments: &[Arc<Segment>], bytes_max: u64) -> Vec<&[Arc<Segment>]> {
    let mut groups = Vec::new();
    let mut rest = segments;
    while let Some(first) = rest.first() {
        let mut bytes = 0;
        let fits = |segment: &&Arc<Segment>| {
            bytes += segment.size;
            segment.base == first.base || (bytes <= bytes_max && segment.end - first.base <= OFFSETS_MAX)
        };
        let (group, others) = rest.split_at(rest.iter().take_while(fits).count());
        groups.push(group);
        rest = others;
    }
    groups
}
