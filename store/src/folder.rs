//! The store's folder: its lock, its layout and what may be wrong with it. Nothing here opens the database.
//!
//! ```text
//! <folder>/lock            held while a process, whose number is in it, uses the folder; the kernel drops it with that
//! <folder>/database/       what oliphaunt-wasix owns: a descriptor and PostgreSQL's `pgdata`
//! <folder>/beginning       there while the first start isn't complete: what is there may be deleted
//! <folder>/.s.PGSQL.5432   the socket, unless its path would be too long
//! ```

mod socket;

pub use socket::SocketFolder;

use crate::Error;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

/// The major version of the embedded PostgreSQL; its folders don't fit another one.
const POSTGRES_MAJOR: &str = "18";
/// With less than this on its disk PostgreSQL can't go on: two files of its write-ahead log.
const SPACE_MIN: u64 = 32 << 20;

#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: File,
}

/// The write-ahead log's folder.
#[derive(Debug)]
pub struct Log(PathBuf);

impl Log {
    /// What it takes on the disk; none where it can't be told.
    pub fn megabytes(&self) -> Option<u64> {
        let files = fs::read_dir(&self.0).ok()?.flatten().filter_map(|entry| entry.metadata().ok());
        Some(files.filter(|file| file.is_file()).map(|file| file.len()).sum::<u64>() >> 20)
    }
}

impl Folder {
    /// Creates the folder where it is missing, locks it, and refuses it where it can't be ours.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let unwritable =
            |source: io::Error| Error::Unwritable { folder: path.to_owned(), source: source.into() };
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| full(path, error))?;
        let path = &path.canonicalize().map_err(unwritable)?;
        refuse_foreign(path)?;
        let lock = lock(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(unwritable)?;
        let folder = Self { path: path.clone(), _lock: lock };
        folder.sweep()?;
        folder.refuse_other_version()?;
        Ok(folder)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its disk has too little space, or too few files, left for a database.
    pub fn is_full(&self) -> bool {
        rustix::fs::statvfs(&self.path).is_ok_and(|disk| {
            disk.f_bavail.saturating_mul(disk.f_frsize) < SPACE_MIN
                || (disk.f_files > 0 && disk.f_favail == 0)
        })
    }

    /// What the embedded database owns.
    pub fn database(&self) -> PathBuf {
        self.path.join("database")
    }

    /// Marks that the database is being made, so that a first start that was killed can be begun anew.
    pub fn begin(&self) -> Result<(), Error> {
        if self.database().exists() {
            return Ok(());
        }
        File::create(self.beginning())
            .and_then(|file| file.sync_all())
            .map_err(|error| full(&self.path, error))
    }

    /// The database is complete.
    pub fn begun(&self) -> Result<(), Error> {
        remove(&self.beginning()).map_err(|source| self.unwritable(source))
    }

    /// For looking at the size of the write-ahead log.
    pub fn log(&self) -> Log {
        Log(self.database().join("pgdata/pg_wal"))
    }

    fn beginning(&self) -> PathBuf {
        self.path.join("beginning")
    }

    /// Removes what a first start left that was killed: nobody got an acknowledgement from it.
    fn sweep(&self) -> Result<(), Error> {
        if !self.beginning().exists() {
            return Ok(());
        }
        match fs::remove_dir_all(self.database()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.unwritable(error)),
            _ => self.begun(),
        }
    }

    fn refuse_other_version(&self) -> Result<(), Error> {
        match fs::read_to_string(self.database().join("pgdata/PG_VERSION")) {
            Ok(found) if found.trim() != POSTGRES_MAJOR => Err(Error::Version {
                folder: self.path.clone(),
                found: found.trim().to_owned(),
                expected: POSTGRES_MAJOR,
            }),
            _ => Ok(()),
        }
    }

    fn unwritable(&self, source: io::Error) -> Error {
        Error::Unwritable { folder: self.path.clone(), source: source.into() }
    }
}

/// A folder with anything in it must have our lock file: it is the first thing we make.
fn refuse_foreign(path: &Path) -> Result<(), Error> {
    let version = path.join("PG_VERSION");
    if let Ok(found) = fs::read_to_string(&version) {
        let folder = path.to_owned();
        tracing::warn!(folder = %folder.display(), version = found.trim(), "this is the data folder of another PostgreSQL");
        return Err(Error::Foreign { folder });
    }
    let mut entries = fs::read_dir(path)
        .map_err(|source| Error::Unwritable { folder: path.to_owned(), source: source.into() })?;
    match entries.next() {
        Some(_) if !path.join("lock").exists() => Err(Error::Foreign { folder: path.to_owned() }),
        _ => Ok(()),
    }
}

fn lock(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("lock"))
        .map_err(|error| full(path, error))?;
    match file.try_lock() {
        Ok(()) => {
            if let Err(error) = sign(&file) {
                tracing::debug!(%error, "the lock does not say whose it is"); // on a full disk; it locks all the same
            }
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let text = io::read_to_string(&file).unwrap_or_default();
            Err(Error::InUse { folder: path.to_owned(), pid: text.trim().parse().ok() })
        }
        Err(TryLockError::Error(source)) => {
            Err(Error::Unwritable { folder: path.to_owned(), source: source.into() })
        }
    }
}

/// Writes whose lock it is into it.
fn sign(mut file: &File) -> io::Result<()> {
    file.set_len(0)?;
    writeln!(file, "{}", std::process::id())
}

fn full(path: &Path, error: io::Error) -> Error {
    let folder = path.to_owned();
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::DiskFull { folder, source: Arc::new(error) }
        }
        _ => Error::Unwritable { folder, source: error.into() },
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
