//! What the log has lost and the archive has kept, on a disk and in a bucket; and an archive that lacks something.

use super::{HORIZON, Range, archived, corrupt, names, records, stored, total};
use crate::{
    chaos::bucket::Bucket,
    harness::{ADMIN_KEY, Installation, python},
};
use anyhow::{Context as _, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const RECORDS: i64 = 90;

/// All is archived, and retention has removed it from the log; then rows are changed, found and mended.
async fn is_rebuilt_from_the_archive_alone(installation: &Installation) -> Result<Range> {
    let range = Range::new()?;
    let up = installation.start("up", &HORIZON).await?;
    let tenant = installation.add_tenant("rebuilt").await?;
    let first = records(&range, &tenant, RECORDS);
    // In two manifests at least.
    let half = first.len() / 2;
    up.api(ADMIN_KEY).ingest_all(&first[..half]).await?;
    archived(&up, i64::try_from(half)?).await?;
    up.api(ADMIN_KEY).ingest_all(&first[half..]).await?;
    up.api(ADMIN_KEY).ingest_all(&first[..20]).await?;
    stored(installation, RECORDS).await?;
    archived(&up, RECORDS).await?;
    drop(up);
    let begins = installation.log.remove_metrics().await?;
    ensure!(begins.iter().sum::<i64>() >= RECORDS + 20, "{begins:?}");

    let (differences, report) = range.rebuild(installation, &[]).await?;
    ensure!(differences.is_empty(), "an honest run differs: {differences:?}");
    let counted = (&report["report"]["records_archive"], &report["report"]["records_log"]);
    ensure!(*counted.0 == RECORDS && *counted.1 == 0, "{report}");
    let expected = corrupt(installation, &range).await?;
    let (differences, report) = range.rebuild(installation, &["--apply", "--yes", "--allow-fewer"]).await?;
    ensure!(names(&differences) == expected, "{differences:?} instead of {expected:?}");
    ensure!(report["applied"]["written"] == 3 && report["applied"]["removed"] == 1, "{report}");
    ensure!(total(installation).await? == RECORDS, "the sum is right again");
    Ok(range)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_archive_has_is_rebuilt_and_what_it_lacks_is_named() -> Result<()> {
    let installation = Installation::create("rebuild_archive").await?;
    let range = is_rebuilt_from_the_archive_alone(&installation).await?;
    let refused = async || {
        let error = installation.run(&range.command(&installation, &["--wait", "1s"])).await.err();
        error.map(|error| format!("{error:#}")).context("it was not refused")
    };
    for (below, extension) in [("workspace=", "parquet"), ("_manifests", "json")] {
        let lost = file(&installation.archive(), below, extension)?;
        let aside = installation.file("aside");
        fs::rename(&lost, &aside)?;
        let said = refused().await?;
        let name = lost.file_name().and_then(|name| name.to_str()).context("a name")?;
        let named = if extension == "json" { "the manifests of partition" } else { name };
        ensure!(said.contains("the archive lacks") && said.contains(named), "without {name}: {said}");
        fs::rename(&aside, &lost)?;
    }
    let (differences, _) = range.rebuild(&installation, &[]).await?;
    ensure!(differences.is_empty(), "with all of it: {differences:?}");
    Ok(())
}

/// By the real protocol of S3, on somebody else's server.
#[tokio::test(flavor = "multi_thread")]
async fn an_archive_in_a_bucket_is_rebuilt_from() -> Result<()> {
    let Some(python) = python("rebuild_bucket") else { return Ok(()) };
    let folder = TempDir::new()?;
    let bucket = Bucket::start(folder.path(), &python).await?;
    bucket.heal();
    let mut installation = Installation::create("rebuild_bucket").await?;
    installation.bucket = Some((bucket.url(), bucket.environment()));
    is_rebuilt_from_the_archive_alone(&installation).await?;
    ensure!(!installation.archive().exists(), "the archive is on the disk");
    Ok(())
}

/// The first file with this extension in a folder whose name begins so.
fn file(archive: &Path, below: &str, extension: &str) -> Result<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(archive)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(below) {
            folders.push(entry.path());
        }
    }
    let mut found = None;
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|is| is == extension) {
                found = Some(found.map_or(path.clone(), |first: PathBuf| first.min(path)));
            }
        }
    }
    found.with_context(|| format!("no {extension} below {below}"))
}
