//! The Parquet archive as DuckDB reads it: each record once, and the same totals.

use crate::{
    harness::{Installation, python, run, until},
    reference::Reference,
    replay::REPLAY_PATIENCE,
};
use anyhow::Result;
use std::path::Path;

/// Waits until the archive holds the reference log, each record once.
pub async fn check(installation: &Installation, reference: &Reference) -> Result<()> {
    let Some(python) = python("archive") else { return Ok(()) };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let arguments = [folder.join("archive.py"), installation.archive(), reference.expected.clone()];
    let arguments = arguments.map(|path| path.display().to_string());
    until("the archive holds each record once", REPLAY_PATIENCE, async || run(&python, &arguments).await)
        .await
        .map(|_| ())
}
