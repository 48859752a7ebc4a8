//! The processor killed with -9 in the middle of its work, again and again: nothing is lost and nothing counted twice.

use crate::{
    archive,
    harness::{ADMIN_KEY, Api, Installation, Process, count, until},
    reference::{FROM, RECORDS, Reference, TO},
    replay::{REPLAY_PATIENCE, check, replay},
};
use anyhow::{Result, ensure};

/// Many small transactions, so that a kill comes in the middle of one.
const PROCESSOR: &[&str] = &["--chunk-records", "1000"];
/// Killed each time that this many per cent are counted.
const KILL_AT_PERCENT: [usize; 6] = [5, 20, 35, 50, 70, 90];
/// How many of the kills must have come before everything was counted for the test to have tested anything.
const KILLS_IN_THE_MIDDLE_MIN: usize = 3;

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_again_and_again() -> Result<()> {
    let installation = Installation::create("restart").await?;
    let Some(reference) = Reference::find("restart")? else { return Ok(()) };
    let ingest = installation.start("ingest", &[]).await?;
    let query = installation.start("query", &[]).await?;
    let api = query.api(ADMIN_KEY);
    let processor = installation.start("processor", PROCESSOR).await?;
    let (replayed, processor) =
        tokio::join!(replay(&reference, &ingest), kill_repeatedly(&installation, &api, processor));
    replayed?;
    let _processor = processor?;
    check(&installation, &reference, &api).await?;
    archive::check(&installation, &reference).await
}

/// Returns the last processor, which lives on.
async fn kill_repeatedly(installation: &Installation, api: &Api, first: Process) -> Result<Process> {
    let mut processor = first;
    let mut in_the_middle = 0;
    for percent in KILL_AT_PERCENT {
        let wanted = RECORDS * percent / 100;
        let counted = until(&format!("{wanted} records are counted"), REPLAY_PATIENCE, async || {
            let counted = progress(api).await?;
            ensure!(counted >= wanted, "{counted} are");
            Ok(counted)
        })
        .await?;
        processor.kill()?;
        in_the_middle += usize::from(counted < RECORDS);
        eprintln!("killed when {counted} records were counted");
        processor = installation.launch("processor", PROCESSOR)?;
    }
    ensure!(in_the_middle >= KILLS_IN_THE_MIDDLE_MIN, "only {in_the_middle} kills came before the end");
    Ok(processor)
}

/// Records of the reference log that are in the windows.
async fn progress(api: &Api) -> Result<usize> {
    let mut counted = 0;
    for workspace in api.list("/api/v1/workspaces").await?.into_keys() {
        counted += count(api, &workspace, &format!("window=5m&from={FROM}&to={TO}")).await?;
    }
    Ok(usize::try_from(counted)?)
}
