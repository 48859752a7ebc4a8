//! Writes a stretch: all of it, or nothing that counts.

use super::{Shelf, failed};
use crate::archive::{
    Error,
    chunk::{Chunk, Row, Rows},
    encode,
    manifest::{Attempt, DataFile, Manifest},
    path::Source,
};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use millrace_log::NextOffset;
use millrace_schemas::EventTime;
use object_store::{ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart};
use serde::Serialize;

/// Data files written at once.
const FILES_AT_ONCE: usize = 8;
/// Larger files are sent in parts of this size.
const PART_BYTES: usize = 16 * 1024 * 1024;

impl Shelf {
    /// Archives `chunk`. [`Error::Moved`] when another archiver has done so; after any other error the same chunk may be
    /// written again.
    pub async fn write(&self, source: &Source, chunk: &mut Chunk) -> Result<Manifest, Error> {
        let (from, to, ledger) = (chunk.from(), chunk.to(), chunk.spans());
        let groups: Vec<(String, Rows<'_>)> =
            chunk.groups().into_iter().map(|(group, rows)| (source.data(group, from, to), rows)).collect();
        let paths: Vec<String> = groups.iter().map(|(path, _)| path.clone()).collect();
        let attempt = source.attempt(from, to);
        if !paths.is_empty() {
            self.put(&attempt, &Attempt::new(paths.clone()), PutMode::Overwrite).await?;
        }
        let files = self.write_files(source, groups).await?;
        self.location.sync(paths.clone()).await.map_err(Error::Sync)?;
        let manifest = Manifest { ledger, ..Manifest::new(source, from, to, files) };
        self.claim(source, &manifest, &paths).await?;
        if !paths.is_empty()
            && let Err(error) = self.remove(&attempt).await
        {
            tracing::debug!(%error, "the attempt is removed by the next sweep");
        }
        Ok(manifest)
    }

    async fn write_files(
        &self,
        source: &Source,
        groups: Vec<(String, Rows<'_>)>,
    ) -> Result<Vec<DataFile>, Error> {
        futures::stream::iter(groups)
            .map(|(path, rows)| self.write_file(source.partition, path, rows))
            .buffered(FILES_AT_ONCE)
            .try_collect()
            .await
    }

    /// `rows` are sorted by `completed_at`.
    async fn write_file(&self, partition: i32, path: String, rows: Rows<'_>) -> Result<DataFile, Error> {
        let bytes =
            encode::file(rows, partition).map_err(|source| Error::Encode { path: path.clone(), source })?;
        let rows = rows.rows;
        let time = |row: Option<&Row>| row.map_or(EventTime(0), Row::completed_at);
        let file = DataFile {
            rows: rows.len() as u64,
            bytes: bytes.len() as u64,
            min_completed_at: time(rows.first()),
            max_completed_at: time(rows.last()),
            path,
        };
        self.put_data(&file.path, bytes).await?;
        Ok(file)
    }

    /// No part of the object is seen before all of it is there.
    pub(super) async fn put_data(&self, path: &str, bytes: Bytes) -> Result<(), Error> {
        let location = self.location.path(path);
        let put = async {
            if bytes.len() <= 2 * PART_BYTES {
                return self.location.store.put(&location, bytes.into()).await.map(|_| ());
            }
            let upload = self.location.store.put_multipart(&location).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            parts.put(bytes);
            parts.finish().await.map(|_| ())
        };
        put.await.map_err(failed("writing", path))
    }

    /// Makes the manifest's files part of the archive, if it is the first for its stretch. `paths` are those written.
    async fn claim(&self, source: &Source, manifest: &Manifest, paths: &[String]) -> Result<(), Error> {
        let from = NextOffset::exclusive(manifest.from);
        let path = source.manifest(from);
        match self.put(&path, manifest, PutMode::Create).await {
            Ok(()) => self.location.sync(vec![path]).await.map_err(Error::Sync),
            Err(Error::Store { source: error, .. })
                if matches!(*error, object_store::Error::AlreadyExists { .. }) =>
            {
                self.concede(source, manifest, paths).await
            }
            Err(error) => Err(error),
        }
    }

    /// There is a manifest: our own, if an earlier try succeeded without our hearing of it, or another archiver's.
    async fn concede(&self, source: &Source, ours: &Manifest, paths: &[String]) -> Result<(), Error> {
        let from = NextOffset::exclusive(ours.from);
        let theirs = self.manifest(source, from).await?;
        if theirs.as_ref() == Some(ours) {
            return Ok(());
        }
        for orphan in theirs.map_or_else(Vec::new, |theirs| theirs.orphans(paths)) {
            self.remove(&orphan).await?;
        }
        self.remove(&source.attempt(from, ours.next())).await?;
        Err(Error::Moved(source.manifest(from)))
    }

    async fn put(&self, path: &str, content: &impl Serialize, mode: PutMode) -> Result<(), Error> {
        let json = serde_json::to_vec(content).expect("numbers, texts and lists are always JSON");
        let options = PutOptions::from(mode);
        let put = self.location.store.put_opts(&self.location.path(path), json.into(), options).await;
        put.map(|_| ()).map_err(failed("writing", path))
    }
}
