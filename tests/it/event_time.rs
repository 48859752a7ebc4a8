//! Event time: who comes late counts, however late; silent partitions hold nobody up.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, count,
    metric_at, settle, until,
};
use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use millrace_schemas::{AggregateRow, EventTime, Window, progress::Progress};
use rdkafka::{Message as _, message::OwnedMessage};
use serde_json::Value;
use std::collections::BTreeMap;

/// `--watermark-delay`
const DELAY: TimeDelta = TimeDelta::seconds(2);
/// How long after the watermark of the hot partition a window may stay open.
const CLOSES_WITHIN: TimeDelta = TimeDelta::seconds(2);
const SIXTEEN: &[&str] = &["--topic-partitions", "16"];

#[tokio::test(flavor = "multi_thread")]
async fn one_hot_and_fifteen_silent_partitions_close_their_windows() -> Result<()> {
    let installation = Installation::create("event_time_hot").await?;
    let up = installation.start("up", SIXTEEN).await?;
    let api = up.api(ADMIN_KEY);
    ensure!(installation.log.partitions()? == 16, "sixteen partitions");
    // Half of the silent ones had a record once.
    let early = Load::on(&installation.log, (8..16).collect(), 1)?;
    until("they are seen", PATIENCE, async || watermark_is(&api, 15, "active").await).await?;
    early.stop().await?;
    let hot = Load::on(&installation.log, vec![0], 2)?;
    let quiet = until("the others are idle", PATIENCE, async || {
        watermark_is(&api, 0, "active").await?;
        for partition in 1..16 {
            watermark_is(&api, partition, "idle").await?;
        }
        Ok(Utc::now())
    })
    .await?;
    let reason = [("partition", "0"), ("reason", "active")];
    until("Prometheus is told why", PATIENCE, async || {
        let (hot, silent) = (
            api.counter("millrace_pipeline_watermark_reason", &reason).await?,
            api.counter("millrace_pipeline_watermark_reason", &[("partition", "9"), ("reason", "idle")])
                .await?,
        );
        ensure!(hot > 0.5 && silent > 0.5, "active: {hot}, idle: {silent}");
        ensure!(
            api.counter("millrace_pipeline_watermark_seconds", &[("partition", "0")]).await? > 1e9,
            "when"
        );
        Ok(())
    })
    .await?;
    let closed = until("three windows have closed since", PATIENCE, async || {
        let rows = installation.log.wait_for(&installation.topics.aggregates, 1).await?;
        let closed = closed_at(&rows, quiet)?;
        ensure!(closed.len() >= 3, "{}", closed.len());
        Ok(closed)
    })
    .await?;
    hot.stop().await?;
    let waits: Vec<_> =
        closed.iter().map(|(start, at)| *at - (*start + TimeDelta::seconds(5) + DELAY)).collect();
    eprintln!("windows closed so long after the watermark: {waits:?}");
    ensure!(waits.iter().all(|wait| *wait <= CLOSES_WITHIN), "windows closed so late: {waits:?}");
    Ok(())
}

