//! Removes what cut-short attempts left behind.

use super::Shelf;
use crate::archive::{
    Error,
    manifest::Attempt,
    path::{self, Source},
};
use millrace_log::NextOffset;

impl Shelf {
    /// Removes the orphans of every attempt whose stretch has a manifest by now; how many.
    pub async fn sweep(&self, source: &Source) -> Result<usize, Error> {
        let mut removed = 0;
        for name in self.file_names(&source.attempts()).await? {
            if let Some((from, to)) = path::attempt_range(&name) {
                removed += self.sweep_attempt(source, from, to).await?;
            }
        }
        Ok(removed)
    }

    async fn sweep_attempt(&self, source: &Source, from: NextOffset, to: NextOffset) -> Result<usize, Error> {
        let path = source.attempt(from, to);
        let Some(manifest) = self.manifest(source, from).await? else { return Ok(0) };
        let Some(bytes) = self.read(&path).await? else { return Ok(0) };
        let attempt =
            Attempt::parse(&bytes).map_err(|source| Error::Manifest { path: path.clone(), source })?;
        let orphans = manifest.orphans(&attempt.files);
        for orphan in &orphans {
            self.remove(orphan).await?;
        }
        self.remove(&path).await?;
        Ok(orphans.len())
    }
}
