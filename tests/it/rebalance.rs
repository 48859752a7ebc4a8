//! Processors that join, leave and die while records keep coming: no window is lost or doubled, and no partition stands
//! still for long.

use crate::harness::{
    ADMIN_KEY, Api, DEVELOPMENT_SERVICE, DEVELOPMENT_WORKSPACE, Installation, Load, PATIENCE, Process, Sent,
    Signal, settle, until,
};
use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use millrace_log::is_closing;
use millrace_schemas::progress::Progress;
use rdkafka::{Message as _, message::OwnedMessage};
use std::{collections::BTreeMap, time::Duration};

/// From SIGTERM to the end.
const END_WITHIN: Duration = Duration::from_secs(10);
/// How long a partition may stand still when processors leave and come as they should: some seconds, on a machine that
/// compiles meanwhile.
const STALL_MAX: Duration = Duration::from_secs(12);
/// How long the group waits for one that says nothing any more.
const SESSION: Duration = Duration::from_secs(10);
/// How long nobody reads past a transaction that it left open: 10 s, and a broker may look every 10 s only.
const TRANSACTION: Duration = Duration::from_secs(20);
/// Records that a processor must have counted to be at work.
const AT_WORK: f64 = 40.0;

#[tokio::test(flavor = "multi_thread")]
async fn one_joins_and_leaves_under_load() -> Result<()> {
    let site = Site::create("rebalance_joins").await?;
    let first = site.processor("first")?;
    first.ready().await?;
    let load = Load::start(&site.installation.log, 1)?;
    at_work(&first).await?;
    let second = site.processor("second")?;
    at_work(&second).await?;
    at_work(&first).await?;
    stop(&second).await?;
    at_work(&first).await?;
    let sent = load.stop().await?;
    site.check(&sent, STALL_MAX).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_two_shows_no_gap() -> Result<()> {
    let site = Site::create("rebalance_rolling").await?;
    let (first, second) = (site.processor("first")?, site.processor("second")?);
    let load = Load::start(&site.installation.log, 1)?;
    at_work(&first).await?;
    at_work(&second).await?;
    stop(&first).await?;
    let first = site.processor("first")?;
    at_work(&first).await?;
    stop(&second).await?;
    let second = site.processor("second")?;
    at_work(&second).await?;
    at_work(&first).await?;
    let sent = load.stop().await?;
    site.check(&sent, STALL_MAX).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_killed_and_the_other_takes_over() -> Result<()> {
    let site = Site::create("rebalance_killed").await?;
    let (first, second) = (site.processor("first")?, site.processor("second")?);
    let load = Load::start(&site.installation.log, 1)?;
    at_work(&first).await?;
    at_work(&second).await?;
    first.kill()?;
    site.every_partition_goes_on(&Utc::now()).await?;
    let sent = load.stop().await?;
    site.check(&sent, SESSION.max(TRANSACTION) + STALL_MAX).await
}

/// Whenever it dies, also in the middle of a rebalance, who comes back under its name goes on at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_is_killed_and_restarted_again_and_again_while_another_joins() -> Result<()> {
    let site = Site::create("rebalance_restarted").await?;
    let mut first = site.processor("first")?;
    first.ready().await?;
    let load = Load::start(&site.installation.log, 1)?;
    at_work(&first).await?;
    for _ in 0..4 {
        let second = site.processor("second")?;
        until("the first has to give something up", PATIENCE, async || {
            let log = first.log()?;
            ensure!(log.contains("gives up partitions"), "not yet");
            Ok(())
        })
        .await?;
        first.kill()?;
        first = site.processor("first")?;
        at_work(&first).await?;
        stop(&second).await?;
    }
    site.every_partition_goes_on(&Utc::now()).await?;
    let sent = load.stop().await?;
    site.check(&sent, SESSION.max(TRANSACTION) + STALL_MAX).await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_workers_than_partitions_stall_nothing() -> Result<()> {
    let installation = Installation::create("rebalance_idle").await?;
    let _edge = installation.start("ingest", &["--topic-partitions", "1"]).await?;
    let query = installation.start("query", &[]).await?;
    let site = Site { installation, api: query.api(ADMIN_KEY), _processes: vec![query] };
    ensure!(site.installation.log.partitions()? == 1, "a topic of one partition");
    let processors = [site.processor("first")?, site.processor("second")?];
    let load = Load::start(&site.installation.log, 1)?;
    let busy = until("one of them is at work", PATIENCE, async || {
        let counted = [counted(&processors[0]).await?, counted(&processors[1]).await?];
        counted.iter().position(|counted| *counted >= AT_WORK).with_context(|| format!("{counted:?}"))
    })
    .await?;
    until("a window is final, of which the idle one knows nothing", PATIENCE, async || {
        let pipeline = site.api.get("/api/v1/pipeline").await?;
        ensure!(pipeline["watermark"]["reason"] == "active", "{pipeline}");
        let final_rows = counter(&processors[busy], "millrace_windows_rows_total", "kind", "final").await?
            + counter(&processors[1 - busy], "millrace_windows_rows_total", "kind", "final").await?;
        ensure!(final_rows > 0.0, "none");
        Ok(())
    })
    .await?;
    stop(&processors[busy]).await?;
    at_work(&processors[1 - busy]).await?;
    let sent = load.stop().await?;
    site.check(&sent, STALL_MAX).await
}

struct Site {
    installation: Installation,
    api: Api,
    _processes: Vec<Process>,
}

impl Site {
    async fn create(test: &str) -> Result<Self> {
        let installation = Installation::create(test).await?;
        let query = installation.start("query", &[]).await?;
        Ok(Self { installation, api: query.api(ADMIN_KEY), _processes: vec![query] })
    }

    fn processor(&self, name: &str) -> Result<Process> {
        self.installation.launch("processor", &["--instance-id", name])
    }

    /// Waits until windows have emitted something of every raw partition that came after `time`.
    async fn every_partition_goes_on(&self, time: &DateTime<Utc>) -> Result<()> {
        until("every partition goes on", PATIENCE, async || {
            let pipeline = self.api.get("/api/v1/pipeline").await?;
            let partitions = pipeline["partitions"].as_array().context("partitions")?;
            for partition in partitions {
                let newest = partition["max_event_time"].as_str().context("no event time")?;
                let newest = DateTime::parse_from_rfc3339(newest)?;
                ensure!(newest > *time, "{partition}");
            }
            Ok(())
        })
        .await
    }

    async fn check(&self, sent: &Sent, stall_max: Duration) -> Result<()> {
        settle(&self.installation, &self.api).await?;
        for (window, seconds) in [("5s", 5), ("1m", 60), ("5m", 300)] {
            let expected = by_window(&sent.times, seconds);
            let found = counts(&self.api, window, sent).await?;
            ensure!(found == expected, "{window}: {found:?} instead of {expected:?}");
        }
        let partitions = self.installation.log.partitions()?;
        // What is read may not be all at first: then a stall looks longer than it was.
        let stall = until("no partition stood still for long", PATIENCE, async || {
            let progress = self.installation.log.wait_for(&self.installation.topics.progress, 1).await?;
            let stall = longest_stall(&progress, sent, partitions)?;
            ensure!(stall <= stall_max, "a partition stood still for {stall:?}");
            Ok(stall)
        })
        .await?;
        let load_ms = (sent.ended - sent.began).num_milliseconds();
        eprintln!("the longest that a partition stood still in {load_ms} ms: {stall:?}");
        Ok(())
    }
}

/// It counts records from now on.
async fn at_work(processor: &Process) -> Result<()> {
    let before = counted(processor).await.unwrap_or_default();
    until("a processor is at work", PATIENCE, async || {
        let counted = counted(processor).await?;
        ensure!(counted >= before + AT_WORK, "it has counted {counted} records, {before} before");
        Ok(())
    })
    .await
}

async fn counted(processor: &Process) -> Result<f64> {
    counter(processor, "millrace_combine_records_total", "verdict", "counted").await
}

async fn counter(processor: &Process, name: &str, label: &str, value: &str) -> Result<f64> {
    processor.api("").counter(name, &[(label, value)]).await
}

async fn stop(processor: &Process) -> Result<()> {
    processor.signal(Signal::Terminate)?;
    let status = processor.ended(END_WITHIN).await?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

/// Unix second of a window's start to its records.
type Counts = BTreeMap<i64, i64>;

fn by_window(times: &[DateTime<Utc>], seconds: i64) -> Counts {
    times.iter().fold(Counts::new(), |mut counts, time| {
        *counts.entry(time.timestamp().div_euclid(seconds) * seconds).or_default() += 1;
        counts
    })
}

async fn counts(api: &Api, window: &str, sent: &Sent) -> Result<Counts> {
    let text = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let (from, to) = (text(sent.began - TimeDelta::minutes(10)), text(sent.ended + TimeDelta::minutes(10)));
    let path = format!(
        "/api/v1/workspaces/{DEVELOPMENT_WORKSPACE}/aggregations?window={window}&from={from}&to={to}&service_id={DEVELOPMENT_SERVICE}"
    );
    let answer = api.get(&path).await?;
    let mut counts = Counts::new();
    for bucket in answer["buckets"].as_array().context("no buckets")? {
        let start = DateTime::parse_from_rfc3339(bucket["bucket"].as_str().context("no start")?)?;
        let counted = bucket["success_count"].as_i64().context("no count")?;
        if counted > 0 {
            counts.insert(start.timestamp(), counted);
        }
    }
    Ok(counts)
}

/// The longest time, while the load ran, in which the emitted offset of a raw partition did not advance in the progress
/// of a partition of windows.
fn longest_stall(progress: &[OwnedMessage], sent: &Sent, partitions: i32) -> Result<Duration> {
    let (began, ended) = (sent.began.timestamp_millis(), sent.ended.timestamp_millis());
    let mut last: BTreeMap<(i32, usize), (i64, i64)> = BTreeMap::new();
    let mut longest = 0;
    for message in progress.iter().filter(|message| !is_closing(*message)) {
        let at = message.timestamp().to_millis().context("a time")?.clamp(began, ended);
        let told = Progress::read(message.payload().unwrap_or_default())?;
        for (source, emitted) in told.sources.iter().enumerate() {
            let Some(emitted) = emitted.and_then(|source| source.emitted) else { continue };
            let (before, since) = last.entry((told.partition, source)).or_insert((-1, began));
            if emitted > *before {
                longest = longest.max(at - *since);
                (*before, *since) = (emitted, at);
            }
        }
    }
    let pairs = usize::try_from(partitions * partitions)?;
    ensure!(last.len() == pairs, "progress of {} of {pairs} partitions", last.len());
    let open = last.values().map(|(_, since)| ended - since).max().unwrap_or_default();
    Ok(Duration::from_millis(u64::try_from(longest.max(open))?))
}
