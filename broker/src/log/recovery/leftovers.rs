//! Files of a log's folder that a crash left behind, and those that damage takes along.

use crate::log::{Error, files, scan::Scanner};
use std::{fs, path::Path};

/// Removes what was begun and not finished; finishes what was decided.
pub fn clear(folder: &Path) -> Result<(), Error> {
    let names = names(folder)?;
    for name in &names {
        if [".cleaned", ".deleted", ".tmp"].iter().any(|suffix| name.ends_with(suffix)) {
            files::remove(&folder.join(name))?;
        }
    }
    for name in names.iter().filter(|name| name.ends_with(".swap")) {
        finish_swap(folder, name)?;
    }
    Ok(())
}

/// A compacted segment takes the place of all from its base to the offset in its name.
fn finish_swap(folder: &Path, name: &str) -> Result<(), Error> {
    let range = files::base_in(name).zip(name.get(21..).and_then(files::base_in));
    let Some((base, end)) = range else { return Ok(()) };
    tracing::info!(folder = %folder.display(), base, end, "a compaction is finished");
    for old in bases(folder)?.into_iter().filter(|old| (base..end).contains(old)) {
        remove_segment(folder, old)?;
    }
    files::rename(&folder.join(name), &files::named(folder, base, "log"))?;
    files::sync_folder(folder)
}

/// The base offsets of the segments, in order.
pub fn bases(folder: &Path) -> Result<Vec<i64>, Error> {
    let names = names(folder)?;
    let logs = names.iter().filter(|name| name.len() == 24 && name.ends_with(".log"));
    let mut bases: Vec<i64> = logs.filter_map(|name| files::base_in(name)).collect();
    bases.sort_unstable();
    Ok(bases)
}

fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let read = |entry: std::io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name().into_string().ok());
    let entries = fs::read_dir(folder).map_err(Error::io("reading", folder))?;
    let names: std::io::Result<Vec<Option<String>>> = entries.map(read).collect();
    Ok(names.map_err(Error::io("reading", folder))?.into_iter().flatten().collect())
}

pub fn remove_segment(folder: &Path, base: i64) -> Result<(), Error> {
    let extensions = ["log", "index", "timeindex", "txnindex"];
    extensions.iter().try_for_each(|extension| files::remove(&files::named(folder, base, extension)))
}

/// Segments behind damage go, as in Kafka: what follows a hole can't be trusted to be whole.
pub fn remove_lost(folder: &Path, bases: &[i64]) -> Result<(), Error> {
    for base in bases {
        let path = files::named(folder, *base, "log");
        let bytes = path.metadata().map_or(0, |metadata| metadata.len());
        let file = fs::File::open(&path).map_err(Error::io("opening", &path))?;
        let first = Scanner::new(&file, 0, bytes).next().ok().flatten().map(|found| found.header.base_offset);
        tracing::error!(folder = %folder.display(), base, bytes, ?first, "a segment behind damage is lost");
        remove_segment(folder, *base)?;
    }
    files::sync_folder(folder)
}
