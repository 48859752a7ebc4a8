//! Puts a compacted segment in the place of those it was made of, so that a crash leaves the old ones or the new one.

use crate::log::{
    Error,
    core::{Core, Inner, State},
    files,
    index::Index,
    segment::Segment,
};
use std::{path::PathBuf, sync::Arc};

const EXTENSIONS: [&str; 4] = ["log", "index", "timeindex", "txnindex"];

impl Core {
    /// The new segment is in `.cleaned` files, on the disk.
    pub fn swap(&self, group: &[Arc<Segment>], index: &Index, size: u64) -> Result<(), Error> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let decided = self.folder.join(format!("{:020}-{:020}.swap", first.base, last.end));
        files::rename(&files::named(&self.folder, first.base, "log.cleaned"), &decided)?;
        // With this it is decided: a crash from here on is finished at the next start.
        files::sync_folder(&self.folder)?;
        let segment = Segment::saved(first.base, last.end, (size, index.largest), last.modified_ms);
        let mut inner = self.lock();
        let result = self.replace(&mut inner, group, decided).map(|()| put(&mut inner, group, segment));
        if result.is_err() {
            tracing::error!(folder = %self.folder.display(), "a log is closed: a compaction was cut short");
            if inner.state == State::Open {
                inner.state = State::Closed;
            }
        }
        drop(inner);
        result?;
        for old in group {
            for extension in EXTENSIONS {
                files::remove(&files::named(&self.folder, old.base, &format!("{extension}.deleted")))?;
            }
        }
        files::sync_folder(&self.folder)
    }

    /// Renames only: removing large files takes long, and this is under the lock.
    fn replace(&self, inner: &mut Inner, group: &[Arc<Segment>], decided: PathBuf) -> Result<(), Error> {
        inner.generation += 1;
        let named = |base, extension: &str| files::named(&self.folder, base, extension);
        for old in group {
            for extension in EXTENSIONS {
                let path = named(old.base, extension);
                if path.exists() {
                    files::rename(&path, &named(old.base, &format!("{extension}.deleted")))?;
                }
            }
        }
        let base = group[0].base;
        files::rename(&decided, &named(base, "log"))?;
        for extension in ["index", "timeindex"] {
            files::rename(&named(base, &format!("{extension}.cleaned")), &named(base, extension))?;
        }
        Ok(())
    }
}

fn put(inner: &mut Inner, group: &[Arc<Segment>], segment: Segment) {
    let at = inner.sealed.partition_point(|known| known.base < segment.base);
    inner.sealed.splice(at..at + group.len(), [Arc::new(segment)]);
}
