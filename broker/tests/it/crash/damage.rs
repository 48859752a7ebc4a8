//! What a process that dies amid a write leaves behind: half a batch, or anything, after what was acknowledged.

use crate::harness::{Batch, Random};
use anyhow::{Context as _, Result, ensure};
use millrace_broker::clock::now_ms;
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

/// Appends to the files that are written to, and takes indexes away.
pub fn tear(data: &Path, random: &mut Random) -> Result<()> {
    let (mut newest, mut indexes) = (Vec::new(), Vec::new());
    files(data, &mut newest, &mut indexes)?;
    ensure!(!newest.is_empty(), "no files that are written to in {}", data.display());
    for file in newest {
        if random.one_in(2) {
            let tail = tail(random)?;
            let mut file = File::options().append(true).open(file)?;
            file.write_all(&tail)?;
        }
    }
    for index in indexes.into_iter().filter(|_| random.one_in(4)) {
        fs::remove_file(index)?;
    }
    Ok(())
}

/// Of each folder the newest file of records; all indexes.
fn files(folder: &Path, newest: &mut Vec<PathBuf>, indexes: &mut Vec<PathBuf>) -> Result<()> {
    let mut logs = Vec::new();
    for entry in folder.read_dir().with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            _ if path.is_dir() => files(&path, newest, indexes)?,
            Some("log" | "journal") => logs.push(path),
            Some("index" | "timeindex") => indexes.push(path),
            _ => {}
        }
    }
    newest.extend(logs.into_iter().max());
    Ok(())
}

fn tail(random: &mut Random) -> Result<Vec<u8>> {
    let whole = Batch::of(3, "never acknowledged", now_ms()).encode()?;
    let length = random.below(whole.len() - 1) + 1;
    Ok(match random.below(3) {
        0 => whole[..length].to_vec(),
        1 => vec![0; length * 50],
        _ => random.bytes(length),
    })
}
