//! Two processors with one `--instance-id`, which is a mistake of whoever started them: one of them ends and says why, the
//! other goes on, and the counts are right.

use crate::harness::{
    ADMIN_KEY, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, Process, settle,
    sum, until,
};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;

/// Who asks whether a process has ended does not wait for it.
const AT_ONCE: Duration = Duration::from_millis(1);
/// Records that a processor must have counted to be at work.
const AT_WORK: f64 = 40.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_one_comes_while_the_first_is_at_work() -> Result<()> {
    check("namesakes_second", async |first| at_work(first).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_come_at_once() -> Result<()> {
    check("namesakes_both", async |_| Ok(())).await
}

async fn check(test: &str, before_the_second: impl AsyncFn(&Process) -> Result<()>) -> Result<()> {
    let installation = Installation::create(test).await?;
    let query = installation.start("query", &[]).await?;
    let start = || installation.launch("processor", &["--instance-id", "twin"]);
    let first = start()?;
    let load = Load::start(&installation.log, 1)?;
    before_the_second(&first).await?;
    let mut twins = vec![first, start()?];
    let ended = until("one of them ends", 2 * PATIENCE, async || one_that_ended(&twins).await).await?;
    let ended = twins.swap_remove(ended);
    let said = ended.log()?;
    let last = said.lines().last().context("it says nothing")?;
    ensure!(last.starts_with("millrace: ") && last.contains("--instance-id"), "it says at last: {last}");
    let other = twins.pop().context("there were two")?;
    at_work(&other).await?;
    let sent = load.stop().await?;
    let api = query.api(ADMIN_KEY);
    settle(&installation, &api).await?;
    for window in ["5s", "1m", "5m"] {
        let query = format!("window={window}&service_id={DEVELOPMENT_SERVICE}");
        let counted = sum(&api, DEVELOPMENT_WORKSPACE, &query, "success_count").await?;
        ensure!(usize::try_from(counted)? == sent.times.len(), "{window}: {counted} of {}", sent.times.len());
    }
    ensure!(other.ended(AT_ONCE).await.is_err(), "the other one has ended too");
    Ok(())
}

async fn one_that_ended(processes: &[Process]) -> Result<usize> {
    for (number, process) in processes.iter().enumerate() {
        if let Ok(status) = process.ended(AT_ONCE).await {
            ensure!(!status.success(), "it ended as if all were well");
            return Ok(number);
        }
    }
    bail!("both run");
}

/// It counts records from now on.
async fn at_work(processor: &Process) -> Result<()> {
    let counted = async || {
        let name = "millrace_combine_records_total";
        processor.api("").counter(name, &[("verdict", "counted")]).await
    };
    let before = counted().await.unwrap_or_default();
    until("a processor is at work", PATIENCE, async || {
        let counted = counted().await?;
        ensure!(counted >= before + AT_WORK, "it has counted {counted} records, {before} before");
        Ok(())
    })
    .await
}
