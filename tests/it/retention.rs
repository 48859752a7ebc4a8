//! Retention that is faster than a running processor: what it took unread is a gap in the ledger, and no row of a minute
//! before it is called processed.

use crate::harness::{ADMIN_KEY, Installation, PATIENCE, Signal, metric, until};
use anyhow::{Context as _, Result, ensure};
use chrono::{SecondsFormat, TimeDelta, Utc};

/// Of each partition, while the processor does not read.
const LOST: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_takes_before_a_running_processor_has_read_it_is_a_gap() -> Result<()> {
    let installation = Installation::create("retention").await?;
    let query = installation.start("query", &[]).await?;
    let processor = installation.start("processor", &[]).await?;
    let (log, api) = (&installation.log, query.api(ADMIN_KEY));
    let record = |_| metric("select 1").to_string().into_bytes();
    log.produce_to_each(record).await?;
    let archived = async |count: f64| {
        until("all are archived", PATIENCE, async || {
            let found = processor.api("").counter("millrace_archive_records_total", &[]).await?;
            ensure!(found >= count, "{found} of {count}");
            Ok(())
        })
        .await
    };
    let partitions = f64::from(log.partitions()?);
    archived(partitions).await?;

    // What is on the way to it when it stops it may still read: then the rest is lost.
    processor.signal(Signal::Stop)?;
    for _ in 0..LOST {
        log.produce_to_each(record).await?;
    }
    let begins = log.remove_metrics().await?;
    processor.signal(Signal::Continue)?;
    let lost = i64::try_from(LOST)?;
    ensure!(begins.iter().all(|begin| *begin > lost), "{begins:?}");
    log.produce_to_each(record).await?;
    archived(2.0 * partitions).await?;
    until("the ledger has a gap for each reader and partition", PATIENCE, async || {
        for stage in ["combine", "archive"] {
            let gaps = processor.api("").counter("millrace_ledger_gaps_total", &[("stage", stage)]).await?;
            ensure!(gaps >= partitions, "{stage}: {gaps}");
        }
        Ok(())
    })
    .await?;
    let said = processor.log()?;
    for what in ["before they were combined", "before they were archived"] {
        ensure!(said.contains(what), "the processor does not say that retention removed records {what}");
    }
    let text = |delta: TimeDelta| (Utc::now() + delta).to_rfc3339_opts(SecondsFormat::Secs, true);
    let path =
        format!("/api/v1/ledger?from={}&to={}", text(-TimeDelta::hours(1)), text(TimeDelta::minutes(1)));
    let ledger = api.get(&path).await?;
    let rows = ledger["rows"].as_array().context("no rows")?;
    ensure!(!rows.is_empty() && rows.iter().all(|row| row["processed"] == false), "{ledger:#}");
    Ok(())
}
