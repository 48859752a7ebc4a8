//! The archive in its object store: finds how far a partition is, and writes the next stretch of it.
//!
//! A stretch is written in this order: an attempt that names the data files, the files, the manifest (which must not
//! exist yet), and the attempt is removed. Whoever wrote the manifest has archived the stretch; files that an attempt
//! names and the manifest of its stretch does not are orphans and are removed, never before that manifest exists.

mod newest;
pub mod past;
mod sweep;
pub mod whole;
mod write;

use super::{
    Error,
    location::Location,
    manifest::Manifest,
    path::{self, Source},
};
use bytes::Bytes;
use futures::TryStreamExt as _;
use millrace_log::NextOffset;
use object_store::ObjectStoreExt as _;

#[derive(Clone, Debug)]
pub struct Shelf {
    location: Location,
}

fn failed(doing: &'static str, path: &str) -> impl FnOnce(object_store::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Store { doing, path, source: Box::new(source) }
}

impl Shelf {
    pub fn new(location: Location) -> Self {
        Self { location }
    }

    /// How far the next archiver of `source` must get to do all that an interrupted one had begun at `from`.
    pub async fn attempted(&self, source: &Source, from: NextOffset) -> Result<Option<NextOffset>, Error> {
        let names = self.file_names(&source.attempts()).await?;
        let ranges = names.iter().filter_map(|name| path::attempt_range(name));
        Ok(ranges.filter(|(begin, _)| *begin == from).map(|(_, to)| to).max())
    }

    /// The manifest of the stretch that begins at `from`, if there is one.
    pub async fn manifest(&self, source: &Source, from: NextOffset) -> Result<Option<Manifest>, Error> {
        let path = source.manifest(from);
        let Some(bytes) = self.read(&path).await? else { return Ok(None) };
        Manifest::parse(&bytes).map(Some).map_err(|source| Error::Manifest { path, source })
    }

    /// The bytes of an object; `None` where there is none.
    async fn read(&self, path: &str) -> Result<Option<Bytes>, Error> {
        let doing = "reading";
        match self.location.store.get(&self.location.path(path)).await {
            Ok(object) => object.bytes().await.map(Some).map_err(failed(doing, path)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed(doing, path)(error)),
        }
    }

    /// Removes an object, if it is there.
    async fn remove(&self, path: &str) -> Result<(), Error> {
        match self.location.store.delete(&self.location.path(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("removing", path)(error)),
        }
    }

    /// The names of the files in a folder that is known to be small.
    async fn file_names(&self, folder: &str) -> Result<Vec<String>, Error> {
        let objects = self.location.store.list(Some(&self.location.path(folder)));
        let names =
            objects.try_filter_map(|object| async move { Ok(object.location.filename().map(str::to_owned)) });
        names.try_collect().await.map_err(failed("listing", folder))
    }
}

#[cfg(test)]
mod tests;
