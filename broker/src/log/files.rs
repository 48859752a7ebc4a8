//! Names of a log's files, and changes of files that are whole or not at all.

use super::Error;
use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

/// `00000000000000000042.log`, as Kafka names it.
pub fn named(folder: &Path, base: i64, extension: &str) -> PathBuf {
    folder.join(format!("{base:020}.{extension}"))
}

/// The base offset in the name of a segment's file.
pub fn base_in(name: &str) -> Option<i64> {
    let digits = name.get(..20)?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// Makes the entries of a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::io("syncing", folder))
}

/// Writes a file of its own and forces it to the disk.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::io("writing", path))
}

/// Puts `bytes` in the place of the file: after a crash it is the old one or the new one. The folder is not synced.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let replaced = write_synced(&temporary, bytes).and_then(|()| rename(&temporary, path));
    if replaced.is_err() {
        discard(&temporary);
    }
    replaced
}

/// Removes what is of no use after a failure; what stays is removed at the next start.
pub fn discard(path: &Path) {
    if let Err(error) = remove(path) {
        tracing::warn!(error = %error.with_cause(), "a temporary file stays");
    }
}

pub fn rename(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::io("renaming", from))
}

/// Removes a file that may have gone already.
pub fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("removing", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_back_its_base() {
        for base in [0, 42, i64::MAX] {
            let path = named(Path::new("x"), base, "log");
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            assert_eq!((name.len(), base_in(name)), (24, Some(base)));
        }
        for name in
            ["", "log", "0000000000000000004x.log", "99999999999999999999.log", "+0000000000000000001.log"]
        {
            assert_eq!(base_in(name), None, "{name}");
        }
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, b"long content").unwrap();
        replace(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::create_dir_all(folder.path().join("b/c")).unwrap();
        assert!(replace(&folder.path().join("b"), b"not in the place of a folder").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
        remove(&path).and_then(|()| remove(&path)).unwrap();
    }
}
