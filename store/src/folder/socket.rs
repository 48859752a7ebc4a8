//! Where the socket is. Its folder is the security boundary: only its owner may enter.

use crate::Error;
use std::{
    collections::hash_map::RandomState,
    fs::{self, DirBuilder},
    hash::{BuildHasher, Hasher},
    io,
    os::unix::{ffi::OsStrExt, fs::DirBuilderExt},
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// As PostgreSQL's clients look for it.
const NAME: &str = ".s.PGSQL.5432";
/// The longest path of a Unix socket, without its closing zero byte.
const PATH_MAX: usize = 107;

/// The folder that the socket lies in; what was made for it is removed with it.
#[derive(Debug)]
pub struct SocketFolder {
    path: PathBuf,
    temporary: bool,
}

impl SocketFolder {
    /// In the store's folder, or in a fresh one with a shorter path.
    pub fn choose(folder: &Path) -> Result<Self, Error> {
        if folder.join(NAME).as_os_str().as_bytes().len() <= PATH_MAX && folder.to_str().is_some() {
            return Ok(Self { path: folder.to_owned(), temporary: false });
        }
        let path =
            std::env::temp_dir().join(format!("millrace-{:x}", RandomState::new().build_hasher().finish()));
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|source| Error::Socket { path: path.clone(), source: source.into() })?;
        Ok(Self { path, temporary: true })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Listens. A socket that is there already was left by a process that died: the folder is locked.
    pub fn listen(&self) -> Result<UnixListener, Error> {
        let path = self.path.join(NAME);
        super::remove(&path)
            .and_then(|()| UnixListener::bind(&path))
            .map_err(|source| Error::Socket { path, source: source.into() })
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        let removed = match super::remove(&self.path.join(NAME)) {
            Ok(()) if self.temporary => fs::remove_dir(&self.path),
            other => other,
        };
        if let Err(error) = removed.or_else(|error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }) {
            tracing::warn!(folder = %self.path.display(), %error, "the socket can't be removed");
        }
    }
}