/// A rebuild of the last minutes waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_watermark_is_committed_though_nothing_comes() -> Result<()> {
    let installation = Installation::create("event_time_quiet").await?;
    let _up = installation.start("up", &[]).await?;
    let later = EventTime::from(Utc::now() + TimeDelta::seconds(10));
    until("all partitions are told a later watermark", PATIENCE, async || {
        let told = installation.log.wait_for(&installation.topics.progress, 1).await?;
        let mut watermarks = BTreeMap::new();
        for record in told {
            let progress = Progress::read(record.payload().unwrap_or_default())?;
            watermarks.insert(progress.partition, progress.watermark);
        }
        let all = watermarks.len() == 4 && watermarks.values().all(|watermark| *watermark >= Some(later));
        ensure!(all, "{watermarks:?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn within_the_horizon_a_late_record_makes_the_next_revision() -> Result<()> {
    let installation = Installation::create("event_time_late").await?;
    let up = installation.start("up", &[]).await?;
    let api = up.api(ADMIN_KEY);
    let time = Utc::now();
    api.ingest_all(&[metric_at("select 'in time'", time)]).await?;
    // Nothing else comes: it is the wall clock that closes it.
    let before = until("it is final", PATIENCE, async || {
        let bucket = bucket(&api, "5s", time).await?;
        ensure!(bucket["is_final"] == true, "{bucket}");
        Ok(bucket)
    })
    .await?;
    ensure!(before["query_count"] == 1 && before["late_count"] == 0, "{before}");
    api.ingest_all(&[metric_at("select 'late'", time)]).await?;
    until("the next revision is final too", PATIENCE, async || {
        let after = bucket(&api, "5s", time).await?;
        ensure!(after["query_count"] == 2 && after["late_count"] == 1, "{after}");
        ensure!(after["is_final"] == true, "{after}");
        ensure!(after["revision"].as_i64() > before["revision"].as_i64(), "{after} after {before}");
        Ok(())
    })
    .await
}

/// While the present goes on, and the processor is killed in the middle of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_of_last_month_is_merged_once_while_others_are_live() -> Result<()> {
    let installation = Installation::create("event_time_backfill").await?;
    let edge = installation.start("ingest", &[]).await?;
    let query = installation.start("query", &[]).await?;
    let (edge, api) = (edge.api(ADMIN_KEY), query.api(ADMIN_KEY));
    let tenant = installation.add_tenant("other").await?;
    let mut processor = installation.start("processor", &[]).await?;
    let live = Load::start(&installation.log, 1)?;
    let last_month = Utc::now() - TimeDelta::days(30);
    let (workspace, mut sent) = (tenant.workspace.to_string(), 0);
    let path = |window: &str| {
        let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let (from, to) = (text(last_month - TimeDelta::hours(1)), text(last_month + TimeDelta::hours(1)));
        format!("window={window}&from={from}&to={to}")
    };
    for round in 0..9 {
        let records: Vec<Value> = (0..100).map(|_| of_last_month(&tenant, last_month)).collect();
        edge.ingest_all(&records).await?;
        sent += 100;
        if round % 3 == 2 {
            until("the backfill is counted", PATIENCE, async || {
                let counted = count(&api, &workspace, &path("5m")).await?;
                ensure!(counted == sent, "{counted} of {sent}");
                Ok(())
            })
            .await?;
        }
        if round % 3 == 1 {
            processor.kill()?;
            processor = installation.start("processor", &[]).await?;
        }
    }
    let live = live.stop().await?;
    settle(&installation, &api).await?;
    for window in ["5s", "1m", "5m"] {
        // The mark of `settle` is of today.
        let counted = count(&api, &workspace, &path(window)).await?;
        ensure!(counted == sent, "{window}: {counted} records of last month instead of {sent}");
    }
    let counted = live_records(&api).await?;
    ensure!(counted == live.times.len(), "{counted} live records instead of {}", live.times.len());
    Ok(())
}

fn of_last_month(tenant: &crate::harness::Tenant, time: DateTime<Utc>) -> Value {
    let mut record = tenant.metric("select 'last month'");
    for field in ["started_at", "completed_at"] {
        record[field] = time.to_rfc3339_opts(SecondsFormat::Micros, true).into();
    }
    record
}

async fn live_records(api: &Api) -> Result<usize> {
    let query = format!("window=5m&service_id={DEVELOPMENT_SERVICE}");
    let counted = crate::harness::sum(api, DEVELOPMENT_WORKSPACE, &query, "success_count").await?;
    Ok(usize::try_from(counted)?)
}

async fn watermark_is(api: &Api, partition: usize, reason: &str) -> Result<()> {
    let pipeline = api.get("/api/v1/pipeline").await?;
    let found = &pipeline["partitions"][partition]["watermark"]["reason"];
    ensure!(found == reason, "partition {partition}: {pipeline}");
    Ok(())
}

/// The bucket that contains `time`.
async fn bucket(api: &Api, window: &str, time: DateTime<Utc>) -> Result<Value> {
    let path = format!(
        "/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/aggregations?window={window}&service_id={DEVELOPMENT_SERVICE}"
    );
    let answer = api.get(&path).await?;
    let start = DateTime::from_timestamp(time.timestamp().div_euclid(5) * 5, 0).context("a time")?;
    let buckets = answer["buckets"].as_array().context("no buckets")?;
    let found = buckets.iter().find(|bucket| {
        let found = bucket["bucket"].as_str().and_then(|text| DateTime::parse_from_rfc3339(text).ok());
        found.is_some_and(|found| found == start)
    });
    found.cloned().with_context(|| format!("no bucket of {start}: {answer}"))
}

/// When each 5 s window that began after `since` was first told to be final.
fn closed_at(rows: &[OwnedMessage], since: DateTime<Utc>) -> Result<BTreeMap<DateTime<Utc>, DateTime<Utc>>> {
    let mut closed = BTreeMap::new();
    for message in rows {
        let row: AggregateRow = serde_json::from_slice(message.payload().unwrap_or_default())?;
        let start = DateTime::from_timestamp_millis(row.window_start.as_millis()).context("a time")?;
        let at =
            message.timestamp().to_millis().and_then(DateTime::from_timestamp_millis).context("a time")?;
        if row.window == Window::FiveSeconds && row.is_final && start > since {
            closed.entry(start).or_insert(at);
        }
    }
    Ok(closed)
}
