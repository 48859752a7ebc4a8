//! Why the database can't be opened, and so what is to be done. What is only in the way of it must never be taken for
//! damage: who is told to move a folder away loses good data.

use crate::{
    Error,
    error::{Cause, chain, is_disk_full},
    folder::Folder,
};
use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// PostgreSQL's codes for damage, and what it says of a control file that isn't one.
const DAMAGE: [&str; 5] =
    ["XX001", "XX002", "PG_CONTROL_VERSION", "checksum in control file", "incompatible with server"];

/// What a failure to open the database comes from.
pub fn of(folder: &Folder, cause: Cause) -> Error {
    let path = folder.path().to_owned();
    let text = chain(cause.as_ref());
    let full = folder.is_full() || is_disk_full(cause.as_ref());
    let source = Arc::from(cause);
    if full {
        Error::DiskFull { folder: path, source }
    } else if DAMAGE.iter().any(|damage| text.contains(damage)) {
        Error::Damaged { folder: path, source }
    } else {
        not_writable().unwrap_or(Error::Open { folder: path, source })
    }
}

/// The folders outside of ours that the library needs.
fn not_writable() -> Option<Error> {
    let temporary = std::env::temp_dir();
    if let Err(source) = probe(&temporary) {
        return Some(Error::Temporary { folder: temporary, source: source.into() });
    }
    let cache = cache(std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir())?;
    let source = fs::create_dir_all(&cache).and_then(|()| probe(&cache)).err()?;
    Some(Error::Cache { folder: cache, source: source.into() })
}

/// As the library chooses it on Linux; elsewhere there is no setting to advise.
fn cache(setting: Option<OsString>, home: Option<PathBuf>) -> Option<PathBuf> {
    let base = setting.map(PathBuf::from).filter(|path| path.is_absolute());
    let base = base.or_else(|| home.map(|home| home.join(".cache")))?;
    cfg!(target_os = "linux").then(|| base.join("oliphaunt-wasix"))
}

fn probe(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!(".millrace-{}", std::process::id()));
    File::create(&file)?;
    fs::remove_file(file)
}
